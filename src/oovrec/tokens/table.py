"""TokenTable: each id and its tuple of out-of-vocabulary tokens; and the folder they are kept in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from oovrec.errors import OovrecError, brief, unknown
from oovrec.files import read_json, read_tensors, read_text, write_json, write_tensors, write_text
from oovrec.tokens.rules import END, LONGEST, TOKEN, begun, check_count, check_tuples, misspelt

BuiltFrom = Literal["train", "all"]
SUMMARY = {"method", "built_from", "seed", "depth", "counts", "config", "vocabulary"}  # keys of tokens.json
AGAIN = "build the tokens again"


@dataclass(frozen=True)
class TokenTable:
    """``n`` entities (items or users), each named by a unique tuple of at most ``depth`` tokens.

    Attributes:
        ids: ``[n]`` entity ids.
        codes: ``[n, depth]`` int32, indices into ``vocabulary``; tuples of fewer tokens are filled up with ``<end>``.
        vocabulary: ``[tokens]`` token strings, those of the first level first, then those new in the second, ….
        centroids: ``[tokens, d]`` float32, what a token stands for in the embedding space the ids were
            clustered in; rows of zeros for tokens without one. None if the scheme has no embeddings.
        file: where it was read; None for one that was made here.
    """

    ids: list[str]
    codes: np.ndarray
    vocabulary: list[str]
    centroids: np.ndarray | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        check_count(self.ids, self.codes)
        unique, counts = np.unique(self.codes, axis=0, return_counts=True)
        if len(unique) < len(self.codes):
            rows = np.flatnonzero((self.codes == unique[counts.argmax()]).all(axis=1))
            one, other = (self.ids[row] for row in rows[:2])
            what = f"the token tuple {self.text(rows[0])} names both '{one}' and '{other}'"
            raise OovrecError(what, remedy="give each its own")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def depth(self) -> int:
        """Tokens an id, of the longest."""
        return int(self.codes.shape[1])

    @cached_property
    def levels(self) -> list[np.ndarray]:
        """For each depth the sorted codes that occur there."""
        return [np.unique(self.codes[:, level]) for level in range(self.depth)]

    @property
    def vectors(self) -> np.ndarray | None:
        """``[n, d]`` float32, the mean of what an entity's tokens stand for; a token without a centroid counts as zero.

        None where no token has one.
        """
        if self.centroids is None:
            return None
        mean: np.ndarray = self.centroids[self.codes].mean(axis=1)
        return mean

    @property
    def stands_alone(self) -> bool:
        """Whether no two entities share a first token, and tokens carry vectors: these alone say who is alike."""
        return self.centroids is not None and len(self.levels[0]) == len(self)

    def words(self, index: int) -> list[str]:
        """The entity's tokens."""
        return [word for code in self.codes[index] if (word := self.vocabulary[code]) != END]

    def text(self, index: int) -> str:
        """The entity's tokens as text, as they stand in a prompt: ``<CI79><I1220>``."""
        return "".join(self.words(index))

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        tuples: Sequence[Sequence[str]],
        centroids: dict[str, np.ndarray] | None = None,
        file: Path | None = None,
    ) -> TokenTable:
        """A table from token strings; ``centroids`` by token string, those of tokens that nothing bears aside.

        Raises:
            OovrecError: as many tuples as ids are not given, one is empty, repeated or no tuple of texts; a centroid
                is no vector, or of another length than the others.
        """
        check_tuples(ids, tuples)
        depth = max(map(len, tuples))
        columns = list(zip(*([*entry, *[END] * (depth - len(entry))] for entry in tuples), strict=True))
        vocabulary = list(dict.fromkeys(token for column in columns for token in sorted(set(column), key=_natural)))
        code = {token: index for index, token in enumerate(vocabulary)}
        codes = np.array([[code[token] for token in column] for column in columns], np.int32).T.copy()
        rows = _rows(vocabulary, centroids) if centroids else None
        return cls(list(ids), codes, vocabulary, rows, file)

    def reindexed(self, ids: Sequence[str]) -> TokenTable:
        """The same tokens in the order of ``ids``.

        Raises:
            OovrecError: an id has no tokens.
        """
        row = {name: index for index, name in enumerate(self.ids)}
        if missing := [name for name in ids if name not in row]:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            what = f"has no tokens for '{brief(missing[0])}'{more}"
            raise OovrecError(
                what, where=self.file, remedy="build or import tokens that name all of this dataset's ids"
            )
        return replace(self, ids=list(ids), codes=self.codes[[row[name] for name in ids]])


