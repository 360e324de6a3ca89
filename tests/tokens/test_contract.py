"""What a scheme returns: refused in a sentence that names it, unless it can be written, read and learnt."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oovrec.config import Options
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.tokens import build as building
from oovrec.tokens.build import Built, Material, build_tokens
from oovrec.tokens.contract import RESERVED, check_tables
from oovrec.tokens.table import Tokens, TokenTable

Scheme = Callable[[Material], Any]


class PathOption(Options):
    source: Path = Path("here")


@pytest.fixture
def build(planted: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tokens]:
    """Tokens of ``planted`` by a scheme called ``mine``."""

    def of(scheme: Scheme, built_from: Any = "train", config: type[Options] = Options) -> Tokens:
        module = SimpleNamespace(Config=config, build=lambda material, config, seed: scheme(material))
        monkeypatch.setattr(building, "methods", lambda: {"mine": "mine"})
        monkeypatch.setattr(building, "scheme", lambda method: module)
        return build_tokens(planted, "mine", built_from)

    return of


def names(ids: list[str], kind: str = "I") -> list[tuple[str, ...]]:
    return [(f"<{kind}{index}>",) for index in range(len(ids))]


def items(material: Material, first: tuple[str, ...] = ("<I0>",), **changes: Any) -> TokenTable:
    """A right table, but for the first item's tuple and ``changes``."""
    table = TokenTable.of(material.items, [first, *names(material.items)[1:]])
    return dataclasses.replace(table, **changes)


def users(material: Material, kind: str = "U", length: int | None = None) -> TokenTable:
    tuples = names(material.users, kind)
    return TokenTable.of(material.users, tuples, length and {word: np.ones(length) for (word,) in tuples})


def vectors(material: Material, odd: Any) -> Built:
    """The second item's vector is ``odd``, the others are three numbers long."""
    tuples = names(material.items)
    centroids = {word: np.zeros(3) for (word,) in tuples} | {"<I1>": odd}
    return Built(TokenTable.of(material.items, tuples, centroids), users(material, length=3))


def details(**values: Any) -> Scheme:
    return lambda material: Built(items(material), None, values)


def loop() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


NAMES: list[tuple[Scheme, str]] = [
    (
        lambda m: Built(items(m, ("I0",)), None),
        (
            "the item token 'I0' is not of the form <I17>; "
            "write angle brackets with neither blanks nor brackets within, and at most 1,000 characters."
        ),
    ),
    (lambda m: Built(items(m, ("<I 0>",)), None), "the item token '<I 0>' is not of the form <I17>; write"),
    (lambda m: Built(items(m, ("<I\t0>",)), None), r"the item token '<I\t0>' is not of the form <I17>; write"),
    (lambda m: Built(items(m, (f"<{'I' * 1001}>",)), None), f"the item token '<{'I' * 199}…' is not of the form"),
    (lambda m: Built(items(m, ("<<I0>>",)), None), "the item token '<<I0>>' is not of the form <I17>; write"),
    (
        lambda m: Built(items(m), TokenTable.of(m.users, [(f"U{index}",) for index in range(len(m.users))])),
        "the user token 'U0' is not of the form <I17>; write",
    ),
    (
        lambda m: Built(items(m, ("<I1>", "<J>")), None),
        "item 'i1' is <I1>, which begins another name: item 'i0' is <I1><J>; give it a last token of its own.",
    ),
    (
        lambda m: Built(items(m, ("<I0>", "<end>", "<J>")), None),
        "item 'i0' has <end> in place of a token; leave it out: shorter tuples are filled up with it.",
    ),
    (lambda m: Built(items(m, ("<end>", "<J>")), None), "item 'i0' has <end> in place of a token; leave it out"),
    (
        lambda m: Built(items(m, ("<I1>",)), None),
        "the token tuple <I1> names both 'i0' and 'i1'; give each its own.",
    ),
    (
        lambda m: Built(items(m, ()), None),
        "'i0' is named by (), which is no tuple of tokens; name it by texts such as ('<C3>', '<I17>').",
    ),
    (lambda m: Built(items(m, "<I0>"), None), "'i0' is named by '<I0>', which is no tuple of tokens; name it"),  # type: ignore[arg-type]
    (lambda m: Built(items(m, (7,)), None), "'i0' is named by (7,), which is no tuple of tokens; name it"),  # type: ignore[arg-type]
    (lambda m: Built(items(m, 7), None), "'i0' is named by 7, which is no tuple of tokens; name it"),  # type: ignore[arg-type]
    (
        lambda m: Built(items(m, vocabulary=[*range(len(m.items))]), None),
        "the item token '0' is not of the form <I17>; write",
    ),
    (
        lambda m: Built(items(m), users(m, "I")),
        "the token <I0> stands for a user and for an item; begin their tokens with different letters.",
    ),
]

