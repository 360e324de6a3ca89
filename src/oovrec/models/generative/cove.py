"""CoVE's form: a token of its own for each item, read beside the item's title (Zhang et al., "CoVE: Compressed
Vocabulary Expansion Makes Better LLM-based Recommender Systems", ACL 2025).

The input is a sentence and then, of each item, its token and its title. What stands before an item's token predicts it,
so that every position of a history is learnt in one pass, and a softmax over all items answers, without a beam.
Differences from the paper: the loss is on items' tokens alone, against all items, and not on titles and instruction
too; the embeddings of items are not compressed by hashing; a compact LLaMA is trained from scratch unless
``backbone`` names a pretrained one (theirs is Llama 3.2 3B); the wording is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from oovrec.data.histories import Histories
from oovrec.errors import OovrecError
from oovrec.language.packed import Packed
from oovrec.language.tokenizer import OWN, SOMETHING, as_words, own_tokenizer
from oovrec.models.entities import Entities
from oovrec.models.generative.llama import Llama, LlamaOptions, batch_of

OWN_PIECES = 4096  # word pieces of the own vocabulary, learnt from the titles: most of their words are one piece


class CoveOptions(LlamaOptions):
    """Options of CoVE; those of other prompts are fixed.

    Attributes:
        history: as in :class:`GenerativeConfig`.
        title: characters of a title that are read.
        opening: the sentence before the items.
    """

    form: Literal["history"] = "history"
    user: Literal[False] = False
    templates: Literal["en"] = "en"
    history: int = Field(20, ge=1)
    title: int = Field(64, ge=0)
    opening: str = "What a user chose, oldest first:\n"


class Cove(Llama):
    """CoVE's prompts on a LLaMA, with one token an item as the paper has it or with any other token scheme."""

    name = "cove"
    Config = CoveOptions
    config: CoveOptions

    def __init__(self, config: CoveOptions, entities: Entities, saved: Path | None = None) -> None:
        titles = [as_words(" ".join(title.split())[: config.title]) for title in entities.titles or []]
        if not any(map(str.strip, entities.titles or [])):
            remedy = "use data with item titles, or the system 'llama', which reads none"
            raise OovrecError("the system 'cove' reads item titles, and this data has none", remedy=remedy)
        self._titles = titles
        super().__init__(config, entities, saved)
        something, encode = self.vocabulary.something, self.vocabulary.tokenizer
        opening = np.array(encode(f"{config.opening}{SOMETHING}")["input_ids"])
        opening = opening[: np.flatnonzero(opening == something)[-1]]  # it may have that word itself
        self._opening = opening if len(opening) else np.array([self.vocabulary.start])  # what predicts the first item
        texts = encode([f"{SOMETHING}: {title}\n" for title in titles])["input_ids"]
        told = [np.array(ids[ids.index(something) + 1 :]) for ids in texts]
        blocks = [np.concatenate(pair) for pair in zip(self.vocabulary.items, told, strict=True)]
        self._blocks = Packed(np.concatenate(blocks), np.array([len(block) for block in blocks]))

    def _tokenizer(self, saved: Path | None) -> PreTrainedTokenizerBase:
        if saved is None and (self.config.backbone or self.config.vocabulary) == OWN:
            return own_tokenizer([self.config.opening, *self._titles], causal=True, size=OWN_PIECES)
        return super()._tokenizer(saved)

    def _begun(self, histories: Histories) -> Packed:
        """The opening, then the items' tokens and titles."""
        told = self._blocks.take(histories.items)
        ends = np.concatenate([[0], np.cumsum(told.lengths)])[histories.indptr]
        size = len(self._opening)
        ids = np.insert(told.ids, np.repeat(ends[:-1], size), np.tile(self._opening, len(histories)))
        return Packed(ids, size + np.diff(ends))

    def _windows(self, batch: Histories, scale: float) -> dict[str, Tensor | list[Tensor]]:
        """Each window up to its newest item's token: what stands before an item's token predicts it."""
        past = self._begun(batch.cut(batch.indptr[:-1], batch.lengths - 1, batch.users))
        order = np.argsort(past.lengths, kind="stable")
        batch, past = batch.take(order), past.take(order)
        newest = self.vocabulary.items[batch.newest(), :-1]
        groups, begins = self._continued(past, newest)
        sizes = self._blocks.lengths[batch.items]
        before = np.cumsum(sizes) - sizes
        begin = begins + len(self._opening) - before[batch.indptr[:-1]]
        nodes = self._trie.nodes(torch.from_numpy(batch.items))
        return batch_of(groups, begin[batch.rows] + before - 1, {"nodes": nodes}, scale)
