"""The logits processor inside ``generate`` against ``prefix_allowed_tokens_fn``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, T5Config, T5ForConditionalGeneration

from oovrec.decoding.hf import CatalogueLogitsProcessor
from oovrec.decoding.trie import Trie

PAD, END, FIRST, SIZE, BEAMS = 0, 1, 2, 12, 6


def catalogue(depth: int) -> np.ndarray:
    """30 of the possible tuples, a token at several depths."""
    rng = np.random.default_rng(depth)
    numbers = rng.choice((SIZE - FIRST) ** depth, min(30, (SIZE - FIRST) ** depth // 2 + 4), replace=False)
    return np.stack([FIRST + numbers // (SIZE - FIRST) ** place % (SIZE - FIRST) for place in range(depth)], axis=1)


def network(causal: bool) -> PreTrainedModel:
    torch.manual_seed(0)
    ends = {"vocab_size": SIZE, "pad_token_id": PAD, "eos_token_id": END}
    if causal:
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        made: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**sizes, **ends, bos_token_id=None))
    else:
        sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8}
        made = T5ForConditionalGeneration(T5Config(**sizes, **ends, decoder_start_token_id=PAD))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.mark.parametrize("causal", [True, False], ids=["llama", "t5"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_generate_gives_what_a_prefix_function_gives(causal: bool, depth: int) -> None:
    codes, model = catalogue(depth), network(causal)
    prompt = torch.tensor([[3, 5, 7, 4], [9, 2, 2, 6]])
    begin = prompt.shape[1] if causal else 1
    follow: dict[tuple[int, ...], list[int]] = {}
    for row in codes.tolist():
        for place, token in enumerate([*row, END]):
            follow.setdefault(tuple(row[:place]), []).append(token)

    def allowed(_: int, sentence: Tensor) -> list[int]:
        return follow.get(tuple(sentence[begin:].tolist()), [END])

    def generate(**constraint: object) -> tuple[Tensor, Tensor]:
        out = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=depth + 1,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **constraint,
        )
        return out.sequences, out.sequences_scores

    sequences, scores = generate(prefix_allowed_tokens_fn=allowed)
    ours, own_scores = generate(logits_processor=[CatalogueLogitsProcessor(Trie.of(codes), END, begin)])
    torch.testing.assert_close(ours, sequences)
    torch.testing.assert_close(own_scores, scores)
    items = {tuple(row) for row in codes.tolist()}
    assert all(tuple(row) in items for row in ours[:, begin : begin + depth].tolist())
