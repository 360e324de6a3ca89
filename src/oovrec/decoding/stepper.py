"""What a language model must offer so that the decoders here can score items with it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Stepper(Protocol):
    """A language model that has read a batch of prompts and can be asked what follows.

    Notation: B prompts, W continuations a prompt, t tokens a continuation, d hidden size.
    """

    def root(self) -> Tensor:
        """``[B, d]`` hidden state that predicts the first token of an item."""

    def extend(self, paths: Tensor) -> Tensor:
        """Hidden states that predict the token after each path, every path on its own.

        Args:
            paths: ``[B, W, t]`` token ids; ``[1, W, t]`` means the same paths for every prompt.

        Returns:
            ``[B, W, d]``.
        """

    def logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """``[..., n]`` float32 logits of the ``n`` token ids ``tokens`` for hidden states ``[..., d]``."""
