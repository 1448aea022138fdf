"""Making a tokenizer from a text, and ids from a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mptc.runtime.codec import ENDS, read_tokenizer
from mptc.runtime.errors import DataError, UserError
from mptc.runtime.files import write_all
from mptc.runtime.text import DOCUMENTS, documents, read_utf8

LEAST = 257  # every byte, and the end of a document


@dataclass(frozen=True)
class Made:
    """`tokens`: how many the tokenizer has, or the text became; `characters`: of the text."""

    tokens: int
    characters: int


def make_tokenizer(path: str, vocab: int, out: str, field: str = "text") -> Made:
    """Train byte-level byte-pair encoding, of at most `vocab` tokens, the first of them the end of a document; write it as `tokenizer.json`.

    Any text is made of its tokens. Fewer come of a text that has no more pairs. Raises `UserError`; nothing is written then.
    """
    if vocab < LEAST:
        raise UserError(f"error: --vocab is {vocab}; it must be at least {LEAST}: each byte, and the end of a document")
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise UserError("error: this needs the package tokenizers, which is not installed: pip install 'mptc[tokenizers]'") from error
    texts = _texts(path, field)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=[ENDS[0]], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_lines(texts), trainer)
    write_all({Path(out): tokenizer.to_str() + "\n"})
    return Made(tokenizer.get_vocab_size(), sum(map(len, texts)))


def write_ids(path: str, tokenizer: str, out: str, field: str = "text") -> Made:
    """Write the ids of a text, or of documents, as a `.npy` that `mptc train --data` takes. Raises `UserError`; nothing is written then."""
    if not out.endswith(".npy"):
        raise UserError(f"error: ids are written as .npy, which says what they are; -o is {out}")
    codec = read_tokenizer(tokenizer)
    texts = _texts(path, field)
    ids = codec.encode(texts) if path.endswith(DOCUMENTS) else codec.whole(texts[0])
    write_all({Path(out): lambda stream: np.save(stream, ids, allow_pickle=False)})
    return Made(len(ids), sum(map(len, texts)))


def _texts(path: str, field: str) -> list[str]:
    texts = list(documents(path, field)) if path.endswith(DOCUMENTS) else [read_utf8(path)]
    if not any(texts):
        raise DataError(f"error: {path} is empty")
    return texts


def _lines(texts: Iterable[str]) -> Iterable[str]:
    """Each line with its end: pieces that a tokenizer would not join."""
    return (line for text in texts for line in text.splitlines(keepends=True))
