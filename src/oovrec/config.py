"""Options as pydantic models; an unknown key is an error that names its nearest neighbour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from oovrec.errors import OovrecError, brief, unknown


class Options(BaseModel):
    """Base of every set of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=BaseModel)


def checked(config: type[C], options: Mapping[str, Any], *, where: str) -> C:
    """``config(**options)`` with errors for people.

    Args:
        where: the options' own key; '' where they are the outermost.
    """
    for key in options:
        if key not in config.model_fields:
            raise unknown("key", key, config.model_fields, where=where or None)
    try:
        return config(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(filter(None, [where, *map(str, first["loc"])]))
        if first["type"] == "extra_forbidden":
            *outer, name = map(str, first["loc"])
            raise unknown("key", name, _keys(config, outer), where=".".join(filter(None, [where, *outer]))) from error
        if first["type"] == "missing":
            raise OovrecError("is missing", where=key, remedy="add it") from error
        what = f"{first['msg'].lower()}, not {brief(repr(first['input']))}"
        raise OovrecError(what, where=key, remedy="change the value") from error


def defaults(config: type[BaseModel]) -> dict[str, Any]:
    """Plain values of the options that need not be given."""
    return config.model_construct().model_dump(mode="json")


def check_names(values: Mapping[Any, Any], section: str | None) -> None:
    """Make sure that every key is a name.

    Args:
        section: the keys' own place.

    Raises:
        OovrecError: one is a number, a date, or what YAML takes for true, false or nothing.
    """
    for key, value in values.items():
        if not isinstance(key, str):
            remedy = "write a name, in quotes if YAML takes it for something else, as it does with on, off, yes and no"
            raise OovrecError(f"the key {key!r} is no name", where=section, remedy=remedy)
        if isinstance(value, dict):
            check_names(value, key if section is None else f"{section}.{key}")


def _keys(config: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the options that the outer keys ``path`` lead to."""
    for key in path:
        inner = config.model_fields[key].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        config = inner
    return list(config.model_fields)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"model": {"width": 8}}`` becomes ``{"model.width": 8}``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
