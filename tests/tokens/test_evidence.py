"""The evidence of an audit against scipy's optimiser, a likelihood ratio, plain loops and a dense decomposition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.tokens import evidence as module
from oovrec.tokens.evidence import (
    NEWEST,
    RIDGE,
    TARGETS,
    Candidates,
    Evidence,
    before_probes,
    closeness,
    cosine,
    text_vectors,
    unit,
)


def dataset_of(sequences: list[list[int]], **more: object) -> Dataset:
    count = 1 + max(map(max, sequences))
    users, items = [f"u{index}" for index in range(len(sequences))], [f"i{index}" for index in range(count)]
    return dataclasses.replace(Dataset("hand", users, items, Histories.of(sequences, range(len(sequences)))), **more)


@pytest.fixture(scope="module")
def vectors(planted: Dataset) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(planted.users) + len(planted.items), 8))


@pytest.fixture(scope="module")
def evidence(planted: Dataset, vectors: np.ndarray) -> Evidence:
    return Evidence(planted, "validation", vectors, None, seed=0)


@pytest.fixture(scope="module")
def known(planted: Dataset, vectors: np.ndarray, evidence: Evidence) -> np.ndarray:
    """The standardised features that the model of ``evidence`` knows, ``[n, c, f]``."""
    features = module._known_features(evidence.candidates, planted, vectors, None).astype(np.float64)
    flat = features.reshape(-1, features.shape[2])
    return (features - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-6)


def fitted(features: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Weights and log-likelihood less penalty of a conditional logit for column 0, by scipy."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = features @ weights
        value = log_softmax(scores, axis=1)[:, 0].sum() - ridge / 2 * weights @ weights
        expected = np.einsum("nc,ncf->f", softmax(scores, axis=1), features)
        return -value, expected - features[:, 0].sum(axis=0) + ridge * weights

    found = minimize(loss, np.zeros(features.shape[2]), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    return found.x, -found.fun


def test_the_probe_is_hidden_and_short_histories_are_kept() -> None:
    data = dataset_of([[0, 1, 2, 3, 4], [5, 6, 7], [1, 2], [3]])
    assert [part.tolist() for part in data.histories("train")] == [[0, 1, 2], [5], [1, 2], [3]]
    assert [part.tolist() for part in before_probes(data)] == [[0, 1], [5], [1], [3]]


@pytest.mark.parametrize("target", TARGETS)
def test_candidates_are_the_target_and_other_users_targets(planted: Dataset, target: module.Target) -> None:
    candidates = Candidates(planted, target, seed=0)
    held_out = {"probe": -3, "validation": -2, "test": -1}[target]
    sequences = list(planted.full)
    assert candidates.items[:, 0].tolist() == [sequences[user][held_out] for user in candidates.users]
    assert candidates.items.shape == (len(sequences), 1 + 200)
    targets = {int(sequence[held_out]) for sequence in sequences}
    assert candidates.before.tolist() == [sequences[user][held_out - 1] for user in candidates.users]
    for row, user in enumerate(candidates.users):
        assert candidates.histories[row].tolist() == sequences[user][:-3].tolist()
        others = set(candidates.items[row, 1:].tolist())
        assert others <= targets
        assert not others & set(sequences[user].tolist())
    assert np.array_equal(Candidates(planted, target, seed=0).items, candidates.items)
    assert not np.array_equal(Candidates(planted, target, seed=1).items, candidates.items)


def test_users_without_probe_are_left_out_and_long_histories_cut() -> None:
    long = list(range(NEWEST + 9))
    data = dataset_of([long, [0, 1, 2], [3, 4, 5, 6], [7, 8]])
    candidates = Candidates(data, "test", seed=0)
    assert candidates.users.tolist() == [0, 2]
    assert [part.tolist() for part in candidates.histories] == [long[6:-3], [3]]


def test_similarities_to_the_history_against_a_loop(planted: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS", 10_000)  # several parts
    table = np.random.default_rng(2).normal(size=(len(planted.items), len(planted.items)))
    candidates = Candidates(planted, "test", seed=0)
    found = candidates.compared(lambda past, items: table[past, items])
    for row in range(0, len(candidates.items), 7):
        similar = table[candidates.histories[row]][:, candidates.items[row]]
        validated = planted.full[candidates.users[row]][-2]
        newest = table[validated, candidates.items[row]]
        expected = np.stack([similar.max(axis=0), similar.mean(axis=0), newest], axis=1)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_the_fit_is_the_one_that_scipy_finds() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 21, 6))
    chosen = (features @ rng.normal(size=6) + rng.gumbel(size=(300, 21))).argmax(axis=1)
    rows = np.arange(300)
    features[rows, 0], features[rows, chosen] = features[rows, chosen], features[rows, 0].copy()
    weights, best = fitted(features, RIDGE)
    np.testing.assert_allclose(module._fit(features.astype(np.float32)), weights, rtol=0.01, atol=0.01)
    assert module._objective(features.astype(np.float32), weights) == pytest.approx(best, rel=1e-5)


def test_excess_is_the_standardised_residual_of_a_plain_computation(evidence: Evidence, known: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    features = rng.normal(size=(*evidence.candidates.items.shape, 2)) + known[:, :, [1, 5]]
    weights, _ = fitted(known, RIDGE)
    inner, cross, centred = np.zeros((known.shape[2],) * 2), np.zeros((known.shape[2], 2)), []
    for old, new in zip(known, features, strict=True):  # the information of the user's choice
        chances = np.diag(softmax(old @ weights))
        old, new = old - np.diag(chances) @ old, new - np.diag(chances) @ new
        inner, cross = inner + old.T @ chances @ old, cross + old.T @ chances @ new
        centred.append((old, new, np.diag(chances)))
    slope = np.linalg.solve(inner + RIDGE * np.eye(len(inner)), cross)
    rest = [new - old @ slope for old, new, _ in centred]
    variance = np.mean([chances @ left**2 for left, (*_, chances) in zip(rest, centred, strict=True)], axis=0)
    expected = np.stack([left[0] for left in rest]) / np.sqrt(variance)
    np.testing.assert_allclose(evidence.excess(features.astype(np.float32)), expected, atol=0.03)


def test_summed_excess_agrees_with_the_likelihood_ratio(evidence: Evidence, known: np.ndarray) -> None:
    features = np.random.default_rng(5).normal(size=(*evidence.candidates.items.shape, 1))
    features[:, 0] += 0.3
    gained = fitted(np.concatenate([known, features], axis=2), RIDGE)[1] - fitted(known, RIDGE)[1]
    score = evidence.excess(features.astype(np.float32)).sum() / len(features) ** 0.5  # Rao's, a standard normal
    assert score > 2.5
    assert score**2 == pytest.approx(2 * gained, rel=0.2)


def test_what_training_tells_is_no_excess_and_a_glance_at_targets_is(evidence: Evidence, known: np.ndarray) -> None:
    glance = np.zeros((*evidence.candidates.items.shape, 1), np.float32)
    glance[:, 0] = 1
    told = (known @ np.random.default_rng(6).normal(size=(known.shape[2], 3))).astype(np.float32)
    usual = 1 / len(glance) ** 0.5  # standard deviation of a mean excess
    assert np.abs(evidence.excess(told).mean(axis=0)).max() < usual
    assert evidence.excess(glance).mean() > 20 * usual
    noise = np.random.default_rng(7).normal(size=(*glance.shape[:2], 50)).astype(np.float32)
    means = evidence.excess(noise).mean(axis=0) / usual
    assert abs(means.mean()) < 4 / 50**0.5
    assert 0.6 < means.std() < 1.4
    np.testing.assert_allclose(evidence.excess(5 * noise - 2), evidence.excess(noise), atol=1e-3)


@pytest.mark.parametrize("dimensions", [5, 9])
def test_texts_are_decomposed_as_a_dense_matrix_is(dimensions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEXT_DIMENSIONS", dimensions)
    words = [f"w{number}" for number in range(12)]
    rng = np.random.default_rng(8)
    titles = [" ".join(rng.choice(words, 4)).upper() for _ in range(9)]
    attributes = [(int(rng.integers(3)),) for _ in titles]
    bags = [{*title.lower().split(), str(mark)} for title, (mark,) in zip(titles, attributes, strict=True)]
    vocabulary = sorted(set().union(*bags))
    counts = np.array([[float(word in bag) for word in vocabulary] for bag in bags])
    counts *= np.log(len(bags) / counts.sum(axis=0))
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    left, singular, _ = np.linalg.svd(counts, full_matrices=False)
    expected = unit((left * singular)[:, :dimensions])
    found = text_vectors(dataset_of([list(range(9))], titles=titles, attributes=attributes))
    assert found is not None
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_texts_give_the_same_vectors_each_time() -> None:
    titles = [f"Film [{number}]" for number in range(100)]  # 100 singular values alike, and room for 64
    first, *others = (text_vectors(dataset_of([list(range(100))], titles=titles)) for _ in range(4))
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    "texts",
    [{}, {"titles": ["", "", ""]}, {"titles": ["a", "a", "a"]}, {"titles": ["a b"] * 3}, {"attributes": [(1, 2)] * 3}],
)
def test_texts_that_tell_nothing_are_none(texts: dict[str, object]) -> None:
    assert text_vectors(dataset_of([[0, 1, 2]], **texts)) is None


def test_similarities_by_hand() -> None:
    past, items = np.array([[0], [2]]), np.array([[1, 2], [0, 2]])
    ends = cosine(np.array([[3.0, 0], [1, 1], [0, 0]]))(past, items)
    np.testing.assert_allclose(ends, [[0.5**0.5, 0], [0, 0]], atol=1e-6)
    places = closeness(np.array([5, 7, 0]))(past, items)
    np.testing.assert_allclose(places, -np.log([[3, 6], [6, 1]]), rtol=1e-6)
    # items 0 and 1 share one of their 2 and 1 users, 2 has another's
    together = module._cooccurrence(Histories.of([[0, 1], [0], [2]]), 3)(past, items)
    np.testing.assert_allclose(together, [[0.5**0.5, 0], [0, 1]], rtol=1e-6)


def test_what_is_known_of_candidates_is_what_precedes_the_probes(planted: Dataset, vectors: np.ndarray) -> None:
    """Against plain products; the same whatever the newest three items of everybody are."""
    texts, kept = np.random.default_rng(6).normal(size=(len(planted.items), 5)), before_probes(planted)
    candidates = Candidates(planted, "test", seed=0)
    found = module._known_features(candidates, planted, vectors, texts)
    others = Histories.of([[*part, *range(3)] for part in kept], planted.full.users)
    changed = dataclasses.replace(planted, full=others)
    np.testing.assert_array_equal(module._known_features(candidates, changed, vectors, texts), found)
    items, user, newest = candidates.items[9], candidates.users[9], candidates.before[9]
    took = np.zeros((len(kept), len(planted.items)))
    took[kept.rows, kept.items] = 1
    place, (of_users, of_items) = np.argsort(np.argsort(planted.items)), np.split(unit(vectors), [len(kept)])
    tables = of_items @ of_items.T, unit(took.T) @ unit(took.T).T, unit(texts) @ unit(texts).T
    best = [table[kept[user]][:, items].max(axis=0) for table in tables]
    wanted = [of_items[items] @ of_users[user], *best, np.sign(place[items] - place[newest])]
    wanted += [np.log1p(took.sum(axis=0)[items])]
    np.testing.assert_allclose(found[9][:, [0, 2, 7, 19, 16, 17]].T, wanted, rtol=1e-4, atol=1e-6)
