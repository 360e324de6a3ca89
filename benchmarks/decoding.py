"""Decoding: rows ``top10-exact-vs-beam`` and ``step-vs-catalogue`` of the speed table.

    python benchmarks/decoding.py [--rows NAME ...] [--data DIR] [--vocabulary own|DIR] [--device cpu|cuda] [--run DIR]

``top10-exact-vs-beam`` (of a run ``top10-exact-vs-beam-llama``, ``-t5`` or ``-t5-small``): users a second. Ours: the
exact best ten of the whole catalogue, under bf16 where the hardware has it, item probabilities in float32. Stock:
transformers' ``generate``, a beam of ten under ``prefix_allowed_tokens_fn``, in the precision and the batches that suit
it best. Same weights, same users; the model is a fitted run's, or trained a little so that it has preferences (the
flatter they are, the more must be expanded). On the same users, in float32, the stock's ten are scored by our exact
scores: at no rank may they be better than ours. ``prompts_read`` are users a second of ours whose prompts are read and
no more, which no decoder can exceed.

``step-vs-catalogue``: milliseconds a step of a beam of ten on random ids of four codes of 256, the trie mapped from
its file. ``ours`` is at 10^6 items, ``stock`` at 10^4, ``ratio`` the former over the latter: 1 is flat.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rows
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.data.load import load_dataset
from oovrec.decoding.beam import beam_search
from oovrec.decoding.trie import Trie
from oovrec.errors import OovrecError
from oovrec.models.base import load
from oovrec.models.entities import Entities
from oovrec.models.generative.augmentation import AugmentedEmbedding
from oovrec.models.generative.base import SEARCHED
from oovrec.models.generative.llama import Llama
from oovrec.models.generative.t5 import T5, T5Network, T5Stepper
from oovrec.tokens.build import build_tokens
from oovrec.training.optimizer import native_bf16
from oovrec.training.recording import moved

BEAMS = 10


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        rows.wait()
        start = time.perf_counter()
        run()
        rows.wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bf16(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=native_bf16(device))


def trained(options: argparse.Namespace, dataset: Dataset) -> T5:
    """A model after a short training, so that it has preferences, if weak ones."""
    choice = {"clusters": options.clusters} if options.tokens in ("random", "meta") else {}
    tokens = build_tokens(dataset, options.tokens, options=choice)
    torch.manual_seed(0)
    model = T5(T5.Config(shape=options.shape, vocabulary=options.vocabulary), Entities.of(dataset, tokens))
    device, rng = options.device, np.random.default_rng(0)
    model.module.to(device)
    optimiser = torch.optim.AdamW(model.module.parameters(), lr=1e-3, fused=True)
    plan = itertools.chain.from_iterable(model.epoch(dataset, 64, rng) for _ in itertools.count())
    model.module.train()
    for step, batch in enumerate(itertools.islice(plan, options.steps), start=1):
        with bf16(device):
            loss = model.module(**{name: moved(value, device) for name, value in batch().items()})
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 0:
            print(f"trained {step} of {options.steps} steps, loss {loss.item():.3f}", flush=True)
    return model


def fitted(folder: Path, device: torch.device) -> T5 | Llama:
    """The model of a run."""
    model = load(folder)
    if not isinstance(model, T5 | Llama):
        raise OovrecError("is no run of t5 or llama", where=folder, remedy="give one, or leave --run out")
    model.module.to(device)
    return model


class Stock:
    """``generate`` under ``prefix_allowed_tokens_fn``, which looks a dictionary of prefixes up."""

    def __init__(self, model: T5 | Llama) -> None:
        self.model, self.network = model, model.module.plain().eval().to(model.device)
        self.end = model.vocabulary.tokenizer.eos_token_id
        children: dict[tuple[int, ...], set[int]] = {}
        for codes in model.vocabulary.items.tolist():
            for depth, token in enumerate([*codes, self.end]):
                children.setdefault(tuple(codes[:depth]), set()).add(token)
        self.children = {path: sorted(tokens) for path, tokens in children.items()}
        self.item = {tuple(codes): item for item, codes in enumerate(model.vocabulary.items.tolist())}

    def allowed(self, _: int, sentence: Tensor) -> list[int]:
        return self.children.get(tuple(sentence[self.prompt :].tolist()), [self.end])

    def recommend(self, histories: Histories, size: int) -> np.ndarray:
        """``[n, 10]`` items, ``size`` users at a time; -1 for a beam that names none."""
        parts = [self._batch(batch) for _, batch in histories.batches(size)]
        return np.concatenate(parts)

    def _batch(self, histories: Histories) -> np.ndarray:
        vocabulary = self.model.vocabulary
        prompts = self.model.prompts(histories)
        ids, real = torch.from_numpy(prompts.padded(vocabulary.pad)), torch.from_numpy(prompts.lengths)
        if self.model.causal:  # generation goes on at the right end, so that the filling stands on the left
            ids = torch.stack([row.roll(ids.shape[1] - int(length)) for row, length in zip(ids, real, strict=True)])
        self.prompt = ids.shape[1] if self.model.causal else 1
        place = torch.arange(ids.shape[1])
        left = ids.shape[1] - real[:, None]
        depth = vocabulary.items.shape[1]
        out = self.network.generate(
            input_ids=ids.to(self.model.device),
            attention_mask=(place >= left if self.model.causal else place < real[:, None]).long().to(self.model.device),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=depth + 1,
            prefix_allowed_tokens_fn=self.allowed,
            do_sample=False,
            pad_token_id=vocabulary.pad,
        )
        named = [self.item.get(tuple(row), -1) for row in out[:, self.prompt : self.prompt + depth].tolist()]
        return np.array(named).reshape(len(histories), BEAMS)


def top10(options: argparse.Namespace) -> None:
    dataset, device = load_dataset(options.data), options.device
    model = fitted(options.run, device) if options.run else trained(options, dataset)
    model.module.eval()
    test = dataset.histories("test")
    users = test.take(np.random.default_rng(0).permutation(len(test))[: options.users])
    few = users.take(slice(0, options.stock_users))
    alike = users.take(np.argsort(np.minimum(users.lengths, model.config.history), kind="stable"))
    stock = Stock(model)

    def ours() -> None:
        with bf16(device):
            model.recommend(users, BEAMS, mask_seen=False)

    def read() -> None:
        with bf16(device):
            for _, batch in alike.batches(SEARCHED[device.type]):
                model.stepper(model.prompts(batch))

    def theirs(size: int) -> float:
        return len(few) / seconds(lambda: stock.recommend(few, size), options.repeats)

    with torch.no_grad():
        checked = check(model, stock, few, options.stock_batches[-1])
        print(checked, flush=True)
        mine = len(users) / seconds(ours, options.repeats)
        prompts = len(users) / seconds(read, options.repeats)
        rates = {f"float32, {size} users": theirs(size) for size in options.stock_batches}
        with bf16(device):
            rates |= {f"bf16 autocast, {size} users": theirs(size) for size in options.stock_batches}
    best = max(rates, key=lambda name: rates[name])
    brief = {
        "tokens": options.tokens,
        "clusters": options.clusters,
        "training": f"{options.steps} steps of 64, rate 1e-3",
    }
    tokens = model.entities.tokens
    about = {
        "data": dataset.name,
        "shape": model.config.shape,
        "vocabulary": len(model.vocabulary),
        **({"tokens": tokens and tokens.method, "training": "a whole run"} if options.run else brief),
        "users": len(users),
        "stock_users": len(few),
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "ours": "bf16 autocast" if native_bf16(device) else "float32",
        "stock": best,
        "prompts_read": round(prompts, 3),
        "stock_rates": {name: round(rate, 3) for name, rate in rates.items()},
        **checked,
    }
    shape = model.config.shape.removeprefix(f"{model.name}-")
    fitted_name = f"-{model.name}" + ("" if shape == "compact" else f"-{shape}")
    name = "top10-exact-vs-beam" + (fitted_name if options.run else "")
    publish(rows.row(name, "users/s", mine, rates[best], about, ratio=mine / rates[best]))


def check(model: T5 | Llama, stock: Stock, users: Histories, size: int) -> dict[str, float]:
    """In float32: at how many ranks the stock's items are better than ours.

    Also what share of our items the stock's beam misses, and ours under bf16, which moves scores a little.
    """
    found, ours = stock.recommend(users, size), model.recommend(users, BEAMS, mask_seen=False)
    with bf16(model.device):
        coarse = model.recommend(users, BEAMS, mask_seen=False)
    scores = model.scores(users).cpu().numpy()
    theirs = np.where(found < 0, -np.inf, np.take_along_axis(scores, found.clip(0), axis=1))
    theirs = -np.sort(-theirs, axis=1)

    def missed(other: np.ndarray) -> float:
        pairs = zip(ours.items.tolist(), other.tolist(), strict=True)
        return round(sum(len(set(best) - set(row)) for best, row in pairs) / ours.items.size, 4)

    moved = np.abs(coarse.scores - np.take_along_axis(scores, coarse.items, axis=1)).max()
    return {
        "ranks_where_stock_is_better": int((theirs > ours.scores + 1e-3).sum()),
        "missed_by_stock": missed(found),
        "missed_by_bf16": missed(coarse.items),
        "log_probability_moved_by_bf16": round(float(moved), 4),
    }


def step_vs_catalogue(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    depth, alphabet, batch, device = 4, 256, 16, options.device
    config = T5Config(vocab_size=alphabet * depth + 2, **T5.shapes[options.shape])
    network = T5ForConditionalGeneration(config).to(device).eval()
    embedding = AugmentedEmbedding(network.get_input_embeddings().weight.data, None)
    prompts = torch.randint(2, config.vocab_size, (batch, 40), device=device)
    steps: dict[int, float] = {}
    masks: dict[int, float] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(torch.no_grad())
        tries = {n: trie.to(device) for n, trie in opened_tries(options.sizes, alphabet, depth, folder)}
        module = T5Network(network, embedding, tries[options.sizes[0]], "restricted").to(device).eval()
        lengths = torch.full_like(prompts[:, 0], prompts.shape[1])
        stepper = T5Stepper(module, None, lengths, [prompts])
        runs: dict[int, list[float]] = {size: [] for size in tries}
        for _, (size, trie) in itertools.product(range(options.repeats), tries.items()):  # sizes take turns
            runs[size].append(seconds(lambda trie=trie: beam_search(stepper, trie, BEAMS), 5) / depth)
        for size, trie in tries.items():
            nodes = torch.randint(len(trie.levels[-2].symbol), (batch, BEAMS), device=device)
            steps[size] = statistics.median(runs[size])
            masks[size] = seconds(lambda trie=trie, nodes=nodes: trie.levels[-1].mask(nodes), 100)
    small, large = steps[min(steps)], steps[10**6 if 10**6 in steps else max(steps)]
    about = {
        "ids": f"{depth} codes of {alphabet}",
        "shape": options.shape,
        "batch": batch,
        "beams": BEAMS,
        "device": device.type,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "step_ms": {str(size): round(value * 1e3, 3) for size, value in steps.items()},
        "mask_share": {str(size): round(masks[size] / steps[size], 5) for size in steps},
    }
    publish(rows.row("step-vs-catalogue", "ms/step", large * 1e3, small * 1e3, about, ratio=large / small))


def opened_tries(sizes: list[int], alphabet: int, depth: int, folder: Path) -> Iterator[tuple[int, Trie]]:
    """Tries of random ids, saved and mapped."""
    rng = np.random.default_rng(0)
    for size in sizes:
        numbers = np.unique(rng.integers(0, alphabet**depth, size + size // 50))
        numbers = rng.permutation(numbers)[:size]
        codes = [2 + alphabet * place + numbers // alphabet**place % alphabet for place in range(depth)]
        Trie.of(np.stack(codes, axis=1)).save(folder / f"{size}.safetensors")
        yield size, Trie.open(folder / f"{size}.safetensors")


def publish(row: dict[str, object]) -> None:
    print(f"{row['name']}: ours {row['ours']} {row['unit']}, stock {row['stock']}, ratio {row['ratio']}")
    print(row["settings"])
    print(rows.write(row))


BENCHES = {"top10-exact-vs-beam": top10, "step-vs-catalogue": step_vs_catalogue}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(BENCHES), choices=list(BENCHES))
    parser.add_argument("--data", default="beauty")
    parser.add_argument("--run", type=Path, help="a fitted t5's or llama's folder, in place of a short training")
    parser.add_argument("--vocabulary", default="own")
    parser.add_argument("--tokens", default="random")
    parser.add_argument("--clusters", type=int, default=110)
    parser.add_argument("--shape", default="t5-small")
    parser.add_argument("--steps", type=int, default=60, help="of training")
    parser.add_argument("--users", type=int, default=256)
    parser.add_argument("--stock-users", type=int, default=64)
    parser.add_argument("--stock-batches", type=int, nargs="+", default=[16], help="sizes to try")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for name in options.rows:
        BENCHES[name](options)


if __name__ == "__main__":
    main()
