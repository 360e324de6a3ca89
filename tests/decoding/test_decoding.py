"""Exact scores, exact top k and beam search against brute force, on random models and catalogues."""

from __future__ import annotations

from typing import Self

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.decoding import exact, stepper
from oovrec.decoding.beam import beam_search
from oovrec.decoding.exact import exact_scores, exact_top_k
from oovrec.decoding.greedy import greedy
from oovrec.decoding.trie import Trie
from oovrec.language.tokenizer import extend, own_tokenizer
from oovrec.language.wordings import read_templates
from oovrec.tokens.build import Built, build_tokens
from oovrec.tokens.residual import Quantised
from oovrec.tokens.schemes import semantic
from oovrec.tokens.table import Tokens

BATCH = 3


class TableStepper:
    """A model whose hidden state after a path is a row of a random table: exact, and free of any network.

    Args:
        whole: round the logits to whole numbers, so that many are equal.
    """

    def __init__(self, vocabulary: int, seed: int, scale: float = 2.0, *, whole: bool = False) -> None:
        self.vocabulary, self.seed, self.scale, self.whole = vocabulary, seed, scale, whole
        self.prompts = list(range(BATCH))

    def row(self, prompt: int, path: tuple[int, ...]) -> Tensor:
        if -1 in path:  # none, for which any state will do
            return torch.full([self.vocabulary], torch.nan)
        rng = np.random.default_rng([self.seed, prompt, len(path), *path])
        logits = self.scale * rng.normal(size=self.vocabulary)
        return torch.from_numpy(logits.round() if self.whole else logits).float()

    def root(self) -> Tensor:
        return torch.stack([self.row(prompt, ()) for prompt in self.prompts])

    def extend(self, paths: Tensor) -> Tensor:
        paths = paths.expand(len(self.prompts), -1, -1)
        rows = zip(self.prompts, paths, strict=True)
        return torch.stack([torch.stack([self.row(b, tuple(path.tolist())) for path in own]) for b, own in rows])

    def rows(self, tokens: Tensor) -> Tensor:
        return torch.eye(self.vocabulary)[tokens]

    def take(self, rows: Tensor) -> Self:
        taken = type(self)(self.vocabulary, self.seed, self.scale, whole=self.whole)
        taken.prompts = [self.prompts[row] for row in rows.tolist()]
        return taken


def brute_force(stepper: TableStepper, codes: np.ndarray) -> np.ndarray:
    """log p of each item: at each token, softmax over the distinct tokens that continue the prefix."""
    result = np.zeros((BATCH, len(codes)))
    for prompt in range(BATCH):
        for item, tokens in enumerate(codes):
            for depth, token in enumerate(tokens):
                siblings = {row[depth] for row in codes.tolist() if row[:depth] == tokens[:depth].tolist()}
                logits = stepper.row(prompt, tuple(tokens[:depth].tolist())).double().numpy()
                result[prompt, item] += logits[token] - np.log(sum(np.exp(logits[s]) for s in siblings))
    return result


@st.composite
def catalogues(draw: st.DrawFn) -> np.ndarray:
    """Distinct token tuples; a token may stand at several depths, subtrees are ragged."""
    depth, alphabet = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    tuples = st.tuples(*[st.integers(0, alphabet - 1)] * depth)
    return np.array(draw(st.lists(tuples, min_size=1, max_size=25, unique=True)))


