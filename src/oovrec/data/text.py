"""Text files of logs, plain or packed, with the place named where one is broken."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from oovrec.data.packing import TORN, opened
from oovrec.errors import OovrecError

ENCODE = "save it as UTF-8"
TOLD = re.compile(r"sep=([\t !#-~])\r?\n", re.IGNORECASE)  # the first line of a table for Excel; no quote separates


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise OovrecError("no such file", where=path, remedy="check the path") from error
    except TORN as error:
        raise _torn(path) from error
    except UnicodeDecodeError as error:
        raise OovrecError(f"is not {error.encoding.upper()} text", where=path, remedy=ENCODE) from error
    except OSError as error:
        if error.errno is None:  # not the system's: bz2's
            raise _torn(path) from error
        raise OovrecError(f"cannot be read ({error.strerror})", where=path, remedy="check the path") from error


def _torn(path: Path) -> OovrecError:
    what = f"is not a whole {path.suffix.lower()} file (truncated or altered)"
    return OovrecError(what, where=path, remedy="fetch it again")


def existing(path: str | Path) -> Path:
    """``path``, a home folder that it begins with written out.

    Raises:
        OovrecError: nothing is there.
    """
    try:
        if (found := home(path)).exists():
            return found
    except OSError:  # a name that no file can have
        pass
    raise OovrecError("no such file or folder", where=path, remedy="check the path")


def home(path: str | Path) -> Path:
    """``path``, a home folder that it begins with written out, unless it is nobody's."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read_text(path: Path, *, otherwise: str | None = None) -> str:
    """The text of a file, packed or not; where no line feed ends a line, carriage returns do.

    Args:
        otherwise: the encoding of a file that is not UTF-8; None takes no other.

    Raises:
        OovrecError: missing, unreadable, empty, truncated, or not text.
    """
    with _named_errors(path), opened(path) as file:
        text = _decoded(file.read(), otherwise)
    if "\0" in text:
        raise OovrecError("is a binary file", where=path, remedy="give one of text")
    if not text.strip():
        raise OovrecError("is empty", where=path, remedy="give one that has rows")
    text = text.removeprefix("\ufeff")  # a byte order mark, as spreadsheets write it
    return text if "\n" in text else text.replace("\r", "\n")


def _decoded(content: bytes, otherwise: str | None) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        if otherwise is None:
            raise
        return content.decode(otherwise)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1; only line feeds end a line, as editors count."""
    return ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def stream_lines(path: Path) -> Iterator[tuple[int, str]]:
    """As :func:`numbered_lines`, without holding the whole file in memory."""
    with _named_errors(path), opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.decode("utf-8")


def read_table(path: Path, *, separator: str | None = None, quoted: bool = True) -> pl.DataFrame:
    """A table with a header line; every column is text, an absent value is null, a blank line a row of nulls.

    Args:
        separator: between columns; None takes the one that a line ``sep=;`` before the header names, or else that of
            tab, comma, semicolon and bar that the header has most of.
        quoted: values may stand in double quotes.

    Raises:
        OovrecError: as :func:`read_text`; a header with a column twice; a line with too many columns.
    """
    text, told, before = _table_text(path)
    first = text.split("\n", 1)[0].rstrip("\r")
    where = f"{path}, line {before + 1}"
    if not first.strip():
        raise OovrecError("is blank", where=where, remedy="begin with the names of the columns")
    separator = separator or told or _separator(first)
    try:
        header = next(csv.reader([first], delimiter=separator)) if quoted else first.split(separator)
    except csv.Error as error:
        raise OovrecError("the header is not one line of names", where=where, remedy="mend the line") from error
    if repeated := [name for name in header if header.count(name) > 1]:
        raise OovrecError(f"the header has '{repeated[0]}' twice", where=where, remedy="rename one of them")
    quote = '"' if quoted else None
    try:
        return pl.read_csv(io.BytesIO(text.encode()), separator=separator, quote_char=quote, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        where = f"{path}, line {before + _bad_line(text, separator, quoted, len(header))}"
        what = f"does not have {len(header)} columns like the header" + (" or leaves a quote open" if quoted else "")
        raise OovrecError(what, where=where, remedy="mend the line") from error


def read_log(path: Path, *, separator: str | None = None, quoted: bool = True) -> pl.DataFrame:
    """As :func:`read_table`, of a log.

    Raises:
        OovrecError: likewise; a header with one column.
    """
    table = read_table(path, separator=separator, quoted=quoted)
    if table.width < 2:
        what = f"the header has one column, '{table.columns[0][:60]}'"
        by = "tab" if separator == "\t" else "tab, comma, semicolon or bar"
        remedy = f"separate columns by {by}, and name them in the first line"
        raise OovrecError(what, where=f"{path}, line {row_line(path, -1)}", remedy=remedy)
    return table


def row_line(path: Path, row: int) -> int:
    """The line, from 1, where a row of :func:`read_table`, from 0, begins (-1: the header); quotes hold line breaks."""
    text, _, before = _table_text(path)
    return before + _quoted_row(text, row)[0]


def row_width(path: Path, row: int, *, separator: str | None = None, quoted: bool = True) -> int:
    """How many values a row of :func:`read_table`, from 0, has in the file: a table's row may lack the last ones.

    Args:
        separator, quoted: as the table was read by.
    """
    text, told, _ = _table_text(path)
    values = re.sub('"[^"]*"', "", _quoted_row(text, row)[1]) if quoted else text.split("\n")[row + 1]
    return values.count(separator or told or _separator(text.split("\n", 1)[0])) + 1


def _table_text(path: Path) -> tuple[str, str | None, int]:
    """A table from its header on, the separator that a line before it names, and how many lines (0 or 1) that is."""
    text = read_text(path)
    found = TOLD.match(text)
    return (text[found.end() :], found[1], 1) if found else (text, None, 0)


def _quoted_row(text: str, row: int) -> tuple[int, str]:
    """The line where a row begins, and the row, which has an even number of quotes."""
    lines: list[str] = []
    quotes, ended = 0, -2  # the header is the row before 0
    for number, line in enumerate(text.split("\n"), 1):
        lines.append(line)
        quotes += line.count('"')
        if quotes % 2 == 0:
            ended += 1
            if ended == row:
                return number - len(lines) + 1, "\n".join(lines)
            lines.clear()
    raise IndexError(row)


def _separator(header: str) -> str:
    return max("\t,;|", key=header.count)


def _bad_line(text: str, separator: str, quoted: bool, width: int) -> int:
    """Where the first row with too many values or an odd number of quotes begins, else the last row."""
    lines = text.rstrip("\n").split("\n")
    rows = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=True)
    begin = after = 1
    with suppress(csv.Error):  # a quote is left open, or closed within a value
        for row in rows:
            begin, after = after, rows.line_num + 1
            if len(row) > width or (quoted and "".join(lines[begin - 1 : after - 1]).count('"') % 2):
                break
        return begin
    return after
