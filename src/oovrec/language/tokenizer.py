"""A language model's tokenizer, and how users and items are written in it: by new tokens, or in its own word pieces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5TokenizerFast

from oovrec.errors import OovrecError, brief, out_of_memory
from oovrec.files import read_json
from oovrec.tokens.rules import END, twice
from oovrec.tokens.table import Tokens, TokenTable

Spelling = Literal["tokens", "pieces"]

PAD, CLOSE, BEGIN, UNKNOWN = "<pad>", "</s>", "<s>", "<unk>"
SOMEONE, SOMETHING = "<user>", "<item>"  # stand for a user or an item that has no tokens of its own
WORDS, ABOUT = "tokenizer.json", "tokenizer_config.json"  # a saved tokenizer's files
MARKUP = re.compile(r"<(?=[^<>\s]+>)")  # what begins a token
OWN = "own"
OWN_SIZE = 512  # word pieces of the own vocabulary: 256 bytes and the templates' words


@dataclass(frozen=True)
class Vocabulary:
    """The extended tokenizer and where the OOV tokens are in it.

    Attributes:
        tokenizer: encodes text; each OOV token is exactly one id.
        items: ``[items, depth]`` int64 ids of each item's tokens; shorter names are filled up with ``end``.
        users: ``[users, depth]`` int64, or None where the scheme names items only.
        someone: the id that stands for a user without tokens.
        something: the id that stands for an item in a template being compiled.
        end: the id that fills shorter names up, so that all are of one length; prompts leave it out.
        centroids: ``[vocabulary, d]`` float32, what each token stands for; None if the scheme has none.
    """

    tokenizer: PreTrainedTokenizerBase
    items: np.ndarray
    users: np.ndarray | None
    someone: int
    something: int
    end: int
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
        return self.users[user][self.users[user] != self.end]

    def written(self, texts: Iterable[str], longest: int, filler: int) -> np.ndarray:
        """What people wrote, none of which is read as a token: ``[n, at most longest]`` ids, its end, ``filler``."""
        pieces = self.tokenizer([as_words(text) for text in texts], add_special_tokens=False)["input_ids"]
        return filled([[*piece[: longest - 1], self.tokenizer.eos_token_id] for piece in pieces], filler)


def extend(tokenizer: PreTrainedTokenizerBase, tokens: Tokens, spelling: Spelling = "tokens") -> Vocabulary:
    """Write the names of ``tokens`` in ``tokenizer``, which is changed.

    Args:
        spelling: ``tokens`` adds each OOV token to the vocabulary. ``pieces`` adds none: an item is the word pieces
            of ``item_`` and the numbers of its tokens, as P5 writes ids (``<CI3><I1001>`` is ``item_3_1001``).

    Raises:
        OovrecError: a token names a user and an item, or is one that the tokenizer has for something else; two ids come
            out as the same word pieces.
    """
    if spelling == "pieces":
        return _spelled(tokenizer, tokens)
    tables = [table for table in (tokens.items, tokens.users) if table is not None]
    listed = [word for table in tables for word in table.vocabulary]
    if (word := twice(listed)) is not None:
        raise OovrecError(f"the token {word} stands for a user and for an item", remedy="give them separate names")
    if taken := {SOMEONE, SOMETHING, *tokenizer.all_special_tokens} & set(listed) - {END}:
        word = min(taken)
        table = next(table for table in tables if word in table.vocabulary)
        bearer = table.ids[int((table.codes == table.vocabulary.index(word)).any(axis=1).argmax())]
        what = f"the token {word} has another meaning in prompts, and names '{brief(bearer)}'"
        raise OovrecError(what, where=table.file, remedy="give what it names another, such as <I17>")
    number = _add(tokenizer, [SOMEONE, SOMETHING, END, *listed])
    index = [np.array([number[word] for word in table.vocabulary], np.int64) for table in tables]
    ids = [rows[table.codes] for rows, table in zip(index, tables, strict=True)]
    return Vocabulary(
        tokenizer,
        items=ids[0],
        users=ids[1] if len(ids) > 1 else None,
        someone=number[SOMEONE],
        something=number[SOMETHING],
        end=number[END],
        centroids=_centroids(len(tokenizer), tables, index),
    )


def _add(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> dict[str, int]:
    """The ids of ``words``, which become tokens of the vocabulary."""
    unique = list(dict.fromkeys(words))
    # Not normalised and without stripping: the text around a token is then encoded the same wherever it stands.
    tokenizer.add_tokens([AddedToken(word, normalized=False, special=False) for word in unique])
    return dict(zip(unique, tokenizer.convert_tokens_to_ids(unique), strict=True))


def _spelled(tokenizer: PreTrainedTokenizerBase, tokens: Tokens) -> Vocabulary:
    number = _add(tokenizer, [SOMEONE, SOMETHING, END])
    items = _pieces(tokenizer, "item", tokens.items, number[END])
    users = None if tokens.users is None else _pieces(tokenizer, "user", tokens.users, number[END])
    return Vocabulary(tokenizer, items, users, number[SOMEONE], number[SOMETHING], number[END], None)


def spelled(kind: str, words: Sequence[str]) -> str:
    """``item_3_1001``: a name as text without new tokens; ``kind`` is ``item`` or ``user``."""
    return "_".join([kind, *("".join(re.findall(r"\d+", word)) for word in words)])


def _pieces(tokenizer: PreTrainedTokenizerBase, kind: str, table: TokenTable, end: int) -> np.ndarray:
    """``[n, depth]`` the word pieces of each name, filled up with ``end``."""
    texts = [spelled(kind, table.words(row)) for row in range(len(table))]
    ids = filled(tokenizer(texts, add_special_tokens=False)["input_ids"], end)
    if len(np.unique(ids, axis=0)) < len(ids):
        twice = next(text for text, count in Counter(texts).items() if count > 1)
        raise OovrecError(f"two {kind}s are spelled {twice}", remedy="use model.spelling=tokens with these tokens")
    return ids


def as_words(text: str) -> str:
    """A user's or an item's text without anything of a token's form: ``</s>`` is read as the characters ``< /s>``."""
    return MARKUP.sub("< ", text)


