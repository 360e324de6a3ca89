"""CID: items named by clusters of those taken together (Hua et al., "How to Index Item IDs", SIGIR-AP 2023).

The graph of items that the same users took is divided by spectral clustering, and every part that is still larger than
the vocabulary again. An id is the path to the leaf and a number in it. Two things differ from the authors' script:
disconnected graphs are divided exactly instead of by whatever eigenvectors the solver meets, and a number in a leaf
ranks by popularity and has a token of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.linalg import qr, svd
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from oovrec.config import Options
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.progress import Bar
from oovrec.tokens.build import Built, Material
from oovrec.tokens.naming import cluster_token, two_level_names
from oovrec.tokens.table import TokenTable

DENSE = 256  # up to this size all eigenvectors are computed at once
NEAR = ("interactions", "words")  # what tells where a new item belongs, the better first (tokens.cold)


class Config(Options):
    """Options of ``collaborative``; the paper's settings are 500/20 and 200/20.

    Attributes:
        tokens: N, how many cluster tokens there are, and the most items a leaf may hold.
        branching: into how many parts a cluster is divided.
        affinity: of two items: ``counts``, the users who took both, or ``cosine``, that count over the root
            of the product of the items' own counts, so that popular items do not draw all others.
    """

    tokens: int = Field(500, ge=2)
    branching: int = Field(20, ge=2)
    affinity: Literal["cosine", "counts"] = "cosine"


@dataclass(frozen=True)
class Cluster:
    """Items, ``[n]`` indices, and the numbers of the clusters that lead to them."""

    members: np.ndarray
    path: tuple[int, ...]


def build(material: Material, config: Config, seed: int) -> Built:
    """CID tokens ``<CI3><CI41><I1001>``, as many cluster tokens as the item's leaf is deep; items only.

    Raises:
        OovrecError: there are no interactions, or more parts than tokens.
    """
    if not len(material.histories.items):
        raise OovrecError(
            "there are no interactions to build tokens from", remedy="give users at least three items each"
        )
    if config.branching > config.tokens:
        what = f"{config.branching} parts cannot be told apart by {config.tokens} tokens"
        raise OovrecError(what, where="tokens.collaborative.branching", remedy="lower it, or raise 'tokens'")
    rng = np.random.default_rng(seed)
    graph = co_occurrence(material.histories, len(material.items), config.affinity)
    leaves, dealt = grow(graph, material.popularity, config, rng)
    labels = np.empty(len(material.items), np.int64)
    for leaf, cluster in enumerate(leaves):
        labels[cluster.members] = leaf
    numbers = two_level_names("I", labels, material.popularity, rng)
    paths = [tuple(cluster_token("I", number) for number in leaf.path) for leaf in leaves]
    names = [(*paths[label], number) for label, (_, number) in zip(labels.tolist(), numbers, strict=True)]
    details = {
        "without_interactions": {"items": int((material.popularity == 0).sum())},
        "isolated": int((np.diff(graph.indptr) == 0).sum()),
        "leaves": len(leaves),
        "largest_leaf": max(len(leaf.members) for leaf in leaves),
        "dealt": dealt,
    }
    return Built(TokenTable.of(material.items, names), None, details)


def co_occurrence(histories: Histories, items: int, affinity: str) -> csr_array:
    """``[items, items]`` symmetric float64: how many users took both, as it is (``counts``) or as a cosine."""
    shape = (len(histories), items)
    took = csr_array((np.ones(len(histories.items)), (histories.rows, histories.items)), shape=shape)
    took.data[:] = 1  # an item taken twice is taken once
    together = (took.T @ took).tocsr()
    own = together.diagonal()
    together.setdiag(0)
    together.eliminate_zeros()
    return _scaled(together, own) if affinity == "cosine" else together


def grow(
    graph: csr_array, popularity: np.ndarray, config: Config, rng: np.random.Generator
) -> tuple[list[Cluster], int]:
    """Divide all items, and then, layer by layer, every cluster of more than ``config.tokens``.

    The parts of a layer are numbered modulo ``config.tokens``, and as the parts of one cluster follow each other,
    they differ. The most popular part comes first, equal ones in random order. Items without any affinity to the rest
    of their cluster form its last part.

    Returns:
        the leaves, and how many clusters had to be dealt out at random because the graph does not divide them.
    """
    layer, leaves, numbered, dealt = [Cluster(np.arange(graph.shape[0]), ())], [], 0, 0
    with Bar("spectral clustering", graph.shape[0], "items") as bar:
        while layer:
            below: list[Cluster] = []
            for cluster in layer:
                if cluster.path and len(cluster.members) <= config.tokens:
                    leaves.append(cluster)
                    bar.advance(len(cluster.members))
                    continue
                parts = divided(graph, cluster.members, popularity, config.branching, rng)
                if len(parts) == 1 and len(cluster.members) > config.tokens:
                    parts, dealt = _dealt(cluster.members, config, rng), dealt + 1
                for part in parts:
                    below.append(Cluster(part, (*cluster.path, numbered % config.tokens)))
                    numbered += 1
            layer = below
    return leaves, dealt


def divided(
    graph: csr_array, members: np.ndarray, popularity: np.ndarray, branching: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """At most ``branching`` parts of ``members`` by the edges among them, the most popular first, loose items last."""
    inner = graph[members][:, members]
    tied = np.diff(inner.indptr) > 0
    loose = members[~tied]
    parts = []
    if tied.any():
        labels = spectral_parts(inner[tied][:, tied], branching - bool(len(loose)), rng)
        parts = [members[tied][labels == label] for label in np.unique(labels)]
    known = np.array([popularity[part].sum() for part in parts])
    parts = [parts[index] for index in np.lexsort((rng.permutation(len(parts)), -known))]
    return [*parts, loose] if len(loose) else parts


def spectral_parts(affinity: csr_array, parts: int, rng: np.random.Generator) -> np.ndarray:
    """``[n]`` labels below ``parts``: spectral clustering with pivoted QR, as scikit-learn's ``cluster_qr`` does it.

    The leading eigenvectors of the normalised affinity are found in each connected component apart: together,
    the components' equal eigenvalues leave it to chance which of them the solver returns. Where there are as many
    components as parts, or more, whole components are put together to parts of like size.

    Args:
        affinity: ``[n, n]`` symmetric, every row with a positive entry.
    """
    count, component = connected_components(affinity, directed=False)
    if count >= parts:
        return _balanced(np.bincount(component), parts, rng)[component]
    roots = np.sqrt(affinity.sum(axis=1))
    normalised = _scaled(affinity, roots**2)
    values, columns = [], []
    for number in range(count):
        inside = np.flatnonzero(component == number)
        found, vectors = _leading(normalised[inside][:, inside], min(parts, len(inside)), rng)
        column = np.zeros((len(component), len(found)))
        column[inside] = vectors / roots[inside, None]
        values.append(found)
        columns.append(column)
    best = np.argsort(-np.concatenate(values), kind="stable")[:parts]
    return pivoted_qr(np.hstack(columns)[:, best])


def pivoted_qr(vectors: np.ndarray) -> np.ndarray:
    """``[n]`` labels from ``[n, k]`` eigenvectors (Damle, Minden and Ying, Information and Inference, 2019).

    The pivots of a QR decomposition are k rows as far from parallel as may be; the nearest orthogonal matrix
    to them turns the axes towards the clusters.
    """
    _, pivots = qr(vectors.T, mode="r", pivoting=True)
    left, _, right = svd(vectors[pivots[: vectors.shape[1]]].T, full_matrices=False)
    return np.asarray(np.abs(vectors @ (left @ right)).argmax(axis=1))


def _leading(matrix: csr_array, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` greatest eigenvalues of a symmetric matrix, and their eigenvectors as columns."""
    size = matrix.shape[0]
    if size <= max(DENSE, 2 * count):
        values, vectors = np.linalg.eigh(matrix.toarray())
        return values[-count:], vectors[:, -count:]
    return eigsh(matrix, count, which="LA", v0=rng.uniform(-1, 1, size), rng=rng)


def _balanced(sizes: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """``[components]`` parts: the largest first, ties in random order, each to the part with the fewest items."""
    total, part_of = np.zeros(parts, np.int64), np.empty(len(sizes), np.int64)
    for component in np.lexsort((rng.permutation(len(sizes)), -sizes)):
        part_of[component] = total.argmin()
        total[part_of[component]] += sizes[component]
    return part_of


def _dealt(members: np.ndarray, config: Config, rng: np.random.Generator) -> list[np.ndarray]:
    """As few random parts of equal size, to within one, as leaves need, and at most ``config.branching``."""
    parts = min(config.branching, -(-len(members) // config.tokens))
    return np.array_split(rng.permutation(members), parts)


def _scaled(matrix: csr_array, weights: np.ndarray) -> csr_array:
    """Each entry over the root of the product of its row's and column's weight; rows of weight 0 stay as they are."""
    scale = diags_array(1 / np.sqrt(np.where(weights > 0, weights, 1)))
    return (scale @ matrix @ scale).tocsr()
