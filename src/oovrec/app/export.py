"""``oovrec export``: a run's language model as plain transformers loads it, with all that is needed to use it.

``config.json``, ``generation_config.json``, ``model.safetensors``, the tokenizer, ``item_tokens.tsv`` (and
``user_tokens.tsv``: which tokens name whom), ``items.tsv`` (ids and titles) and ``README.md``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from transformers import GenerationConfig, PreTrainedModel

from oovrec.app.folders import check_free
from oovrec.app.learnt import KEY, learnt
from oovrec.app.runs import Run, load_run
from oovrec.data.histories import Histories
from oovrec.decoding.catalogue import FILE, write_catalogue
from oovrec.errors import OovrecError
from oovrec.evaluation.results import BLOCKS, Result, read_result
from oovrec.files import atomic_folder, read_json, write_json, write_text
from oovrec.models.base import own_systems, system
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.progress import quiet_transformers

BEAMS = 10
SHOWN = 3  # items of the example's history
FIGURES = ("hit@10", "ndcg@10", "hit@5", "ndcg@5", "mrr")
LEAK = " (the tokens saw held-out items; figures on these are not comparable with others)"
FILLED = " An item of fewer tokens than others is filled up with `<end>`."
USERS = " `user_tokens.tsv` names the users; one without tokens is `<user>`."
CARD = """\
---
library_name: transformers
tags: [recommendation, oovrec]
---

# {label} on {data}

A `{network}` that continues a history by one of {items:,} items, each named by tokens of the vocabulary,
{depth} at most. Made by `oovrec export`: what was added to the weights in training is merged into them, so plain
transformers computes the same logits.

- Tokens: scheme `{method}`, `tokens_from: {tokens_from}`{leak}.
- `item_tokens.tsv` has a line an item, its id and its tokens; `items.tsv` its id and title.{users}
- A prompt shows at most {history} items, oldest first, in the form of the example.{filled}

## Use

With `transformers` and `oovrec` installed; without the latter, `item_tokens.tsv` says which tokens may follow which.

```python
from transformers import AutoTokenizer, {auto}
from oovrec.decoding.catalogue import Catalogue

folder = "."  # where this file lies
model, tokenizer = {auto}.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
catalogue = Catalogue.load(folder)
prompt = {prompt}
processor = catalogue.processor(prompt.input_ids)  # nothing but items can be written
best = model.generate(**prompt, logits_processor=[processor], num_return_sequences=model.generation_config.num_beams)
print(catalogue.items(best))
```

With the settings of `generation_config.json`, `sequences_scores` are the logarithms of the items' probabilities
among all items. A beam search may miss items; a beam as wide as the catalogue finds all.

## Figures

