"""The trie's arrays against dictionaries of prefixes; saved, mapped, broken and large ones."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from oovrec.decoding.trie import ARRAYS, Trie
from oovrec.errors import OovrecError
from oovrec.files import read_tensors, write_tensors


@st.composite
def catalogues(draw: st.DrawFn) -> np.ndarray:
    """Distinct token tuples; a token may stand at several depths, subtrees are ragged."""
    depth, alphabet = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    tuples = st.tuples(*[st.integers(0, alphabet - 1)] * depth)
    return np.array(draw(st.lists(tuples, min_size=1, max_size=25, unique=True)))


def followers(codes: np.ndarray) -> dict[tuple[int, ...], set[int]]:
    """For each prefix the tokens that may follow."""
    found = defaultdict(set)
    for row in codes.tolist():
        for depth, token in enumerate(row):
            found[tuple(row[:depth])].add(token)
    return found


@settings(max_examples=60, deadline=None)
@given(codes=catalogues())
def test_trie_spells_every_item(codes: np.ndarray) -> None:
    trie = Trie.of(codes)
    every = torch.arange(len(codes))
    for depth, nodes in enumerate(trie.nodes(every).T, start=1):
        assert trie.paths(nodes, depth).tolist() == codes[:, :depth].tolist()
        assert (
            len(set(nodes.tolist())) == len(trie.levels[depth - 1].symbol) == len(np.unique(codes[:, :depth], axis=0))
        )
    assert trie.items[trie.nodes(every)[:, -1]].tolist() == every.tolist()


@settings(max_examples=60, deadline=None)
@given(codes=catalogues())
def test_children_and_masks_are_those_of_a_dictionary(codes: np.ndarray) -> None:
    trie, follow = Trie.of(codes), followers(codes)
    above = torch.zeros(1, dtype=torch.long)
    for depth, level in enumerate(trie.levels):
        prefixes = trie.paths(above, depth).tolist() if depth else [[]]
        mask, child = level.mask(above), level.children(above)
        for prefix, allowed, nodes in zip(prefixes, mask, child, strict=True):
            expected = follow[tuple(prefix)]
            assert set(level.tokens[allowed].tolist()) == expected
            nodes = nodes[nodes >= 0]
            assert set(level.tokens[level.symbols(nodes)].tolist()) == expected
            assert trie.paths(nodes, depth + 1)[:, :depth].tolist() == [prefix] * len(expected)
        lost = torch.tensor([[-1, 0], [0, -1]])
        assert level.mask(lost).any(dim=2).tolist() == [[False, True], [True, False]]
        assert (level.children(lost) >= 0).any(dim=2).tolist() == [[False, True], [True, False]]
        above = torch.arange(len(level.symbol))


def test_equal_names_are_refused() -> None:
    with pytest.raises(OovrecError, match="items 1 and 3 have the same tokens"):
        Trie.of(np.array([[5, 1], [5, 2], [4, 2], [5, 2]]))


@settings(max_examples=30, deadline=None)
@given(codes=catalogues())
def test_an_opened_trie_is_the_built_one(codes: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    trie, path = Trie.of(codes), tmp_path_factory.mktemp("trie") / "trie.safetensors"
    trie.save(path)
    opened = Trie.open(path)
    assert opened.items.tolist() == trie.items.tolist()
    assert opened.leaf.tolist() == trie.leaf.tolist()
    for ours, theirs in zip(trie.levels, opened.levels, strict=True):
        assert ours.widest == theirs.widest
        for name in ARRAYS:
            torch.testing.assert_close(getattr(theirs, name), getattr(ours, name), rtol=0, atol=0)


def resident_in(path: Path) -> tuple[int, int]:
    """Bytes of ``path`` that this process has mapped, and those of them in its memory."""
    size = resident = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = str(path) in line
        elif inside and name in ("Size:", "Rss:"):
            size, resident = (size + int(rest[0]), resident) if name == "Size:" else (size, resident + int(rest[0]))
    return size << 10, resident << 10


def random_codes(items: int, alphabet: int, depth: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    numbers = rng.choice(alphabet**depth, size=items, replace=False, shuffle=False) if depth < 4 else None
    if numbers is None:
        numbers = np.unique(rng.integers(0, alphabet**depth, size=items))
    return np.stack([numbers // alphabet**place % alphabet for place in range(depth)], axis=1)[
        rng.permutation(len(numbers))
    ]


def test_a_million_items_are_built_soon_and_mapped_not_read(tmp_path: Path) -> None:
    codes = random_codes(1_000_000, 256, 4)
    start = time.process_time()
    trie = Trie.of(codes)
    assert time.process_time() - start < 10
    trie.save(tmp_path / "trie.safetensors")
    opened = Trie.open(tmp_path / "trie.safetensors")
    if Path("/proc/self/smaps").exists():
        size, resident = resident_in(tmp_path / "trie.safetensors")
        assert size >= 25_000_000
        assert resident < size / 10
    some = torch.arange(0, len(codes), len(codes) // 20)
    assert opened.paths(opened.nodes(some)[:, -1], 4).tolist() == codes[some].tolist()


def test_a_broken_file_is_named_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "trie.safetensors"
    with pytest.raises(OovrecError, match="no such file"):
        Trie.open(path)
    Trie.of(random_codes(500, 16, 3)).save(path)
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    last = 8 + int.from_bytes(whole[:8], "little") + header["1.first_child"]["data_offsets"][1] - 4
    broken = {
        "cut": whole[:-10],
        "no header": b"text",
        "another file": whole.replace(b"oovrec.trie", b"oovrec.tree"),
        "a missing array": whole.replace(b'"leaf"', b'"loaf"'),
        "other numbers": whole.replace(b'"I32"', b'"F32"', 1),
        "a level too wide": whole.replace(b'"widest":"', b'"widest":"9'),
        "an array that does not fit": whole[:last] + b"\1\0\0\0" + whole[last + 4 :],
    }
    for how, content in broken.items():
        assert content != whole, how
        path.write_bytes(content)
        with pytest.raises(OovrecError, match="is not a whole trie"):
            Trie.open(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # a number within an array: found where all are read
    with pytest.raises(OovrecError, match="altered"):
        read_tensors(path)


@pytest.mark.parametrize("widest", ["0 2", "9 2", "2 -1"])
def test_a_number_of_children_that_cannot_be_is_refused(tmp_path: Path, widest: str) -> None:
    Trie.of(np.array([[1, 3], [1, 4], [2, 3]])).save(path := tmp_path / "trie.safetensors")
    with safe_open(path, framework="np") as file:
        header, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert header["widest"] == "2 2"
    write_tensors(path, arrays, header | {"widest": widest})
    with pytest.raises(OovrecError, match="is not a whole trie"):
        Trie.open(path)
