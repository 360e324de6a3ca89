"""The audit from tokens to verdict, on data made so that what leaks is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest

from oovrec.data.dataset import DAY, Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens import audit as module
from oovrec.tokens import references
from oovrec.tokens.audit import Auditor, audit
from oovrec.tokens.build import build_tokens
from oovrec.tokens.quality import cluster_lift, clusters_of, repeated_clusters
from oovrec.tokens.references import Kind, Pair, Shape
from oovrec.tokens.table import Tokens, TokenTable

USERS, ITEMS, GROUPS = 300, 240, 30
PLAIN = {"clusters": 20, "successions": 0, "words": 0, "newest": 0}  # the paper's


@pytest.fixture(scope="module")
def sparse() -> Dataset:
    """Users of short histories, half of them from an eight-item group of their own: much that only a leak can tell."""
    rng, sequences = np.random.default_rng(0), []
    for user in range(USERS):
        own = np.arange(ITEMS) % GROUPS == user % GROUPS
        sequences.append(rng.choice(ITEMS, rng.integers(5, 8), replace=False, p=0.5 * own / own.sum() + 0.5 / ITEMS))
    users, items = [f"u{index}" for index in range(USERS)], [f"i{index}" for index in range(ITEMS)]
    return Dataset("sparse", users, items, Histories.of(sequences, range(USERS)))


@pytest.fixture(scope="module", autouse=True)
def _few_references() -> Iterator[None]:
    """As for large data: three references of a kind, learnt briefly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SMALL", 0)
        patch.setattr(references, "SMALL", 0)
        yield


@pytest.fixture(scope="module")
def auditor(sparse: Dataset) -> Auditor:
    return Auditor(sparse)


@pytest.fixture(scope="module")
def built(sparse: Dataset) -> dict[str, Tokens]:
    return {source: build_tokens(sparse, "meta", source, 5, PLAIN) for source in ("train", "all")}


@pytest.mark.parametrize(("method", "seed"), [("meta", 6), ("meta", 7), ("meta", 8), ("metavec", 6), ("metavec", 7)])
def test_tokens_of_walks_are_clean_from_training_and_leaky_from_all(
    sparse: Dataset, auditor: Auditor, method: str, seed: int
) -> None:
    """In shared tokens, or in the vectors that tokens of their own carry."""
    options = {key: value for key, value in PLAIN.items() if method == "meta" or key != "clusters"}
    for source, verdict in (("train", "clean"), ("all", "leaky")):
        tokens = build_tokens(sparse, method, source, seed, options)
        found = auditor.audit(tokens.items, tokens.users)
        assert found.verdict == verdict
        assert set(found.splits.values()) == {verdict}
        assert all((ratio > 1.3) == (verdict == "leaky") for ratio in found.log10_ratio.values())
        assert all((chance < 0.01) == (verdict == "leaky") for chance in found.p_clean.values())


@pytest.fixture(scope="module")
def by_time(sparse: Dataset) -> Dataset:
    """The same, each user's items at random times, the newest of which are held out."""
    moments = np.random.default_rng(1).random((USERS, 8)) * 1_000 * DAY
    times = np.concatenate([np.sort(row[:length]) for row, length in zip(moments, sparse.full.lengths, strict=True)])
    return dataclasses.replace(sparse, times=times.astype(np.int64)).held_out_by_time()


@pytest.mark.parametrize("seed", [6, 7])
def test_what_is_held_out_by_time_is_asked_about_where_it_is(by_time: Dataset, seed: int) -> None:
    auditor = Auditor(by_time)
    for source, verdict in (("train", "clean"), ("all", "leaky")):
        tokens = build_tokens(by_time, "meta", source, seed, PLAIN)
        assert auditor.audit(tokens.items, tokens.users).verdict == verdict


def test_item_tokens_alone_are_enough(built: dict[str, Tokens], auditor: Auditor) -> None:
    for source, verdict in (("train", "clean"), ("all", "leaky")):
        found = auditor.audit(built[source].items)
        assert found.verdict == verdict
        assert list(found.findings) == ["items", "next"]
        assert found.lift is None
        together = auditor.audit(built[source].items, built[source].users)
        assert list(together.findings) == ["items", "next", "users"]
        for name, splits in found.findings.items():
            for split, finding in splits.items():
                again = together.findings[name][split]
                assert (again.verdict, again.excess) == (finding.verdict, pytest.approx(finding.excess, rel=1e-3))


@pytest.mark.parametrize(("source", "verdict"), [("train", "clean"), ("all", "leaky")])
def test_numbers_in_the_order_of_meeting_hold_leaks_too(
    sparse: Dataset, auditor: Auditor, source: str, verdict: str
) -> None:
    found = auditor.audit(build_tokens(sparse, "sequential", source).items)
    assert found.verdict == verdict
    assert list(found.findings) == ["order", "next"]
    assert found.groups == {"items": [], "users": []}
    assert (found.lift, found.repeats) == (None, None)
    assert "order of the tokens" in found.notes[0]


