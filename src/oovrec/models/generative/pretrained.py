"""Pretrained checkpoints, read whole or refused in one sentence: of another kind, broken, not whole, NaN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import PretrainedConfig, PreTrainedModel

from oovrec.errors import OovrecError, out_of_memory
from oovrec.files import read_json
from oovrec.models.backbones import FOLDER
from oovrec.progress import quiet_transformers

CONFIG, WEIGHTS = "config.json", "model.safetensors"
GIVE = f"give {FOLDER}, or a hub name while online"
AGAIN = "fetch or save the checkpoint again"
RESTORE = "restore the file"
LAYERS = {"full_attention", "sliding_attention"}  # kinds of attention in a config
UNLIKE = ("use_bidirectional_attention", "final_logit_softcapping")  # what no system here has
LONGEST = 200  # characters of another library's reason

Kinds = Sequence[type[PreTrainedModel]]  # stock models that a system can stand for


def config_of(kinds: Kinds, folder: Path, *, run: bool = False, **changes: Any) -> PretrainedConfig:
    """What ``config.json`` in ``folder`` says, which describes one of ``kinds``; ``changes`` come first.

    Of a folder without that file, or with another kind's, transformers would make a model of its default size.

    Args:
        run: whether the folder is a run's own.

    Raises:
        OovrecError: the file is missing, no JSON, of another ``model_type``, or has values of wrong types, or what no
            system here has.
    """
    path = folder / CONFIG
    about = read_json(path, remedy=RESTORE if run else GIVE)
    found = about.get("model_type") if isinstance(about, dict) else None
    if found is None:
        raise OovrecError("names no model_type", where=path, remedy=RESTORE if run else AGAIN)
    known = {kind.config_class.model_type: kind.config_class for kind in kinds}
    if found not in known:
        what = f"is a model of type '{found}', and this system needs one of the types {', '.join(known)}"
        raise OovrecError(what, where=path if run else folder, remedy=RESTORE if run else "give such a checkpoint")
    with _explained("describes no model", path, RESTORE if run else AGAIN):
        config = known[found].from_pretrained(str(folder), **changes)
    other = {*(getattr(config, "layer_types", None) or ())} - LAYERS
    if unlike := [*sorted(other), *(name for name in UNLIKE if getattr(config, name, None))]:
        what = f"describes a model with {' and '.join(unlike)}, which this system does not have"
        raise OovrecError(what, where=path, remedy="give a checkpoint without")
    return config


def kind_of(kinds: Kinds, config: PretrainedConfig) -> type[PreTrainedModel]:
    """Which of ``kinds`` a config of :func:`config_of` describes."""
    return next(kind for kind in kinds if kind.config_class is type(config))


def window_of(config: PretrainedConfig) -> int | None:
    """How many tokens some layers look back, themselves included; None where all look back to the beginning."""
    layers = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    return window if layers is None or "sliding_attention" in layers else None


def built(kinds: Kinds, folder: Path, **changes: Any) -> PreTrainedModel:
    """A model as the ``config.json`` in a run's ``folder`` describes it, its weights at random.

    Raises:
        OovrecError: as :func:`config_of`; or no model can be made so.
    """
    config = config_of(kinds, folder, run=True, **changes)
    with _explained("describes no model", folder / CONFIG, RESTORE):
        return kind_of(kinds, config)(config)


def loaded(kinds: Kinds, folder: Path, **changes: Any) -> PreTrainedModel:
    """The checkpoint in ``folder``, in float32; ``changes`` come before what its ``config.json`` says.

    Raises:
        OovrecError: as :func:`config_of`; a file is missing or broken; a weight is missing, of another shape, not the
            model's or not finite.
    """
    config = config_of(kinds, folder, **changes)
    kind = kind_of(kinds, config)
    with _explained("describes no model", folder / CONFIG, AGAIN), torch.device("meta"):  # without memory
        shape = kind(config)
    _check_shapes(shape, folder)
    with _explained("no checkpoint can be loaded from here", folder, GIVE):
        options: dict[str, Any] = {"config": config, "use_safetensors": True, "dtype": torch.float32}
        network, told = kind.from_pretrained(str(folder), output_loading_info=True, **options)
    _check_whole(network, set(told["missing_keys"]), set(told["unexpected_keys"]), folder)
    _check_finite(network, folder)
    return network


@contextmanager
def _explained(what: str, where: Path, remedy: str) -> Iterator[None]:
    """Whatever transformers raises, but want of memory, becomes a sentence; what it would warn of is checked here."""
    try:
        with quiet_transformers(advice=False):
            yield
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"
        raise OovrecError(f"{what} ({reason})", where=where, remedy=remedy) from error


def _check_shapes(network: PreTrainedModel, folder: Path) -> None:
    """Compare the files' headers with the model."""
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters(remove_duplicate=False)}
    for name, found in _held(folder):
        if (wanted := shapes.get(name, found)) != found:
            what = f"{name} is {list(found)} in the weights and {list(wanted)} by config.json"
            raise OovrecError(what, where=folder, remedy="give the config.json that belongs to the weights")


def _held(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight, from the files that transformers would read."""
    whole = folder / WEIGHTS
    for path in [whole] if whole.is_file() else sorted(folder.glob("model-*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                yield from [(name, tuple(file.get_slice(name).get_shape())) for name in file.keys()]  # noqa: SIM118
        except SafetensorError as error:
            raise OovrecError("is not a whole safetensors file", where=path, remedy=AGAIN) from error


def _check_whole(network: PreTrainedModel, missing: set[str], unexpected: set[str], folder: Path) -> None:
    """Of what transformers tells: names of weights tied to one that is there, and of buffers, may be ``missing``."""
    weights = list(network.named_parameters(remove_duplicate=False))
    there = {id(weight) for name, weight in weights if name not in missing}
    if absent := [name for name, weight in network.named_parameters() if id(weight) not in there]:
        raise OovrecError(f"lacks weights: {_listed(absent)}", where=folder, remedy=AGAIN)
    if unexpected:
        what = f"has weights that its config.json leaves no place for: {_listed(sorted(unexpected))}"
        raise OovrecError(what, where=folder, remedy="give the config.json that belongs to the weights")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


@torch.no_grad()
def _check_finite(network: PreTrainedModel, folder: Path) -> None:
    for name, weight in network.named_parameters():
        if not weight.sum().isfinite() and not weight.isfinite().all():  # the sum alone costs no memory
            what = f"{name} holds {'NaN' if weight.isnan().any() else 'infinite numbers'}"
            raise OovrecError(what, where=folder, remedy="give a checkpoint of finite weights")
