"""A language model's tokenizer, extended by one new token for each OOV token of users and items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5TokenizerFast

from oovrec.errors import OovrecError
from oovrec.tokens.table import Tokens, TokenTable

PAD, END, BEGIN, UNKNOWN = "<pad>", "</s>", "<s>", "<unk>"
SOMEONE, SOMETHING = "<user>", "<item>"  # stand for a user or an item that has no tokens of its own
OWN = "own"
OWN_SIZE = 512  # word pieces of the own vocabulary: 256 bytes and the templates' words


@dataclass(frozen=True)
class Vocabulary:
    """The extended tokenizer and where the OOV tokens are in it.

    Attributes:
        tokenizer: encodes text; each OOV token is exactly one id.
        items: ``[items, depth]`` int64 ids of each item's tokens.
        users: ``[users, depth]`` int64, or None where the scheme names items only.
        someone: the id that stands for a user without tokens.
        something: the id that stands for an item in a template being compiled.
        centroids: ``[vocabulary, d]`` float32, what each token stands for; None if the scheme has none.
    """

    tokenizer: PreTrainedTokenizerBase
    items: np.ndarray
    users: np.ndarray | None
    someone: int
    something: int
    centroids: np.ndarray | None

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def start(self) -> int:
        """The id a decoder-only model begins with."""
        begin = self.tokenizer.bos_token_id
        return int(begin if begin is not None else self.tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """The id that fills a batch up."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    def user_tokens(self, user: int) -> np.ndarray:
        """The ids that name a user: its own tokens, or ``<user>`` for an unknown one (-1)."""
        if self.users is None or user < 0:
            return np.array([self.someone])
        return self.users[user]


def extend(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> Vocabulary:
    """Add the tokens of ``tokens`` to a copy-free ``tokenizer`` (it is changed) and index them.

    Raises:
        OovrecError: a token is already spelled so in the tokenizer's own vocabulary, or named twice.
    """
    tables = [table for table in (tokens.items, tokens.users) if table is not None]
    words = [SOMEONE, SOMETHING, *(word for table in tables for word in table.vocabulary)]
    if len(set(words)) < len(words):
        twice = next(word for index, word in enumerate(words) if word in words[:index])
        raise OovrecError(f"the token {twice} stands for a user and for an item", remedy="give them separate names")
    # Not normalised and without stripping: the text around a token is then encoded the same wherever it stands.
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in words])
    number = dict(zip(words, tokenizer.convert_tokens_to_ids(words), strict=True))
    index = [np.array([number[word] for word in table.vocabulary], np.int64) for table in tables]
    ids = [rows[table.codes] for rows, table in zip(index, tables, strict=True)]
    return Vocabulary(
        tokenizer,
        items=ids[0],
        users=ids[1] if len(ids) > 1 else None,
        someone=number[SOMEONE],
        something=number[SOMETHING],
        centroids=_centroids(len(tokenizer), tables, index),
    )


def _centroids(size: int, tables: list[TokenTable], index: list[np.ndarray]) -> np.ndarray | None:
    known = [(rows, table.centroids) for rows, table in zip(index, tables, strict=True) if table.centroids is not None]
    if not known:
        return None
    table = np.zeros((size, known[0][1].shape[1]), np.float32)
    for rows, centroids in known:
        table[rows] = centroids
    return table


def own_tokenizer(texts: Iterable[str], *, causal: bool) -> PreTrainedTokenizerFast:
    """A small byte-level BPE vocabulary learnt from ``texts``: any text can be encoded, none is unknown.

    Args:
        causal: begin each text with ``<s>`` (decoder-only models) rather than end it with ``</s>`` (T5).
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [PAD, END, BEGIN, UNKNOWN]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=OWN_SIZE, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    form = f"{BEGIN} $A" if causal else f"$A {END}"
    pairs = [(word, specials.index(word)) for word in (BEGIN, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=pairs)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, bos_token=BEGIN, unk_token=UNKNOWN
    )


def pretrained_tokenizer(name: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or of a model on the hub.

    A folder that holds nothing but ``spiece.model``, as the first T5 checkpoints were published, is T5's.

    Raises:
        OovrecError: there is none of that name.
    """
    bare = (Path(name) / "spiece.model").is_file() and not (Path(name) / "tokenizer_config.json").exists()
    try:
        return (T5TokenizerFast if bare else AutoTokenizer).from_pretrained(str(name))
    except (OSError, ValueError, KeyError) as error:
        remedy = "give a folder with a tokenizer, or a hub name while online"
        raise OovrecError("no tokenizer can be loaded from here", where=name, remedy=remedy) from error
