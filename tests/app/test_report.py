"""The report: one file, nothing from outside, titles escaped, figures as measured, the winner named whoever it is."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from oovrec.app import figures, verdict
from oovrec.app.figures import inline_svg, token_map, write_png
from oovrec.app.report import write_report
from oovrec.app.report_data import ReportData, SystemRow, example_users
from oovrec.app.token_facts import Cluster, TokenFacts
from oovrec.data.checks import inspect
from oovrec.data.dataset import DAY, Dataset
from oovrec.data.histories import Histories
from oovrec.evaluation.protocol import Evaluation, evaluate
from oovrec.evaluation.results import METRICS
from oovrec.tokens.table import Tokens, TokenTable

ITEMS, CLUSTERS = 40, 8
NASTY = "<script>alert('x')</script> & $100 \\frac$ “ü”"
VOID = {"meta", "br"}
SEEDS = "That is one seed of each, enough to look, too few to call one better; 'oovrec compare' takes several."


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    sequences = [rng.permutation(ITEMS)[: rng.integers(4, 14)].tolist() for _ in range(60)]
    titles = [NASTY if item % 5 == 0 else f"Film {item}" for item in range(ITEMS)]
    times = np.arange(sum(map(len, sequences))) * (DAY // 2)
    users, items = [f"u{user}" for user in range(60)], [f"i{item}" for item in range(ITEMS)]
    return Dataset("toy & co", users, items, Histories.of(sequences, np.arange(60)), times, titles=titles)


@pytest.fixture(scope="module")
def tokens(dataset: Dataset) -> Tokens:
    rng = np.random.default_rng(1)
    names = [(f"<CI{item % CLUSTERS}>", f"<I{item // CLUSTERS}>") for item in range(ITEMS)]
    vectors = {f"<CI{cluster}>": rng.standard_normal(6) for cluster in range(CLUSTERS)}
    users = TokenTable.of(dataset.users, [(f"<U{user}>",) for user in range(60)])
    return Tokens(TokenTable.of(dataset.items, names, vectors), users, "meta", "train", 0)


def evaluation(dataset: Dataset, lead: float) -> Evaluation:
    """Noise with ``lead`` added to the target's score."""
    scores = torch.randn(60, ITEMS, generator=torch.Generator().manual_seed(0))
    scores[torch.arange(60), torch.from_numpy(dataset.targets("test"))] += lead
    return evaluate(lambda histories: scores[histories.users], dataset)


@pytest.fixture(scope="module")
def run(dataset: Dataset, tokens: Tokens) -> ReportData:
    main, rival = evaluation(dataset, 2.0), evaluation(dataset, 0.0)
    log = [
        {"epoch": epoch, "loss": 5 / epoch, "ndcg": 0.01 * epoch, "seconds": 30.0, "samples_per_second": 1234.0}
        for epoch in (1, 2, 3)
    ]
    return ReportData(
        dataset=replace(inspect(dataset), warnings=["sorted: such an order is not time"]),
        systems=[SystemRow.of("META ID (Llama)", "train", main), SystemRow.of("SASRec", "none", rival, main)],
        environment={
            "hardware": "a computer",
            "seed": 7,
            "versions": {"torch": "9.9"},
            "commit": None,
            "data_sha256": "ab12",
        },
        config="system: llama\n",
        seconds=372.0,
        training=log,
        validated_on="masked",
        tokens=TokenFacts.of(tokens, dataset),
        spoken=True,
        examples=example_users(dataset, main, [0, 1, 2], tokens),
    )


@pytest.fixture(scope="module")
def folder(run: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_report(run, folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_writes_the_page_and_the_pictures_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.png",
        "report.html",
        "token_map.png",
        "training.png",
    ]
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_page_is_whole_and_asks_for_nothing(page: str) -> None:
    reader = Reader(page)
    assert not reader.open
    assert [tag for tag, _ in reader.seen].count("style") == 1  # a figure's own would apply to the whole page
    assert not {"link", "img", "script", "iframe", "object", "embed", "base"} & {tag for tag, _ in reader.seen}
    for _, attributes in reader.seen:
        assert "src" not in attributes
        assert all((value or "").startswith("#") for key, value in attributes.items() if key.endswith("href"))
    assert not re.search(r"https?:|@import|url\((?!#)", page)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in reader.seen


def test_ids_are_unique_and_every_reference_is_met(page: str) -> None:
    attributes = [attributes for _, attributes in Reader(page).seen]
    ids = [found["id"] for found in attributes if "id" in found]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", page)) <= {(name, "") for name in ids} | {
        ("", name) for name in ids
    }


