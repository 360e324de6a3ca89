"""GGUF, llama.cpp's file of quantised weights, made into a folder that transformers loads like any other."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from oovrec.errors import OovrecError
from oovrec.files import let_all_read

# What llama.cpp calls a way to cut text before BPE ("tokenizer.ggml.pre"); transformers does not read it.
CUTS = {
    "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": lambda: pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
}


def convert(raw: Path, folder: Path) -> None:
    """Make ``config.json``, ``model.safetensors`` (bfloat16) and the tokenizer of the one GGUF file in ``raw``.

    bfloat16 is what such models are published in; its rounding is far below that of four-bit weights.

    Raises:
        OovrecError: the package gguf is missing; the file's way to cut text is not known here.
    """
    if importlib.util.find_spec("gguf") is None:
        raise OovrecError("the package 'gguf' is missing", where="model get", remedy="pip install 'oovrec[lora]'")
    file = next(raw.glob("*.gguf"))
    cut = _cut(file)
    tokenizer = AutoTokenizer.from_pretrained(str(raw), gguf_file=file.name)
    tokenizer.backend_tokenizer.pre_tokenizer = cut
    network = _network(file)
    tokenizer.model_max_length = network.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    network.save_pretrained(folder)
    let_all_read(folder)


def _cut(file: Path) -> Any:
    from gguf import GGUFReader

    field = GGUFReader(file).fields.get("tokenizer.ggml.pre")
    name = field.contents() if field else "gpt-2"
    if name not in CUTS:
        what = f"cuts text in a way that is not known here ('{name}')"
        raise OovrecError(what, where=file.name, remedy=f"known are {', '.join(CUTS)}")
    return CUTS[name]()


def _network(file: Path) -> PreTrainedModel:
    """The model with plain weights; transformers refuses to save the one that it read."""
    whole: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):  # newer versions may leave the weights in their blocks
        whole = {"quantization_config": transformers.GgufConfig(dequantize=True)}
    options = {"gguf_file": file.name, "dtype": torch.float32, **whole}
    read = AutoModelForCausalLM.from_pretrained(str(file.parent), **options)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):  # of weights that are replaced at once
        network: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    network.load_state_dict(read.state_dict())
    return network.to(torch.bfloat16)
