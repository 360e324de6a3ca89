"""Residual quantisation: a vector is a sum of code vectors, one a level, each level coding what the former left over.

Two ways: RQ-VAE, as in TIGER (Rajput et al., NeurIPS 2023), which quantises a latent space that it learns, and
residual k-means, which quantises the vectors themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.errors import OovrecError
from oovrec.progress import Bar
from oovrec.tokens.repeatable import repeatable
from oovrec.tokens.texts import INSTALL

HIDDEN, LATENT = (512, 256, 128), 32  # TIGER's layers
COMMITMENT = 0.25  # how strongly residuals are drawn to their codes, as in TIGER
BATCH, RATE = 256, 2e-3
DECAY = 0.97  # of the running means that a level's codes are
DEAD = 0.25  # the part of an even share of the vectors below which a code is dead
SETTLED = 0.8  # share of the training after which the codes stay, and encoder and decoder settle around them


@dataclass(frozen=True)
class Quantised:
    """What residual quantisation found.

    Attributes:
        codes: ``[n, levels]`` int64, below the number of codes.
        codebooks: ``[levels, codes, d]`` float32 in the quantised space; a vector is about the sum of its codes'.
        left: ``[levels]`` the share of the vectors' variance in that space which is left after each level.
        lost: the share of the given vectors' variance that their reconstruction from all levels misses.
    """

    codes: np.ndarray
    codebooks: np.ndarray
    left: list[float]
    lost: float


def residual_kmeans(vectors: np.ndarray, levels: int, codes: int, seed: int) -> Quantised:
    """Code ``[n, d]`` vectors by k-means, then what it leaves of them, ``levels`` times.

    The result does not depend on the number of threads. ``n`` must not be less than ``codes``.
    """
    residual, left = vectors.astype(np.float32), []
    labels = np.empty((len(vectors), levels), np.int64)
    codebooks = np.empty((levels, codes, vectors.shape[1]), np.float32)
    states = np.random.SeedSequence(seed).generate_state(levels)
    with repeatable(seed), Bar("residual k-means", levels, "levels") as bar:
        for level in range(levels):
            found = KMeans(codes, random_state=int(states[level])).fit(residual)
            labels[:, level], codebooks[level] = found.labels_, found.cluster_centers_
            residual = residual - codebooks[level][labels[:, level]]
            left.append(_share(residual, vectors))
            bar.advance()
    return Quantised(labels, codebooks, left, left[-1])


def rqvae(vectors: np.ndarray, levels: int, codes: int, epochs: int, seed: int) -> Quantised:
    """Learn to code ``[n, d]`` vectors in a latent space of ``LATENT`` dimensions.

    The result does not depend on the number of threads, and torch's own generator is left as it was. ``n`` must not
    be less than ``codes``.

    Raises:
        OovrecError: vector-quantize-pytorch is not installed.
    """
    centred = vectors - vectors.mean(axis=0)
    points = torch.from_numpy((centred / max(centred.std(), 1e-12)).astype(np.float32))
    with repeatable(seed):
        model = RQVAE(points.shape[1], levels, codes, DEAD * min(BATCH, len(points)) / codes)
        model(points)  # the first batch starts the codes, by k-means, so it is everything
        _train(model, points, epochs)
        with torch.inference_mode():
            latent = model.eval().encoder(points)
            _, labels, _ = model.quantiser(latent)
            codebooks = model.quantiser.codebooks
            steps = torch.stack([codebooks[level][labels[:, level]] for level in range(levels)])
            left = [_share((latent - total).numpy(), latent.numpy()) for total in steps.cumsum(dim=0)]
            lost = _share((points - model.decoder(steps.sum(dim=0))).numpy(), points.numpy())
    return Quantised(labels.numpy(), codebooks.numpy(), left, lost)


class RQVAE(nn.Module):
    """Encoder, residual quantiser and decoder; its forward returns the loss of a batch ``[n, width]``.

    Args:
        dead: a code that gets fewer vectors of a batch than this, in the running mean, is put where one of them is.
    """

    def __init__(self, width: int, levels: int, codes: int, dead: float) -> None:
        super().__init__()
        try:
            from vector_quantize_pytorch import ResidualVQ
        except ImportError as error:
            raise OovrecError("RQ-VAE needs vector-quantize-pytorch", remedy=INSTALL) from error
        self.encoder = _mlp(width, *HIDDEN, LATENT)
        self.decoder = _mlp(LATENT, *reversed(HIDDEN), width)
        self.quantiser = ResidualVQ(
            dim=LATENT,
            num_quantizers=levels,
            codebook_size=codes,
            kmeans_init=True,
            decay=DECAY,
            threshold_ema_dead_code=dead,
            commitment_weight=COMMITMENT,
            rotation_trick=False,
        )

    def forward(self, points: Tensor, settled: bool = False) -> Tensor:
        quantised, _, commitment = self.quantiser(self.encoder(points), freeze_codebook=settled)
        # both are means over dimensions; the paper's are sums, so the wider space weighs more
        return points.shape[1] / LATENT * F.mse_loss(self.decoder(quantised), points) + commitment.sum()


def _train(model: RQVAE, points: Tensor, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    with Bar("RQ-VAE", epochs, "epochs") as bar:
        for epoch in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(points)).split(BATCH):
                loss = model(points[rows], settled=epoch >= SETTLED * epochs)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            bar.advance(note=f"loss {total / len(points):.4f}")


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _share(residual: np.ndarray, vectors: np.ndarray) -> float:
    """The variance of ``residual`` about 0 over that of ``vectors`` about their mean."""
    spread = ((vectors - vectors.mean(axis=0, dtype=np.float64)) ** 2).sum()
    return float((residual.astype(np.float64) ** 2).sum() / max(spread, 1e-300))
