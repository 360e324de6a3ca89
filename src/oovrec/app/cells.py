"""A cell of the table of results: one system on one dataset with one seed, and how it is filled."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from rich.markup import escape

from oovrec.app.facts import check_facts, write_facts
from oovrec.app.pipeline import evaluate, train_on
from oovrec.app.recipe import Recipe, TokenRecipe, called, read_recipe, sets
from oovrec.app.retraining import once_more
from oovrec.app.runs import Run, load_run
from oovrec.app.source import Source
from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError
from oovrec.evaluation.results import Result, read_result, write_result
from oovrec.files import check_name, locked
from oovrec.progress import say
from oovrec.tokens.table import BuiltFrom, Tokens

RUNS = Path("runs") / "bench"
AGAIN = "-retrained"  # how a cell is called that learns from what validates too
NAME = re.compile(r"(?P<system>.+)-(?P<tokens_from>train|all|none)-s(?P<seed>\d+)\.json")
OWN_OPTIONS = {"seed": "--seed, or --seeds of several", "tokens.from": "--from"}  # what --set leaves to them
PATIENCE = 20.0  # seconds for a process of a killed command to be gone


@dataclass(frozen=True)
class Cell:
    """One system on one dataset with one seed.

    Attributes:
        system: the recipe's name; of a file its stem; of a variant with its name behind.
        recipe: the recipe as it was given: a name or a path.
        variant: what tells it from other cells of the recipe; '' for the recipe itself.
        overrides: of the recipe, as ``--set`` takes them.
        run: the run that fills it, in ``runs/bench/<dataset>/<system>-<tokens from>-s<seed>``.
        out: the folder of results.
        tokens: that were built before, in place of those that the recipe builds.
    """

    system: str
    recipe: str
    variant: str
    overrides: tuple[str, ...]
    run: Run
    out: Path
    tokens: Tokens | None = None

    @classmethod
    def of(
        cls,
        recipe: str,
        data: Source,
        seed: int,
        built_from: BuiltFrom | None,
        out: Path,
        *,
        variant: str = "",
        overrides: tuple[str, ...] = (),
        tokens: Tokens | None = None,
    ) -> Cell:
        """The cell of a recipe, given by name or path, on data that was found.

        Args:
            built_from, overrides: as in :func:`recipe_of`.
            variant: names the cell, where ``overrides`` or ``tokens`` make it another than the recipe's.

        Raises:
            OovrecError: as :func:`read_recipe` and :func:`called`; overrides without a variant, or one that is no name;
                a recipe that has learnt from what it would be tested on.
        """
        if (overrides or tokens) and not variant:
            what = "makes it another than the recipe, whose results it would replace"
            where = f"--set {overrides[0]}" if overrides else "--tokens"
            raise OovrecError(what, where=where, remedy="name the row by --variant")
        if variant:
            check_name(variant, "--variant")
        chosen = recipe_of(recipe, seed, built_from, overrides)
        chosen.check_held_out("test")
        if tokens:
            chosen = chosen.model_copy(update={"tokens": TokenRecipe.of(tokens)})
        run = Run(RUNS, chosen, data)
        system = "-".join([called(recipe), *([variant] if variant else [])])
        return cls(system, recipe, variant, overrides, _placed(run, system), out, tokens)

    def retrained(self) -> Cell:
        """The cell of this one's run, which is finished, retrained until the test.

        Raises:
            OovrecError: as :func:`oovrec.app.retraining.once_more`.
        """
        system, run = f"{self.system}{AGAIN}", load_run(self.run.folder)
        again = Run(RUNS, once_more(run, "test"), run.data)
        return replace(self, system=system, run=_placed(again, system))

    @property
    def name(self) -> str:
        """For people: dataset and file."""
        return f"{self.run.data.name}/{self.run.folder.name}"

    @property
    def file(self) -> Path:
        """The file to be filled."""
        return self.out / f"{self.name}.json"

    def result(self) -> Result | None:
        """What is there already, of whatever settings."""
        return read_cell(self.file) if self.file.exists() else None

    @property
    def done(self) -> bool:
        """Whether its file is there, of these settings."""
        result = self.result()
        return result is not None and result.config_hash == self.run.recipe.hash


def _placed(run: Run, system: str) -> Run:
    """The run in the folder that is a cell's of the name."""
    return replace(run, folder=RUNS / run.data.name / f"{system}-{run.tokens_from}-s{run.recipe.seed}")


