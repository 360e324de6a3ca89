"""CL4SRec: its augmentations' shapes, its contrastive loss against a loop, and that it is SASRec besides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import evaluate
from oovrec.models.entities import Entities
from oovrec.models.sequential.cl4srec import (
    MASK,
    CL4SRec,
    CL4SRecOptions,
    augmented,
    contrasted,
    cropped,
    masked,
    nt_xent,
    reordered,
)
from oovrec.models.sequential.sasrec import SASRec, SASRecOptions
from oovrec.training.config import TrainingConfig

SIZES = np.array([1, 3, 5, 10, 20])


@pytest.fixture
def many() -> Histories:
    """200 histories of 1 to 20 distinct items."""
    rng = np.random.default_rng(3)
    return Histories.of([rng.permutation(40)[:size] for size in np.tile(SIZES, 40)], range(200))


def is_stretch(part: np.ndarray, whole: np.ndarray) -> bool:
    return any((whole[start : start + len(part)] == part).all() for start in range(len(whole) - len(part) + 1))


def test_a_crop_is_a_stretch_of_the_wanted_size(many: Histories) -> None:
    sizes = np.maximum(many.lengths * 6 // 10, 1)
    views = cropped(many, sizes, np.random.default_rng(0))
    np.testing.assert_array_equal(views.lengths, sizes)
    assert all(is_stretch(view, history) for view, history in zip(views, many, strict=True))
    starts = [int(np.flatnonzero(h == v[0])[0]) for v, h in zip(views, many, strict=True) if len(h) == 20]
    assert set(starts) == set(range(9))  # 12 of 20: every place it can begin


def test_masks_are_as_many_as_wanted_and_anywhere(many: Histories) -> None:
    sizes = many.lengths * 3 // 10
    views = masked(many, sizes, np.random.default_rng(0))
    places: Counter[int] = Counter()
    for view, history, size in zip(views, many, sizes, strict=True):
        assert (view == MASK).sum() == size
        assert (view[view != MASK] == history[view != MASK]).all()
        if len(history) == 20:
            places.update(np.flatnonzero(view == MASK).tolist())
    assert min(places[place] for place in range(20)) > 3  # 12 expected of each
    assert (many.items >= 0).all()  # the histories themselves are left alone


def test_a_reordering_shuffles_one_stretch(many: Histories) -> None:
    sizes = many.lengths * 6 // 10
    views = reordered(many, sizes, np.random.default_rng(0))
    moved: Counter[int] = Counter()
    for view, history, size in zip(views, many, sizes, strict=True):
        assert sorted(view) == sorted(history)
        changed = np.flatnonzero(view != history)
        assert len(changed) == 0 or changed[-1] - changed[0] < size
        if len(history) == 20:
            moved.update(changed.tolist())
    assert set(moved) == set(range(20))


def test_each_augmentation_has_a_third_of_the_views_and_its_ratio(many: Histories) -> None:
    config = CL4SRecOptions(crop=0.5, mask=0.4, reorder=0.9)
    long = many.take(np.flatnonzero(many.lengths == 20).repeat(30))
    views = augmented(long, config, np.random.default_rng(0))
    kinds: Counter[str] = Counter()
    for view, history in zip(views, long, strict=True):
        if len(view) < 20:
            assert len(view) == 10
            assert is_stretch(view, history)
            kinds["crop"] += 1
        elif (view == MASK).any():
            assert (view == MASK).sum() == 8
            kinds["mask"] += 1
        else:
            assert sorted(view) == sorted(history)
            kinds["reorder"] += 1
    assert all(kinds[kind] == pytest.approx(400, abs=60) for kind in ("crop", "mask", "reorder"))
    assert (augmented(many, CL4SRecOptions(crop=0.01), np.random.default_rng(0)).lengths > 0).all()


def test_nt_xent_is_the_papers_sum() -> None:
    """- log exp(s(a, b)) / (exp(s(a, b)) + Σ exp(s(a, c))) over both views of each pair, c all views of the others."""
    views = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for a in range(8):
        b = (a + 4) % 8
        others = sum(float(torch.exp(views[a] @ views[c])) for c in range(8) if c not in (a, b))
        positive = float(torch.exp(views[a] @ views[b]))
        total -= np.log(positive / (positive + others))
    assert float(nt_xent(views)) == pytest.approx(total, rel=1e-5)
    assert float(nt_xent(views[:2])) == 0.0  # nothing to be told from


def test_the_loss_is_sasrecs_and_the_weighted_contrast(chains: Dataset, bare: Entities) -> None:
    torch.manual_seed(0)
    config = CL4SRecOptions(width=16, length=6, dropout=0, contrast=0.7, temperature=0.5)
    model, sasrec = CL4SRec(config, bare), SASRec(SASRecOptions(width=16, length=6, dropout=0), bare)
    torch.nn.init.normal_(model.module.mask)
    sasrec.load_state({name: array for name, array in model.state().items() if name != "mask"})
    batch = chains.histories("train").take(slice(0, 9)).last(7)
    tensors = contrasted(batch, config, scale=3.0, pairs=8.0, seed=1)
    first = {name: tensors[name] for name in ("items", "where", "targets", "scale")}
    views = tensors["views"]
    assert views.shape[0] == 18
    assert (views == MASK).any()
    assert tensors["lengths"].max() == 6
    hidden = [
        model.module.hidden(view[None, :size])[0, -1] for view, size in zip(views, tensors["lengths"], strict=True)
    ]
    last = torch.stack(hidden)
    similarities = (last @ last.T / 0.5).masked_fill(torch.eye(18, dtype=torch.bool), -torch.inf)
    contrast = F.cross_entropy(similarities, torch.tensor([*range(9, 18), *range(9)]), reduction="sum")
    torch.testing.assert_close(model.module(**tensors), sasrec.module(**first) + 0.7 * contrast / 16)
    some = Histories.of([[1, 2, 3], [5]])
    torch.testing.assert_close(model.scores(some), sasrec.scores(some))


def test_views_differ_and_depend_on_the_generator_alone(chains: Dataset, bare: Entities) -> None:
    model = CL4SRec(CL4SRecOptions(width=16, length=8), bare)
    first, again, other = (model.epoch(chains, 200, np.random.default_rng(seed))[0]() for seed in (1, 1, 2))
    assert torch.equal(first["views"], again["views"])
    assert first["views"].shape != other["views"].shape or not torch.equal(first["views"], other["views"])
    half = len(first["views"]) // 2
    assert not torch.equal(first["views"][:half], first["views"][half:])


def test_it_learns_what_follows_what(chains: Dataset, bare: Entities) -> None:
    model = CL4SRec(CL4SRecOptions(width=32, length=10, dropout=0.2), bare)
    model.fit(chains, TrainingConfig(epochs=12, batch_size=64, learning_rate=1e-2, validate_every=12), seed=0)
    assert evaluate(model.scores, chains).blocks()["masked"]["hit@10"] > 0.7  # 10 of 40 items by chance