@pytest.mark.parametrize("method", ["random", "independent"])
def test_tokens_that_look_at_nothing_are_never_leaky(sparse: Dataset, auditor: Auditor, method: str) -> None:
    options = {"clusters": 20} if method == "random" else {}
    for seed in range(4):
        tokens = build_tokens(sparse, method, "all", seed, options)
        assert auditor.audit(tokens.items, tokens.users).verdict != "leaky"


def test_tokens_of_users_alone_are_audited_beside_items_without_groups(
    sparse: Dataset, built: dict[str, Tokens], auditor: Auditor
) -> None:
    plain = build_tokens(sparse, "independent").items
    verdicts = {source: auditor.audit(plain, tokens.users).findings for source, tokens in built.items()}
    assert all(set(findings) == {"order", "next", "users"} for findings in verdicts.values())
    ratios = {source: findings["users"]["validation"].log10_ratio for source, findings in verdicts.items()}
    assert ratios["train"] < 0 < ratios["all"]


@pytest.mark.parametrize("largest", [3, 10])
@pytest.mark.parametrize("end", [-1, -2, -3])
def test_what_joins_each_target_to_the_item_before_it_is_a_leak(
    sparse: Dataset, auditor: Auditor, largest: int, end: int
) -> None:
    """Tokens that know nothing of training but, of each user, two items that follow each other."""
    groups = list(range(ITEMS))
    for sequence in sparse.full:
        first, second = (groups[item] for item in sequence[end - 1 :][:2])
        if first != second and groups.count(first) + groups.count(second) <= largest:
            groups = [first if group == second else group for group in groups]
    names = [(f"<A{group}>", f"<B{item}>") for item, group in enumerate(groups)]
    found = auditor.audit(TokenTable.of(sparse.items, names))
    assert found.verdict == ("clean" if end == -3 else "leaky")
    assert found.findings["next"][{-1: "test", -2: "validation", -3: "test"}[end]].verdict == found.verdict
    assert not any("token of its own" in note for note in found.notes)


def test_the_verdict_does_not_depend_on_the_order_of_lines(built: dict[str, Tokens], auditor: Auditor) -> None:
    rng = np.random.default_rng(9)

    def shuffled(table: TokenTable) -> TokenTable:
        order = rng.permutation(len(table)).tolist()
        return TokenTable.of([table.ids[row] for row in order], [table.words(row) for row in order])

    for tokens in built.values():
        assert tokens.users is not None
        found, again = (
            auditor.audit(*tables).to_json()
            for tables in ((tokens.items, tokens.users), (shuffled(tokens.items), shuffled(tokens.users)))
        )
        assert again == found


def test_the_same_seed_gives_the_same_audit(sparse: Dataset, built: dict[str, Tokens], auditor: Auditor) -> None:
    items, users = built["all"].items, built["all"].users
    assert audit(sparse, items, users, seed=0) == auditor.audit(items, users)
    other = audit(sparse, items, users, seed=1)
    assert other != auditor.audit(items, users)
    assert other.verdict == "leaky"


def test_statistics_of_the_parts_are_those_of_quality(
    sparse: Dataset, built: dict[str, Tokens], auditor: Auditor
) -> None:
    items, users = built["all"].items, built["all"].users
    assert users is not None
    found = auditor.audit(items, users)
    assert found.lift is not None
    assert found.repeats is not None
    groups = clusters_of(items)
    assert found.lift["given"] == pytest.approx(cluster_lift(clusters_of(users), groups, sparse))
    for split in ("validation", "test"):
        share = repeated_clusters(groups, sparse.histories(split), sparse.targets(split))[0]  # type: ignore[arg-type]
        assert found.repeats["given"][split] == share
    for statistic in (found.lift, found.repeats):
        assert list(statistic) == ["given", "clean", "leaky"]
        assert statistic["clean"]["validation"] < statistic["leaky"]["validation"]
    kinds: tuple[Kind, ...] = ("clean", "leaky")
    for kind in kinds:  # of references, means over them
        runs = [pair for _, pair in auditor._references(Pair(Shape.of(items), Shape.of(users)), kind)]
        lifts = [cluster_lift(run.users.levels[0], run.items.levels[0], sparse) for run in runs if run.users]
        assert len({lift["test"] for lift in lifts}) > 1
        for part, value in found.lift[kind].items():
            assert value == pytest.approx(np.mean([lift[part] for lift in lifts]))


def test_references_and_findings_fit_each_other(built: dict[str, Tokens], auditor: Auditor) -> None:
    found = auditor.audit(built["all"].items, built["all"].users)
    assert set(found.references["users"]) == {"clean", "leaky", "texts"}
    for kinds in found.references.values():
        assert [np.shape(kinds[kind]) for kind in ("clean", "leaky")] == [(3, 3), (3, 3)]
        assert kinds["texts"] == []
        clean, leaky = (np.mean(kinds[kind], axis=0) for kind in ("clean", "leaky"))
        assert clean[0] > 3 * clean[1]  # clean references know probes, and little of what is held out
        assert leaky[1] > 0.7 * leaky[0]  # leaky ones know both
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()


