"""GRU4Rec (Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016).

Gated recurrent units without biases, as in the paper's formulas, over item embeddings with the dropout of Tan, Xu & Liu
(Improved Recurrent Neural Networks for Session-based Recommendations, DLRS 2016). Deviations:

- the reset gate multiplies the state's product with its matrix, not the state itself (PyTorch's and cuDNN's GRU);
- a linear layer takes the last state to the width of the item embeddings, and scores are inner products with these
  (one-hot inputs and an output matrix in the first paper; Tan et al. predict embeddings too);
- the loss is the cross-entropy of a softmax over all items, not TOP1 or BPR against items of the batch;
- whole windows of users' histories share a batch and begin with a zero state, not parallel sessions in steps;
- AdamW with decoupled weight decay, not Adagrad with momentum; a batch's loss is divided by the mean number of
  targets a batch.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from oovrec.models.arithmetic import Dropout
from oovrec.models.sequential.base import SequentialNetwork, SequentialOptions, SequentialRecommender


class GRU4RecOptions(SequentialOptions):
    """Options of GRU4Rec.

    Attributes:
        units: of the recurrent state.
        layers: recurrent layers.
    """

    units: int = Field(128, ge=1)
    layers: int = Field(1, ge=1)


class GRU4RecNetwork(SequentialNetwork):
    """Embeddings, gated recurrent units, a linear layer.

    Args:
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, items: int, config: GRU4RecOptions) -> None:
        super().__init__(items, config.width)
        self.dropout = Dropout(config.dropout)
        self.units = nn.GRU(config.width, config.units, config.layers, bias=False, batch_first=True)
        self.out = nn.Linear(config.units, config.width)
        nn.init.normal_(self.items.weight, std=0.02)

    def hidden(self, items: Tensor) -> Tensor:
        return self.out(self.units(self.dropout(self.items(items.clamp_min(0))))[0])


class GRU4Rec(SequentialRecommender):
    """A recurrent network over the history's items."""

    name = "gru4rec"
    Config = GRU4RecOptions
    config: GRU4RecOptions

    def network(self) -> GRU4RecNetwork:
        return GRU4RecNetwork(len(self.entities.items), self.config)
