"""Source text and the spans that point into it."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

MOST_CHARACTERS = 200_000
MOST_OF_A_NAME = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9_. +=@,-]")


@dataclass(frozen=True, eq=False)
class Source:
    """One file's text. `path` is as it is shown to the user."""

    path: str
    text: str
    starts: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts = [0, *(i + 1 for i, char in enumerate(self.text) if char == "\n")]
        object.__setattr__(self, "starts", tuple(starts))

    @classmethod
    def read(cls, path: Path, shown: str | None = None, *, strict: bool = False) -> Source:
        """A file's text; raises OSError. Of a file that is too long so much is read that this can be said.

        What is not UTF-8 becomes U+FFFD or, where that is `strict`, raises UnicodeDecodeError.
        """
        with path.open("rb") as file:
            content = file.read(4 * MOST_CHARACTERS + 4)
        text = content.decode("utf-8", errors="strict" if strict and len(content) <= 4 * MOST_CHARACTERS else "replace")
        return cls(shown or str(path), text.replace("\r\n", "\n").replace("\r", "\n"))

    @property
    def name(self) -> str:
        """The file's own name, as generated code may say it in comments and docstrings: of a name made to break out of them, what cannot."""
        last = self.path.rpartition("/")[2]
        return _UNSAFE.sub("_", last)[-MOST_OF_A_NAME:]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of a character offset, both from 1."""
        line = bisect_right(self.starts, offset)
        return line, offset - self.starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of line `number` (from 1), without its newline."""
        start = self.starts[number - 1]
        end = self.starts[number] - 1 if number < len(self.starts) else len(self.text)
        return self.text[start:end]


@dataclass(frozen=True)
class Span:
    """Characters `start` to `end` (not included) of a source."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.position(self.start)[1]

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.source, self.start, other.end)

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}"