SHAPES: list[tuple[Scheme, str]] = [
    (items, "its build() returns no Built but TokenTable; return Built(items, users, details)."),
    (lambda m: None, "its build() returns no Built but NoneType; return"),
    (
        lambda m: Built(names(m.items), None),  # type: ignore[arg-type]
        "the items of its Built are no TokenTable but list; make the table by TokenTable.of.",
    ),
    (lambda m: Built(items(m), {}), "the users of its Built are no TokenTable but dict; make"),  # type: ignore[arg-type]
    (
        lambda m: Built(TokenTable.of(m.items[:-5], names(m.items)[:-5]), None),
        "names 75 items where the data has 80; name all of material.items, in their order.",
    ),
    (
        lambda m: Built(items(m), TokenTable.of(m.users[:-1], names(m.users, "U")[:-1])),
        "names 119 users where the data has 120; name all of material.users, in their order.",
    ),
    (
        lambda m: Built(TokenTable.of(m.items[::-1], names(m.items)), None),
        "row 0 of its items is 'i79' where material.items has 'i0'; keep the order of material.items.",
    ),
    (
        lambda m: Built(TokenTable.of(m.items, names(m.items)[:-5]), None),
        "a table of 80 ids is given 75 tuples of tokens; give every id its own.",
    ),
    (lambda m: Built(items(m, codes=np.arange(79)[:, None]), None), "a table of 80 ids is given 79 tuples of tokens"),
    (lambda m: Built(TokenTable.of([], []), None), "a table is given no ids; name what there is to name."),
    (
        lambda m: Built(items(m, codes=np.arange(80)[:, None] + 1), None),
        "the codes of its items are no [items, depth] indices into the vocabulary; make the table by TokenTable.of.",
    ),
    (lambda m: Built(items(m, codes=np.arange(80)), None), "the codes of its items are no [items, depth] indices"),
    (lambda m: Built(items(m, codes=np.arange(80.0)[:, None]), None), "the codes of its items are no [items, depth]"),
    (
        lambda m: Built(items(m, vocabulary=["<I0>"] * 80), None),
        "the vocabulary of its items lists <I0> twice; make the table by TokenTable.of.",
    ),
]

CENTROIDS: list[tuple[Scheme, str]] = [
    *(
        (
            lambda m, value=value: vectors(m, np.array([0, value, 0])),
            "the centroid of <I1> has NaN or infinity among its numbers; mend it or leave it out.",
        )
        for value in (np.nan, np.inf)
    ),
    (
        lambda m: vectors(m, np.zeros(4)),
        "the centroid of <I1> is 4 numbers long and that of <I0> 3; make them of one length.",
    ),
    (
        lambda m: vectors(m, 1.5),
        "the centroid of <I1> is no vector of numbers; give it one, or leave it out.",
    ),
    (lambda m: vectors(m, [[1], [2, 3]]), "the centroid of <I1> is no vector of numbers; give"),
    (lambda m: vectors(m, "north"), "the centroid of <I1> is no vector of numbers; give"),
    (
        lambda m: Built(items(m, centroids=np.zeros((79, 3))), None),
        "the centroids of its items are no [tokens, d] floats; make the table by TokenTable.of.",
    ),
    (
        lambda m: Built(items(m, centroids=np.zeros((80, 2))), users(m, length=3)),
        "its items' centroids are 2 numbers long and its users' 3; make them of one length.",
    ),
]

DETAILS: list[tuple[Scheme, str]] = [
    *(
        (
            details(**{key: "train"}),
            f"its details have the key '{key}', which tokens.json keeps for a fact of its own; call it something else.",
        )
        for key in sorted(RESERVED)
    ),
    (
        details(explained=np.float32(1.5)),
        (
            "its details' 'explained' cannot be written as JSON (Object of type float32 is not JSON serializable); "
            "give plain numbers, texts, lists or dicts, such as float(x) for one of NumPy's."
        ),
    ),
    (details(deep={"all": [np.zeros(2)]}), "its details' 'deep' cannot be written as JSON (Object of type ndarray"),
    (details(lost=float("nan")), "its details' 'lost' cannot be written as JSON (Out of range float"),
    (details(half="\ud800"), "its details' 'half' cannot be written as JSON ('utf-8' codec"),
    (details(itself=loop()), "its details' 'itself' cannot be written as JSON (Circular reference"),
    (
        lambda m: Built(items(m), None, {7: 1}),  # type: ignore[dict-item]
        "the key 7 of its details is no text; give facts by name.",
    ),
    (
        lambda m: Built(items(m), None, ["few"]),  # type: ignore[arg-type]
        "the details of its Built are no dict but list; give facts by name.",
    ),
]


@pytest.mark.parametrize(("scheme", "sentence"), [*NAMES, *SHAPES, *CENTROIDS, *DETAILS])
def test_what_cannot_be_used_is_refused(build: Callable[..., Tokens], scheme: Scheme, sentence: str) -> None:
    with pytest.raises(OovrecError) as refused:
        build(scheme, "all")
    assert str(refused.value).startswith(f"scheme 'mine': {sentence}")


