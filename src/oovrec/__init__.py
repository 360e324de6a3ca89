"""oovrec: teach language models to recommend, by giving users and items words of their own.

The functions named here are imported on first use, so that ``import oovrec`` itself is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oovrec.app.export import export
    from oovrec.app.leads import compare
    from oovrec.app.pipeline import evaluate, train
    from oovrec.app.retraining import retrain
    from oovrec.app.runs import load_run
    from oovrec.data.load import load_dataset
    from oovrec.tokens.build import build_tokens
    from oovrec.tokens.imported import import_tokens

__version__ = "0.1.0"
__all__ = [
    "build_tokens",
    "compare",
    "evaluate",
    "export",
    "import_tokens",
    "load_dataset",
    "load_run",
    "retrain",
    "train",
]

_HOMES = {
    "build_tokens": "oovrec.tokens.build",
    "compare": "oovrec.app.leads",
    "evaluate": "oovrec.app.pipeline",
    "export": "oovrec.app.export",
    "import_tokens": "oovrec.tokens.imported",
    "load_dataset": "oovrec.data.load",
    "load_run": "oovrec.app.runs",
    "retrain": "oovrec.app.retraining",
    "train": "oovrec.app.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'oovrec' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