def test_titles_are_text(page: str) -> None:
    assert NASTY in Reader(page).text
    assert "<script" not in page


def test_dollars_in_a_title_are_no_mathematics() -> None:
    clusters = [Cluster(number, f"<CI{number}>", 1, [r"$\frac$"], (number, number)) for number in range(3)]
    assert r">$\frac$</text>" in inline_svg(token_map(clusters), "a map")


def test_titles_of_any_script_are_drawn_without_a_warning_a_character(tmp_path: Path) -> None:
    clusters = [Cluster(number, f"<CI{number}>", 1, ["\U00013080\U000130c0"], (number, number)) for number in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = token_map(clusters)
        write_png(figure, tmp_path / "map.png")
        assert ">\U00013080\U000130c0</text>" in inline_svg(figure, "a map")  # which the reader's fonts may have


def test_every_figure_and_interval_is_shown(run: ReportData, page: str) -> None:
    text = Reader(page).text
    assert set(run.systems[0].blocks) == {"raw", "masked", "later_day_raw", "later_day_masked"}
    for system in run.systems:
        for block in system.blocks.values():
            for metric in METRICS:
                low, high = block["ci"][metric]
                assert f"{block[metric]:.4f}{low:.4f}–{high:.4f}" in text


def test_facts_of_the_run_are_shown(page: str) -> None:
    text = Reader(page).text
    for fact in (
        "META ID (Llama) on toy & co",
        "6 min 12 s",
        "torch 9.9",
        "ab12",
        "system: llama",
        "such an order is not time",
    ):
        assert fact in text


def test_examples_mark_the_hit_or_say_where_it_stood(run: ReportData, page: str) -> None:
    hits = [user for user in run.examples if user.hit is not None]
    assert 0 < len(hits) < len(run.examples), "the example should hold both kinds"
    assert page.count('class="hit"') == len(hits)
    for user in run.examples:
        if user.hit is None:
            assert user.rank > 10
            assert f"Held out: {user.target.title}, at place {user.rank}." in Reader(page).text
        else:
            assert user.rank == user.hit + 1
            assert user.recommended[user.hit].title == user.target.title


def test_a_target_that_the_history_has_is_no_hit(dataset: Dataset, run: ReportData, tmp_path: Path) -> None:
    user = np.flatnonzero(dataset.full.lengths >= 3)[0]
    items = dataset.full.items.copy()
    items[dataset.full.indptr[user + 1] - 1] = items[dataset.full.indptr[user]]
    repeating = replace(dataset, full=replace(dataset.full, items=items))
    (example,) = example_users(repeating, evaluation(repeating, 9.0), [0])
    assert (example.rank, example.hit) == (None, None)
    write_report(replace(run, examples=[example]), tmp_path)
    text = Reader((tmp_path / "report.html").read_text()).text
    assert f"Held out: {example.target.title}, which the history has already." in text


def test_examples_show_the_newest_history_and_unseen_items(dataset: Dataset, tokens: Tokens, run: ReportData) -> None:
    for row, user in enumerate(run.examples):
        history = dataset.histories("test")[row]
        assert user.earlier + len(user.history) == len(history)
        assert [item.tokens for item in user.history] == [tokens.items.text(item) for item in history[-8:]]
        assert not {item.tokens for item in user.recommended} & {tokens.items.text(item) for item in history}


def test_only_the_leaky_are_called_so(run: ReportData, page: str, tmp_path: Path) -> None:
    assert "held-out interactions" not in page
    leaky = replace(run, systems=[replace(run.systems[0], tokens_from="all"), run.systems[1]])
    write_report(leaky, tmp_path)
    text = Reader((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Saw held-out interactions." in text
    assert text.count("saw held-out interactions") == 4  # the main system's row in each block


def test_clusters_hold_their_items_and_the_map_keeps_what_it_says(dataset: Dataset, tokens: Tokens) -> None:
    facts = TokenFacts.of(tokens, dataset)
    assert {(cluster.token, cluster.size) for cluster in facts.clusters} == {(f"<CI{c}>", 5) for c in range(CLUSTERS)}
    counts = np.bincount(dataset.histories("train").items, minlength=ITEMS)
    for cluster in facts.clusters:
        members = range(int(cluster.token[3:-1]), ITEMS, CLUSTERS)
        assert dataset.titles is not None
        best = max(members, key=lambda item: (counts[item], -item))
        assert cluster.titles[0] == dataset.titles[best]
    centroids = tokens.items.centroids
    assert centroids is not None
    points = centroids[tokens.items.levels[0]].astype(float)
    spread = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
    assert facts.explained == pytest.approx(spread[:2].sum() / spread.sum(), rel=1e-5)
    places = np.array([c.position for c in sorted(facts.clusters, key=lambda cluster: cluster.number)])
    assert np.var(places, axis=0, ddof=1) == pytest.approx(spread[:2], rel=1e-5)


def test_a_system_alone_without_tokens_or_epochs(run: ReportData, dataset: Dataset, tmp_path: Path) -> None:
    untitled = replace(dataset, titles=None)
    main = evaluation(untitled, 0.0)
    alone = replace(
        run,
        systems=[SystemRow.of("Popularity", "none", main)],
        tokens=None,
        training=[],
        examples=example_users(untitled, main, [0]),
    )
    write_report(alone, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.png", "report.html"]
    assert alone.examples[0].history[0].title.startswith("i")
    assert verdict.verdict(alone) == ""


class TestVerdict:
    def rows(self, *scores: float, p: float = 0.001) -> list[SystemRow]:
        def row(label: str, score: float, lead: Any) -> SystemRow:
            return SystemRow(label, "none", {"masked": {"ndcg@10": score}}, lead)

        lead = {"masked": {"ndcg@10": {"mean": scores[0] - scores[1], "interval": (-0.01, 0.02), "p": p}}}
        labels = ["Main", "Second", "Third"]
        return [row(labels[index], score, lead if index else None) for index, score in enumerate(scores)]

    def test_main_wins(self, run: ReportData) -> None:
        sentence = verdict.verdict(replace(run, systems=self.rows(0.3, 0.2, 0.1)))
        assert sentence == f"It is ahead of Second and Third; the nearest, Second, has 0.2000. {SEEDS}"

    def test_main_loses(self, run: ReportData) -> None:
        sentence = verdict.verdict(replace(run, systems=self.rows(0.2, 0.1, 0.3)))
        assert sentence == f"Third is ahead of it, with 0.3000. {SEEDS}"

    def test_a_tie_is_no_lead(self, run: ReportData) -> None:
        assert verdict.verdict(replace(run, systems=self.rows(0.2, 0.2, 0.1))) == "Second has the same."

    @pytest.mark.parametrize(
        ("scores", "best"),
        [((0.2, 0.3, 0.1), [1]), ((0.2, 0.2, 0.1), [0, 1]), ((0.0, 0.0, 0.0), []), ((0.2,), [])],
    )
    def test_the_best_are_those_that_none_is_above(self, scores: tuple[float, ...], best: list[int]) -> None:
        rows = self.rows(*scores) if len(scores) > 1 else self.rows(*scores, 0.0)[:1]
        assert [place for place, row in enumerate(rows) if verdict.is_best(row, rows, "ndcg@10", "masked")] == best

    def test_chance_is_called_chance(self, run: ReportData) -> None:
        assert "may be chance" in verdict.verdict(replace(run, systems=self.rows(0.2, 0.21, p=0.4)))

    def test_comparison_gives_difference_interval_and_p(self, run: ReportData) -> None:
        rows = self.rows(0.2, 0.21, p=0.4)
        assert verdict.comparison(replace(run, systems=rows), rows[1]) == (
            "Main minus Second, masked ndcg@10: −0.0100 (95% interval −0.0100 to +0.0200, p = 0.400)."
        )

    def test_of_equal_rivals_the_first_is_named(self, run: ReportData) -> None:
        sentence = verdict.verdict(replace(run, systems=self.rows(0.3, 0.2, 0.2)))
        assert sentence == f"It is ahead of Second and Third; the nearest, Second, has 0.2000. {SEEDS}"

    def test_chance_is_that_of_the_nearest(self, run: ReportData) -> None:
        first, second, third = self.rows(0.3, 0.1, 0.2)
        third = replace(third, lead={"masked": {"ndcg@10": {"mean": 0.1, "interval": (-0.01, 0.3), "p": 0.4}}})
        sentence = verdict.verdict(replace(run, systems=[first, second, third]))
        assert sentence.endswith("; the nearest, Third, has 0.2000, a difference that may be chance.")

    @pytest.mark.parametrize(("p", "told"), [(0.0004, "p ≤ 0.001"), (0.001, "p ≤ 0.001"), (0.004, "p = 0.004")])
    def test_a_p_is_not_told_finer_than_it_is_known(self, p: float, told: str, run: ReportData) -> None:
        rows = self.rows(0.3, 0.2, p=p)
        assert verdict.comparison(replace(run, systems=rows), rows[1]).endswith(f", {told}).")


@pytest.mark.parametrize(("repeated", "told"), [(0.0, False), (0.009, False), (0.285, True)])
def test_the_headline_says_what_masking_rules_out(run: ReportData, repeated: float, told: bool) -> None:
    splits = run.dataset.splits | {"test": replace(run.dataset.splits["test"], repeated_targets=repeated)}
    sentence = verdict.headline(replace(run, dataset=replace(run.dataset, splits=splits)))
    raw = run.systems[0].blocks["raw"]["hit@10"]
    assert ("28.5% of those items stand in the user's own history" in sentence) is told
    assert sentence.endswith(f"with them among the candidates, hit@10 is {raw:.1%}.") is told


def test_what_was_validated_among_all_candidates_is_judged_so(run: ReportData) -> None:
    splits = run.dataset.splits | {"test": replace(run.dataset.splits["test"], repeated_targets=0.5)}
    blocks = [{"raw": {"ndcg@10": raw}, "masked": {"ndcg@10": 0.9 - raw}} for raw in (0.3, 0.2)]
    lead = {"raw": {"ndcg@10": {"mean": 0.1, "interval": (0.05, 0.2), "p": 0.001}}}
    rows = [SystemRow("Main", "none", blocks[0]), SystemRow("Second", "none", blocks[1], lead)]
    among_all = replace(run, dataset=replace(run.dataset, splits=splits), validated_on="raw")
    assert verdict.verdict(replace(among_all, systems=rows)) == f"It is ahead of Second, which has 0.2000. {SEEDS}"
    assert verdict.comparison(replace(among_all, systems=rows), rows[1]).startswith("Main minus Second, raw ndcg@10:")
    raw = run.systems[0].blocks["raw"]
    sentence = verdict.headline(among_all)
    assert f"Asked for ten of {ITEMS} items, those of the history among them, META ID (Llama) names the" in sentence
    assert sentence.endswith(f"its ndcg@10 is {raw['ndcg@10']:.4f}.")


def test_the_headline_gives_each_figure_its_own(run: ReportData) -> None:
    ci = {"hit@10": (0.2, 0.3), "ndcg@10": (0.1, 0.16)}
    block = {"hit@10": 0.25, "ndcg@10": 0.1234, "ci": ci, "users": 1234}
    main = replace(run.systems[0], blocks=run.systems[0].blocks | {"masked": block})
    assert verdict.headline(replace(run, systems=[main])) == (
        f"Asked for ten of {ITEMS} items, META ID (Llama) names the one that was held out for 25.0% of 1,234 users "
        "(95% interval 20.0% to 30.0%); its ndcg@10 is 0.1234."
    )


def test_a_leaky_rival_is_told_of_too(run: ReportData, tmp_path: Path) -> None:
    rival = replace(run.systems[1], tokens_from="all")
    write_report(replace(run, systems=[run.systems[0], rival]), tmp_path)
    text = Reader((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Saw held-out interactions." in text


def test_the_picture_of_figures_shows_each_where_it_belongs(run: ReportData) -> None:
    """The first system at the top; masked filled, raw hollow; each with its own interval."""
    drawn, names = figures.metrics(run.systems).axes, [system.label for system in run.systems]
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == names
    for axes, metric in zip(drawn, ("hit@10", "ndcg@10"), strict=True):
        assert axes.get_ylim()[0] > axes.get_ylim()[1]
        assert axes.get_xlim()[0] == 0
        for bar, mark in zip(axes.lines[::2], axes.lines[1::2], strict=True):
            block = "raw" if to_hex(mark.get_markerfacecolor()) == figures.PAPER else "masked"
            values = run.systems[round(mark.get_ydata()[0])].blocks[block]
            assert mark.get_xdata()[0] == values[metric]
            assert tuple(bar.get_xdata()) == tuple(values["ci"][metric])
        assert len({(block.get_xdata()[0], block.get_ydata()[0]) for block in axes.lines[1::2]}) == 4


def test_the_epoch_that_was_kept_is_marked() -> None:
    ndcg = {1: 0.1, 2: None, 3: 0.3, 4: 0.2}
    log = [{"epoch": epoch, "loss": 4.0 / epoch, "ndcg": value} for epoch, value in ndcg.items()]
    above, below = figures.training(log, "masked").axes
    assert above.lines[0].get_ydata().tolist() == [4.0, 2.0, 4 / 3, 1.0]
    assert below.get_title("left") == "validation ndcg@10, masked: 0.3000 at epoch 3"
    early = figures.training(log, "masked", 14).axes[1]
    assert early.get_title("left") == "validation ndcg@10, masked, first 14 days: 0.3000 at epoch 3"
    curve, mark = below.lines
    assert curve.get_xydata().tolist() == [[1, 0.1], [3, 0.3], [4, 0.2]]
    assert mark.get_xydata().tolist() == [[3, 0.3]]


def test_the_map_names_as_many_as_asked() -> None:
    clusters = [Cluster(number, f"<CI{number}>", 1, [f"T{number}"], (number % 4, number // 4)) for number in range(16)]
    assert len(token_map(clusters, labels=3).axes[0].texts) == 3


def test_the_map_tells_sizes_by_areas_titles_in_short_and_more_on_hovering() -> None:
    """A cluster without a place is not on it; one without titles is named by its token."""
    places = [(300, [25 * "x" + " tail"], (0, 0)), (100, [], (1, 1)), (900, ["Nowhere"], None)]
    clusters = [Cluster(n, f"<CI{n}>", size, titles, place) for n, (size, titles, place) in enumerate(places)]
    drawn = token_map(clusters)
    (axes,) = drawn.axes
    large, small = (dot.get_sizes()[0] - 14 for dot in axes.collections)  # beside what the smallest dot has
    assert large == pytest.approx(3 * small)
    assert {text.get_text() for text in axes.texts} == {25 * "x" + "…", "<CI1>"}
    page = inline_svg(drawn, 'a "map"', {"cluster-1": "<CI1>, 100"})
    assert 'aria-label="a &quot;map&quot;"' in page
    assert '<g data-cluster="1" style="--hue: 137.5"><title>&lt;CI1&gt;, 100</title>' in page


def test_examples_show_ten_items_whichever_they_are(dataset: Dataset, tokens: Tokens) -> None:
    """The first of the catalogue too."""
    examples = example_users(dataset, evaluation(dataset, 0.0), range(60), tokens)
    assert {len(example.recommended) for example in examples} == {10}
    assert tokens.items.text(0) in {item.tokens for example in examples for item in example.recommended}


def test_an_example_bears_its_own_users_tokens(dataset: Dataset, tokens: Tokens) -> None:
    """Where others before it had too few items to be evaluated, too."""
    found = replace(evaluation(dataset, 0.0), users=np.arange(60)[::-1])
    (example,) = example_users(dataset, found, [0], tokens)
    assert (example.id, example.tokens) == ("u59", "<U59>")
