"""Between texts and ids: bytes as they are, or a tokenizer of the `tokenizers` library."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mptc.runtime.errors import DataError, UserError
from mptc.runtime.surface import BYTES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")  # what a tokenizer may call the end of a document
PIECE = 2**20  # characters that are encoded together, up to the end of a line
TOGETHER = 16  # pieces

Ids = NDArray[np.unsignedinteger[Any]]
Decode = Callable[[int], str]  # of the next id: what it completes


class Codec(Protocol):
    """`unit`: what one id stands for; `size`: one more than the largest; `told`: what they are, for messages."""

    @property
    def unit(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def told(self) -> str: ...

    def encode(self, documents: Iterable[str]) -> Ids:
        """The ids of several documents, one behind the other, each with its end."""
        ...

    def prompt(self, text: str) -> list[int]:
        """The ids of a text that goes on."""
        ...

    def decoder(self, before: list[int]) -> Decode:
        """Text from ids that come one by one behind those; -1 is the end of all."""
        ...


@dataclass(frozen=True)
class Bytes:
    """UTF-8."""

    unit: str = "byte"
    size: int = BYTES
    told: str = "bytes"

    def encode(self, documents: Iterable[str]) -> Ids:
        """A document ends with a line."""
        return np.frombuffer(b"".join(each.encode() + b"\n" for each in documents), np.uint8)

    def prompt(self, text: str) -> list[int]:
        return list(text.encode())

    def decoder(self, before: list[int]) -> Decode:
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        return lambda byte: decode(b"", final=True) if byte < 0 else decode(bytes([byte]))


@dataclass(frozen=True, eq=False)
class Tokens:
    """A document ends with the tokenizer's own token for that, where it has one, or else with a line."""

    tokenizer: Tokenizer
    size: int
    told: str
    unit: str = "token"

    def encode(self, documents: Iterable[str]) -> Ids:
        end = next((id for name in ENDS if (id := self.tokenizer.token_to_id(name)) is not None), None)
        dtype = np.uint16 if self.size <= 2**16 else np.uint32
        found: list[Ids] = [np.zeros(0, dtype)]
        for document in documents:
            found += [np.array(ids, dtype) for ids in self._encoded(document if end is not None else document + "\n")]
            found += [] if end is None else [np.array([end], dtype)]
        return np.concatenate(found)

    def whole(self, text: str) -> Ids:
        """The ids of one text, without an end."""
        return np.concatenate([np.zeros(0, np.uint32), *(np.array(ids, np.uint32) for ids in self._encoded(text))])

    def _encoded(self, text: str) -> Iterator[list[int]]:
        pieces = list(_pieces(text))
        for first in range(0, len(pieces), TOGETHER):
            for each in self.tokenizer.encode_batch(pieces[first : first + TOGETHER], add_special_tokens=False):
                yield each.ids

    def prompt(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decoder(self, before: list[int]) -> Decode:
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(before, skip_special_tokens=False)
        return lambda token: "" if token < 0 else stream.step(self.tokenizer, token) or ""


def read_tokenizer(path: str | Path) -> Tokens:
    """The tokenizer of a `tokenizer.json`. Raises `UserError` without the library, `DataError` for a file that is none."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UserError("error: --tokenizer needs the package tokenizers, which is not installed: pip install 'mptc[tokenizers]'") from error
    try:
        tokenizer = Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"error: cannot read a tokenizer from {path}: {error.strerror}") from error
    except Exception as error:
        raise DataError(f"error: {path} is not a tokenizer.json of the tokenizers library: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Tokens(tokenizer, max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1, f"the tokens of {path}")


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces that end with a line, between two lines that are not blank: where tokenizers split words anyway."""
    first = 0
    while first < len(text):
        last = first + PIECE
        while 0 < (last := text.find("\n", last) + 1) < len(text) and (text[last].isspace() or text[last - 2].isspace()):
            continue
        last = last or len(text)
        yield text[first:last]
        first = last
