"""Training and exact decoding, each against the stock transformers path in the same run.

    python benchmarks/engine.py [--data ml-100k] [--system t5|llama] [--shape compact] [--seconds 20] [--out FILE]

Both sides have the same weights' shape, the same OOV tokens and the same users. Stock training: text
prompts through the tokenizer, one target a prompt, padded batches, fp32, cross-entropy over the whole
vocabulary. Stock decoding: ``generate`` with a beam of 10 under ``prefix_allowed_tokens_fn``, which gives
10 candidates; ours scores the whole catalogue and takes the best 10.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.evaluation.results import hardware, versions
from oovrec.models.base import Entities, system
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.tokens.build import build_tokens
from oovrec.training.optimizer import native_bf16

BEAMS, STOCK_BATCH, STOCK_USERS = 10, 64, 16


def stock_model(model: GenerativeRecommender) -> nn.Module:
    """A fresh stock network of the same shape and vocabulary."""
    torch.manual_seed(0)
    return model.hf_model(model.backbone_config)


def stock_texts(model: GenerativeRecommender, dataset: Dataset, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Prompt and answer as text: a random user, a random training target, a random wording."""
    tokens, training = model.entities.tokens, dataset.histories("train")
    assert tokens is not None
    assert tokens.users is not None
    while True:
        row = int(rng.integers(len(training)))
        items = training[row]
        if len(items) < 2:
            continue
        cut = int(rng.integers(1, len(items)))
        names = [tokens.items.text(item) for item in items[:cut]]
        template = int(rng.integers(10))
        prompt = model.prompter.text(tokens.users.text(row), names, task="sequential", template=template)
        yield prompt, tokens.items.text(items[cut])


def stock_training(model: GenerativeRecommender, dataset: Dataset, seconds: float) -> float:
    """Targets a second of the stock loop."""
    network, tokenizer = stock_model(model).train(), model.vocabulary.tokenizer
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    texts = stock_texts(model, dataset, np.random.default_rng(0))

    def step() -> int:
        pairs = [next(texts) for _ in range(STOCK_BATCH)]
        if model.causal:
            batch = tokenizer([prompt + answer for prompt, answer in pairs], padding=True, return_tensors="pt")
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            inputs["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        else:
            batch = tokenizer([prompt for prompt, _ in pairs], padding=True, return_tensors="pt")
            labels = tokenizer([answer for _, answer in pairs], return_tensors="pt")["input_ids"]
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
        network(**inputs).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return STOCK_BATCH

    return rate(step, seconds)


def our_training(model: GenerativeRecommender, dataset: Dataset, seconds: float) -> float:
    """Targets a second of our batches through our module, in the precision that training chooses."""
    rng = np.random.default_rng(0)
    plan = iter(batch for _ in range(1000) for batch in model.epoch(dataset, STOCK_BATCH, rng))
    model.module.train()
    optimiser = torch.optim.AdamW(model.module.parameters(), lr=1e-3, fused=True)
    native = native_bf16(torch.device("cpu"))

    def step() -> int:
        batch = next(plan)()
        with torch.autocast("cpu", torch.bfloat16) if native else contextlib.nullcontext():
            loss = model.module(**batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        return len(batch["nodes"])

    return rate(step, seconds)


def stock_decoding(model: GenerativeRecommender, dataset: Dataset, seconds: float) -> float:
    """Users a second of ``generate`` under ``prefix_allowed_tokens_fn``."""
    network, histories, vocabulary = stock_model(model).eval(), dataset.histories("test"), model.vocabulary
    end, batches = vocabulary.tokenizer.eos_token_id, histories.batches(STOCK_USERS)
    children: dict[tuple[int, ...], list[int]] = {}
    for codes in vocabulary.items.tolist():
        for depth, token in enumerate([*codes, end]):
            children.setdefault(tuple(codes[:depth]), []).append(token)
    children = {path: sorted(set(tokens)) for path, tokens in children.items()}

    def step() -> int:
        _, batch = next(batches)
        rows = [
            torch.from_numpy(model.prompt(items, int(user))) for items, user in zip(batch, batch.users, strict=True)
        ]
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), vocabulary.pad)
        for row, prompt in zip(ids, rows, strict=True):
            row[longest - len(prompt) :] = prompt  # padding on the left, as generate wants it
        start = longest if model.causal else 1

        def allowed(_: int, sentence: Tensor) -> list[int]:
            return children.get(tuple(sentence[start:].tolist()), [end])

        network.generate(
            input_ids=ids,
            attention_mask=(ids != vocabulary.pad).long(),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=vocabulary.items.shape[1] + 1,
            prefix_allowed_tokens_fn=allowed,
            do_sample=False,
            pad_token_id=vocabulary.pad,
        )
        return len(rows)

    with torch.no_grad():
        return rate(step, seconds)


def our_decoding(model: GenerativeRecommender, dataset: Dataset, seconds: float) -> float:
    """Users a second of the exact top 10."""
    batches = dataset.histories("test").batches(64)

    def step() -> int:
        _, batch = next(batches)
        model.recommend(batch, BEAMS, mask_seen=False)
        return len(batch)

    return rate(step, seconds)


def rate(step: Callable[[], int], seconds: float) -> float:
    """What ``step`` counts, a second; one call to warm up, then calls until ``seconds`` have gone or it runs dry."""
    step()
    done, start = 0, time.perf_counter()
    with contextlib.suppress(StopIteration):
        while time.perf_counter() - start < seconds:
            done += step()
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--system", default="llama", choices=["llama", "t5"])
    parser.add_argument("--shape", default="compact")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    dataset = load_dataset(options.data)
    kind, tokens = system(options.system), build_tokens(dataset, "random")
    model = kind(kind.Config(shape=options.shape), Entities.of(dataset, tokens))
    assert isinstance(model, GenerativeRecommender)
    result = {
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "data": dataset.name,
        "system": options.system,
        "shape": options.shape,
        "precision": "bf16" if native_bf16(torch.device("cpu")) else "fp32",
    }
    print(json.dumps(result, indent=1))
    for name, unit, stock, ours in (
        ("training", "targets/s", stock_training, our_training),
        ("top-10 decoding", "users/s", stock_decoding, our_decoding),
    ):
        theirs, mine = stock(model, dataset, options.seconds), ours(model, dataset, options.seconds)
        result[name] = {
            "unit": unit,
            "stock": round(theirs, 2),
            "ours": round(mine, 2),
            "ratio": round(mine / theirs, 2),
        }
        print(f"{name:16} stock {theirs:10,.1f} {unit}   ours {mine:10,.1f} {unit}   ratio {mine / theirs:6.1f}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
