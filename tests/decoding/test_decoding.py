"""Exact scoring and beam search against brute force over every item, on random models and catalogues."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oovrec.decoding.beam import beam_search
from oovrec.decoding.exact import exact_scores
from oovrec.decoding.hf import CatalogueLogitsProcessor
from oovrec.decoding.trie import Trie

BATCH = 3


class TableStepper:
    """A 'language model' whose hidden state after a path is a table row: exact, and free of any network."""

    def __init__(self, vocabulary: int, seed: int, scale: float = 2.0) -> None:
        self.vocabulary, self.seed, self.scale = vocabulary, seed, scale

    def row(self, prompt: int, path: tuple[int, ...]) -> Tensor:
        rng = np.random.default_rng([self.seed, prompt, len(path), *path])
        return torch.from_numpy(self.scale * rng.normal(size=self.vocabulary)).float()

    def root(self) -> Tensor:
        return torch.stack([self.row(prompt, ()) for prompt in range(BATCH)])

    def extend(self, paths: Tensor) -> Tensor:
        paths = paths.expand(BATCH, -1, -1)
        rows = [[self.row(b, tuple(path.tolist())) for path in paths[b]] for b in range(BATCH)]
        return torch.stack([torch.stack(row) for row in rows])

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        return hidden[..., tokens]


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
    """Distinct token tuples; a token may stand at several depths."""
    depth, alphabet = draw(st.integers(1, 4)), draw(st.integers(2, 6))
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


@settings(max_examples=40, deadline=None)
@given(codes=catalogues())
def test_trie_spells_every_item(codes: np.ndarray) -> None:
    trie = Trie.of(codes)
    for item, tokens in enumerate(codes):
        for depth, node in enumerate(trie.nodes(torch.tensor(item)), start=1):
            assert trie.paths(node, depth).tolist() == tokens[:depth].tolist()
    assert sorted(trie.items.tolist()) == list(range(len(codes)))


@settings(max_examples=40, deadline=None)
@given(codes=catalogues())
def test_logits_processor_allows_what_a_prefix_search_allows(codes: np.ndarray) -> None:
    """Against the dictionary of prefixes that ``prefix_allowed_tokens_fn`` would be written with."""
    start, end, size = 6, 7, 8
    processor = CatalogueLogitsProcessor(Trie.of(codes), end)
    for depth in range(codes.shape[1] + 1):
        prefixes = np.unique(codes[:, :depth], axis=0) if depth else np.zeros((1, 0), int)
        ids = torch.from_numpy(np.column_stack([np.full(len(prefixes), start), prefixes])).long()
        masked = processor(ids, torch.zeros(len(prefixes), size))
        for prefix, row in zip(prefixes.tolist(), masked, strict=True):
            follow = {c[depth] for c in codes.tolist() if c[:depth] == prefix} if depth < codes.shape[1] else {end}
            assert set(torch.isfinite(row).nonzero().flatten().tolist()) == follow
