"""CID: cliques joined by an edge, scikit-learn and networkx as oracles, and the shape of the names."""

from __future__ import annotations

import dataclasses
import re
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens.build import Material, build_tokens
from oovrec.tokens.schemes import collaborative
from oovrec.tokens.schemes.collaborative import Config, co_occurrence, grow, pivoted_qr, spectral_parts
from oovrec.tokens.table import Tokens

SMALL = {"tokens": 6, "branching": 3}


def matrix(graph: nx.Graph) -> csr_array:
    return csr_array(nx.to_scipy_sparse_array(graph, nodelist=sorted(graph), dtype=float))


def dataset(sequences: list[list[int]], items: int) -> Dataset:
    """Training histories are ``sequences``; two more items of every user are held out."""
    full = Histories.of([[*sequence, 0, 0] for sequence in sequences], range(len(sequences)))
    users = [f"u{user}" for user in range(len(sequences))]
    return Dataset("small", users, [f"i{item:03}" for item in range(items)], full)


def tuples(tokens: Tokens) -> list[tuple[str, ...]]:
    return [tuple(tokens.items.words(index)) for index in range(len(tokens.items))]


def test_affinities_of_a_hand_worked_log() -> None:
    log = Histories.of([[0, 1, 0], [1, 0, 2], [1], []], range(4))
    # users of 0: 2, of 1: 3, of 2: 1; together 0-1 twice, 0-2 once, 1-2 once
    counts = co_occurrence(log, 4, "counts").toarray()
    np.testing.assert_array_equal(counts, [[0, 2, 1, 0], [2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    root2, root3, root6 = np.sqrt([2, 3, 6])
    cosine = [[0, 2 / root6, 1 / root2, 0], [2 / root6, 0, 1 / root3, 0], [1 / root2, 1 / root3, 0, 0], [0] * 4]
    np.testing.assert_allclose(co_occurrence(log, 4, "cosine").toarray(), cosine)


def test_two_cliques_joined_by_an_edge_part_there() -> None:
    graph = nx.barbell_graph(6, 0)
    labels = spectral_parts(matrix(graph), 2, np.random.default_rng(0))
    assert set(nx.edge_boundary(graph, np.flatnonzero(labels == labels[0]))) == {(5, 6)}


def test_parts_of_a_planted_graph_are_its_communities() -> None:
    graph = nx.planted_partition_graph(5, 70, 0.4, 0.02, seed=1)  # 350 nodes: past the dense solver
    labels = spectral_parts(matrix(graph), 5, np.random.default_rng(0))
    assert adjusted_rand_score(labels, np.arange(350) // 70) == 1


@pytest.mark.parametrize("nodes", [60, 600])
def test_parts_are_those_of_scikit_learn(nodes: int) -> None:
    graph = matrix(nx.barabasi_albert_graph(nodes, 3, seed=2))
    weights = graph.copy()
    weights.data[:] = np.random.default_rng(0).uniform(1, 5, graph.nnz)
    weights = (weights + weights.T).tocsr()
    weights.indices, weights.indptr = weights.indices.astype(np.int32), weights.indptr.astype(np.int32)
    oracle = SpectralClustering(7, affinity="precomputed", assign_labels="cluster_qr", random_state=0).fit(weights)
    for seed in range(3):
        mine = spectral_parts(weights, 7, np.random.default_rng(seed))
        assert adjusted_rand_score(mine, oracle.labels_) == 1


def test_components_are_kept_whole_or_put_together_evenly() -> None:
    islands = nx.disjoint_union_all([nx.complete_graph(size) for size in (9, 8, 4, 4, 3)])
    component = np.repeat(np.arange(5), [9, 8, 4, 4, 3])
    apart = spectral_parts(matrix(islands), 5, np.random.default_rng(0))
    assert adjusted_rand_score(apart, component) == 1
    together = spectral_parts(matrix(islands), 3, np.random.default_rng(0))
    assert sorted(np.bincount(together)) == [8, 9, 11]
    assert len(set(zip(component, together, strict=True))) == 5
    finer = spectral_parts(matrix(islands), 6, np.random.default_rng(0))  # an eigenvector more than components
    assert len(set(zip(component, finer, strict=True))) == len(set(finer)) == 6


def test_pivoted_qr_reads_indicators_under_any_rotation() -> None:
    labels = np.random.default_rng(0).integers(4, size=50)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    assert adjusted_rand_score(pivoted_qr(np.eye(4)[labels] @ rotation), labels) == 1


def test_names_of_two_cliques() -> None:
    """Items 0-3 are taken in pairs by eight users, 4-6 by three, and one user joins 3 and 4; 7 is taken alone."""
    sequences = [list(pair) for pair in combinations(range(4), 2)] + [[0, 1], [0, 2]]
    sequences += [list(pair) for pair in combinations(range(4, 7), 2)] + [[3, 4], [7]]
    tokens = build_tokens(dataset(sequences, 9), "collaborative", options={"tokens": 4, "branching": 3})
    names = tuples(tokens)
    # the part taken most often comes first, loose items last; in a leaf the most popular is 1001
    assert {names[item][:1] for item in range(4)} == {("<CI0>",)}
    assert names[0] == ("<CI0>", "<I1001>")  # taken five times
    assert {names[item][:1] for item in range(4, 7)} == {("<CI1>",)}
    assert names[4] == ("<CI1>", "<I1001>")  # taken three times
    assert names[7:] == [("<CI2>", "<I1001>"), ("<CI2>", "<I1002>")]  # 8 is never taken
    expected = {"without_interactions": {"items": 1}, "isolated": 2, "leaves": 3, "largest_leaf": 4, "dealt": 0}
    assert expected.items() <= tokens.details.items()


@pytest.mark.parametrize("affinity", ["cosine", "counts"])
@pytest.mark.parametrize(("most", "branching"), [(20, 4), (6, 3), (2, 2)])
def test_ids_are_unique_and_none_begins_another(planted: Dataset, affinity: str, most: int, branching: int) -> None:
    options = {"tokens": most, "branching": branching, "affinity": affinity}
    tokens = build_tokens(planted, "collaborative", options=options)
    names = tuples(tokens)
    assert len(set(names)) == len(names) == 80
    begun = {name[:length] for name in names for length in range(1, len(name))}
    assert not begun & set(names)
    assert all(re.fullmatch(r"(<CI\d+>)+<I1\d\d\d>", "".join(name)) for name in names)
    cluster_tokens = {token for name in names for token in name[:-1]}
    assert cluster_tokens <= {f"<CI{number}>" for number in range(most)}
    leaves = [name[:-1] for name in names]
    assert max(map(leaves.count, leaves)) == tokens.details["largest_leaf"] <= most
    assert len(set(leaves)) == tokens.details["leaves"]
    children: dict[tuple[str, ...], set[str]] = {}
    for path in begun:
        children.setdefault(path[:-1], set()).add(path[-1])
    assert max(map(len, children.values())) <= branching
    assert tokens.users is None


def test_clusters_are_numbered_layer_by_layer_modulo_the_tokens(planted: Dataset) -> None:
    graph = co_occurrence(planted.histories("train"), 80, "cosine")
    popularity = np.bincount(planted.histories("train").items, minlength=80)
    leaves, _ = grow(graph, popularity, Config(tokens=6, branching=3), np.random.default_rng(0))
    assert sorted(np.concatenate([leaf.members for leaf in leaves])) == list(range(80))
    nodes = {leaf.path[:length] for leaf in leaves for length in range(1, len(leaf.path) + 1)}
    assert len(nodes) > 12  # so the modulus matters
    for depth in range(1, max(map(len, nodes)) + 1):  # the count goes on from layer to layer, so no token is ahead
        counted = np.bincount([path[-1] for path in nodes if len(path) <= depth], minlength=6)
        assert counted.max() - counted.min() <= 1


def test_the_first_layer_finds_the_planted_communities(planted: Dataset) -> None:
    tokens = build_tokens(planted, "collaborative", options={"tokens": 40, "branching": 4})
    assert adjusted_rand_score(tokens.items.codes[:, 0], np.arange(80) // 20) > 0.9


def test_the_seed_settles_the_names_and_hardly_the_clusters(planted: Dataset) -> None:
    one, again, other = (
        build_tokens(planted, "collaborative", seed=seed, options={"tokens": 20, "branching": 8}) for seed in (0, 0, 1)
    )
    assert tuples(one) == tuples(again)
    assert tuples(one) != tuples(other)
    leaves = [["".join(name[:-1]) for name in tuples(tokens)] for tokens in (one, other)]
    assert adjusted_rand_score(*leaves) >= 0.95


def test_a_graph_that_does_not_divide_is_dealt_out() -> None:
    nobody_shares = [[item] for item in range(1, 50)]
    tokens = build_tokens(dataset(nobody_shares, 60), "collaborative", options=SMALL)
    names = tuples(tokens)
    assert len(set(names)) == 60
    assert tokens.details["isolated"] == 60
    assert tokens.details["dealt"] > 0
    assert tokens.details["largest_leaf"] <= SMALL["tokens"]
    leaves = [name[:-1] for name in names]
    assert min(map(leaves.count, leaves)) >= SMALL["tokens"] / 2  # no more leaves than are needed


def test_alike_items_end_in_small_leaves() -> None:
    tokens = build_tokens(dataset([list(range(1, 40))] * 3, 40), "collaborative", options=SMALL)
    assert len(set(tuples(tokens))) == 40
    assert tokens.details["largest_leaf"] <= SMALL["tokens"]


def test_no_order_of_ids_in_the_numbers() -> None:
    everyone_shares = [[item, (item + 1) % 1000] for item in range(1000)]  # all items equally popular
    tokens = build_tokens(dataset(everyone_shares, 1000), "collaborative", options={"tokens": 1000, "branching": 2})
    numbers = np.array([int(name[-1][2:-1]) for name in tuples(tokens)])
    assert abs(np.corrcoef(numbers, np.arange(1000))[0, 1]) < 0.1


def test_held_out_items_are_not_seen(planted: Dataset) -> None:
    changed = [np.append(items[:-2], [7, 3]) for items in planted.full]
    other = dataclasses.replace(planted, full=Histories.of(changed, range(len(changed))))
    assert tuples(build_tokens(planted, "collaborative")) == tuples(build_tokens(other, "collaborative"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 10}, r"tokens\.collaborative\.branching: 20 parts cannot be told apart by 10 tokens; lower it"),
        ({"affinity": "jaccard"}, r"tokens\.collaborative\.affinity: .*'cosine' or 'counts'"),
        ({"branching": 1}, r"tokens\.collaborative\.branching: .*not 1"),
    ],
)
def test_errors_say_what_to_do(planted: Dataset, options: dict[str, object], message: str) -> None:
    with pytest.raises(OovrecError, match=message):
        build_tokens(planted, "collaborative", options=options)


def test_a_log_without_training_interactions_is_refused() -> None:
    with pytest.raises(OovrecError, match="no interactions"):
        build_tokens(Dataset("empty", ["u"], ["i"], Histories.of([[]], [0])), "collaborative")


def test_a_catalogue_smaller_than_a_leaf_is_divided_once_all_the_same() -> None:
    histories = Histories.of([[0, 1, 2], [0, 1], [3, 4, 5], [4, 5]])
    material = Material(histories, [*"uvwx"], [*"abcdef"], np.empty(0, np.int64))
    table = collaborative.build(material, collaborative.Config(tokens=500, branching=2), seed=0).items
    first = [table.words(item)[0] for item in range(6)]
    assert table.depth == 2
    assert first == [first[0]] * 3 + [first[3]] * 3
    assert first[0] != first[3]


def test_parts_that_are_dealt_say_nothing_of_the_order_of_items() -> None:
    config = collaborative.Config(tokens=10, branching=4)
    parts = collaborative._dealt(np.arange(40), config, np.random.default_rng(0))
    assert sorted(np.concatenate(parts).tolist()) == [*range(40)]
    assert all(np.ptp(part) > 20 for part in parts)  # 9 where they stand side by side
