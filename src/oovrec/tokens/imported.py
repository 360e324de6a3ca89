"""Tokens that somebody else made, from their files: they count as having seen everything unless one says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError, unknown, within
from oovrec.files import check_name, sha256
from oovrec.tokens.build import methods, provenance
from oovrec.tokens.contract import check_tables
from oovrec.tokens.rules import twice
from oovrec.tokens.table import BuiltFrom, Tokens, TokenTable, read_table


def import_tokens(
    dataset: Dataset,
    items: str | Path,
    users: str | Path | None = None,
    built_from: BuiltFrom = "all",
    method: str = "imported",
) -> Tokens:
    """Tokens of ``dataset`` from files: a line an id, ``id<TAB>token<TAB>token…`` or META ID's ``id <CTn><r>``.

    Args:
        items: a file that names every item; what the data lacks is left out.
        users: the like for users; None where prompts are to name none. Where they have tokens of items, all of
            theirs get a ``U`` before the name.
        built_from: what they were built from, which nobody here can check but by an audit. ``all`` sets the figures
            of whatever uses them apart.
        method: what to call them.

    Raises:
        OovrecError: a file is missing or broken, or lacks an id; the name is a scheme's; an unknown source.
    """
    check_name(method, "method")
    if method in methods():
        what = f"'{method}' is a scheme of its own"
        raise OovrecError(what, where="method", remedy="call tokens that it did not make here something else")
    if built_from not in get_args(BuiltFrom):
        raise unknown("source of tokens", str(built_from), get_args(BuiltFrom), where="built_from")
    of_items, items_left = _table(Path(items), dataset.items)
    of_users, users_left = (None, 0) if users is None else _table(Path(users), dataset.users)
    if of_users is not None and twice(of_items.vocabulary, of_users.vocabulary):
        of_users = _told_apart(of_users)
    with within(items):
        check_tables(of_items, of_users)
    files = {kind: sha256(Path(file)) for kind, file in (("items", items), ("users", users)) if file is not None}
    details: dict[str, Any] = {"left_out": {"items": items_left, "users": users_left}, **provenance(dataset)}
    return Tokens(of_items, of_users, method, built_from, 0, files, details)


def _told_apart(users: TokenTable) -> TokenTable:
    """``<CT21>`` becomes ``<UCT21>``: META ID's files number users' clusters as items', which were made apart."""
    names = [[f"<U{word.removeprefix('<')}" for word in users.words(row)] for row in range(len(users))]
    return TokenTable.of(users.ids, names, file=users.file)


def _table(path: Path, ids: list[str]) -> tuple[TokenTable, int]:
    """The tokens of ``ids``, and how many more the file names."""
    table = read_table(path)
    listed = table.reindexed(ids)
    return TokenTable.of(ids, [listed.words(row) for row in range(len(ids))], file=path), len(table) - len(ids)
