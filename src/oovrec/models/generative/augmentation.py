"""Representation augmentation (META ID, Huang et al., ICML 2025): emb(token) += α · W · centroid(token)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AugmentedEmbedding(nn.Module):
    """A token embedding to which a linear map of the token's centroid is added.

    Tokens without a centroid (words, and numbers in a cluster) have a row of zeros there and keep
    their plain embedding. The same sum serves the output layer where a model ties the two, so that
    adding it into the table (export) gives a plain model with the same logits.

    Args:
        size: tokens in the vocabulary.
        width: hidden size d.
        centroids: ``[size, c]``, or None for no augmentation.
        alpha: α.
    """

    centroids: Tensor

    def __init__(self, size: int, width: int, centroids: np.ndarray | None, alpha: float) -> None:
        super().__init__()
        self.table = nn.Embedding(size, width)
        self.alpha = alpha
        self.project: nn.Linear | None = None
        if centroids is not None and alpha:
            self.project = nn.Linear(centroids.shape[1], width, bias=False)
            self.register_buffer("centroids", torch.from_numpy(centroids))

    def forward(self, ids: Tensor) -> Tensor:
        """``[...]`` token ids to ``[..., width]``."""
        plain = self.table(ids)
        if self.project is None:
            return plain
        return plain + self.alpha * self.project(F.embedding(ids, self.centroids))

    def whole(self) -> Tensor:
        """``[size, width]``: the rows of all tokens."""
        if self.project is None:
            return self.table.weight
        return self.table.weight + self.alpha * self.project(self.centroids)

    def merged(self) -> Tensor:
        """``[size, width]``: the table with the augmentation added in, for a plain model."""
        return self.whole().detach()
