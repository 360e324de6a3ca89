"""What tokens must be, a scheme's or made by hand: refused at once, as no model that learnt others could be opened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from oovrec.errors import OovrecError, brief
from oovrec.tokens.rules import END, LONGEST, begun, misspelt, twice
from oovrec.tokens.table import SUMMARY, TokenTable

if TYPE_CHECKING:
    from oovrec.tokens.build import Built, Material

# Keys of tokens.json that are not a scheme's to write; the last two are those of 'items add'.
RESERVED = SUMMARY | {"interactions", "dataset", "versions", "added", "twins"}
BY_OF = "make the table by TokenTable.of"


def check_built(built: Built, material: Material) -> None:
    """Make sure that ``built`` names what ``material`` has, by tokens that can be written, read and learnt.

    Raises:
        OovrecError: it does not. The place is left to the caller, who knows the scheme.
    """
    _check_listed("item", built.items, material.items)
    if built.users is not None:
        _check_listed("user", built.users, material.users)
    check_tables(built.items, built.users)
    _check_details(built.details)


def check_tables(items: TokenTable, users: TokenTable | None) -> None:
    """Make sure that the tokens of ``items`` and ``users``, wherever they come from, can be written, read and learnt.

    Raises:
        OovrecError: they cannot. The place is left to the caller.
    """
    for kind, table in (("item", items), ("user", users)):
        if table is not None:
            _check_codes(kind, table)
            _check_names(kind, table)
            if table.centroids is not None:
                _check_centroids(kind, table, table.centroids)
    if users is not None:
        _check_apart(items, users)


def _check_listed(kind: str, table: Any, ids: list[str]) -> None:
    if not isinstance(table, TokenTable):
        raise OovrecError(f"the {kind}s of its Built are no TokenTable but {type(table).__name__}", remedy=BY_OF)
    if len(table) != len(ids):
        what = f"names {len(table):,} {kind}s where the data has {len(ids):,}"
        raise OovrecError(what, remedy=f"name all of material.{kind}s, in their order")
    for row, (given, wanted) in enumerate(zip(table.ids, ids, strict=True)):
        if given != wanted:
            what = f"row {row} of its {kind}s is '{given}' where material.{kind}s has '{wanted}'"
            raise OovrecError(what, remedy=f"keep the order of material.{kind}s")


def _check_codes(kind: str, table: TokenTable) -> None:
    codes, size = table.codes, len(table.vocabulary)
    whole = isinstance(codes, np.ndarray) and codes.ndim == 2 and codes.size > 0 and codes.dtype.kind in "iu"
    if not whole or codes.min() < 0 or codes.max() >= size:
        raise OovrecError(f"the codes of its {kind}s are no [{kind}s, depth] indices into the vocabulary", remedy=BY_OF)
    if (word := twice(table.vocabulary)) is not None:
        raise OovrecError(f"the vocabulary of its {kind}s lists {word} twice", remedy=BY_OF)


def _check_names(kind: str, table: TokenTable) -> None:
    if (word := misspelt(word for word in table.vocabulary if word != END)) is not None:
        what = f"the {kind} token {brief(str(word))!r} is not of the form <I17>"
        remedy = f"write angle brackets with neither blanks nor brackets within, and at most {LONGEST:,} characters"
        raise OovrecError(what, remedy=remedy)
    ends = np.array([word == END for word in table.vocabulary])[table.codes]
    if (misplaced := ends[:, 0] | (ends[:, :-1] & ~ends[:, 1:]).any(axis=1)).any():
        what = f"{kind} '{table.ids[misplaced.argmax()]}' has {END} in place of a token"
        raise OovrecError(what, remedy="leave it out: shorter tuples are filled up with it")
    rows = {tuple(table.words(row)): row for row in range(len(table))}
    if pair := begun(rows):
        one, other = (f"{kind} '{table.ids[rows[words]]}' is {''.join(words)}" for words in pair)
        raise OovrecError(f"{one}, which begins another name: {other}", remedy="give it a last token of its own")


def _check_centroids(kind: str, table: TokenTable, centroids: np.ndarray) -> None:
    whole = isinstance(centroids, np.ndarray) and centroids.ndim == 2 and centroids.dtype.kind == "f"
    if not whole or len(centroids) != len(table.vocabulary):
        raise OovrecError(f"the centroids of its {kind}s are no [tokens, d] floats", remedy=BY_OF)
    finite = np.isfinite(centroids).all(axis=1)
    if not finite.all():
        what = f"the centroid of {table.vocabulary[finite.argmin()]} has NaN or infinity among its numbers"
        raise OovrecError(what, remedy="mend it or leave it out")


def _check_apart(items: TokenTable, users: TokenTable) -> None:
    """One token has one row of a model's table, and all vectors are of one space."""
    if (word := twice(items.vocabulary, users.vocabulary)) is not None:
        what = f"the token {word} stands for a user and for an item"
        raise OovrecError(what, remedy="begin their tokens with different letters")
    if items.centroids is not None and users.centroids is not None:
        one, other = items.centroids.shape[1], users.centroids.shape[1]
        if one != other:
            what = f"its items' centroids are {one} numbers long and its users' {other}"
            raise OovrecError(what, remedy="make them of one length")


def _check_details(details: Any) -> None:
    if not isinstance(details, dict):
        what = f"the details of its Built are no dict but {type(details).__name__}"
        raise OovrecError(what, remedy="give facts by name")
    for key, value in details.items():
        if not isinstance(key, str):
            raise OovrecError(f"the key {key!r} of its details is no text", remedy="give facts by name")
        if key in RESERVED:
            what = f"its details have the key '{key}', which tokens.json keeps for a fact of its own"
            raise OovrecError(what, remedy="call it something else")
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            remedy = "give plain numbers, texts, lists or dicts, such as float(x) for one of NumPy's"
            raise OovrecError(f"its details' '{key}' cannot be written as JSON ({error})", remedy=remedy) from error