@settings(max_examples=60, deadline=None)
@given(codes=catalogues(), seed=st.integers(0, 1000))
def test_exact_scores_equal_brute_force_and_sum_to_one(codes: np.ndarray, seed: int) -> None:
    stepper = TableStepper(6, seed)
    scores = exact_scores(stepper, Trie.of(codes))
    np.testing.assert_allclose(scores.numpy(), brute_force(stepper, codes), atol=1e-4)
    np.testing.assert_allclose(scores.double().exp().sum(1).numpy(), 1, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(codes=catalogues(), seed=st.integers(0, 1000))
def test_beam_of_catalogue_width_is_exact(codes: np.ndarray, seed: int) -> None:
    stepper, trie = TableStepper(6, seed), Trie.of(codes)
    items, scores = beam_search(stepper, trie, width=len(codes))
    exact = exact_scores(stepper, trie)
    torch.testing.assert_close(scores, exact.sort(dim=1, descending=True).values)
    torch.testing.assert_close(exact.gather(1, items), scores)
    assert all(sorted(row) == list(range(len(codes))) for row in items.tolist())


@settings(max_examples=60, deadline=None)
@given(codes=catalogues(), seed=st.integers(0, 1000), width=st.integers(1, 8))
def test_narrow_beam_names_only_real_items_once_at_their_true_score(codes: np.ndarray, seed: int, width: int) -> None:
    stepper, trie = TableStepper(6, seed, scale=8.0), Trie.of(codes)
    items, scores = beam_search(stepper, trie, width)
    exact = exact_scores(stepper, trie)
    for row, values, truth in zip(items, scores, exact, strict=True):
        found = row[row >= 0]
        assert len(set(found.tolist())) == len(found)
        torch.testing.assert_close(values[row >= 0], truth[found])
        assert (values[row < 0] == -torch.inf).all()


def stable_top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Best first, ties by the lower item."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def excluded_items(seed: int, items: int) -> Tensor:
    """``[BATCH, 5]``: up to five items a prompt, some twice, then -1."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, items, (BATCH, 5))
    return torch.from_numpy(np.where(np.arange(5) < rng.integers(0, 6, (BATCH, 1)), table, -1))


@settings(max_examples=150, deadline=None)
@given(
    codes=catalogues(),
    seed=st.integers(0, 1000),
    k=st.integers(1, 12),
    scale=st.sampled_from([0.0, 0.3, 2.0, 8.0]),
    whole=st.booleans(),
    exclude=st.booleans(),
    step=st.sampled_from([1, 6, 100]),
)
def test_top_k_is_a_stable_sort_of_all_scores(
    codes: np.ndarray, seed: int, k: int, scale: float, whole: bool, exclude: bool, step: int
) -> None:
    """Whole logits and equal subtrees make many ties; few prefixes a step make many rounds."""
    trie, stepper = Trie.of(codes), TableStepper(6, seed, scale, whole=whole)
    scores = exact_scores(stepper, trie).numpy()
    excluded = excluded_items(seed, len(codes)) if exclude else None
    if excluded is not None:
        for row, items in zip(scores, excluded, strict=True):
            row[items[items >= 0]] = -np.inf
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exact.SEARCH, "cpu", step)
        items, values = exact_top_k(stepper, trie, k, excluded)
    best = stable_top_k(scores, k)
    np.testing.assert_array_equal(items.numpy(), best)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(scores, best, axis=1))


@settings(max_examples=40, deadline=None)
@given(codes=catalogues(), seed=st.integers(0, 1000))
def test_top_k_names_the_items_that_brute_force_finds(codes: np.ndarray, seed: int) -> None:
    stepper = TableStepper(6, seed)
    truth = brute_force(stepper, codes)
    items, values = exact_top_k(stepper, Trie.of(codes), 5)
    best = np.take_along_axis(truth, stable_top_k(truth, 5), axis=1)
    np.testing.assert_allclose(np.take_along_axis(truth, items.numpy(), axis=1), best, atol=1e-4)
    np.testing.assert_allclose(values.numpy(), best, atol=1e-4)


@pytest.mark.parametrize(("turn", "tiles"), [(-1.0, False), (-1.0, True), (float("inf"), False)])
@settings(max_examples=40, deadline=None)
@given(codes=catalogues(), seed=st.integers(0, 1000))
def test_parents_may_be_asked_one_by_one(codes: np.ndarray, seed: int, turn: float, tiles: bool) -> None:
    """As is done where each item has a token of its own, on accelerators in tiles; all at once otherwise."""
    model, trie = TableStepper(6, seed), Trie.of(codes)
    truth, excluded = brute_force(model, codes), excluded_items(seed, len(codes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(stepper.TURN, "cpu", turn)
        if tiles:
            patch.setattr(stepper, "_in_turn", stepper._in_tiles)
            patch.setattr(stepper, "TILE", 2)
            patch.setattr(stepper, "ROOM", 3 * 6 * trie.levels[-1].widest)
        np.testing.assert_allclose(exact_scores(model, trie), truth, atol=1e-4)
        items, values = exact_top_k(model, trie, 5, excluded)
    for row, seen in zip(truth, excluded, strict=True):
        row[seen[seen >= 0]] = -np.inf
    best = np.take_along_axis(truth, stable_top_k(truth, 5), axis=1)
    np.testing.assert_allclose(values, best, atol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(truth, items.numpy(), axis=1), best, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(codes=catalogues(), seed=st.integers(0, 1000))
def test_chunks_of_nodes_change_no_score(codes: np.ndarray, seed: int) -> None:
    stepper, trie = TableStepper(6, seed), Trie.of(codes)
    scores = exact_scores(stepper, trie)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exact.WHOLE, "cpu", 2 * BATCH)
        torch.testing.assert_close(exact_scores(stepper, trie), scores, rtol=0, atol=0)


def test_a_peaked_model_expands_few_prefixes() -> None:
    """100 × 100 items, nearly all probability in one first token: the others are never expanded."""

    class Peaked(TableStepper):
        expanded = 0

        def row(self, prompt: int, path: tuple[int, ...]) -> Tensor:
            return super().row(prompt, path) + (0 if path else 30 * (torch.arange(self.vocabulary) == 7))

        def extend(self, paths: Tensor) -> Tensor:
            self.expanded += paths.shape[1]
            return super().extend(paths)

    first, second = np.divmod(np.arange(100 * 100), 100)
    trie, stepper = Trie.of(np.column_stack([first, second])), Peaked(100, seed=0, scale=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(exact.SEARCH, "cpu", BATCH)
        items, _ = exact_top_k(stepper, trie, 10)
    assert stepper.expanded == 1
    assert (first[items] == 7).all()


class Recording(TableStepper):
    """Remembers the prefixes it was asked about."""

    def __init__(self, vocabulary: int, seed: int) -> None:
        super().__init__(vocabulary, seed)
        self.asked: list[tuple[int, ...]] = []

    def extend(self, paths: Tensor) -> Tensor:
        self.asked += [tuple(path) for path in paths[0].tolist()]
        return super().extend(paths)


def test_prefixes_with_an_only_child_are_not_asked_about() -> None:
    codes = np.array([[0, 1, 2, 3], [0, 4, 5, 1], [6, 2, 3, 0], [6, 2, 3, 1], [5, 0, 0, 0]])
    choices = {(0,), (6, 2, 3)}
    stepper, searched = Recording(7, seed=0), Recording(7, seed=0)
    scores = exact_scores(stepper, Trie.of(codes))
    assert sorted(stepper.asked) == sorted(choices)
    np.testing.assert_allclose(scores.numpy(), brute_force(stepper, codes), atol=1e-5)
    items, _ = exact_top_k(searched, Trie.of(codes), 5)
    assert set(searched.asked) <= choices
    np.testing.assert_array_equal(items.numpy(), stable_top_k(scores.numpy(), 5))


ITEMS = 40


def shop() -> Dataset:
    """Forty items in a random order of ids, and users who prefer their neighbours."""
    rng = np.random.default_rng(4)
    sequences = [(rng.integers(ITEMS) + rng.choice(8, 6, replace=False)) % ITEMS for _ in range(60)]
    users, items = [f"u{n}" for n in range(60)], [f"i{n}" for n in rng.permutation(ITEMS)]
    return Dataset("shop", users, items, Histories.of(sequences, range(60)))


def tokens_of(scheme: str, options: dict[str, int]) -> Tokens:
    data = shop()
    if scheme != "semantic":
        return build_tokens(data, scheme, options=options)
    codes = np.random.default_rng(5).integers(3, size=(ITEMS, 3))  # instead of a text encoder's
    material = semantic.Material(data.histories("train"), data.users, data.items, np.empty(0, np.int64))
    found = Quantised(codes, np.zeros((3, 3, 2), np.float32), [0.5, 0.3, 0.2], 0.2)
    built: Built = semantic.named(material, np.arange(ITEMS), found, 0)
    return Tokens(built.items, None, "semantic", "train", 0)


@pytest.mark.parametrize(
    ("scheme", "options", "spelling", "depth", "ragged"),
    [
        ("independent", {}, "tokens", 1, False),
        ("random", {"depth": 2}, "tokens", 2, False),  # META ID's form: a cluster and a number in it
        ("random", {"depth": 1}, "pieces", None, True),
        ("sequential", {}, "pieces", None, True),
        ("collaborative", {"tokens": 4, "branching": 3}, "tokens", None, True),
        ("collaborative", {"tokens": 20, "branching": 20}, "tokens", 2, False),
        ("collaborative", {"tokens": 4, "branching": 3}, "pieces", None, True),
        ("semantic", {}, "tokens", 4, False),
    ],
)
def test_ids_of_every_scheme_decode_to_the_items_and_to_nothing_else(
    scheme: str, options: dict[str, int], spelling: str, depth: int | None, ragged: bool
) -> None:
    """Ids of any depth, and of several in one catalogue, which are filled up: scores, search and beams."""
    texts = [*read_templates().texts(), *["item_1004 item_1013 item_1022"] * 9]  # some numbers become one piece
    vocabulary = extend(own_tokenizer(texts, causal=False), tokens_of(scheme, options), spelling)  # type: ignore[arg-type]
    codes = np.unique(vocabulary.items, return_inverse=True)[1].reshape(vocabulary.items.shape)
    assert depth in (None, codes.shape[1])
    assert (vocabulary.items == vocabulary.end).any() == ragged
    stepper, trie = TableStepper(codes.max() + 1, seed=1), Trie.of(codes)
    scores = exact_scores(stepper, trie)
    np.testing.assert_allclose(scores.numpy(), brute_force(stepper, codes), atol=1e-4)
    np.testing.assert_allclose(scores.double().exp().sum(1).numpy(), 1, atol=1e-5)
    best, _ = exact_top_k(stepper, trie, 7)
    np.testing.assert_array_equal(best.numpy(), stable_top_k(scores.numpy(), 7))
    items, values = beam_search(stepper, trie, 7)
    assert (items >= 0).all()
    torch.testing.assert_close(scores.gather(1, items), values)


def test_a_prefix_as_probable_as_the_worst_item_found_is_still_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items 0 and 1 are equally probable; 1 is found first, as its prefix comes first."""

    class Sure(TableStepper):
        def row(self, prompt: int, path: tuple[int, ...]) -> Tensor:
            return 60.0 * (torch.arange(2) == 0) if path else torch.zeros(2)

    monkeypatch.setitem(exact.SEARCH, "cpu", 1)
    codes = np.array([[1, 0], [0, 0], [0, 1], [1, 1]])
    items, _ = exact_top_k(Sure(2, seed=0), Trie.of(codes), 1)
    assert items.tolist() == [[0]] * BATCH


def test_a_beam_wider_than_the_catalogue_gives_each_item_once() -> None:
    codes = np.array([[0, 1], [0, 2], [3, 1]])
    items, scores = beam_search(TableStepper(4, seed=0), Trie.of(codes), width=20)
    assert [sorted(row) for row in items.tolist()] == [[0, 1, 2]] * BATCH
    assert scores.shape == items.shape


def test_greedy_texts_end_each_by_itself() -> None:
    model, tokens, end, longest = TableStepper(6, seed=3), torch.tensor([0, 2, 3, 5]), 2, 9
    expected = []
    for prompt in range(BATCH):
        text: list[int] = []
        while len(text) < longest:
            best = int(tokens[model.row(prompt, tuple(text))[tokens].argmax()])
            if best == end:
                break
            text.append(best)
        expected.append(text)
    assert greedy(model, tokens, end, longest) == expected
    assert len({*map(len, expected)}) == BATCH


class Rows:
    """Output rows alone, in bfloat16; remembers which it was asked for."""

    def __init__(self, vocabulary: int, width: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.table = torch.randn(vocabulary, width, generator=rng).bfloat16()
        self.asked: list[int] = []

    def rows(self, tokens: Tensor) -> Tensor:
        self.asked += tokens.tolist()
        return self.table[tokens]


@pytest.mark.parametrize(("turn", "tiles"), [(-1.0, False), (-1.0, True), (float("inf"), False)])
def test_logits_are_of_full_precision_and_absent_parents_have_no_children(
    turn: float, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast too; states and rows that are bfloat16 themselves are multiplied as they are."""
    monkeypatch.setitem(stepper.TURN, "cpu", turn)
    if tiles:
        monkeypatch.setattr(stepper, "_in_turn", stepper._in_tiles)
        monkeypatch.setattr(stepper, "TILE", 2)
    model, level = Rows(20, 8), Trie.of(np.array([[0, 5], [0, 9], [1, 5], [1, 6], [1, 7], [2, 19]])).levels[1]
    hidden = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    parents = torch.tensor([[1, -1, 0, 1], [-1, 2, 1, -1]])
    with torch.autocast("cpu", torch.bfloat16):
        nodes, scores = stepper.child_scores(model, hidden, level, parents)
    assert scores.dtype == torch.float32
    children = {-1: [], 0: [5, 9], 1: [5, 6, 7], 2: [19]}
    for row, place in np.ndindex(2, 4):
        tokens = children[int(parents[row, place])]
        wanted = (model.table[tokens].double() @ hidden[row, place].double()).log_softmax(0)
        missing = 3 - len(tokens)
        assert [level.tokens[level.symbol[n]].item() for n in nodes[row, place] if n >= 0] == tokens
        np.testing.assert_allclose(scores[row, place], [*wanted, *[-np.inf] * missing], atol=1e-5)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(("prompts", "width"), [(1, 200), (300, 4)])
def test_parents_children_alone_are_asked_for_where_items_have_tokens_of_their_own(
    own: bool, prompts: int, width: int
) -> None:
    """Where parents share their children's tokens, all of these are asked for once."""
    clusters, size = 4, 2000
    codes = [(n % clusters, clusters + (n if own else n // clusters)) for n in range(clusters * size)]
    model, level = Rows(clusters + len(codes), width), Trie.of(np.array(codes)).levels[1]
    parents = torch.arange(prompts)[:, None] % 2 + 1
    stepper.child_scores(model, torch.ones(prompts, 1, width), level, parents)
    wanted = {n for first, n in codes if first in parents} if own else {n for _, n in codes}
    assert sorted(model.asked) == sorted(wanted)
