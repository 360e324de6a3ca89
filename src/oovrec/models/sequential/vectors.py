"""What tokens say of items, for recommenders that name items by none: META ID's augmentation of an item table.

META ID adds a learnt map of what a token stands for, its cluster's centroid, to the token's embedding (Huang et al.,
ICML 2025). A sequential recommender has an embedding an item and no tokens; here the same map of what an item's
tokens stand for on average is added to it, wherever the table is read: E + V Wᵀ.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from oovrec.config import Options
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.evaluation.ranks import Products
from oovrec.models.base import NeuralRecommender
from oovrec.models.entities import Entities
from oovrec.tokens.table import Tokens

CHUNK = 512  # histories read at once


class TableNetwork(nn.Module):
    """A network with an embedding an item, perhaps some more rows behind those."""

    items: nn.Embedding


class TokenVectors(nn.Module):
    """Adds a linear map of fixed vectors to a table's rows.

    Args:
        vectors: ``[items, k]``; rows of the table beyond them, as of padding, get nothing.
        rows, width: of the table.
    """

    vectors: Tensor

    def __init__(self, vectors: np.ndarray, rows: int, width: int) -> None:
        super().__init__()
        known = torch.zeros(rows, vectors.shape[1])
        known[: len(vectors)] = torch.from_numpy(vectors)
        self.register_buffer("vectors", known, persistent=False)  # the run's tokens/ has them
        self.map = nn.Linear(vectors.shape[1], width, bias=False)

    def forward(self, table: Tensor) -> Tensor:
        return table + self.map(self.vectors)


def augment(items: nn.Embedding, tokens: Tokens) -> None:
    """Make ``items``, from here on, its own rows and the map of what the items' tokens stand for.

    Raises:
        OovrecError: the tokens stand for nothing that lies in a space.
    """
    vectors = tokens.items.vectors
    if vectors is None:
        what = f"'{tokens.method}' tokens carry no vectors, and this system can use nothing else of them"
        raise OovrecError(what, remedy="build 'metavec', 'meta' or 'semantic' tokens, or train without")
    parametrize.register_parametrization(items, "weight", TokenVectors(vectors, *items.weight.shape))


class TableRecommender(NeuralRecommender):
    """Has an embedding an item, ``module.items``, which carries what tokens stand for where the items have any."""

    token_use = "possible"
    module: TableNetwork

    def __init__(self, config: Options, entities: Entities) -> None:
        super().__init__(config, entities)
        self.module = self.network()
        if entities.tokens is not None:
            augment(self.module.items, entities.tokens)

    @abstractmethod
    def network(self) -> TableNetwork:
        """The module to train."""

    @abstractmethod
    def states(self, histories: Histories) -> Tensor:
        """``[batch, w]`` what each history makes of the network; its products with :meth:`rows` are the scores."""

    @abstractmethod
    def rows(self) -> Tensor:
        """``[items, w]``."""

    @torch.no_grad()
    def scores(self, histories: Histories) -> Tensor:
        return self.ranked(histories).whole()

    @torch.no_grad()
    def ranked(self, histories: Histories) -> Products:
        self.module.eval()
        with torch.autocast(self.device.type, enabled=False):  # coarser rows would tie
            rows = self.rows()
        none = rows.new_zeros(0, rows.shape[1], dtype=torch.float32)
        return Products(torch.cat([none, *(self.states(batch).float() for _, batch in histories.batches(CHUNK))]), rows)
