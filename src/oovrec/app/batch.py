"""Lists for everybody at once, into one file: ``oovrec batch``.

What is done is kept beside the file, in parts, until the file is whole: who stops the work and asks the same again goes
on from there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.markup import escape

from oovrec.app.folders import check_writable
from oovrec.app.new_items import renumbered
from oovrec.app.runs import Run
from oovrec.data.columns import Columns
from oovrec.data.histories import Histories
from oovrec.data.load import read_all
from oovrec.errors import Interrupted, OovrecError
from oovrec.files import Unwritten, atomic, locked, read_text, sha256, write_text
from oovrec.models.base import Recommendations, Recommender, check_count
from oovrec.progress import Bar, say

Write = Callable[[pl.LazyFrame, Path], object]

FORMATS: dict[str, Write] = {".parquet": pl.LazyFrame.sink_parquet, ".csv": pl.LazyFrame.sink_csv}
PART = 1024  # users a part


@dataclass(frozen=True)
class Crowd:
    """Those who get lists.

    Attributes:
        ids: ``[n]``.
        histories: ``[n]``, what each has taken.
    """

    ids: list[str]
    histories: Histories

    def digest(self) -> str:
        """SHA-256 of all of it."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for array in (self.histories.indptr, self.histories.items, self.histories.users):
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Which users are in which part."""
        return ((number, slice(at, at + PART)) for number, at in enumerate(range(0, len(self.ids), PART)))


def batch(
    run: Run,
    out: str | Path,
    *,
    k: int = 10,
    log: str | Path | None = None,
    columns: Columns | None = None,
    data: str | None = None,
    mask_seen: bool = True,
) -> Path:
    """Write the ``k`` best items of every user to a table: ``user``, ``rank`` (from 1), ``item``, ``score``.

    Users stand in the order of the data. A list is what :meth:`~oovrec.app.runs.Run.recommend` gives, to the
    rounding of the model's arithmetic.

    Args:
        out: a new file, ``.parquet`` or ``.csv``.
        k: how many; at least 1.
        log: histories to go by, in any form that data may have; users may be new. None takes the run's data.
        columns: which column of ``log`` is what, where the names are not usual ones.
        data: where the run's data lies now.
        mask_seen: leave a history's own items out.

    Returns:
        ``out``.

    Raises:
        OovrecError: the file is there already, of another kind, being written, or cannot be; both ``log`` and
            ``data``; a file that is broken, or a log without any known item; a ``k`` below 1; a full disk, and the
            same call goes on.
        Interrupted: Ctrl-C; the same call goes on from there.
    """
    out = Path(out)
    if out.suffix.lower() not in FORMATS:
        raise OovrecError("ends in no known kind of table", where=out, remedy=f"end it in {' or '.join(FORMATS)}")
    if out.exists():
        raise OovrecError("is there already", where=out, remedy="remove it or choose another --out")
    if log is not None and data is not None:
        raise OovrecError("a log stands for the run's data", where="--data", remedy="give one of --log and --data")
    check_writable(out.parent, "choose another --out")
    (columns or Columns()).check_of_log(log)
    check_count(k)
    model = run.model
    crowd = _of_data(run, data) if log is None else _of_log(run, log, columns)
    parts = out.with_name(f"{out.name}.parts")
    _check_ours(parts)
    with locked(parts / "lock", out), _to_go_on(out, parts):
        _keep_only(parts, f"{sha256(run.folder / 'model.safetensors')} {crowd.digest()} {k} {mask_seen}")
        with run.arithmetic():
            _fill(model, crowd, parts, k, mask_seen)
        with atomic(out) as temporary:
            files = [_part(parts, number) for number, _ in crowd.parts()]
            FORMATS[out.suffix.lower()](pl.scan_parquet(files, glob=False), temporary)
        shutil.rmtree(parts)
    return out


@contextmanager
def _to_go_on(out: Path, parts: Path) -> Iterator[None]:
    """A disk that is full while ``parts`` or ``out`` is written is an error about ``out``; what is done stays."""
    try:
        yield
    except Unwritten as error:
        remedy = f"{error.remedy}; the same command goes on from what is done ({parts})"
        raise OovrecError(error.what, where=out, remedy=remedy) from error


def _of_data(run: Run, data: str | None) -> Crowd:
    dataset = run.dataset(data)
    return Crowd(dataset.users, dataset.full)


def _of_log(run: Run, log: str | Path, columns: Columns | None) -> Crowd:
    """The log's users who have a known item; says what it leaves out."""
    entities = run.model.entities
    seen = read_all(log, columns, ("rating", "title", "summary", "review")).dataset("log")
    histories = renumbered(seen.full, seen.items, entities.items)
    kept = np.flatnonzero(histories.lengths)
    if not len(kept):
        raise OovrecError("has no item that the run knows", where=log, remedy="give a log of its catalogue")
    if lost := len(seen.full.items) - len(histories.items):
        say(f"note: {lost:,} of {len(seen.full.items):,} interactions are with items that the run does not know")
    if lost := len(seen.users) - len(kept):
        say(f"note: {lost:,} of {len(seen.users):,} users have no item that the run knows, and get no list")
    index = {user: row for row, user in enumerate(entities.users)}
    ids = [seen.users[row] for row in kept]
    users = np.array([index.get(user, -1) for user in ids], np.int64)
    return Crowd(ids, replace(histories.take(kept), users=users))


