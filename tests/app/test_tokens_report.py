"""The picture of tokens: whole, self-contained, and true of any scheme's tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from oovrec.app import token_facts
from oovrec.app.figures import cluster_sizes, token_map
from oovrec.app.token_facts import NEAREST, SAMPLE, Cluster, TokenFacts, best_known
from oovrec.app.tokens_report import TokensReport, measures, write_tokens_report
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens.quality import Quality, score
from oovrec.tokens.table import Tokens, TokenTable

USERS, ITEMS, CLUSTERS = 60, 48, 6
NASTY = "<script>alert('x')</script> & $100 \\frac$ “ü”"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    weights = 1 / (1 + np.arange(ITEMS))
    sequences = [
        rng.choice(ITEMS, rng.integers(4, 14), replace=False, p=weights / weights.sum()).tolist() for _ in range(USERS)
    ]
    titles = [NASTY if item == 0 else f"Film {item}" for item in range(ITEMS)]
    users, items = [f"u{user}" for user in range(USERS)], [f"i{item}" for item in range(ITEMS)]
    return Dataset("toy & co", users, items, Histories.of(sequences, np.arange(USERS)), titles=titles)


def cluster_of(item: int) -> int:
    return min(int(item**0.5), CLUSTERS - 1)  # of 1, 3, 5, 7, 9 and 23 items


@pytest.fixture(scope="module")
def tokens(dataset: Dataset) -> Tokens:
    rng = np.random.default_rng(1)
    names = [(f"<CI{cluster_of(item)}>", f"<I{item}>") for item in range(ITEMS)]
    vectors = {f"<CI{cluster}>": rng.standard_normal(6) for cluster in range(CLUSTERS)}
    users = TokenTable.of(dataset.users, [(f"<CU{user % 5}>", f"<U{user}>") for user in range(USERS)])
    details = {"dataset": {"name": "toy", "fingerprint": dataset.fingerprint}, "interactions": 1234}
    return Tokens(TokenTable.of(dataset.items, names, vectors), users, "meta", "train", 7, {"window": 5}, details)


@pytest.fixture(scope="module")
def plain(tokens: Tokens) -> Tokens:
    """The same names without centroids and users."""
    return replace(tokens, items=replace(tokens.items, centroids=None), users=None, method="collaborative")


@pytest.fixture(scope="module")
def page(tokens: Tokens, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tokens, dataset, tmp_path_factory.mktemp("report"))


def written(tokens: Tokens, dataset: Dataset, folder: Path) -> str:
    return write_tokens_report(tokens, dataset, folder).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_page_is_whole_and_asks_for_nothing(page: str) -> None:
    reader = Reader(page)
    assert not reader.open
    tags = [tag for tag, _ in reader.seen]
    assert tags.count("style") == tags.count("script") == 1
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(tags)
    for _, attributes in reader.seen:
        assert "src" not in attributes
        assert all((value or "").startswith("#") for key, value in attributes.items() if key.endswith("href"))
    assert not re.search(r"https?:|@import|url\((?!#)|fetch\(", page)
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in reader.seen


def test_ids_are_unique_and_every_reference_is_met(page: str) -> None:
    ids = [found["id"] for _, found in Reader(page).seen if "id" in found]
    assert len(ids) == len(set(ids))
    assert {f"c{number}" for number in re.findall(r'data-cluster="(\d+)"', page)} <= set(ids)
    assert {a or b for a, b in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", page)} <= set(ids)


def test_writes_the_page_and_the_map(tokens: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    assert write_tokens_report(tokens, dataset, tmp_path) == tmp_path / "tokens.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["token_map.png", "tokens.html"]
    assert (tmp_path / "token_map.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_says_how_the_names_were_made(page: str) -> None:
    text = Reader(page).text
    for fact in (
        "meta tokens of toy & co",
        "Each of 48 items has a name of 2 new words; the first is its cluster, and there are 6 clusters of 1 to 23",
        "Seed 7",
        "Depth 2",
        "Words for items 54",
        "Words for users 65",
        "options window 5",
        "interactions 1234",
        "training interactions only",
    ):
        assert fact in text
    assert "held-out interactions" not in text
    assert "Other data." not in text


def test_every_cluster_is_there_with_size_share_and_titles(page: str, dataset: Dataset, tokens: Tokens) -> None:
    taken = np.bincount(dataset.histories("train").items, minlength=ITEMS)
    clusters = TokenFacts.of(tokens, dataset).clusters
    assert [cluster.size for cluster in clusters] == [23, 9, 7, 5, 3, 1]
    for cluster in clusters:
        members = [item for item in range(ITEMS) if f"<CI{cluster_of(item)}>" == cluster.token]
        members.sort(key=lambda item: (-taken[item], item))
        assert cluster.share == pytest.approx(taken[members].sum() / taken.sum())
        assert cluster.titles == [dataset.titles[item] for item in members[:4]]  # type: ignore[index]
        assert len(cluster.sample) == min(SAMPLE, len(members))
        assert [item.taken for item in cluster.sample] == sorted((item.taken for item in cluster.sample), reverse=True)
        assert cluster.sample[0].tokens == tokens.items.text(members[0])
        assert cluster.sample[-1].tokens == tokens.items.text(members[-1])
        items = "1 item" if cluster.size == 1 else f"{cluster.size} items"
        assert f"{cluster.token} {items}, {100 * cluster.share:.1f}% of training" in Reader(page).text
        assert all(item.tokens in Reader(page).text for item in cluster.sample)


def test_titles_are_text(page: str) -> None:
    assert NASTY in Reader(page).text
    assert page.count("<script") == 1


def test_without_centroids_clusters_are_compared_by_their_users(plain: Tokens, dataset: Dataset) -> None:
    training = dataset.histories("train")
    taken = np.zeros((CLUSTERS, USERS))
    for user, item in zip(training.rows, training.items, strict=True):
        taken[cluster_of(item), user] += 1
    rows = taken / np.linalg.norm(taken, axis=1, keepdims=True)
    reference = PCA(2).fit(rows)
    facts = TokenFacts.of(plain, dataset)
    assert facts.placed_by == "users"
    assert facts.explained == pytest.approx(reference.explained_variance_ratio_.sum())
    ordered = sorted(facts.clusters, key=lambda cluster: cluster.token)
    places = np.array([cluster.position for cluster in ordered])
    np.testing.assert_allclose(np.abs(places), np.abs(reference.transform(rows)), atol=1e-9)
    check_nearest(ordered, cosine_similarity(taken))


def test_with_centroids_they_are_compared_by_these(tokens: Tokens, dataset: Dataset) -> None:
    facts = TokenFacts.of(tokens, dataset)
    assert facts.placed_by == "centroids"
    assert tokens.items.centroids is not None
    check_nearest(
        sorted(facts.clusters, key=lambda cluster: cluster.token), cosine_similarity(tokens.items.centroids[:CLUSTERS])
    )


def check_nearest(ordered: list[Cluster], cosines: np.ndarray) -> None:
    for row, cluster in enumerate(ordered):
        others = sorted((other for other in range(CLUSTERS) if other != row), key=lambda other: -cosines[row, other])
        expected = [(f"<CI{other}>", cosines[row, other]) for other in others[:NEAREST] if cosines[row, other] > 0]
        assert [near.token for near in cluster.nearest] == [token for token, _ in expected]
        assert [near.cosine for near in cluster.nearest] == pytest.approx([cosine for _, cosine in expected])


def test_clusters_nobody_took_or_without_a_centroid_have_no_place(tokens: Tokens, dataset: Dataset) -> None:
    centroids = tokens.items.centroids.copy()  # type: ignore[union-attr]
    centroids[2] = 0
    facts = TokenFacts.of(replace(tokens, items=replace(tokens.items, centroids=centroids)), dataset)
    lost = next(cluster for cluster in facts.clusters if cluster.number == 2)
    assert lost.position is None
    assert lost.nearest == ()
    assert all(near.number != 2 for cluster in facts.clusters for near in cluster.nearest)
    assert sum(cluster.position is not None for cluster in facts.clusters) == CLUSTERS - 1


def with_vectors(tokens: Tokens, vectors: np.ndarray) -> Tokens:
    """The same names; the first clusters have ``vectors``, the others and the numbers none."""
    assert tokens.items.centroids is not None
    centroids = np.zeros((len(tokens.items.centroids), vectors.shape[1]))
    centroids[: len(vectors)] = vectors
    return replace(tokens, items=replace(tokens.items, centroids=centroids))


@pytest.mark.parametrize("seed", range(6))
def test_clusters_on_a_line_make_no_map(tokens: Tokens, dataset: Dataset, seed: int) -> None:
    """Of a second axis that is nothing but rounding errors; they are near each other all the same."""
    rng = np.random.default_rng(seed)
    start, step = rng.standard_normal((2, 6))
    facts = TokenFacts.of(with_vectors(tokens, start + np.outer(rng.standard_normal(CLUSTERS), step)), dataset)
    assert facts.explained is None
    assert all(cluster.position is None for cluster in facts.clusters)
    assert any(cluster.nearest for cluster in facts.clusters)


@pytest.mark.parametrize("seed", range(4))
def test_the_farthest_cluster_of_each_axis_stands_on_its_positive_side(
    tokens: Tokens, dataset: Dataset, seed: int
) -> None:
    """So that a map does not turn over from one library of linear algebra to another."""
    vectors = np.random.default_rng(seed).standard_normal((CLUSTERS, 6))
    places = np.array([cluster.position for cluster in TokenFacts.of(with_vectors(tokens, vectors), dataset).clusters])
    assert (places.max(axis=0) == np.abs(places).max(axis=0)).all()


def test_two_clusters_have_each_other_and_no_map(tokens: Tokens, dataset: Dataset) -> None:
    facts = TokenFacts.of(with_vectors(tokens, np.array([[3.0, 4.0], [4.0, 3.0]])), dataset)
    near = {cluster.number: [one.number for one in cluster.nearest] for cluster in facts.clusters}
    assert near == {0: [1], 1: [0], 2: [], 3: [], 4: [], 5: []}
    assert [one.cosine for cluster in facts.clusters for one in cluster.nearest] == pytest.approx([0.96, 0.96])
    assert (facts.explained, {cluster.position for cluster in facts.clusters}) == (None, {None})


def test_centroids_of_no_cluster_leave_the_comparison_to_users(tokens: Tokens, plain: Tokens, dataset: Dataset) -> None:
    """As of a scheme whose numbers alone have vectors."""
    centroids = np.zeros((len(tokens.items.vocabulary), 6))
    centroids[CLUSTERS:] = 1
    facts = TokenFacts.of(replace(tokens, items=replace(tokens.items, centroids=centroids)), dataset)
    expected = TokenFacts.of(plain, dataset)
    assert (facts.placed_by, facts.clusters, facts.explained) == ("users", expected.clusters, expected.explained)


@pytest.mark.parametrize("most", [CLUSTERS - 1, CLUSTERS])
def test_of_too_many_clusters_each_is_shown_and_none_is_compared(
    most: int, tokens: Tokens, plain: Tokens, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_facts, "MOST_COMPARED", most)
    for facts in (TokenFacts.of(one, dataset) for one in (tokens, plain)):
        compared = most == CLUSTERS
        assert len(facts.clusters) == CLUSTERS
        assert {cluster.position is not None for cluster in facts.clusters} == {compared}
        assert any(cluster.nearest for cluster in facts.clusters) == compared
        assert (facts.placed_by is not None) == compared


def test_the_best_known_come_first_and_one_without_title_goes_by_its_id(tokens: Tokens, dataset: Dataset) -> None:
    taken = [0] * ITEMS
    for history in dataset.full:  # the last two of each are held out
        for item in history[:-2]:
            taken[item] += 1
    order = sorted(range(ITEMS), key=lambda item: (-taken[item], item))[:7]
    assert dataset.titles is not None
    titles = ["" if item == order[1] else title for item, title in enumerate(dataset.titles)]
    found = best_known(tokens.items, replace(dataset, titles=titles), 7)
    assert [item.taken for item in found] == [taken[item] for item in order]
    assert [item.tokens for item in found] == [tokens.items.text(item) for item in order]
    assert [item.title for item in found] == [titles[item] or f"i{item}" for item in order]


def test_page_of_tokens_without_centroids_users_and_titles(plain: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    text = Reader(written(plain, replace(dataset, titles=None), tmp_path)).text
    assert "this scheme has no centroids" in text
    assert "Words for users none" in text
    assert "Film" not in text
    assert "of training i0 near" in text  # the cluster of one item
    assert (tmp_path / "token_map.png").exists()


def test_one_word_a_name_has_no_clusters_but_items(plain: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    table = TokenTable.of(dataset.items, [(f"<I{item}>",) for item in range(ITEMS)])
    text = Reader(written(replace(plain, items=table), dataset, tmp_path)).text
    assert "has a name of one new word. No two share their first word, so that there are no clusters" in text
    assert "All of them, in order" in text
    assert all(f"<I{item}>" in text for item in range(ITEMS))
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.html"]


def test_trees_of_uneven_depth(plain: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    names = [("<a0>", "<b0>", f"<n{item}>") if item < 9 else ("<a1>", f"<n{item}>") for item in range(ITEMS)]
    tokens = replace(plain, items=TokenTable.of(dataset.items, names))
    facts = TokenFacts.of(tokens, dataset)
    assert facts.words_by_level == [2, 40, 9]  # <b0> and 39 numbers stand second
    assert facts.item_words == 2 + 1 + ITEMS  # what fills up a shorter name is no word
    text = Reader(written(tokens, dataset, tmp_path)).text
    assert "a name of up to 3 new words" in text
    assert "<end>" not in text
    assert not (tmp_path / "token_map.png").exists()  # two clusters make no map
    assert "2 clusters of 9 to 39 items" in text


def test_only_the_leaky_are_called_so(tokens: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    text = Reader(written(replace(tokens, built_from="all"), dataset, tmp_path)).text
    assert "Saw held-out interactions." in text
    assert "all interactions, held-out ones included" in text


def test_tokens_of_other_interactions_are_called_so(tokens: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    details = {"dataset": {"fingerprint": "another"}}
    assert "Other data." in Reader(written(replace(tokens, details=details), dataset, tmp_path)).text
    assert not TokensReport.of(replace(tokens, details={}), dataset).other_data


def test_items_may_stand_in_another_order(tokens: Tokens, dataset: Dataset, page: str, tmp_path: Path) -> None:
    turned = replace(tokens, items=tokens.items.reindexed(dataset.items[::-1]))
    assert Reader(written(turned, dataset, tmp_path)).text == Reader(page).text


def test_an_item_without_tokens_is_refused(tokens: Tokens, dataset: Dataset, tmp_path: Path) -> None:
    fewer = replace(tokens, items=tokens.items.reindexed(dataset.items[1:]))
    with pytest.raises(OovrecError, match="has no tokens for 'i0'"):
        write_tokens_report(fewer, dataset, tmp_path)
    assert not list(tmp_path.iterdir())


def test_measures_are_those_of_the_score(tokens: Tokens, dataset: Dataset, page: str) -> None:
    quality, text = score(tokens, dataset), Reader(page).text
    assert quality.lift is not None
    assert quality.memorisation is not None
    assert f"Lift train {quality.lift['train']:.3g} validation {quality.lift['validation']:.3g}" in text
    assert f"test {quality.repeats['test']:.1%} by chance {quality.repeats_by_chance['test']:.1%}" in text
    assert f"Memorisation score (MS) items {quality.memorisation['items']:.3g}" in text
    times = np.exp(quality.lift["validation"])
    assert f"{times:.1f} times as often as by chance on validation" in text


def test_measures_that_are_new_are_shown_and_missing_ones_are_not() -> None:
    @dataclass(frozen=True)
    class More(Quality):
        code_usage: Any = None
        clashes: int = 1234

    usage = {"items": [12.0, 3456.7], "users": None}
    shown = {measure.name: measure for measure in measures(More(None, {}, {}, None, None, {}, {}, usage))}
    assert set(shown) == {"Code usage", "Clashes"}
    values = [(figure.label, figure.value) for figure in shown["Code usage"].figures]
    assert values == [("items, level 1", "12"), ("items, level 2", "3,457")]
    assert shown["Clashes"].figures[0].value == "1,234"


def test_names_on_the_map_cover_nothing() -> None:
    rng = np.random.default_rng(3)
    clusters = [
        Cluster(number, f"<CI{number}>", int(rng.integers(5, 300)), [f"The Long Title Number {number}"], (x, y))
        for number, (x, y) in enumerate(rng.standard_normal((70, 2)))
    ]
    figure = token_map(clusters, (6.2, 4.7), labels=20)
    figure.set_dpi(200)  # as write_png draws it
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) > 5
    for place, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[place + 1 :])
        assert figure.bbox.contains(*box.min)
        assert figure.bbox.contains(*box.max)
    for dot in axes.collections:
        centre = axes.transData.transform(dot.get_offsets())[0]
        radius = dot.get_sizes()[0] ** 0.5 / 2 * figure.dpi / 72
        nearest = [np.clip(centre, box.min, box.max) for box in boxes]
        assert all(np.linalg.norm(point - centre) > radius for point in nearest)


@pytest.mark.parametrize("sizes", [[5, 5, 5], [1, 2, 3, 3, 90], list(range(10, 300, 7)), [4], list(range(25))])
def test_histogram_counts_every_cluster_once(sizes: list[int]) -> None:
    bars = cluster_sizes(sizes).axes[0].patches
    assert len(bars) <= 24
    total = 0
    for bar in bars:
        centre = bar.get_x() + bar.get_width() / 2
        half = bar.get_width() / 0.86 / 2
        assert bar.get_height() == sum(centre - half < size < centre + half for size in sizes)
        total += bar.get_height()
    assert total == len(sizes)
