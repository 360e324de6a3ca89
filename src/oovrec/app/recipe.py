"""Recipes: all that decides a training, in one YAML file; shipped ones go by name, others by path."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from oovrec.config import Options, check_names, checked, flat
from oovrec.data.dataset import Split, Until
from oovrec.errors import OovrecError, listed, unknown, within
from oovrec.files import read_yaml
from oovrec.models.backbones import chosen
from oovrec.models.base import check_only, configured, modules, system
from oovrec.plugins import outside
from oovrec.tokens.build import OUTSIDE as SCHEMES
from oovrec.tokens.build import check_options
from oovrec.tokens.table import BuiltFrom, Tokens
from oovrec.training.config import TrainingConfig

SECTIONS = ("tokens", "model", "training")
BESIDE = ("references", "published", "search")  # keys that do not change a training
# Options that came when results were there already: unset they change nothing, so they do not count in the hash.
LATER: tuple[tuple[str, str, Any], ...] = (
    ("model", "augmentation", "linear"),
    ("model", "augments", "both"),
    ("model", "lora", None),
    ("model", "dropout", None),
    ("model", "residual_dropout", 0.0),
    ("model", "attention_dropout", None),
    ("model", "days", 0),
    ("training", "max_steps", 0),
    ("training", "stop_after", 0),
    ("training", "validate_on", "masked"),
    ("training", "skipped", 0.0),
    ("training", "validate_days", 0),
    ("", "until", "validation"),  # of no section
)
NOTICES = {
    "test": "It has learnt from what validates too.",
    "end": "It has learnt from the whole log; a newer one tests it (evaluate --later), the run it is of has figures.",
}


Value = bool | int | float | str | None  # that a key may have


class TokenRecipe(Options):
    """How the tokens are built; in a recipe the scheme's own options stand beside ``method`` and ``from``.

    Attributes:
        method: the scheme.
        built_from: ``train``, or ``all`` to let it see held-out interactions.
        options: the scheme's own.
    """

    method: str = "meta"
    built_from: BuiltFrom = Field("train", alias="from")
    options: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, tokens: Tokens) -> TokenRecipe:
        """How tokens that are already there were built."""
        return cls.model_validate({"method": tokens.method, "from": tokens.built_from, "options": tokens.config})


class Recipe(Options):
    """A training, fully decided.

    Attributes:
        system: the recommender.
        tokens: how its tokens are built; None where it is to have none.
        model: the system's options, defaults included.
        training: how it is trained.
        references: shipped recipes that ``oovrec run`` trains beside it, for comparison.
        published: its row in tables of published figures; None takes the one spelled like ``system`` ("S3-Rec").
        search: for some keys the values that ``oovrec bench tune`` may try.
        until: it learns from what each user has before the ``validation`` target, before the ``test`` target, or to the
            ``end``. With the latter two nothing is left to choose an epoch by, and the last one's weights are kept.
        seed: of every random choice.
    """

    system: str
    tokens: TokenRecipe | None = None
    model: dict[str, Any] = Field(default_factory=dict)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    references: tuple[str, ...] = ()
    published: str | None = None
    search: dict[str, list[Value]] = Field(default_factory=dict)
    until: Until = "validation"
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("search")
    @classmethod
    def _numbers(cls, search: dict[str, list[Value]]) -> dict[str, list[Value]]:
        """YAML takes 1e-3 for a text."""
        return {key: [_number(value) for value in values] for key, values in search.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, defaults included, in the form of a recipe file."""
        values = self.model_dump(mode="json")
        if self.tokens is None:
            del values["tokens"]
        else:
            values["tokens"] = {"method": self.tokens.method, "from": self.tokens.built_from, **self.tokens.options}
        return values

    def in_full(self) -> dict[str, Any]:
        """As :meth:`to_dict`, with every option of the scheme of its tokens."""
        values = self.to_dict()
        if self.tokens is not None:
            values["tokens"] |= check_options(self.tokens.method, self.tokens.options, where="tokens").model_dump()
        return values

    @property
    def hash(self) -> str:
        """12 hex digits that tell trainings apart; what they are compared with, or compiled to, does not count."""
        values = {key: value for key, value in self.to_dict().items() if key not in BESIDE}
        values["training"] = {key: value for key, value in values["training"].items() if key != "compile"}
        for section, key, unset in LATER:
            place = values[section] if section else values
            if place.get(key, unset) == unset:
                place.pop(key, None)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def settings_hash(self) -> str:
        """The hash that it has with any seed, and retrained to any epoch: runs of one system have the same."""
        training = self.training.model_copy(update={"stop_after": 0}) if self.retrained else self.training
        return self.model_copy(update={"seed": 0, "training": training}).hash

    @property
    def retrained(self) -> bool:
        """Whether it learns from what validation, or the test too, is made of."""
        return self.until != "validation"

    @property
    def notice(self) -> str:
        """What a reader of a retrained run's pages must know, as a sentence; '' where there is nothing."""
        return NOTICES.get(self.until, "")

    def check_held_out(self, split: Split) -> None:
        """Make sure that it does not learn from the targets of ``split``.

        Raises:
            OovrecError: it does.
        """
        if self.until == "end":
            remedy = "leave 'until' out, test one of 'oovrec retrain --until test', or give a newer log by --later"
            raise OovrecError("it learns from the whole log, and nothing is held out", where="until", remedy=remedy)
        if self.retrained and split == "validation":
            what = "it learns from what would validate it"
            raise OovrecError(what, where="until", remedy="leave 'until' as it is, or go by the test")