def test_names_of_the_scheme_s_own_places_stay(build: Callable[..., Tokens]) -> None:
    def scheme(material: Material) -> Built:
        raise OovrecError("5 is too many", where="tokens.mine.shelves", remedy="lower it")

    with pytest.raises(OovrecError, match=r"^tokens\.mine\.shelves: 5 is too many; lower it\.$"):
        build(scheme)


def test_what_is_accepted_can_be_read_again(build: Callable[..., Tokens], tmp_path: Path) -> None:
    """Tuples of several lengths, a name that continues another's last token, vectors for some, details that nest."""
    tuples: Callable[[Material], list[tuple[str, ...]]] = lambda m: [("<I>", "<J>", "<I>"), *names(m.items)[1:]]  # noqa: E731
    vectors = {"<I1>": np.array([1.0, 2.0]), "<unborne>": np.array([3.0, 4.0])}
    facts = {"counted": {"items": 3}, "shares": [0.5, None], "name": "ünïq", "yes": True}
    tokens = build(
        lambda m: Built(TokenTable.of(m.items, tuples(m), vectors), users(m, length=2), facts), config=PathOption
    )
    tokens.save(tmp_path)
    again = Tokens.load(tmp_path)
    assert again.summary() == tokens.summary()
    assert again.details.items() >= facts.items()
    assert again.config == {"source": "here"}
    assert np.array_equal(again.items.codes, tokens.items.codes)
    assert again.items.centroids is not None
    assert again.items.centroids[again.items.vocabulary.index("<I1>")].tolist() == [1, 2]
    assert np.count_nonzero(again.items.centroids) == 2


def test_the_page_lists_the_keys_that_are_kept() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-an-id-scheme.md").read_text()
    listed = page.split("none of the names `tokens.json` keeps:")[1].split(".")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == RESERVED


def test_no_vectors_by_token_are_none(planted: Dataset) -> None:
    assert TokenTable.of(planted.items, names(planted.items), {}).centroids is None


def test_details_cannot_take_the_place_of_facts(planted: Dataset, tmp_path: Path) -> None:
    """Whoever makes Tokens by hand is not checked as a scheme is; the label of what has seen held-out items stays."""
    honest = build_tokens(planted, "random", "all")
    forged = dataclasses.replace(honest, details=dict.fromkeys(RESERVED, "train") | {"seen": 1})
    facts = ("method", "built_from", "seed", "depth", "counts", "config", "vocabulary")
    assert all(forged.summary()[key] == honest.summary()[key] for key in facts)
    forged.save(tmp_path)
    assert Tokens.load(tmp_path).built_from == "all"
    assert Tokens.load(tmp_path).details["seen"] == 1
    assert [key for key in honest.summary() if key in facts] == list(facts)


def test_only_items_that_training_lacks_are_numbered_by_held_out_ones(planted: Dataset) -> None:
    """By brute force: held-out items are shuffled among users, and tokens compared."""
    sequences = [np.append(items[:-2], [80 + user % 6, items[-1]]) for user, items in enumerate(planted.full)]
    ids = [*planted.items, *(f"new{number}" for number in range(6))]
    changed = 0
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(sequences))
        shuffled = [np.append(own[:-2], sequences[other][-2:]) for own, other in zip(sequences, order, strict=True)]
        one, other = (
            build_tokens(
                dataclasses.replace(planted, full=Histories.of(rows, range(len(rows))), items=ids), "sequential"
            )
            for rows in (sequences, shuffled)
        )
        moved = {item for item in range(len(ids)) if one.items.text(item) != other.items.text(item)}
        assert moved <= set(range(80, 86))
        assert one.details["numbered_by_held_out"] == other.details["numbered_by_held_out"] == 6
        changed += len(moved)
    assert changed


def test_a_name_of_nothing_but_ends_is_refused() -> None:
    with pytest.raises(OovrecError, match="item 'a' has <end> in place of a token"):
        check_tables(TokenTable.of(["a", "b"], [("<end>",), ("<I1>",)]), None)


def test_a_scheme_may_sort_what_it_is_given_and_the_data_stay_as_they_are(build, planted: Dataset) -> None:
    before = list(planted.items)

    def backwards(material: Material) -> Built:
        material.items.reverse()
        return Built(items(material), None)

    with pytest.raises(
        OovrecError, match=r"row 0 of its items is 'i79' where material\.items has 'i0'; keep the order"
    ):
        build(backwards)
    assert planted.items == before


@pytest.mark.parametrize(
    ("seed", "sentence"), [(-1, "-1 is below 0"), (1.5, "1.5 is no whole number"), ("1", "'1' is no whole number")]
)
def test_a_seed_is_a_whole_number(planted: Dataset, seed: object, sentence: str) -> None:
    with pytest.raises(OovrecError, match=f"^seed: {sentence}; give a whole number from 0"):
        build_tokens(planted, "random", seed=seed)  # type: ignore[arg-type]
