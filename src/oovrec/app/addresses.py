"""The addresses of an API for people to read, from its OpenAPI description: nothing is fetched from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """What an address takes by name.

    Attributes:
        name: its name.
        kind: ``string or integer``, ``array of string``.
        default: as JSON; '' where it has to be given, or nothing stands for it.
        about: what it means.
    """

    name: str
    kind: str
    default: str
    about: str


@dataclass(frozen=True)
class Address:
    """One address.

    Attributes:
        method: ``GET`` or ``POST``.
        path: with ``{names}``.
        about: what it gives.
        fields: of the path, the query or the body.
    """

    method: str
    path: str
    about: str
    fields: list[Field]


def addresses(description: Mapping[str, Any]) -> list[Address]:
    """Those of an OpenAPI 3 description, in its order."""
    return [
        Address(method.upper(), path, operation.get("description", ""), list(_fields(operation)))
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]


def _fields(operation: Mapping[str, Any]) -> Iterator[Field]:
    for parameter in operation.get("parameters", []):
        yield _field(parameter["name"], {"description": parameter.get("description", ""), **parameter["schema"]})
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for name, schema in body.get("properties", {}).items():
        yield _field(name, schema)


def _field(name: str, schema: Mapping[str, Any]) -> Field:
    default = schema.get("default")
    return Field(name, kind(schema), "" if default is None else json.dumps(default), schema.get("description", ""))


def kind(schema: Mapping[str, Any]) -> str:
    """A JSON schema's type in words, null aside, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema["type"] == "array":
        return f"array of {kind(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    return schema["type"] + (f", {low:,g} to {high:,g}" if low is not None and high is not None else "")
