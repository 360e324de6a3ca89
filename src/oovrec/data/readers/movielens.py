"""GroupLens' own MovieLens folders: ``ratings`` and ``movies``, as ``.dat`` (1M, 10M) or ``.csv`` (20M and later).

The formats are those of the README files in GroupLens' archives.
"""

from __future__ import annotations

import io
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
    log = _dat_ratings(ratings) if dat else table_interactions(ratings, Columns())
    films = _dat_movies(movies) if dat else _csv_movies(movies)
    titles = {film: title for film, title, _ in films}
    genres = {film: [("genre", genre) for genre in listed.split("|") if genre not in NONE] for film, _, listed in films}
    made = replace(log, titles=titles, attributes=number_attributes(genres))
    return made.read_from(path, ratings, movies)


def _dat_ratings(path: Path) -> Interactions:
    """``user::item::rating::time`` lines; polars separates by one character, so every second column is empty."""
    data, names = io.BytesIO(read_text(path).encode()), ["user", "", "item", "-", "rating", "--", "time"]
    try:
        table = pl.read_csv(data, separator=":", has_header=False, new_columns=names, infer_schema=False)
        table = table.select("user", "item", "rating", "time")
    except pl.exceptions.PolarsError as error:
        what = "has lines that are not user::film::rating::time"
        raise OovrecError(what, where=path, remedy="fetch it again") from error
    return interactions(table, Columns(), path, lambda row: f"line {row + 1}")


def _csv_movies(path: Path) -> list[tuple[str, ...]]:
    table = read_table(path)
    if table.width != 3:
        what = f"has the columns {', '.join(table.columns)} and not movieId, title, genres"
        raise OovrecError(what, where=f"{path}, line 1", remedy="fetch it again")
    film, title, genres = table.columns
    table = table.drop_nulls(film).with_columns(pl.col(film).str.strip_chars(), pl.col(title, genres).fill_null(""))
    return table.rows()


def _dat_movies(path: Path) -> list[tuple[str, ...]]:
    films: list[tuple[str, ...]] = []
    for number, line in numbered_lines(read_text(path, encoding="latin-1")):
        film = tuple(line.split("::"))
        if len(film) != 3:
            raise OovrecError("is not film::title::genres", where=f"{path}, line {number}", remedy="fetch it again")
        films.append((film[0].strip(), *film[1:]))
    return films
