"""GroupLens' own MovieLens folders: ``ratings`` and ``movies``, as ``.dat`` (1M, 10M) or ``.csv`` (20M and later).

The formats are those of the README files in GroupLens' archives.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import polars as pl

from oovrec.data.columns import Columns, interactions, table_interactions
from oovrec.data.interactions import Interactions, number_attributes
from oovrec.data.text import numbered_lines, read_table, read_text
from oovrec.errors import OovrecError

FORMAT = "a MovieLens folder (ratings and movies, .dat or .csv)"
NAMED_COLUMNS = False
NONE = ("", "(no genres listed)")
RATING = re.compile(r'[^:"]*(::[^:"]*){3}')
FILMS = ["movieId", "title", "genres"]


def reads(path: Path) -> bool:
    """A folder with ratings and movies."""
    return any((path / f"ratings{end}").is_file() and (path / f"movies{end}").is_file() for end in (".dat", ".csv"))


def read(path: Path, columns: Columns) -> Interactions:
    """Ratings as interactions, films' titles (with their year) and genres.

    Raises:
        OovrecError: a file is broken; a line without user, film or time.
    """
    dat = (path / "ratings.dat").is_file()
    ratings, movies = (path / f"{name}{'.dat' if dat else '.csv'}" for name in ("ratings", "movies"))
    log = _dat_ratings(ratings) if dat else table_interactions(ratings, None)
    films = _dat_movies(movies) if dat else _csv_movies(movies)
    titles = {film: title for film, title, _ in films}
    genres = {film: [("genre", genre) for genre in listed.split("|") if genre not in NONE] for film, _, listed in films}
    made = replace(log, titles=titles, attributes=number_attributes(genres))
    return made.read_from(path, ratings, movies)


def _dat_ratings(path: Path) -> Interactions:
    """``user::item::rating::time`` lines; polars separates by one character, so every second column is empty."""
    text, names = read_text(path), ["user", "", "item", "-", "rating", "--", "time"]
    data = io.BytesIO(text.encode())
    try:
        table = pl.read_csv(data, separator=":", has_header=False, new_columns=names, infer_schema=False)
        between = table.select("", "-", "--")
        table = table.select("user", "item", "rating", "time")
    except pl.exceptions.PolarsError as error:
        raise _no_rating(path, text) from error
    if any(column.count() for column in between):  # something between two colons
        raise _no_rating(path, text)
    return interactions(table, None, path, lambda row: f"line {row + 1}")


def _no_rating(path: Path, text: str) -> OovrecError:
    bad = next((number for number, line in numbered_lines(text) if not RATING.fullmatch(line)), None)
    where = path if bad is None else f"{path}, line {bad}"
    return OovrecError("is not user::film::rating::time", where=where, remedy="fetch it again")


def _csv_movies(path: Path) -> list[tuple[str, ...]]:
    table = read_table(path)
    if table.columns != FILMS:
        what = f"has the columns {', '.join(table.columns)} and not {', '.join(FILMS)}"
        raise OovrecError(what, where=f"{path}, line 1", remedy="fetch it again")
    film, title, genres = table.columns
    table = table.drop_nulls(film).with_columns(pl.col(film).str.strip_chars(), pl.col(title, genres).fill_null(""))
    return table.rows()


def _dat_movies(path: Path) -> list[tuple[str, ...]]:
    """The 10M is in UTF-8, the 1M in Latin-1, whose accented letters are no UTF-8."""
    films: list[tuple[str, ...]] = []
    for number, line in numbered_lines(read_text(path, otherwise="latin-1")):
        film = tuple(line.split("::"))
        if len(film) != 3:
            raise OovrecError("is not film::title::genres", where=f"{path}, line {number}", remedy="fetch it again")
        films.append((film[0].strip(), *film[1:]))
    return films