def filled(pieces: Sequence[Sequence[int]], end: int) -> np.ndarray:
    """``[n, longest]`` int64 sequences of ids, filled up with ``end`` on the right."""
    ids = np.full((len(pieces), max(map(len, pieces))), end, np.int64)
    for row, piece in enumerate(pieces):
        ids[row, : len(piece)] = piece
    return ids


def _centroids(size: int, tables: list[TokenTable], index: list[np.ndarray]) -> np.ndarray | None:
    known = [(rows, table.centroids) for rows, table in zip(index, tables, strict=True) if table.centroids is not None]
    if not known:
        return None
    table = np.zeros((size, known[0][1].shape[1]), np.float32)
    for rows, centroids in known:
        table[rows] = centroids
    return table


def own_tokenizer(texts: Iterable[str], *, causal: bool, size: int = OWN_SIZE) -> PreTrainedTokenizerFast:
    """A small byte-level BPE vocabulary learnt from ``texts``: any text can be encoded, none is unknown.

    Args:
        causal: begin each text with ``<s>`` (decoder-only models) rather than end it with ``</s>`` (T5).
        size: word pieces, at most.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [PAD, CLOSE, BEGIN, UNKNOWN]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    form = f"{BEGIN} $A" if causal else f"$A {CLOSE}"
    pairs = [(word, specials.index(word)) for word in (BEGIN, CLOSE)]
    tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=pairs)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=CLOSE, bos_token=BEGIN, unk_token=UNKNOWN
    )


def pretrained_tokenizer(name: str | Path, *, run: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or of a model on the hub.

    A folder that holds nothing but ``spiece.model``, as the first T5 checkpoints were published, is T5's.

    Args:
        run: whether the folder is a run's own.

    Raises:
        OovrecError: there is none of that name; of a run, a file is missing or broken.
    """
    if run:
        return _kept(Path(name))
    pieces = Path(name) / "spiece.model"
    bare = pieces.is_file() and not (Path(name) / ABOUT).exists()
    try:
        if pieces.is_file() and not pieces.stat().st_size:
            raise ValueError("spiece.model is empty")
        found = (T5TokenizerFast if bare else AutoTokenizer).from_pretrained(str(name), trust_remote_code=False)
        found("what next")  # some faults show here alone
        if len(found) - len(set(found.all_special_ids)) <= 1:  # of some kinds one is made without any file of it
            raise ValueError("knows no words")
    except BaseException as error:  # of any kind, a panic in Rust too: a folder's files reach transformers unchecked
        if isinstance(error, KeyboardInterrupt | SystemExit) or out_of_memory(error):
            raise
        remedy = "give a folder with a tokenizer, or a hub name while online"
        raise OovrecError("no tokenizer can be loaded from here", where=name, remedy=remedy) from error
    return found


def _kept(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a run's own ``folder``; errors name the file to restore."""
    remedy = "restore the file"
    about = read_json(folder / ABOUT, remedy=remedy)
    if not isinstance(about, dict) or "tokenizer_class" not in about:
        raise OovrecError("describes no tokenizer", where=folder / ABOUT, remedy=remedy)
    try:
        found = pretrained_tokenizer(folder)
    except OovrecError as error:
        read_json(folder / WORDS, remedy=remedy)
        raise OovrecError(error.what, where=folder, remedy=f"restore {WORDS} and {ABOUT}") from error
    if found.is_fast and not (folder / WORDS).exists():  # some kinds are made without it, and know no words
        raise OovrecError("no such file", where=folder / WORDS, remedy=remedy)
    if found.eos_token_id is None and None in (found.bos_token_id, found.pad_token_id):
        raise OovrecError("names no token that ends a text", where=folder / ABOUT, remedy=remedy)
    return found
