"""The steps of the main job: tokens, training, evaluation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape

from oovrec.app.folders import begin, check_free, check_same, check_writable, kept_or_removed, resumable, seconds, timed
from oovrec.app.learnt import check_backbone
from oovrec.app.ranks import read_ranks, write_ranks
from oovrec.app.recipe import Recipe, TokenRecipe, read_recipe
from oovrec.app.runs import Run, load_run
from oovrec.app.source import Source
from oovrec.data.checks import inspect
from oovrec.data.dataset import Dataset
from oovrec.errors import OovrecError, within
from oovrec.evaluation import protocol
from oovrec.evaluation.protocol import Evaluation
from oovrec.evaluation.results import Result, git_commit, hardware, read_result, write_result
from oovrec.files import atomic_folder
from oovrec.models.base import configured, system
from oovrec.models.entities import Entities
from oovrec.progress import say
from oovrec.tokens.build import build_tokens
from oovrec.tokens.contract import check_tables
from oovrec.tokens.imported import import_tokens
from oovrec.tokens.table import BuiltFrom, Tokens
from oovrec.training.group import leading, meet


def warn(dataset: Dataset) -> None:
    """Say what reading changed and, loudly, what would make figures on this data mislead."""
    for note in dataset.notes:
        say(escape(f"note: {note}"))
    for warning in inspect(dataset).warnings:
        say(f"[bold red]WARNING[/] {escape(warning)}")


def warn_of_other_data(tokens: Tokens, dataset: Dataset) -> None:
    """Say, loudly, that tokens may know of ``dataset`` what is held out, if they say what they were built from."""
    if tokens.of_other_data(dataset.fingerprint):
        say("[bold red]WARNING[/] these tokens were built from other data, perhaps from what is held out here")


def build(
    source: Source, out: Path, method: str, built_from: BuiltFrom, seed: int, options: Mapping[str, Any]
) -> tuple[Tokens, Dataset]:
    """Build tokens into a new folder.

    Raises:
        OovrecError: as :func:`build_tokens`; or the folder is in use.
    """
    return _into(out, source, lambda dataset: build_tokens(dataset, method, built_from, seed, options))


def take_in(
    source: Source, out: Path, items: Path, users: Path | None, built_from: BuiltFrom, method: str
) -> tuple[Tokens, Dataset]:
    """Write tokens of somebody else's files into a new folder.

    Raises:
        OovrecError: as :func:`import_tokens`; or the folder is in use.
    """
    made = _into(out, source, lambda dataset: import_tokens(dataset, items, users, built_from, method))
    left = {kind: count for kind, count in made[0].details["left_out"].items() if count}
    if left:
        say(f"the data lacks {' and '.join(f'{count:,} of the {kind}' for kind, count in left.items())}: left out")
    say(escape(f"'oovrec tokens audit {source.source} --items {out}' tells whether they saw held-out items"))
    return made


def _into(out: Path, source: Source, make: Callable[[Dataset], Tokens]) -> tuple[Tokens, Dataset]:
    check_free(out)
    dataset = source.load()
    warn(dataset)
    tokens = make(dataset)
    check_free(out)  # another may have written there meanwhile
    with atomic_folder(out) as folder:  # Ctrl-C leaves nothing either
        tokens.save(folder)
    return tokens, dataset


def prepare(
    recipe: Recipe | str | Path, data: Source | Dataset | str | Path, out: str | Path, resume: bool
) -> tuple[Run, Dataset]:
    """A run as it is asked for, not yet begun, and its data.

    Raises:
        OovrecError: something is wrong with recipe, data or folder.
    """
    folder = Path(out)
    if not resume:
        if leading():  # which will begin to write there, before or after the others look
            check_free(folder, "give --resume to go on with it, or another --out")
    elif not (folder / "config.yaml").is_file():
        raise OovrecError("there is no run to resume here", where=folder, remedy="start without --resume")
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    source = Source.of(data)
    dataset = source.load()
    learnt = dataset.learnt_until(recipe.until)
    learnt.within(recipe.training.validate_days)  # an error comes before tokens are made
    warn(learnt)
    return Run(folder, recipe, source.found(dataset)), dataset


def train(
    recipe: Recipe | str | Path,
    data: Source | Dataset | str | Path = "ml-100k",
    out: str | Path = "runs/run",
    *,
    overrides: Sequence[str] = (),
    tokens: Tokens | str | Path | None = None,
    resume: bool = False,
) -> Run:
    """Train a recipe's model and keep it in a run folder.

    Args:
        recipe: a recipe, a shipped one's name, or a YAML file.
        data: a name of the catalogue, a folder or a file; a :class:`Source` where there is more to say;
            a dataset, which its source must give again.
        out: the run folder; new, unless ``resume``.
        overrides: changes to the recipe that a name or a file gives, such as ``"training.epochs=5"``.
        tokens: tokens, or a folder of them, to use in place of building the recipe's.
        resume: go on with the run in ``out``; a finished one is given back as it is.

    Raises:
        OovrecError: something is wrong with recipe, data, tokens or folder; nothing is written then.
        Interrupted: Ctrl-C; the folder can be resumed.
    """
    if overrides:
        if isinstance(recipe, Recipe):
            raise OovrecError("are given with a recipe that is already read", where="overrides", remedy="change it")
        recipe = read_recipe(recipe, overrides)
    run, dataset = prepare(recipe, data, out, resume)
    return train_on(run, dataset, tokens)


def train_on(run: Run, dataset: Dataset, given: Tokens | str | Path | None = None) -> Run:
    """Train ``run``, or what is left of it where its folder already holds a part.

    Of processes that train together all train, and the first one writes.
    """
    start, folder, begun = time.monotonic(), run.folder, (run.folder / "config.yaml").exists()
    until = dataset.learnt_until(run.recipe.until)
    tokens, place = _given(given)
    if tokens:
        if system(run.recipe.system).token_use == "none":
            raise OovrecError(f"'{run.recipe.system}' reads no tokens", where=place, remedy="train without them")
        run = Run(folder, run.recipe.model_copy(update={"tokens": TokenRecipe.of(tokens)}), run.data)
    if begun:
        check_same(load_run(folder), run)
    if (folder / "model.safetensors").exists():
        _forget_state(folder)
        return run
    meet()  # as all have seen the folder as it was
    say(escape(f"{run.label} on {run.data.name}, into {folder}"))
    recipe, beginning = run.recipe, not begun and leading()
    kind, options = system(recipe.system), configured(recipe.system, recipe.model)
    if beginning:
        kind.check(options)  # before tokens, which may take long
        check_backbone(run)
    with kept_or_removed(folder) if beginning else nullcontext():
        entities = Entities.of(until, tokens or _tokens(run, until))
        known = (dataset.fingerprint, until.fingerprint)
        if tokens and recipe.until != "end" and all(map(tokens.of_other_data, known)):  # a leak that no page would tell
            what = f"were built from other data than '{dataset.name}', perhaps from what is held out here"
            raise OovrecError(what, where=place, remedy="build tokens from this data by 'oovrec tokens build'")
        model = kind(options, entities)
        if beginning:
            begin(run, time.monotonic() - start)
            entities.save(folder)
        learnt = sum(epoch["seconds"] for epoch in run.epochs)  # before it was killed, if it was
        with timed(folder, at_least=learnt) if leading() else nullcontext():
            model.fit(until, recipe.training, seed=recipe.seed, folder=folder, resume=resumable(folder))
            if leading():
                model.save(folder)
    meet()
    _forget_state(folder)
    return run


def _given(tokens: Tokens | str | Path | None) -> tuple[Tokens | None, str | Path | None]:
    """Tokens that were built before, and what errors call their place."""
    if not isinstance(tokens, Tokens):
        return None if tokens is None else Tokens.load(Path(tokens)), tokens
    with within("tokens"):
        check_tables(tokens.items, tokens.users)
    return tokens, "tokens"


def _forget_state(folder: Path) -> None:
    """Remove what a training would have been resumed from."""
    if leading():
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def _tokens(run: Run, dataset: Dataset) -> Tokens | None:
    """The run's tokens: those of its folder where they are already there."""
    if (run.folder / "tokens" / "tokens.json").exists():
        return Tokens.load(run.folder / "tokens")
    if (wanted := run.recipe.tokens) is None:
        return None
    return build_tokens(dataset, wanted.method, wanted.built_from, run.recipe.seed, wanted.options)