{figures}
"""


def export(run: Run | str | Path, out: str | Path) -> Path:
    """Write a run's model as a checkpoint of plain transformers.

    Args:
        run: a finished run of a language model, or its folder.
        out: a new or empty folder; it is there whole or not at all.

    Returns:
        The folder.

    Raises:
        OovrecError: the run has no language model, is not finished or broken; the folder is in use.
    """
    run, out = run if isinstance(run, Run) else load_run(run), Path(out)
    check_free(out)
    if not issubclass(system(run.recipe.system), GenerativeRecommender):
        able = sorted(name for name, found in own_systems().items() if issubclass(found, GenerativeRecommender))
        what = f"'{run.recipe.system}' is no language model, so transformers cannot load it"
        raise OovrecError(what, where=run.folder, remedy=f"export a run of {' or '.join(able)}")
    model = run.model
    assert isinstance(model, GenerativeRecommender)
    with quiet_transformers(), atomic_folder(out) as folder:
        plain = model.module.plain()
        plain.generation_config = _generation(model, plain)
        setattr(plain.config, KEY, learnt(run))
        plain.save_pretrained(folder)
        _write_words(model, folder)
        write_text(folder / "README.md", _card(run, model, plain))
    return out


def _generation(model: GenerativeRecommender, plain: PreTrainedModel) -> GenerationConfig:
    """A beam search within the catalogue, scored by log-probabilities among what is legal there."""
    items, depth = model.vocabulary.items.shape
    return GenerationConfig(
        num_beams=min(BEAMS, items),
        max_new_tokens=depth + 1,
        length_penalty=0.0,
        renormalize_logits=True,
        pad_token_id=model.vocabulary.pad,
        bos_token_id=model.vocabulary.tokenizer.bos_token_id,
        eos_token_id=model.vocabulary.tokenizer.eos_token_id,
        decoder_start_token_id=getattr(plain.config, "decoder_start_token_id", None),
    )


def _write_words(model: GenerativeRecommender, folder: Path) -> None:
    """The tokenizer, and which of its tokens name which item or user."""
    words, entities = model.vocabulary, model.entities
    words.tokenizer.save_pretrained(folder)
    about = folder / "tokenizer_config.json"
    inputs = {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "left" if model.causal else "right"}
    if words.tokenizer.pad_token is None:  # else it could put no two prompts into one batch, nor be asked to pad one
        inputs["pad_token"] = words.tokenizer.convert_ids_to_tokens(words.pad)
    write_json(about, {**read_json(about), **inputs})
    entities.save_items(folder)
    write_catalogue(folder / FILE, words.tokenizer, entities.items, words.items)
    if words.users is not None:
        write_catalogue(folder / "user_tokens.tsv", words.tokenizer, entities.users, words.users)


def _example(model: GenerativeRecommender) -> np.ndarray:
    """The prompt of a short history."""
    return model.prompt(np.arange(min(SHOWN, len(model.entities.items))), -1)


def _call(model: GenerativeRecommender) -> str:
    """Python that makes the example's prompt: from text, or from pieces where the text would be cut otherwise."""
    tokenizer, ids = model.vocabulary.tokenizer, _example(model).tolist()
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if tokenizer(text)["input_ids"] == ids:
        return f"tokenizer({json.dumps(text, ensure_ascii=False)}, return_tensors='pt')"
    pieces = json.dumps(tokenizer.convert_ids_to_tokens(ids), ensure_ascii=False)
    return f"tokenizer.pad({{'input_ids': [tokenizer.convert_tokens_to_ids({pieces})]}}, return_tensors='pt')"


def _card(run: Run, model: GenerativeRecommender, plain: PreTrainedModel) -> str:
    metrics, tokens, words = run.folder / "metrics.json", model.entities.tokens, model.vocabulary
    notice = run.recipe.notice
    assert tokens is not None
    alone = Histories.of([[item] for item in range(len(model.entities.items))])
    return CARD.format(
        label=run.label,
        data=run.data.name,
        network=type(plain).__name__,
        items=len(model.entities.items),
        depth=words.items.shape[1],
        method=tokens.method,
        tokens_from=tokens.seen,
        leak=LEAK if tokens.built_from == "all" else "",
        users=USERS if words.users is not None else "",
        history=model.config.history,
        filled=FILLED if words.end in model.prompts(alone).ids else "",
        auto="AutoModelForCausalLM" if model.causal else "AutoModelForSeq2SeqLM",
        prompt=_call(model),
        figures=_figures(read_result(metrics), notice) if metrics.exists() else notice or "Not evaluated.",
    )


def _figures(result: Result, notice: str) -> str:
    """The test figures with their 95% intervals, a row a block, and what else is to be known of them."""
    lines = ["| test targets | " + " | ".join(FIGURES) + " |", "|---" * (1 + len(FIGURES)) + "|"]
    for name in BLOCKS:
        if block := result.blocks.get(name):
            cells = [f"{block[m]:.4f} [{block['ci'][m][0]:.4f}, {block['ci'][m][1]:.4f}]" for m in FIGURES]
            lines.append(" | ".join([f"| {name}, {block['users']:,} users", *cells]) + " |")
    about = "The whole catalogue is ranked; *masked*: without the history's own items. "
    about += f"`tokens_from: {result.tokens_from}`; seed {result.seed}; {result.hardware}."
    return "\n".join([*lines, "", f"{about} {notice}".rstrip()])
