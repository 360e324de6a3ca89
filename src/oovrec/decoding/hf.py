"""The same constraint inside Hugging Face's ``generate``."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from oovrec.decoding.trie import Trie


class CatalogueLogitsProcessor(LogitsProcessor):
    """Lets ``generate`` write only token tuples of the catalogue, then the end token.

    Unlike ``prefix_allowed_tokens_fn`` it looks all beams up at once, in flat arrays on the device.

    Args:
        trie: the catalogue.
        end: id of the end-of-sequence token, the only legal one after a whole tuple.
        prompt: how many tokens precede the item in the decoder's input (1 for T5's start token).
    """

    def __init__(self, trie: Trie, end: int, prompt: int = 1) -> None:
        self.trie, self.end, self.prompt = trie, end, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``[beams, vocabulary]`` with every illegal token at -inf."""
        masked = torch.full_like(scores, -torch.inf)
        depth = input_ids.shape[1] - self.prompt
        if depth >= self.trie.depth:
            masked[:, self.end] = scores[:, self.end]
            return masked
        level = self.trie.levels[depth]
        legal = level.mask(self._nodes(input_ids[:, self.prompt :]))  # [beams, alphabet]
        masked[:, level.tokens] = scores[:, level.tokens].masked_fill(~legal, -torch.inf)
        return masked

    def _nodes(self, path: Tensor) -> Tensor:
        node = torch.zeros(len(path), dtype=torch.long, device=path.device)
        for level, token in zip(self.trie.levels, path.T, strict=False):
            symbol = torch.searchsorted(level.tokens, token.int().contiguous())
            child = level.children(node)  # [beams, widest]
            node = torch.where(level.symbols(child) == symbol[:, None], child, -1).amax(dim=1)
        return node
