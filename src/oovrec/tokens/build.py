"""Build tokens for a dataset by a scheme found by its name."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numba
import numpy as np

import oovrec
from oovrec.config import checked
from oovrec.data.dataset import Dataset
from oovrec.errors import unknown
from oovrec.tokens.table import BuiltFrom, Tokens, TokenTable


@dataclass(frozen=True)
class Built:
    """What a scheme makes.

    Attributes:
        items: tokens of the items, in the given order.
        users: tokens of the users; None if the scheme names items only.
        details: facts for ``tokens.json``.
    """

    items: TokenTable
    users: TokenTable | None
    details: dict[str, Any] = field(default_factory=dict)


def methods() -> list[str]:
    """The schemes there are: the modules of :mod:`oovrec.tokens.schemes`."""
    return sorted(path.stem for path in (Path(__file__).parent / "schemes").glob("*.py") if path.stem != "__init__")


def build_tokens(
    dataset: Dataset,
    method: str = "meta",
    built_from: BuiltFrom = "train",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Tokens:
    """Tokens for every user and item of ``dataset``.

    The scheme is handed ids and interactions, nothing else: those of the training part, or with
    ``built_from="all"`` the held-out ones too (the protocol of the META ID paper), which the tokens record.

    Args:
        method: a scheme, one of :func:`methods`.
        options: values for the scheme's ``Config``.

    Raises:
        OovrecError: an unknown method or option, or a value that does not suit the dataset.
    """
    if method not in methods():
        raise unknown("method", method, methods())
    if built_from not in ("train", "all"):
        raise unknown("tokens source", built_from, ("train", "all"))
    scheme = import_module(f"oovrec.tokens.schemes.{method}")
    config = checked(scheme.Config, options or {}, where=f"tokens.{method}")
    histories = dataset.full if built_from == "all" else dataset.histories("train")
    built: Built = scheme.build(histories, dataset.users, dataset.items, config, seed)
    details = {
        **built.details,
        "interactions": len(histories.items),
        "dataset": {"name": dataset.name, "sha256": dataset.sha256, "fingerprint": dataset.fingerprint},
        "versions": {
            "oovrec": oovrec.__version__,
            "numpy": np.__version__,
            "numba": numba.__version__,
            "python": platform.python_version(),
        },
    }
    return Tokens(built.items, built.users, method, built_from, seed, config.model_dump(), details)
