"""Pairs, negatives and SGD against closed forms and a plain-Python version; embeddings against gensim."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens import sgd, skipgram
from oovrec.tokens.hashing import GOLDEN, below, mix, unit
from oovrec.tokens.negatives import negative_tables
from oovrec.tokens.pairs import blocked_pairs
from oovrec.tokens.sgd import learn_block, sigmoid
from oovrec.tokens.skipgram import SkipGramConfig, embed
from oovrec.tokens.walks import Graph, random_walks


@pytest.mark.parametrize("threads", [1, 2])
def test_pairs_are_near_in_the_walk_and_in_their_block(threads: int) -> None:
    walks = np.arange(3000 * 12, dtype=np.int32).reshape(3000, 12)  # every node once: pairs tell their places
    parts = np.random.default_rng(0).integers(3, size=walks.size).astype(np.int8)
    pairs, offsets = blocked_pairs(walks, parts, 3, window=4, seed=5, threads=threads)
    assert (np.diff(offsets, axis=1) >= 0).all()
    found = np.concatenate([chunk[: ends[-1]] for chunk, ends in zip(pairs, offsets, strict=True)])
    for chunk, ends in zip(pairs, offsets, strict=True):
        for block in range(9):
            centre, context = chunk[ends[block] : ends[block + 1]].T
            assert (parts[centre] == block // 3).all()
            assert (parts[context] == block % 3).all()
    assert (found[:, 0] // 12 == found[:, 1] // 12).all()
    assert len(np.unique(found, axis=0)) == len(found)
    distances = np.bincount(np.abs(found[:, 0] - found[:, 1]), minlength=6)
    assert distances[0] == distances[5] == 0
    for distance in range(1, 5):  # kept if the drawn window, 1 … 4, reaches so far
        expected = 2 * 3000 * (12 - distance) * (4 - distance + 1) / 4
        assert distances[distance] == pytest.approx(expected, rel=0.02)


def test_pairs_do_not_depend_on_threads() -> None:
    walks = np.random.default_rng(0).integers(50, size=(500, 10)).astype(np.int32)
    parts = (np.arange(50) % 4).astype(np.int8)
    (one, ends), (two, _) = (blocked_pairs(walks, parts, 4, window=3, seed=0, threads=threads) for threads in (1, 2))
    assert all((one[c, : ends[c, -1]] == two[c, : ends[c, -1]]).all() for c in range(len(one)))


def test_negatives_have_exactly_the_power_distribution() -> None:
    frequencies = np.random.default_rng(0).integers(1, 1000, size=60)
    indptr = np.array([0, 1, 25, 25, 60])  # parts of one node, of some, of none
    threshold, alias = negative_tables(frequencies, indptr)
    for start, stop in itertools.pairwise(indptr):
        probability = np.zeros(60)
        for node in range(start, stop):
            probability[node] += threshold[node] / (stop - start)
            probability[alias[node]] += (1 - threshold[node]) / (stop - start)
        weights = frequencies[start:stop] ** 0.75
        np.testing.assert_allclose(probability[start:stop], weights / weights.sum(), rtol=1e-5)
        assert probability.sum() == pytest.approx(float(stop > start), rel=1e-5)


def plain_sgd(centres, contexts, chunks, nodes, frequencies, negatives, rate, stream):  # type: ignore[no-untyped-def]
    """What ``learn_block`` does, one number at a time."""
    threshold, alias = negative_tables(frequencies, np.array([0, len(nodes)]))
    counter = int(stream)

    def bits() -> np.uint64:
        nonlocal counter
        counter = (counter + int(GOLDEN)) % 2**64
        return np.uint64(mix(np.uint64(counter)))

    def draw() -> int:
        drawn = bits()
        place = below(drawn, len(nodes))
        return int(nodes[place if unit(drawn) < threshold[place] else alias[place]])

    kept, learnt = [draw() for _ in range(sgd.KEPT)], 0
    for centre, context in chunks:
        learnt += 1
        if learnt % sgd.FRESH == 0:
            first = (learnt - sgd.FRESH) % sgd.KEPT
            kept[first : first + sgd.FRESH] = [draw() for _ in range(sgd.FRESH)]
        samples, slots = [(context, 1.0)], int(bits())
        for _ in range(negatives):
            slots = (slots * 6364136223846793005 + int(GOLDEN)) % 2**64
            samples.append((kept[slots >> 56], 0.0))
        gradient = np.zeros(centres.shape[1])
        for place, (target, label) in enumerate(samples):
            if place and target == context:
                continue
            step = rate * (label - 1 / (1 + np.exp(-centres[centre] @ contexts[target])))
            gradient += step * contexts[target]
            contexts[target] += step * centres[centre]
        centres[centre] += gradient


def test_sgd_equals_plain_python() -> None:
    rng = np.random.default_rng(1)
    centres, contexts = (rng.normal(size=(40, 16)).astype(np.float32) / 2 for _ in range(2))
    pairs = rng.integers(40, size=(2, 400, 2)).astype(np.int32)
    bounds, stream = np.array([[0, 5], [10, 10 + 5 * sgd.FRESH]]), np.uint64(99)
    nodes, frequencies = np.arange(20, 40, dtype=np.int32), np.arange(1, 21)
    near, far = centres.astype(np.float64), contexts.astype(np.float64)
    plain_sgd(near, far, [*pairs[0, :5], *pairs[1, 10 : bounds[1, 1]]], nodes, frequencies, 3, 0.1, stream)
    threshold, alias = negative_tables(frequencies, np.array([0, 20]))
    learn_block(centres, contexts, pairs, bounds, nodes, threshold, nodes[alias], 3, np.float32(0.1), stream)
    np.testing.assert_allclose(centres, near, rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(contexts, far, rtol=1e-3, atol=2e-4)


def test_sigmoid_is_within_its_bound() -> None:
    x = np.linspace(-30, 30, 6001)
    found = np.array([sigmoid(np.float32(value)) for value in x])
    assert np.abs(found - 1 / (1 + np.exp(-x))).max() < 5e-5


@pytest.mark.parametrize("dimensions", [5, 16, 50])
def test_every_row_begins_a_cache_line(dimensions: int) -> None:
    rows = skipgram._rows(7, dimensions)
    assert [row.ctypes.data % 64 for row in rows] == [0] * 7
    assert rows.shape[1] >= dimensions
    vectors = embed(Graph.of(Histories.of([[0, 1], [0, 2], [1, 2]]), 3), SkipGramConfig(dimensions=dimensions), seed=0)
    assert vectors.shape == (6, dimensions)
    assert vectors.all()


def test_embeddings_do_not_depend_on_threads(planted: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skipgram, "SMALL", 0)  # so that threads are used here too
    graph = Graph.of(planted.full, len(planted.items))
    config = SkipGramConfig(epochs=1)
    one = embed(graph, config, seed=3, threads=1)
    assert (one == embed(graph, config, seed=3, threads=2)).all()
    assert (one == embed(graph, config, seed=3, threads=5)).all()
    assert (one != embed(graph, config, seed=4)).any()


def test_nodes_without_edges_have_no_embedding() -> None:
    graph = Graph.of(Histories.of([[0, 1], [], [1, 3]]), 4)
    vectors = embed(graph, SkipGramConfig(dimensions=8), seed=0)
    assert vectors.shape == (7, 8)
    assert vectors.any(axis=1).tolist() == [True, False, True, True, True, False, True]


def purity(vectors: np.ndarray, communities: np.ndarray) -> float:
    """Share of the ten nearest nodes by cosine that are of one's own community."""
    unit_vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit_vectors @ unit_vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return float((communities[np.argsort(-cosines, axis=1)[:, :10]] == communities[:, None]).mean())


def test_neighbours_are_as_pure_as_gensims(planted: Dataset, communities: np.ndarray) -> None:
    word2vec = pytest.importorskip("gensim.models", reason="gensim is not installed").Word2Vec
    graph = Graph.of(planted.full, len(planted.items))
    nodes = len(graph.degrees)
    walks = random_walks(graph, np.repeat(np.arange(nodes), 5), 32, seed=0)
    settings = {"vector_size": 64, "window": 5, "negative": 5, "epochs": 3, "sg": 1, "min_count": 1, "sample": 0}
    theirs = word2vec(walks.tolist(), **settings, workers=1, seed=0)
    expected = purity(np.stack([theirs.wv[node] for node in range(nodes)]), communities)
    found = purity(embed(graph, SkipGramConfig(), seed=0), communities)
    assert expected > 0.5  # four communities: 0.25 by chance
    assert found > expected - 0.05


def test_vectors_that_grow_without_bound_are_a_sentence(planted: Dataset) -> None:
    graph = Graph.of(planted.full, len(planted.items))
    with pytest.raises(OovrecError, match="learning_rate: the vectors grow without bound; lower it"):
        embed(graph, SkipGramConfig(learning_rate=1e4), seed=0)