def _number(value: Value) -> Value:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("oovrec.app") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def called(recipe: str | Path) -> str:
    """What the results of a recipe are called: its name; of a file its stem.

    Raises:
        OovrecError: a file bears the name of a shipped recipe, whose results it would replace.
    """
    known, path = shipped(), Path(recipe)
    if str(recipe) not in known and path.stem in known and path.resolve() != known[path.stem].resolve():
        what = f"bears the name of the shipped recipe '{path.stem}', whose results it would replace"
        raise OovrecError(what, where=path, remedy="give the file a name of its own")
    return path.stem


def explained(name: str) -> str:
    """The first sentence of a shipped recipe's heading."""
    lines = shipped()[name].read_text(encoding="utf-8").splitlines()
    heading = " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line[:1] == "#", lines))
    return re.split(r"(?<=[.;]) ", heading, maxsplit=1)[0].rstrip(".;")


def read_recipe(name: str | Path, overrides: Iterable[str] = (), backbone: str | None = None) -> Recipe:
    """The shipped recipe of that name, or the one in a YAML file.

    Args:
        overrides: ``key=value`` or ``section.key=value``, the value as YAML; a later one wins. With another
            ``tokens.method`` the recipe's own options of the old one go.
        backbone: another backbone for the model; see :func:`oovrec.models.backbones.chosen`.

    Raises:
        OovrecError: no such recipe; not YAML; an unknown key (its nearest neighbour is named) or a bad value.
    """
    path = shipped().get(str(name), Path(name))
    if path == Path(name) and len(path.parts) == 1 and not path.suffix and not path.is_file():
        raise _no_recipe(str(name))
    values = read_yaml(path, remedy="give a recipe as YAML")
    where = str(name)
    if not isinstance(values, dict):
        raise OovrecError("is not a list of 'key: value'", where=where, remedy="give a recipe as YAML")
    overrides, tokens = listed(overrides, "overrides", where="overrides"), _section(values, "tokens")
    if any(_renames(override, tokens.get("method", "meta")) for override in overrides):
        values["tokens"] = {"from": tokens.get("from", "train")}  # the rest is of the old scheme
    for override in overrides:
        apply_override(values, override)
    if backbone is not None:
        with within(where):
            values["model"] = {**_section(values, "model"), **_backbone(values, backbone)}
    recipe = parse_recipe(values, where)
    with within(where):
        _check_choices(recipe)
        return _settled(recipe)


def _settled(recipe: Recipe) -> Recipe:
    """With all options of a scheme of another package, whose next version may have other defaults."""
    if recipe.tokens is None or recipe.tokens.method not in outside(SCHEMES):
        return recipe
    options = check_options(recipe.tokens.method, recipe.tokens.options, where="tokens").model_dump(mode="json")
    return recipe.model_copy(update={"tokens": recipe.tokens.model_copy(update={"options": options})})