def recipe_of(name: str, seed: int, built_from: BuiltFrom | None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe with a seed.

    Args:
        built_from: what tokens are built from in place of what the recipe says; systems without are left alone.
        overrides: further changes, as in :func:`read_recipe`.

    Raises:
        OovrecError: as :func:`read_recipe`; an override is of the seed, or of what tokens are built from.
    """
    for key, option in OWN_OPTIONS.items():
        if sets(overrides, key):
            raise OovrecError("has an option of its own", where=f"--set {key}", remedy=f"give {option}")
    changes = [*overrides, f"seed={seed}"]
    recipe = read_recipe(name, changes)
    if built_from and recipe.tokens:
        return read_recipe(name, [*changes, f"tokens.from={built_from}"])
    return recipe


def read_cells(out: Path) -> dict[Path, Result]:
    """Every file of results in ``out``; other files there, named otherwise, are left alone."""
    return {path: read_cell(path) for path in sorted(out.glob("*/*.json")) if NAME.fullmatch(path.name)}


def read_cell(path: Path) -> Result:
    """A file of results that is what its name says.

    Raises:
        OovrecError: as :func:`read_result`; or it is of another dataset, protocol or seed than its name.
    """
    try:
        result, name = read_result(path), NAME.fullmatch(path.name)
    except OovrecError as error:  # evaluating the run would leave this file as it is
        remedy = "restore the file, or remove it and run the same command again"
        raise OovrecError(error.what, where=error.where, remedy=remedy) from error
    found = (result.dataset, result.tokens_from, str(result.seed))
    if name is None or found != (path.parent.name, name["tokens_from"], name["seed"]):
        what = f"says dataset {found[0]}, tokens from {found[1]}, seed {found[2]}, its name another"
        raise OovrecError(what, where=path, remedy="give the file its own name or remove it")
    return result


def fill(cell: Cell, dataset: Dataset) -> Result:
    """Train and test the cell's run, or what is left of it, and write its file.

    A run folder of the same training is taken up where it stopped, to the same result; any other gives way.

    Raises:
        OovrecError: the other results are of other data; the training fails, or another process is at it.
        Interrupted: Ctrl-C; the next call goes on.
    """
    check_facts(dataset, cell.out)
    write_facts(dataset, cell.out)
    with taken_up(cell.run) as begun:
        run = train_on(begun, dataset, cell.tokens)
        if not (run.folder / "metrics.json").exists():  # the test is scored once
            evaluate(run, "test", dataset)
        result = read_result(run.folder / "metrics.json")
        write_result(cell.file, result)
        return result


@contextmanager
def taken_up(wanted: Run) -> Iterator[Run]:
    """A run as its folder has it, if it is the same training on the same data; else one to begin there.

    Raises:
        OovrecError: another process is at it.
    """
    folder = wanted.folder
    with locked(folder.with_name(f"{folder.name}.lock"), folder, PATIENCE):
        yield _begun(wanted)


def same_training(wanted: Run) -> Run | None:
    """The run that a folder holds, if it is the same training on the same data.

    Raises:
        OovrecError: the folder holds no run.
    """
    run = load_run(wanted.folder)
    return run if run.recipe.hash == wanted.recipe.hash and run.data.same_as(wanted.data) else None


def _begun(wanted: Run) -> Run:
    folder = wanted.folder
    if not folder.exists():
        return wanted
    try:
        if (run := same_training(wanted)) is not None:
            return run
        if (folder / "metrics.json").exists():
            say(escape(f"{folder} holds another training, which is now {_set_aside(folder)}"))
            return wanted
        say(escape(f"{folder} holds another training, which is not finished; it is begun anew"))
    except OovrecError as error:
        say(escape(f"begun anew, as {error}"))
    shutil.rmtree(folder)
    return wanted


def _set_aside(folder: Path) -> Path:
    """Where ``folder`` is from now on: beside itself."""
    free = (folder.with_name(f"{folder.name}.{number}") for number in count(1))
    return folder.rename(next(path for path in free if not path.exists()))
