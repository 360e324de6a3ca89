"""Training against the stock transformers loop, on the same samples: rows ``train-*`` of the speed table.

    python benchmarks/training.py [--rows NAME ...] [--data DIR] [--tokenizer DIR] [--device cpu|cuda] [--batches N ...]

``train-t5-small`` and ``train-t5-small-bf16``: T5 of t5-small's shape with the genuine vocabulary and random item
tokens, AdamW, dropout. Ours: packed batches, in the precision that training chooses, compiled as there.
Stock: the same users, targets and wordings, in random order, as text through the tokenizer, batches padded to their
longest, cross-entropy over the whole vocabulary; in float32 with the first of the ``--batches``, and under bf16
autocast with the one of them that suits it best, as ours has. ``train-all-positions``: the compact LLaMA learning
every position of a history in one pass, against the same model learning one target a prompt; a rate of targets.
Repeats alternate between the sides; medians are kept. With ``--profile`` torch's profiler also says where our time
goes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from torch import Tensor, nn

from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.results import hardware
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.samples import Samples, Training
from oovrec.models.generative.t5 import T5
from oovrec.tokens.build import build_tokens
from oovrec.training.compiling import compiled
from oovrec.training.config import TrainingConfig
from oovrec.training.loop import Batch
from oovrec.training.optimizer import adamw, autocast
from oovrec.training.recording import SIGHTINGS, Tensors, moved, replayed

ROWS = ("train-t5-small", "train-t5-small-bf16", "train-all-positions")
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOP/s by card, as the maker states them
WARM = 4  # steps of the stock loop before any is timed
SMALL_STEPS = 4  # steps of the compact model for one of T5's
Step = Callable[[], int]


@dataclass
class Bench:
    """What all rows share."""

    dataset: Dataset
    tokenizer: str
    device: torch.device
    batches: list[int]
    steps: int
    repeats: int
    profile: Path | None

    def __post_init__(self) -> None:
        self.training = Training.of(self.dataset)
        self.entities = Entities.of(self.dataset, build_tokens(self.dataset, "random"))

    def rate(self, step: Step, steps: int) -> float:
        """What ``step`` counts, a second, over ``steps`` calls."""
        rows.wait()
        begun = time.perf_counter()
        done = sum(step() for _ in range(steps))
        rows.wait()
        return done / (time.perf_counter() - begun)

    def medians(self, sides: dict[str, Step], steps: int) -> dict[str, float]:
        """The median rate of each side, their repeats in turn, after some calls each to warm up."""
        for name, step in sides.items():
            recorded = self.device.type == "cuda" and not name.startswith("stock")
            self.rate(step, SIGHTINGS * self.steps if recorded else WARM)
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(self.repeats):
            for name, step in sides.items():
                rates[name].append(self.rate(step, steps))
                print(f"  {name:28} {rates[name][-1]:10.2f} a second", flush=True)
        return {name: float(f"{statistics.median(values):.4g}") for name, values in rates.items()}


def ours(bench: Bench, model: GenerativeRecommender, seed: int, size: int) -> Step:
    """An optimiser step as :func:`oovrec.training.loop.train` makes it, on ``size`` targets; counts them."""
    config = TrainingConfig()
    module = model.module.to(bench.device).train()
    optimiser = adamw(module, config)
    network = compiled(module, config, bench.device)
    epoch = model.epoch(bench.dataset, size, np.random.default_rng(seed))
    batches = itertools.cycle(spread(epoch, bench.steps))

    def eager(batch: Tensors) -> Tensor:
        with autocast(config, bench.device):
            loss: Tensor = network(**{name: moved(value, bench.device) for name, value in batch.items()})
        loss.backward()
        return loss.detach()

    gradients = replayed(eager, module, bench.device) if network is module else eager

    def step() -> int:
        batch = next(batches)()
        gradients(batch)
        optimiser.step()
        optimiser.zero_grad()
        return len(batch["nodes"])

    return step


def stock(bench: Bench, model: GenerativeRecommender, seed: int, size: int, *, bf16: bool) -> Step:
    """The usual loop on the samples of the same epoch as :func:`ours` of that seed; counts targets."""
    torch.manual_seed(0)
    network: nn.Module = model.kinds[0](model.backbone_config).to(bench.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    tokenizer = model.vocabulary.tokenizer
    rng = np.random.default_rng(seed)
    (every,) = model.samples(bench.training, 10**9, rng)
    batches = itertools.cycle(every.take(rng.permutation(len(every))).cut(size))  # the usual loop mixes lengths

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


def spread(epoch: list[Batch], count: int) -> list[Batch]:
    """``count`` batches of short and of long prompts, so that they stand for the whole epoch."""
    sizes = [sum(ids.shape[1] * len(ids) for ids in parts(batch())) for batch in epoch]
    places = (np.arange(count) + 0.5) * len(epoch) / count
    return [epoch[place] for place in np.argsort(sizes, kind="stable")[places.astype(int)]]


def parts(batch: Mapping[str, Any]) -> list[Tensor]:
    """The groups of ids in a batch."""
    groups: list[Tensor] = batch["prompts"] if "prompts" in batch else batch["groups"]
    return groups


def t5_rows(bench: Bench, wanted: list[str]) -> None:
    model = T5(T5.Config(shape="t5-small", vocabulary=bench.tokenizer), bench.entities)
    sides = {f"ours {size}": ours(bench, model, 1, size) for size in bench.batches}
    if "train-t5-small" in wanted:
        sides[f"stock {bench.batches[0]}"] = stock(bench, model, 1, bench.batches[0], bf16=False)
    if "train-t5-small-bf16" in wanted:
        sides |= {f"stock bf16 {size}": stock(bench, model, 1, size, bf16=True) for size in bench.batches}
    speed = bench.medians(sides, bench.steps)
    best = best_of(speed, "ours ")
    settings = about(bench) | {"shape": "t5-small", "stock": "padded batches, whole vocabulary", "ours": best}
    if bench.device.type == "cuda":
        settings["model FLOP utilisation"] = utilisation(bench, model, speed[best])
    if bench.profile:
        write_profile(bench, sides[best])
    for name in wanted:
        other = best_of(speed, "stock bf16 " if name.endswith("bf16") else "stock ")
        put(name, "samples/s", speed[best], speed[other], settings | {"stock side": other, "rates": speed})


def best_of(speed: dict[str, float], prefix: str) -> str:
    """The fastest of the sides called ``prefix`` and a batch size."""
    return max((name for name in speed if name.removeprefix(prefix).isdigit()), key=lambda name: speed[name])


def write_profile(bench: Bench, step: Step) -> None:
    """Write which operations our steps spend the device's time on."""
    assert bench.profile
    on_card = bench.device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if on_card else [])]
    with torch.profiler.profile(activities=kinds) as profile:
        bench.rate(step, bench.steps)
    order = "self_cuda_time_total" if on_card else "self_cpu_time_total"
    table = profile.key_averages().table(sort_by=order, row_limit=30, max_name_column_width=80)
    bench.profile.write_text(f"{hardware()}, {bench.steps} steps\n{table}\n", encoding="utf-8")


