"""What sequential recommenders share: what a batch holds, what it may show, and that each draws its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.models.base import configured, system
from oovrec.models.entities import Entities
from oovrec.models.sequential.base import SequentialRecommender, next_items
from oovrec.models.sequential.bert4rec import BERT4RecOptions, cloze
from oovrec.models.sequential.bsarec import BSARec, BSARecOptions
from oovrec.models.sequential.s3rec import S3Rec

WINDOWED = {"sasrec": {}, "gru4rec": {}, "fdsa": {}, "cl4srec": {}, "esasrec": {"loss": "sampled"}, "bert4rec": {}}


def made(name: str, bare: Entities, **options: object) -> SequentialRecommender:
    model = system(name)(configured(name, {"width": 8, **WINDOWED[name], **options}), bare)
    assert isinstance(model, SequentialRecommender)
    return model


@pytest.mark.parametrize("name", WINDOWED)
def test_as_many_items_are_read_in_training_as_in_use(name: str, chains: Dataset, bare: Entities) -> None:
    """Else the oldest place would have an embedding that is never learnt."""
    batches = made(name, bare, length=4).epoch(chains, 64, np.random.default_rng(0))
    read = 5 if name == "bert4rec" else 4  # the mask token stands behind the items
    assert max(batch()["items"].shape[1] for batch in batches) == read


@pytest.mark.parametrize("name", ["cl4srec", "esasrec", "bert4rec"])
def test_each_batch_draws_its_own(name: str, chains: Dataset, bare: Entities) -> None:
    """As two batches of the same windows show."""
    batches = made(name, bare, length=4).epoch(chains, 64, np.random.default_rng(0))
    drawn = {"cl4srec": "views", "esasrec": "negatives", "bert4rec": "items"}[name]
    first, other = batches[0], batches[1]
    same = other.func(first.args[0], **other.keywords)  # type: ignore[attr-defined]
    mine = first()
    assert mine[drawn].shape != same[drawn].shape or not torch.equal(mine[drawn], same[drawn])


def test_the_contrast_is_divided_by_the_mean_number_of_windows(chains: Dataset, bare: Entities) -> None:
    batches = [batch() for batch in made("cl4srec", bare).epoch(chains, 64, np.random.default_rng(0))]
    mean = sum(len(batch["views"]) for batch in batches) / len(batches) / 2
    assert all(float(batch["pairs"]) == pytest.approx(mean) for batch in batches)


def test_the_next_items_of_windows_by_hand() -> None:
    """A shorter window's last item is no input: the places of the others are counted back from the newest."""
    tensors = next_items(Histories.of([[7, 1, 2, 3], [5, 6], [9, 9, 4]]), 2.5)
    assert tensors["items"].tolist() == [[7, 1, 2], [5, -1, -1], [9, 9, -1]]
    assert tensors["where"].tolist() == [0, 1, 2, 3, 6, 7]
    assert tensors["targets"].tolist() == [1, 2, 3, 6, 9, 4]
    assert float(tensors["scale"]) == 2.5


def test_a_history_is_cut_after_any_item_alike() -> None:
    """Of those whose last item alone is hidden; the shortest has one item before it."""
    config = BERT4RecOptions(last=1.0)
    tensors = cloze(Histories.of([range(9)] * 2000, range(2000)), config, mask=40, scale=1.0, seed=0)
    ends = (tensors["items"] != -1).sum(1)
    assert torch.equal(tensors["targets"], ends - 1)
    counts = torch.bincount(ends, minlength=10)
    assert counts[:2].sum() == 0
    assert (counts[2:] - 250).abs().max() < 75  # 5 standard deviations


def test_prefixes_of_one_length_are_batched_and_ordered_anew(chains: Dataset, bare: Entities) -> None:
    model = BSARec(BSARecOptions(width=8, length=20), bare)
    epochs = [model.epoch(chains, 40, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    company = [{frozenset(batch.args[1].tolist()) for batch in epoch} for epoch in epochs]  # type: ignore[attr-defined]
    assert company[0] == company[1]
    assert not company[0] & company[2]
    tables = [batch()["items"] for batch in epochs[0]]
    assert sum(int((table == -1).sum()) for table in tables) < 0.1 * sum(table.numel() for table in tables)
    widths = [table.shape[1] for table in tables]
    assert widths not in (sorted(widths), sorted(widths, reverse=True))


SYSTEMS = ["sasrec", "gru4rec", "fdsa", "cl4srec", "esasrec", "bert4rec", "bsarec", "caser", "hgn", "s3rec"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_batch_shows_an_item_that_is_held_out_alone(name: str, bare: Entities) -> None:
    sequences = [[*range(user % 7, user % 7 + 6), 38, 39] for user in range(30)]
    data = Dataset("small", bare.users, bare.items, Histories.of(sequences, range(30)))
    model = system(name)(configured(name, {"width": 8, "length": 4}), bare)
    rng, epochs = np.random.default_rng(0), [model.epoch]
    if isinstance(model, S3Rec):
        epochs.append(model.corrupted_epoch)
    for epoch in epochs:
        for batch in epoch(data, 16, rng):
            tensors = batch()
            shown = [tensors[part] for part in ("items", "targets", "views", "foreign") if part in tensors]
            assert len(shown) > 1
            assert not any(torch.isin(tensor, torch.tensor([38, 39])).any() for tensor in shown)
