"""What other packages bring: schemes and systems, named by entry points; one is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from oovrec.config import Options
from oovrec.errors import OovrecError
from oovrec.files import check_name


def outside(group: str) -> dict[str, str]:
    """What the entry points of ``group`` say, by name: paths of modules. None is imported."""
    return {point.name: point.value for point in entry_points(group=group)}


def imported(group: str, name: str) -> ModuleType | None:
    """The module that the entry point ``name`` of ``group`` names; None where there is no such entry point.

    Raises:
        OovrecError: several packages have one, it names more than a module, its module cannot be imported, or no
            folder could bear its name.
    """
    points = entry_points(group=group, name=name)
    if not points:
        return None
    if len(points) > 1:
        remedy = "uninstall all of them but one"
        raise OovrecError("is in several packages", where=_place(points), remedy=remedy)
    (point,) = points
    check_name(name, _place(points))
    module, colon, _ = point.value.partition(":")
    if colon:
        remedy = f'write {name} = "{module.strip()}" into the package\'s pyproject.toml and install it again'
        raise OovrecError(f"'{point.value}' is more than a module's name", where=_place(points), remedy=remedy)
    try:
        return import_module(module)
    except (Exception, SystemExit) as error:  # whatever a stranger's module does when it is run
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".:")
        remedy = "mend it, install what it needs, or uninstall the package"
        raise OovrecError(f"'{module}' cannot be imported ({reason})", where=_place(points), remedy=remedy) from error


def check_alone(group: str, name: str) -> None:
    """Make sure that no other package has something that is called like oovrec's own ``name``.

    Raises:
        OovrecError: there is an entry point ``name`` in ``group``.
    """
    if points := entry_points(group=group, name=name):
        what = f"oovrec has a '{name}' of its own, so nobody could tell whose figures these are"
        raise OovrecError(what, where=_place(points), remedy="rename the entry point or uninstall the package")


def check_config(holder: ModuleType | type, where: str) -> None:
    """Make sure that a scheme's module, or a system's class, has options.

    Raises:
        OovrecError: it has no ``Config``, or another than :class:`Options`.
    """
    config = getattr(holder, "Config", None)
    if not (isinstance(config, type) and issubclass(config, Options)):
        remedy = "add that class, without fields if there is nothing to set"
        raise OovrecError("has no 'Config' derived from oovrec.config.Options", where=where, remedy=remedy)


def _place(points: Collection[EntryPoint]) -> str:
    """Entry points of one name and group, and whose they are."""
    packages = " and ".join(sorted(f"'{point.dist.name}'" for point in points if point.dist))
    ((name, group),) = {(point.name, point.group) for point in points}
    return f"entry point '{name}' ({group}) of {packages}"