def positions_row(bench: Bench, name: str) -> None:
    sides = {
        f"{form} {size}": ours(bench, Llama(Llama.Config(form=form), bench.entities), 1, size)
        for form in ("history", "prompt")
        for size in bench.batches
    }
    steps = SMALL_STEPS * bench.steps
    speed = bench.medians(sides, steps)
    mine, theirs = (best_of(speed, f"{form} ") for form in ("history", "prompt"))
    settings = about(bench) | {"shape": "compact", "steps": steps, "ours": mine, "stock": theirs, "rates": speed}
    put(name, "targets/s", speed[mine], speed[theirs], settings)


def about(bench: Bench) -> dict[str, Any]:
    precision = "bf16" if autocast(TrainingConfig(), bench.device)._enabled else "float32"
    sizes = {"batches": bench.batches, "steps": bench.steps, "repeats": bench.repeats}
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
    batches = model.samples(bench.training, bench.batches[0], np.random.default_rng(1))[:20]
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
    parser.add_argument("--batches", type=int, nargs="+", default=[128], help="sizes to try; the first is stock's")
    parser.add_argument(
        "--steps", type=int, default=8, help="optimiser steps a repeat, and batches that ours takes turns in"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", type=Path, help="write here where our steps spend their time")
    options = parser.parse_args()
    dataset, device = load_dataset(options.data), torch.device(options.device)
    shared = (options.batches, options.steps, options.repeats, options.profile)
    bench = Bench(dataset, options.tokenizer, device, *shared)
    if wanted := [name for name in options.rows if name.startswith("train-t5")]:
        t5_rows(bench, wanted)
    if "train-all-positions" in options.rows:
        positions_row(bench, "train-all-positions")


if __name__ == "__main__":
    main()
