"""Caser (Tang & Wang, Personalized Top-N Sequential Recommendation via Convolutional Sequence Embedding, WSDM 2018).

The paper's network: horizontal filters of every height over the last L items, the maximum of each over time; vertical
filters, which weigh the L items; a fully-connected layer to z; an item's score is the product of its own row of W′ and
[z; user's embedding], plus b′. Biases of the filters and ReLU as in the authors' code. With ``output: tied`` it is
instead, as in RecBole, the product of the item's embedding and a second fully-connected layer of [z; user].
Deviations:

- the loss is the cross-entropy of a softmax over all items; ``loss: bce`` is the paper's, with three random items
  other than the target for each target;
- AdamW with decoupled weight decay, not Adam with an L2 penalty; a batch's loss is divided by the mean number of
  targets a batch;
- T (``ahead``) is 1, so that all targets count alike; the paper tries 1 to 3;
- a window ends before every training item but the first; where fewer than L items precede, the missing ones are 0;
- a user who is not known has the mean of all users' embeddings.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.models.arithmetic import Dropout
from oovrec.models.sequential.sliding import SlidingNetwork, SlidingOptions, SlidingRecommender

NEGATIVES = 3  # a target, as in the paper


class CaserOptions(SlidingOptions):
    """Options of Caser.

    Attributes:
        horizontal: filters of each height.
        vertical: filters over the whole window.
        output: an item's row: ``own`` or ``tied`` to its embedding.
        loss: ``softmax`` over the catalogue, or ``bce``, binary cross-entropy against random items.
    """

    horizontal: int = Field(16, ge=1)
    vertical: int = Field(4, ge=1)
    output: Literal["own", "tied"] = "own"
    loss: Literal["softmax", "bce"] = "softmax"


class CaserNetwork(SlidingNetwork):
    """Convolutions over a window, taken as an image of L × d.

    Args:
        users: number of users.
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, users: int, items: int, config: CaserOptions) -> None:
        width, heights = config.width, range(1, config.length + 1)
        tied = config.output == "tied"
        super().__init__(users, items, width, output=0 if tied else 2 * width)
        self.kind, self.dropout = config.loss, Dropout(config.dropout)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, config.horizontal, height) for height in heights)
        self.vertical = nn.Linear(config.length, config.vertical)
        self.full = nn.Linear(config.vertical * width + config.horizontal * config.length, width)
        self.second = nn.Linear(2 * width, width) if tied else None

    def states(self, items: Tensor, users: Tensor) -> Tensor:
        """``[n, L]`` and ``[n]`` to ``[n, 2d + 1]``, or to ``[n, d]`` where rows are tied."""
        image = self.items(items).transpose(1, 2)  # [n, d, L]
        over_time = [convolution(image).relu().amax(2) for convolution in self.horizontal]
        features = torch.cat([self.vertical(image).flatten(1), *over_time], 1)
        z = self.full(self.dropout(features)).relu()
        both = torch.cat([z, self.user_vectors(users)], 1)
        return F.pad(both, (0, 1), value=1.0) if self.second is None else self.second(both).relu()

    def rows(self) -> Tensor:
        return super().rows() if self.second is None else self.items.weight[:-1]

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        if self.kind == "softmax":
            return super().loss(states, targets)
        scores = self.against(states, targets, NEGATIVES)
        return -(F.logsigmoid(scores[:, 0]).sum() + F.logsigmoid(-scores[:, 1:]).sum())


class Caser(SlidingRecommender):
    """Convolutions over the newest items, and the user's taste."""

    name = "caser"
    Config = CaserOptions
    config: CaserOptions

    def network(self) -> CaserNetwork:
        return CaserNetwork(len(self.entities.users), len(self.entities.items), self.config)