def _no_recipe(name: str) -> OovrecError:
    if name in modules():  # one that was added has none
        remedy = f"write 'system: {name}' and what else it needs into a YAML file, and give that"
        return OovrecError(f"'{name}' is a system without a recipe of that name", remedy=remedy)
    return unknown("recipe", name, shipped())


def _renames(override: str, method: str) -> bool:
    key, _, value = override.partition("=")
    return key.strip() == "tokens.method" and str(_value(override, value)) != method


def _backbone(values: Mapping[str, Any], name: str) -> dict[str, str | None]:
    shapes = getattr(system(str(values.get("system"))), "shapes", None)
    if shapes is None:
        remedy = "leave --backbone out, or choose a recipe of a language model"
        raise OovrecError(f"'{values.get('system')}' has no backbone", remedy=remedy)
    return chosen(name, shapes)


def _check_choices(recipe: Recipe) -> None:
    """What a recipe can be asked to make; a run's may have tokens of any file in their place."""
    check_only(recipe.system)
    known = flat(recipe.in_full())  # which checks the scheme's options
    for key in recipe.search:
        if key not in known:
            raise unknown("key", key, known, where="search")


def parse_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain values, as :meth:`Recipe.to_dict` gives them.

    Raises:
        OovrecError: an unknown key or system, or a bad value; each names the section.
    """
    with within(where):
        check_names(values, None)
        sections = {name: _section(values, name) for name in SECTIONS}
        parts = {**values, "training": checked(TrainingConfig, sections["training"], where="training")}
        if isinstance(name := values.get("system"), str):
            parts["model"] = configured(name, sections["model"]).model_dump(mode="json")
        parts["tokens"] = _tokens(sections["tokens"], name) if values.get("tokens") is not None else None
        recipe = checked(Recipe, parts, where="")
        _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    """What the keys must be to each other."""
    for reference in recipe.references:
        if reference not in shipped():
            raise unknown("recipe", reference, shipped(), where="references")
    use = system(recipe.system).token_use
    if recipe.tokens is None and use == "needed":
        raise OovrecError(f"'{recipe.system}' needs tokens", remedy="add 'tokens: {method: meta, from: train}'")
    if recipe.tokens is not None and use == "none":
        raise OovrecError(f"'{recipe.system}' reads no tokens", remedy="leave 'tokens' and --from out")


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = {} if values.get(name) is None else values[name]
    if not isinstance(section, dict):
        raise OovrecError(f"'{name}' has no keys", remedy=f"set one of its keys: {name}.key=value")
    return section


def _tokens(section: dict[str, Any], name: object) -> TokenRecipe:
    options = {key: value for key, value in section.items() if key not in ("method", "from")}
    built_from = section.get("from", "train")
    if built_from not in ("train", "all"):
        raise unknown("source of tokens", str(built_from), ("train", "all"), where="tokens")
    if "method" not in section and isinstance(name, str) and system(name).token_use == "possible":
        remedy = "set tokens.method, or leave 'tokens' and --from out"
        raise OovrecError(f"name no method, and '{name}' does without tokens", where="tokens", remedy=remedy)
    method = str(section.get("method", "meta"))
    return TokenRecipe.model_validate({"method": method, "from": built_from, "options": options})


def apply_override(values: dict[str, Any], override: str) -> None:
    """Put ``key=value`` or ``section.key=value``, the value as YAML, into ``values``.

    Raises:
        OovrecError: it has another form.
    """
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise OovrecError("is not key=value", where=f"--set {override}", remedy="write --set section.key=value")
    value, place = _value(override, text), values
    for key in keys[:-1]:
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
        if not isinstance(place, dict):
            raise OovrecError(f"'{key}' has no keys of its own", where=f"--set {override}", remedy="check the key")
    place[keys[-1]] = value


def sets(overrides: Iterable[str], key: str) -> bool:
    """Whether overrides name ``key`` (``section.key``, or one without a section), by itself or in its whole section.

    Raises:
        OovrecError: as :func:`apply_override`.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        apply_override(values, override)
    section, _, name = key.rpartition(".")
    place = values.get(section) if section else values
    return isinstance(place, dict) and name in place


def _value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OovrecError("has no YAML value", where=f"--set {override}", remedy="put the value in quotes") from error