def evaluate(
    run: Run | str | Path, split: Literal["validation", "test"] = "test", data: Dataset | str | None = None
) -> Evaluation:
    """Rank the held-out item of every user, and test what else the model was trained to do.

    Test figures are also kept, in ``metrics.json`` and ``ranks.safetensors``; with those of a sample of the users, or
    of validation, nothing is written.

    Args:
        run: a finished run, or its folder.
        data: the dataset, already read, or where it lies now, if not where it was.

    Raises:
        OovrecError: the run is not finished or broken, or has learnt from what is asked for; the data is not its own,
            there is no such split, or figures to keep have no place.
    """
    run = run if isinstance(run, Run) else load_run(run)
    with within(run.folder):
        run.recipe.check_held_out(split)
    model, dataset = run.model, run.dataset(data)
    kept = split == "test" and not dataset.sample
    if kept:  # not after the work
        remedy = "copy the run to where figures can be kept, or test a sample by --users, which keeps none"
        check_writable(run.folder, remedy)
    with timed(run.folder, testing=True) if kept else nullcontext(), run.arithmetic():
        evaluation = protocol.evaluate(model.ranked, dataset, split)
        evaluation = replace(evaluation, tasks=model.task_figures(dataset, split))
    if kept:
        write_result(run.folder / "metrics.json", result(run, evaluation))
        write_ranks(run.folder / "ranks.safetensors", evaluation, run.data.fingerprint)
    return evaluation


def evaluated(run: Run, data: Dataset | str | None) -> Evaluation:
    """The run's test, kept from before where there is one of its settings; ``data`` as in :func:`evaluate`.

    One by time from before its days were kept is made again.
    """
    kept = run.folder / "ranks.safetensors"
    if kept.exists() and (run.folder / "metrics.json").exists():
        before = read_result(run.folder / "metrics.json")
        if (before.config_hash, before.tokens_from) == (run.recipe.hash, run.tokens_from):
            found = read_ranks(kept, run.data.fingerprint)
            if found.hold_out == "last" or found.days is not None:
                return replace(found, tasks=before.tasks)
    return evaluate(run, data=data)


def result(run: Run, evaluation: Evaluation) -> Result:
    """The record of an evaluated run."""
    return Result(
        system=run.recipe.system,
        dataset=run.data.name,
        tokens_from=run.tokens_from_in(evaluation),
        seed=run.recipe.seed,
        config_hash=run.recipe.hash,
        settings_hash=run.recipe.settings_hash,
        commit=git_commit(),
        hardware=hardware(),
        wall_seconds=seconds(run.folder),
        blocks=evaluation.blocks(),
        tasks=evaluation.tasks,
        by_days=evaluation.by_days,
        added=run.added,
        hold_out=evaluation.hold_out,
        until=run.recipe.until,
    )
