"""Build tokens for a dataset by a scheme found by its name."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np

import oovrec
from oovrec.config import Options, checked
from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.errors import OovrecError, check_whole, unknown
from oovrec.plugins import check_alone, check_config, imported, outside
from oovrec.tokens.contract import check_built
from oovrec.tokens.table import BuiltFrom, Tokens, TokenTable


@dataclass(frozen=True)
class Material:
    """What a scheme may see of a dataset.

    Attributes:
        histories: the interactions to build from; row ``u`` is user ``u``.
        users: ids, in the order of the rows.
        items: ids, by index.
        unmet: ``[m]`` int64 items that ``histories`` lack, in the order in which the users' full histories first
            meet them. To be used, if at all, to name these items and no others.
        titles: ``[items]`` texts, '' where an item has none; None where the data has no texts.
        attributes: ``[items]`` attribute numbers; None where the data has none.
    """

    histories: Histories
    users: list[str]
    items: list[str]
    unmet: np.ndarray
    titles: list[str] | None = None
    attributes: list[tuple[int, ...]] | None = None

    @classmethod
    def of(cls, dataset: Dataset, built_from: BuiltFrom = "train") -> Material:
        """The training part of ``dataset``, or all of it."""
        histories = dataset.full if built_from == "all" else dataset.histories("train")
        met = first_met(dataset.full)
        unmet = met[~np.isin(met, histories.items)]
        return cls(histories, dataset.users, dataset.items, unmet, dataset.titles, dataset.attributes)

    @cached_property
    def popularity(self) -> np.ndarray:
        """``[items]`` interactions of each item."""
        return np.bincount(self.histories.items, minlength=len(self.items))


def first_met(histories: Histories) -> np.ndarray:
    """The items of ``histories`` in the order in which the users, row after row, first meet them."""
    items, first = np.unique(histories.items, return_index=True)
    return items[np.argsort(first)].astype(np.int64)


@dataclass(frozen=True)
class Built:
    """What a scheme makes.

    Attributes:
        items: tokens of the items, in the given order.
        users: tokens of the users; None if the scheme names items only.
        details: facts for ``tokens.json``, plain values, none by a name that it keeps for its own.
    """

    items: TokenTable
    users: TokenTable | None
    details: dict[str, Any] = field(default_factory=dict)


OUTSIDE = "oovrec.schemes"  # entry points of other packages: a scheme's name and its module


def methods() -> dict[str, str]:
    """Path of each scheme's module by its name.

    They are those of :mod:`oovrec.tokens.schemes`, and those that other packages name by an entry point of the group
    ``oovrec.schemes``.
    """
    return outside(OUTSIDE) | _own_methods()


def _own_methods() -> dict[str, str]:
    own = sorted(path.stem for path in (Path(__file__).parent / "schemes").glob("*.py") if path.stem != "__init__")
    return {name: f"oovrec.tokens.schemes.{name}" for name in own}


def check_options(method: str, options: Mapping[str, Any], *, where: str) -> Options:
    """The options of a scheme.

    Raises:
        OovrecError: an unknown method or option, a bad value, or a scheme that is broken or shares its name.
    """
    config: Options = checked(_chosen(method, where).Config, options, where=where)
    return config


def _chosen(method: str, where: str) -> ModuleType:
    """The module of the scheme that tokens are to be built by."""
    if (found := scheme(method)) is None:
        raise unknown("method", method, methods(), where=where)
    if method in _own_methods():
        check_alone(OUTSIDE, method)
    return found


def scheme(method: str) -> ModuleType | None:
    """The module of the scheme called ``method``, if there is one; no other is imported.

    Raises:
        OovrecError: it is another package's and broken.
    """
    if (own := _own_methods().get(method)) is not None:
        return import_module(own)
    if (found := imported(OUTSIDE, method)) is not None:
        check_config(found, found.__name__)
        if not callable(getattr(found, "build", None)):
            remedy = "add build(material, config, seed), which returns what it built"
            raise OovrecError("has no function 'build'", where=found.__name__, remedy=remedy)
    return found


def check_scheme(tokens: Tokens) -> None:
    """Make sure that the scheme of tokens, where one made them, is there as it was then.

    Raises:
        OovrecError: it is another package's, which is not installed, or broken.
    """
    if scheme(tokens.method) is None and not tokens.given:
        what = f"its tokens were made by the scheme '{tokens.method}', which is not installed here"
        raise OovrecError(what, remedy="install the package that has it")


def _built(found: ModuleType, method: str, material: Material, config: Options, seed: int) -> Built:
    """What the scheme makes, checked; errors that name no place, such as a table's, name the scheme."""
    lent = replace(material, users=list(material.users), items=list(material.items))  # a stranger may sort them
    try:
        built = found.build(lent, config, seed)
        if not isinstance(built, Built):
            what = f"its build() returns no Built but {type(built).__name__}"
            raise OovrecError(what, remedy="return Built(items, users, details)")
        check_built(built, material)
    except OovrecError as error:
        if error.where is not None:
            raise
        raise OovrecError(error.what, where=f"scheme '{method}'", remedy=error.remedy) from error
    return built


def build_tokens(
    dataset: Dataset,
    method: str = "meta",
    built_from: BuiltFrom = "train",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Tokens:
    """Tokens for every user and item of ``dataset``.

    The scheme is handed ids, texts and the interactions of the training part, or with ``built_from="all"`` the
    held-out ones too (the protocol of the META ID paper), which the tokens record.

    Args:
        method: a scheme, one of :func:`methods`.
        seed: of every random choice; a whole number from 0.
        options: values for the scheme's ``Config``.

    Raises:
        OovrecError: as :func:`check_options`, a seed that is none, a value does not suit the dataset, or the scheme
            returns something else than it must.
    """
    found = _chosen(method, where := f"tokens.{method}")
    config: Options = checked(found.Config, options or {}, where=where)
    if built_from not in ("train", "all"):
        raise unknown("tokens source", built_from, ("train", "all"))
    check_whole(seed, "seed", "give a whole number from 0", least=0)
    material = Material.of(dataset, built_from)
    built = _built(found, method, material, config, seed)
    details = {**built.details, "interactions": len(material.histories.items), **provenance(dataset)}
    return Tokens(built.items, built.users, method, built_from, seed, config.model_dump(mode="json"), details)


def provenance(dataset: Dataset) -> dict[str, dict[str, str]]:
    """For ``tokens.json``: the data whose ids tokens name, and by what versions they were made."""
    further = {} if dataset.until == "validation" else {"until": dataset.until}
    return {
        "dataset": {"name": dataset.name, "sha256": dataset.sha256, "fingerprint": dataset.fingerprint, **further},
        "versions": {
            "oovrec": oovrec.__version__,
            "numpy": np.__version__,
            "numba": numba.__version__,
            "python": platform.python_version(),
        },
    }
