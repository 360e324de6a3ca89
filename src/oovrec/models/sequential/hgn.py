"""HGN (Ma, Kang & Liu, Hierarchical Gating Networks for Sequential Recommendation, KDD 2019).

The paper's network over the last L items S and the user u: feature gating S ∘ σ(S W₁ + u W₂ + b); instance gating by
σ(w₃ · item + u W₄), one number an item; the average over items; an item's score is the product of its own row and the
sum of u, that average and all of S (the item-item product). Where the paper and the authors' code differ, the code is
followed: the average is weighted by the instance gates, and each item has a bias. Deviations:

- the loss is the cross-entropy of a softmax over all items; ``loss: bpr`` is the paper's, with one random item
  other than the target (not: outside the user's history) for each target;
- dropout on the embeddings of items and user;
- AdamW with decoupled weight decay, not Adam with an L2 penalty; a batch's loss is divided by the mean number of
  targets a batch;
- T (``ahead``) is 1, so that all targets count alike; the paper's is 3;
- a window ends before every training item but the first; where fewer than L items precede, the missing ones are 0 and
  count in no average;
- a user who is not known has the mean of all users' embeddings.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.models.arithmetic import Dropout
from oovrec.models.sequential.sliding import SlidingNetwork, SlidingOptions, SlidingRecommender


class HGNOptions(SlidingOptions):
    """Options of HGN.

    Attributes:
        loss: ``softmax`` over the catalogue, or ``bpr`` against a random item.
    """

    loss: Literal["softmax", "bpr"] = "softmax"


class HGNNetwork(SlidingNetwork):
    """Two gates over a window.

    Args:
        users: number of users.
        items: size of the catalogue.
        config: its shape.
    """

    def __init__(self, users: int, items: int, config: HGNOptions) -> None:
        width, length = config.width, config.length
        super().__init__(users, items, width, output=width)
        self.kind, self.padding, self.dropout = config.loss, items, Dropout(config.dropout)
        self.feature_item, self.feature_user = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.instance_item, self.instance_user = nn.Linear(width, 1, bias=False), nn.Linear(width, length, bias=False)

    def states(self, items: Tensor, users: Tensor) -> Tensor:
        """``[n, L]`` and ``[n]`` to ``[n, d + 1]``."""
        window, user = self.dropout(self.items(items)), self.dropout(self.user_vectors(users))
        gated = window * (self.feature_item(window) + self.feature_user(user)[:, None]).sigmoid()
        gates = (self.instance_item(gated).squeeze(2) + self.instance_user(user)).sigmoid()  # [n, L]
        gates = gates * (items != self.padding)
        average = torch.einsum("nl,nld->nd", gates, gated) / gates.sum(1, keepdim=True).clamp_min(1e-6)
        return F.pad(user + average + window.sum(1), (0, 1), value=1.0)

    def loss(self, states: Tensor, targets: Tensor) -> Tensor:
        if self.kind == "softmax":
            return super().loss(states, targets)
        target, other = self.against(states, targets, 1).unbind(1)
        return -F.logsigmoid(target - other).sum()


class HGN(SlidingRecommender):
    """Gates that choose features and items, and the user's taste."""

    name = "hgn"
    Config = HGNOptions
    config: HGNOptions

    def network(self) -> HGNNetwork:
        return HGNNetwork(len(self.entities.users), len(self.entities.items), self.config)