def test_artefacts_and_untested_items_are_told() -> None:
    rng, sequences = np.random.default_rng(1), []
    for user in range(80):  # two items a day, stored by id; the test target is a day's first or last
        days = np.sort(rng.choice(40, (3, 2), replace=False), axis=1)
        sequences.append(days.reshape(-1)[: 6 - user % 2].tolist())
    sequences[0][-1] = 40
    times = np.concatenate([np.arange(len(sequence)) // 2 * DAY for sequence in sequences])
    users, items = [f"u{index}" for index in range(80)], [f"i{index}" for index in range(41)]
    daily = Dataset("daily", users, items, Histories.of(sequences, range(80)), times=times)
    shuffled = rng.permutation(41)
    of_days = Auditor(daily)
    for places, named in ((np.arange(41), True), (shuffled, False)):
        table = TokenTable.of(items, [(f"<C{place % 7}>", f"<{place}>") for place in places.tolist()])
        found = of_days.audit(table)
        assert [artefact.order for artefact in found.artefacts] == ["tuple", "last token"]
        assert found.artefacts[1].named == named
        assert found.notes == ["in held-out parts only: 1 of 41 items, whose own tokens are hardly tested"]


def test_items_are_as_alike_as_the_smallest_group_that_holds_both_is_rare() -> None:
    similarity = module._alike([np.array([0, 0, 0, 1]), np.array([0, 0, 1, 2])])
    found = similarity(np.array([[0], [2]]), np.arange(4)[None].repeat(2, axis=0))
    none, three, two, one = 0, np.log(4 / 3), np.log(4 / 2), np.log(4 / 1)
    np.testing.assert_allclose(found, [[two, two, three, none], [three, three, one, none]], rtol=1e-6)


def test_lifts_are_counted_over_what_precedes_the_probes(
    sparse: Dataset, built: dict[str, Tokens], auditor: Auditor
) -> None:
    """Nothing of a target that is asked about, the probe included; counted by hand."""
    assert built["all"].users is not None
    users, items = clusters_of(built["all"].users), clusters_of(built["all"].items)
    counts = np.full((users.max() + 1, items.max() + 1), 0.5)
    for user, sequence in enumerate(sparse.full):
        for item in sequence[:-3]:
            counts[users[user], items[item]] += 1
    shares = counts / counts.sum()
    lift = np.log(shares / shares.sum(axis=1, keepdims=True) / shares.sum(axis=0))
    for evidence in auditor._evidence.values():
        candidates = evidence.candidates
        found = auditor._lifts(users, items, candidates)
        expected = lift[users[candidates.users][:, None], items[candidates.items]]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_likeness_to_the_history_is_one_statistic_and_to_the_item_before_another(
    built: dict[str, Tokens], auditor: Auditor
) -> None:
    groups = clusters_of(built["all"].items)
    given = Pair(Shape([groups], np.arange(ITEMS)), None)
    rarity, candidates = -np.log(np.bincount(groups) / ITEMS), auditor._evidence["validation"].candidates
    features = auditor._features(given, candidates)
    assert {name: part.shape[2] for name, part in features.items()} == {"items": 2, "next": 1}
    for row in range(0, USERS, 50):
        history, before = groups[candidates.histories[row]], groups[candidates.before[row]]
        for column, group in enumerate(groups[candidates.items[row]][:20]):
            met = [rarity[group] * (group == one) for one in history]
            found = [*features["items"][row, column], *features["next"][row, column]]
            assert found == pytest.approx([max(met), np.mean(met), rarity[group] * (group == before)], rel=1e-5)


def test_references_are_of_the_shape_of_the_tokens_whatever_was_audited_before(
    sparse: Dataset, auditor: Auditor
) -> None:
    """Of tokens of as many groups at first, and others below."""
    names = [(f"<A{item % 20}>", f"<B{item % 40}>", f"<{item}>") for item in range(ITEMS)]
    shallow = TokenTable.of(sparse.items, [(first, last) for first, _, last in names])
    for table, counts in ((shallow, (20,)), (TokenTable.of(sparse.items, names), (20, 40))):
        given = Pair(Shape.of(table), None)
        assert given.items.counts == counts
        assert [len(pair.items.levels) for _, pair in auditor._references(given, "clean")] == [len(counts)] * 3


def test_missing_tokens_and_small_data_are_told_at_once(
    sparse: Dataset, built: dict[str, Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "embed", None)  # would fail
    items, users = built["train"].items, built["train"].users
    assert users is not None
    with pytest.raises(OovrecError, match=r"^has no tokens for 'i3'; build or import tokens that name all .*\.$"):
        audit(sparse, _without(items, "i3"), users)
    with pytest.raises(OovrecError, match=r"^has no tokens for 'u0'; "):
        audit(sparse, items, _without(users, "u0"))
    short = Histories.of([sequence[:3] for sequence in sparse.full], range(USERS))
    remedy = r"^sparse: too few users have two training and two held-out items; give data in which users have four"
    with pytest.raises(OovrecError, match=remedy):
        audit(dataclasses.replace(sparse, full=short), items)


def _without(table: TokenTable, name: str) -> TokenTable:
    rows = [row for row, entity in enumerate(table.ids) if entity != name]
    return TokenTable.of([table.ids[row] for row in rows], [table.words(row) for row in rows])
