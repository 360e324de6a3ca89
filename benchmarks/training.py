"""Training against the stock transformers loop, on the same samples: rows ``train-*`` of the speed table.

    python benchmarks/training.py [--rows NAME ...] [--data DIR] [--tokenizer DIR] [--device cpu|cuda] [--repeats 3]

``train-t5-small`` and ``train-t5-small-bf16``: T5 of t5-small's shape with the genuine vocabulary and random item
tokens, AdamW, dropout. Ours: packed batches, in the precision that training chooses. Stock: the same users, targets
and wordings as text through the tokenizer, batches padded to their longest, cross-entropy over the whole vocabulary;
in float32 and under bf16 autocast. ``train-all-positions``: the compact LLaMA learning every position of a history
in one pass, against the same model learning one target a prompt; a rate of targets. Repeats alternate between the
two sides; medians are kept.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import rows
import torch
from torch import Tensor, nn

from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.models.base import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.samples import Samples, Training
from oovrec.models.generative.t5 import T5
from oovrec.tokens.build import build_tokens
from oovrec.training.config import TrainingConfig
from oovrec.training.optimizer import adamw, autocast

ROWS = ("train-t5-small", "train-t5-small-bf16", "train-all-positions")
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOP/s by card, as the maker states them
SMALL_STEPS = 10  # steps of the compact model for one of T5's
Step = Callable[[], int]


@dataclass
class Bench:
    """What all rows share."""

    dataset: Dataset
    tokenizer: str
    device: torch.device
    batch: int
    steps: int
    repeats: int

    def __post_init__(self) -> None:
        self.training = Training.of(self.dataset)
        self.entities = Entities.of(self.dataset, build_tokens(self.dataset, "random"))

    def rate(self, step: Step, steps: int) -> float:
        """What ``step`` counts, a second, over ``steps`` calls."""
        self._wait()
        begun = time.perf_counter()
        done = sum(step() for _ in range(steps))
        self._wait()
        return done / (time.perf_counter() - begun)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def medians(self, sides: dict[str, Step], steps: int) -> dict[str, float]:
        """The median rate of each side, their repeats in turn, after a call each to warm up."""
        for step in sides.values():
            step()
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.repeats):
            for name, step in sides.items():
                rates[name].append(self.rate(step, steps))
                print(f"  {name:28} {rates[name][-1]:10.2f} a second", flush=True)
        return {name: statistics.median(values) for name, values in rates.items()}


def ours(bench: Bench, model: GenerativeRecommender, seed: int) -> Step:
    """An optimiser step as :func:`oovrec.training.loop.train` makes it; counts targets."""
    config = TrainingConfig()
    module = model.module.to(bench.device).train()
    optimiser = adamw(module, config)
    batches = forever(lambda n: model.epoch(bench.dataset, bench.batch, np.random.default_rng([seed, n])))

    def step() -> int:
        batch = {name: moved(value, bench.device) for name, value in next(batches)().items()}
        with autocast(config, bench.device):
            loss = module(**batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return len(batch["nodes"])

    return step


def stock(bench: Bench, model: GenerativeRecommender, seed: int, *, bf16: bool) -> Step:
    """The usual loop on the same batches as :func:`ours` of the same seed; counts targets."""
    torch.manual_seed(0)
    network: nn.Module = model.hf_model(model.backbone_config).to(bench.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    tokenizer = model.vocabulary.tokenizer
    batches = forever(lambda n: model.samples(bench.training, bench.batch, np.random.default_rng([seed, n])))

    def step() -> int:
        prompts, answers = zip(*texts(model, bench.training, next(batches)), strict=True)
        batch = tokenizer(list(prompts), padding=True, return_tensors="pt").to(bench.device)
        labels = tokenizer(list(answers), padding=True, return_tensors="pt")["input_ids"].to(bench.device)
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=bf16):
            loss = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return len(labels)

    return step


def texts(model: GenerativeRecommender, training: Training, samples: Samples) -> Iterator[tuple[str, str]]:
    """Prompt and answer of each sample, as text."""
    tokens, prompter, histories = model.entities.tokens, model.prompter, training.histories
    assert tokens is not None
    assert tokens.users is not None
    names = {prompter.wording(task, n): (task, n) for task in ("sequential", "direct") for n in range(10)}
    columns = (samples.rows, samples.where, samples.users, samples.wordings)
    for row, where, user, wording in zip(*(column.tolist() for column in columns), strict=True):
        task, template = names[wording]
        past = [tokens.items.text(item) for item in histories.items[histories.indptr[row] : where]]
        name = "<user>" if user < 0 else tokens.users.text(user)
        yield prompter.text(name, past, task=task, template=template), tokens.items.text(histories.items[where])


def forever(epoch: Callable[[int], list[Any]]) -> Iterator[Any]:
    """Batches of one epoch after another."""
    return (batch for number in itertools.count() for batch in epoch(number))


def moved(value: Tensor | list[Tensor], device: torch.device) -> Tensor | list[Tensor]:
    return value.to(device) if isinstance(value, Tensor) else [tensor.to(device) for tensor in value]


def t5_rows(bench: Bench, wanted: list[str]) -> None:
    model = T5(T5.Config(shape="t5-small", vocabulary=bench.tokenizer), bench.entities)
    sides = {"ours": ours(bench, model, 1)}
    for name in wanted:
        sides[name] = stock(bench, model, 1, bf16=name.endswith("bf16"))
    speed = bench.medians(sides, bench.steps)
    settings = about(bench) | {"shape": "t5-small", "stock": "padded batches, whole vocabulary"}
    if bench.device.type == "cuda":
        settings["model FLOP utilisation"] = utilisation(bench, model, speed["ours"])
    for name in wanted:
        precision = "bf16 autocast" if name.endswith("bf16") else "float32"
        put(name, "samples/s", speed["ours"], speed[name], settings | {"stock precision": precision})


def positions_row(bench: Bench, name: str) -> None:
    sides = {form: ours(bench, Llama(Llama.Config(form=form), bench.entities), 1) for form in ("history", "prompt")}
    steps = SMALL_STEPS * bench.steps
    speed = bench.medians(sides, steps)
    settings = about(bench) | {"shape": "compact", "steps": steps, "stock": "form=prompt"}
    put(name, "targets/s", speed["history"], speed["prompt"], settings)


def about(bench: Bench) -> dict[str, Any]:
    precision = "bf16" if autocast(TrainingConfig(), bench.device)._enabled else "float32"
    sizes = {"batch": bench.batch, "steps": bench.steps, "repeats": bench.repeats}
    threads = torch.get_num_threads()
    return {
        "data": bench.dataset.name,
        **sizes,
        "device": bench.device.type,
        "threads": threads,
        "precision": precision,
    }


def utilisation(bench: Bench, model: T5, speed: float) -> float | None:
    """Share of the card's peak: six operations a token and weight of the encoder, and of the decoder's few tokens."""
    peak = next((flops for card, flops in PEAK.items() if card in torch.cuda.get_device_name(bench.device)), None)
    if peak is None:
        return None
    parts = (model.module.encoder, model.module.decoder)
    encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in parts)
    batches = model.samples(bench.training, bench.batch, np.random.default_rng(1))[:20]
    lengths = np.concatenate([model.training_prompts(bench.training, batch).lengths for batch in batches])
    depth = model.vocabulary.items.shape[1]
    return round(speed * 6 * (encoder * float(lengths.mean()) + decoder * depth) / peak, 3)


def put(name: str, unit: str, mine: float, theirs: float, settings: dict[str, Any]) -> None:
    row = rows.row(name, unit, mine, theirs, settings, ratio=mine / theirs)
    print(f"{name}: ours {row['ours']} {unit}, stock {row['stock']}, ratio {row['ratio']} -> {rows.write(row)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--data", default="../shared/data/beauty")
    parser.add_argument("--tokenizer", default="../shared/t5-tokenizer", help="folder or hub name of T5's vocabulary")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=2, help="optimiser steps a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    device = torch.device(options.device)
    bench = Bench(dataset, options.tokenizer, device, options.batch, options.steps, options.repeats)
    if wanted := [name for name in options.rows if name.startswith("train-t5")]:
        t5_rows(bench, wanted)
    if "train-all-positions" in options.rows:
        positions_row(bench, "train-all-positions")


if __name__ == "__main__":
    main()
