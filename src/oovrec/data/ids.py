"""Ids of users and items as texts, whatever the type of their column, and their order."""

from __future__ import annotations

import numpy as np
import polars as pl

SPACE = r"[\s\x1c-\x1e]"  # blanks, tabs and whatever ends a line
LONGEST = 1000  # digits of a number; longer ones are names, and Python reads none of 4,301
EXACT = 2**53, 2**24  # below it floats of 64 and 32 bits tell whole numbers apart


def id_texts(column: pl.Series) -> pl.Series:
    """The ids of a column as they are written; null where there is none.

    Whole numbers are written without a point, in a column of floats too: such a column is what pandas makes of whole
    numbers where a row has none. NaN and infinity are no ids.
    """
    text = column.cast(pl.String)
    if column.dtype.is_float():
        whole = pl.when(column % 1 == 0).then(column.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(text)
        return pl.select(pl.when(column.is_finite()).then(whole)).to_series()
    return text.str.replace(r"\.0+$", "") if column.dtype.is_decimal() else text


def spaced(column: pl.Series) -> bool:
    """Whether some of a column's texts have blanks or line breaks, at an end or within."""
    return column.dtype == pl.String and bool(column.str.contains(SPACE).any())


def padded(column: pl.Series, ids: pl.Series) -> pl.Series:
    """``[rows]`` bool: texts of ``column`` that had blanks at an end, which their ``ids`` lack."""
    if column.dtype != pl.String:
        return pl.repeat(False, len(column), eager=True)
    return (column.str.len_bytes() != ids.str.len_bytes()).fill_null(False)


def inexact(column: pl.Series) -> pl.Series:
    """``[rows]`` bool: ids among floats so large that different whole numbers may have become the same one."""
    if not column.dtype.is_float():
        return pl.repeat(False, len(column), eager=True)
    return column.is_finite() & (column.abs() >= EXACT[column.dtype == pl.Float32])


def id_order(ids: list[str]) -> np.ndarray:
    """``[n]`` the place of each id among all, as numbers where all are, else as text."""
    numeric = all(name.isdecimal() and len(name) <= LONGEST for name in ids)
    ranked = sorted(range(len(ids)), key=lambda index: (int(ids[index]) if numeric else 0, ids[index]))
    return np.argsort(ranked).astype(np.int64)
