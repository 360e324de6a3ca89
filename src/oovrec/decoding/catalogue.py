"""A catalogue as an exported checkpoint carries it: which items there are, by the tokens that name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from oovrec.decoding.hf import CatalogueLogitsProcessor
from oovrec.decoding.trie import Trie
from oovrec.errors import OovrecError
from oovrec.files import read_json, read_text, write_text
from oovrec.language.tokenizer import pretrained_tokenizer
from oovrec.tokens.rules import END

FILE = "item_tokens.tsv"
REMEDY = "give a folder made by 'oovrec export'"


@dataclass(frozen=True)
class Catalogue:
    """Items for ``generate`` of a checkpoint that ``oovrec export`` made; nothing but its folder is needed.

    Attributes:
        ids: ``[items]`` ids.
        codes: ``[items, depth]`` int64 token ids; shorter names are filled up with ``<end>``.
        end: id of the end-of-sequence token.
        causal: the prompt and the answer are one sequence (LLaMA), not two (T5).
    """

    ids: list[str]
    codes: np.ndarray
    end: int
    causal: bool

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an exported folder.

        Raises:
            OovrecError: a file is missing or broken, or a token of the items is none of the tokenizer's.
        """
        path = Path(folder) / FILE
        rows = [line.split("\t") for line in read_text(path, remedy=REMEDY).splitlines()]
        tokenizer, config = pretrained_tokenizer(folder), read_json(Path(folder) / "config.json", remedy=REMEDY)
        number = tokenizer.get_vocab()
        depth = max(map(len, rows)) - 1
        try:
            codes = [[number[word] for word in [*words, *[END] * (depth - len(words))]] for _, *words in rows]
        except KeyError as error:
            what = f"has the token {error.args[0]}, which is none of the tokenizer's"
            raise OovrecError(what, where=path, remedy=REMEDY) from error
        causal = not config.get("is_encoder_decoder")
        return cls([row[0] for row in rows], np.array(codes, np.int64), tokenizer.eos_token_id, causal)

    def processor(self, prompt: Tensor) -> CatalogueLogitsProcessor:
        """What keeps ``generate`` within the catalogue.

        Args:
            prompt: ``[batch, length]`` the input ids that ``generate`` is given, filled up on the left for LLaMA.
        """
        return CatalogueLogitsProcessor(Trie.of(self.codes), self.end, prompt.shape[1] if self.causal else 1)

    def items(self, sequences: Tensor) -> list[str]:
        """The item ids of what ``generate`` wrote under :meth:`processor`; some twice, if it had more beams than items.

        Args:
            sequences: ``[n, length]``, each a whole item and the end token, or a whole item.

        Raises:
            OovrecError: one is none: it was broken off, or there were far more beams than items.
        """
        names = dict(zip(map(tuple, self.codes.tolist()), self.ids, strict=True))
        ended = bool((sequences[:, -1] == self.end).all())
        written = sequences[:, : sequences.shape[1] - ended][:, -self.codes.shape[1] :]
        rows = [tuple(row) for row in written.tolist()]
        if (stray := next((number for number, row in enumerate(rows) if row not in names), None)) is not None:
            what = f"sequence {stray} is no item of the {len(names):,}"
            remedy = "give generate the processor, no more beams than items, and max_new_tokens for a whole item"
            raise OovrecError(what, where="sequences", remedy=remedy)
        return [names[row] for row in rows]


def write_catalogue(path: Path, tokenizer: PreTrainedTokenizerBase, ids: list[str], codes: np.ndarray) -> None:
    """Write a line ``id<TAB>token<TAB>token…`` an item or user, the tokens as the tokenizer has them.

    Args:
        codes: ``[n, depth]`` their token ids; ``<end>`` at the end is left out.
    """
    rows = (tokenizer.convert_ids_to_tokens(row) for row in codes.tolist())
    lines = ["\t".join([one, *(word for word in row if word != END)]) for one, row in zip(ids, rows, strict=True)]
    write_text(path, "\n".join(lines) + "\n")