def _check_ours(parts: Path) -> None:
    """Make sure that ``parts`` is not there, empty or of an earlier call: what it holds may be removed."""
    begun = parts.is_dir() and {path.name for path in parts.iterdir()} <= {"lock"}
    if parts.exists() and not begun and not (parts / "question.txt").is_file():
        raise OovrecError("is in the way, and no part of lists", where=parts, remedy="move it or choose another --out")


def _keep_only(parts: Path, question: str) -> None:
    """Remove parts that answer another question."""
    with suppress(OovrecError):
        if read_text(parts / "question.txt") == question:
            return
    for path in parts.glob("*.parquet"):
        path.unlink()
    write_text(parts / "question.txt", question)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.parquet"


def _whole(part: Path) -> bool:
    """Whether a part is there and can be read."""
    try:
        pl.read_parquet(part, glob=False)  # a folder's name may hold brackets
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True


def _fill(model: Recommender, crowd: Crowd, folder: Path, k: int, mask_seen: bool) -> None:
    """Write the parts that are not there, or damaged."""
    items = pl.Series(model.entities.items)
    left = [(number, rows) for number, rows in crowd.parts() if not _whole(_part(folder, number))]
    done = len(crowd.ids) - sum(len(crowd.ids[rows]) for _, rows in left)
    if done:
        say(escape(f"{done:,} of {len(crowd.ids):,} users are done, in {folder}"))
    try:
        with Bar("recommending", len(crowd.ids) - done, "users") as bar:
            for number, rows in left:
                best = model.recommend(crowd.histories.take(rows), k, mask_seen=mask_seen)
                with atomic(_part(folder, number)) as temporary:
                    _table(crowd.ids[rows], best, items).write_parquet(temporary)
                bar.advance(len(crowd.ids[rows]))
                done += len(crowd.ids[rows])
    except KeyboardInterrupt as stop:
        what = f"stopped after {done:,} of {len(crowd.ids):,} users; the same command goes on from there ({folder})."
        raise Interrupted(what) from stop


def _table(users: list[str], best: Recommendations, items: pl.Series) -> pl.DataFrame:
    """A row an item; without those that cannot be recommended."""
    width = best.items.shape[1]
    columns = {
        "user": pl.Series(users).gather(np.repeat(np.arange(len(users)), width)),
        "rank": pl.Series(np.tile(np.arange(1, width + 1, dtype=np.int32), len(users))),
        "item": pl.Series(best.items.ravel()),
        "score": pl.Series(best.scores.ravel()),
    }
    table = pl.DataFrame(columns).filter(pl.col("score") > -np.inf)
    return table.with_columns(items.gather(table["item"]).alias("item"))