def _rows(vocabulary: Sequence[str], centroids: Mapping[str, np.ndarray]) -> np.ndarray:
    """``[tokens, d]`` float32 centroids in the vocabulary's order; zeros for tokens without one."""
    vectors = {token: _vector(token, values) for token, values in centroids.items()}
    first, shape = next((token, vector.shape) for token, vector in vectors.items())
    for token, vector in vectors.items():
        if vector.shape != shape:
            what = f"the centroid of {token} is {len(vector)} numbers long and that of {first} {shape[0]}"
            raise OovrecError(what, remedy="make them of one length")
    rows = np.zeros((len(vocabulary), *shape), np.float32)
    for row, token in enumerate(vocabulary):
        if token in vectors:
            rows[row] = vectors[token]
    return rows


def _vector(token: str, values: Any) -> np.ndarray:
    try:
        vector = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        vector = np.array(0)
    if vector.ndim != 1 or not len(vector):
        raise OovrecError(f"the centroid of {token} is no vector of numbers", remedy="give it one, or leave it out")
    return vector


def _natural(token: str) -> tuple[str, int]:
    digits = re.search(r"\d+", token)
    return (re.sub(r"\d+", "", token), int(digits.group()) if digits else -1)


def read_table(path: Path) -> TokenTable:
    """Read ``id<TAB>token<TAB>token…`` or the published form ``id <CTn><r>``, a line an id.

    Raises:
        OovrecError: missing or empty; a line without tokens, a repeated id or tuple, a tuple that begins
            another (each names the line).
    """
    ids: list[str] = []
    tuples: list[tuple[str, ...]] = []
    seen_ids: dict[str, int] = {}
    seen_tuples: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(read_text(path, remedy="give a file of ids and their tokens").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        name, _, rest = line.partition("\t") if "\t" in line else line.strip().partition(" ")
        name = name.strip()  # as a log's ids are read
        tokens = tuple(TOKEN.findall(rest))
        if not name or not tokens or misspelt(tokens) or TOKEN.sub("", rest).strip():
            remedy = f"write id<TAB><token><TAB><token>, of at most {LONGEST:,} characters each"
            raise OovrecError("is not an id followed by <tokens>", where=where, remedy=remedy)
        for kind, line_before in (("id", seen_ids.get(name)), ("token tuple", seen_tuples.get(tokens))):
            if line_before is not None:
                raise OovrecError(
                    f"repeats the {kind} of line {line_before}", where=where, remedy="keep one of the two"
                )
        seen_ids[name] = seen_tuples[tokens] = number
        ids.append(name)
        tuples.append(tokens)
    if pair := begun(seen_tuples):
        short, longer = (seen_tuples[tokens] for tokens in pair)
        what, where = f"is the beginning of the tuple of line {longer}", f"{path}, line {short}"
        raise OovrecError(what, where=where, remedy="give it a last token of its own")
    return TokenTable.of(ids, tuples, file=path)


def write_table(path: Path, table: TokenTable) -> None:
    """Write ``id<TAB>token<TAB>token…``, a line an id, atomically."""
    lines = ("\t".join([name, *table.words(index)]) for index, name in enumerate(table.ids))
    write_text(path, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Tokens:
    """What ``tokens build`` makes: item tokens, user tokens, and how they were built.

    Attributes:
        items: one row an item of the dataset, in the dataset's order.
        users: one row a user; None for schemes that name items only.
        method: the scheme.
        built_from: ``train``, or ``all`` where held-out interactions were seen.
        seed: what it was built with.
        config: the scheme's options.
        details: further facts for ``tokens.json`` (counts, versions, fallbacks).
    """

    items: TokenTable
    users: TokenTable | None
    method: str
    built_from: BuiltFrom
    seed: int
    config: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``item_tokens.tsv``, ``user_tokens.tsv``, ``centroids.safetensors`` and, last, ``tokens.json``."""
        centroids = {}
        for name, table in (("item", self.items), ("user", self.users)):
            if table is None:
                continue
            write_table(folder / f"{name}_tokens.tsv", table)
            if table.centroids is not None:
                centroids[name] = table.centroids
        if centroids:
            write_tensors(folder / "centroids.safetensors", centroids)
        write_json(folder / "tokens.json", self.summary())

    @property
    def given(self) -> bool:
        """Whether no scheme made them: they were imported, or made by hand."""
        return "interactions" not in self.details  # which build_tokens alone writes

    @property
    def seen(self) -> str:
        """What they were built from, for people: ``train``, ``until the test`` (what validates included) or ``all``."""
        about = self.details.get("dataset")
        until = about.get("until") if isinstance(about, dict) else None
        return "all" if self.built_from == "all" or until == "end" else "until the test" if until else "train"

    def of_other_data(self, fingerprint: str) -> bool:
        """Whether they say that they were built from other data than those of ``fingerprint``."""
        about = self.details.get("dataset")
        return isinstance(about, dict) and about.get("fingerprint", fingerprint) != fingerprint

    def summary(self) -> dict[str, Any]:
        """What ``tokens.json`` holds; no detail takes the place of a fact."""
        tables = {"item": self.items, "user": self.users}
        facts = {
            "method": self.method,
            "built_from": self.built_from,
            "seed": self.seed,
            "depth": self.items.depth,
            "counts": {f"{name}s": len(table) for name, table in tables.items() if table is not None},
            "config": self.config,
        }
        vocabulary = {name: table.vocabulary for name, table in tables.items() if table is not None}
        return {**facts, **self.details, **facts, "vocabulary": vocabulary}

    @classmethod
    def load(cls, folder: str | Path) -> Tokens:
        """Read a folder written by :meth:`save`.

        Raises:
            OovrecError: a file is missing, broken, or does not belong to the others.
        """
        folder = Path(folder)
        path = folder / "tokens.json"
        about = read_json(path, remedy="give a folder made by 'oovrec tokens build'")
        file = folder / "centroids.safetensors"
        centroids = read_tensors(file)[0] if file.exists() else {}
        try:
            items, users = (_load_table(folder, about, name, centroids.get(name)) for name in ("item", "user"))
            if items is None:
                raise KeyError("item")
            details = {key: value for key, value in about.items() if key not in SUMMARY}
            method, built_from, seed, config = (about[key] for key in ("method", "built_from", "seed", "config"))
        except (KeyError, TypeError, AttributeError) as error:
            raise OovrecError(f"lacks {error}", where=path, remedy=AGAIN) from error
        if built_from not in get_args(BuiltFrom):
            raise unknown("source of tokens", str(built_from), get_args(BuiltFrom), where=path)
        return cls(items, users, method, built_from, seed, config, details)


def _load_table(folder: Path, about: dict[str, Any], name: str, centroids: np.ndarray | None) -> TokenTable | None:
    """One table of the folder, checked against ``tokens.json``; None where that has no such vocabulary."""
    if name not in about["vocabulary"]:
        return None
    path, vocabulary = folder / f"{name}_tokens.tsv", about["vocabulary"][name]
    table = read_table(path)
    code = {token: index for index, token in enumerate(vocabulary)}
    if stray := [token for token in table.vocabulary if token not in code]:
        raise OovrecError(f"has the token {stray[0]}, which tokens.json does not list", where=path, remedy=AGAIN)
    if len(table) != (count := about["counts"][f"{name}s"]):
        raise OovrecError(f"has {len(table)} lines where tokens.json counts {count}", where=path, remedy=AGAIN)
    if centroids is not None and len(centroids) != len(vocabulary):
        raise OovrecError("does not fit tokens.json", where=folder / "centroids.safetensors", remedy=AGAIN)
    translate = np.array([code[token] for token in table.vocabulary], np.int32)
    return replace(table, codes=translate[table.codes], vocabulary=vocabulary, centroids=centroids)
