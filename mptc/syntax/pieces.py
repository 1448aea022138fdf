"""A text as nested lines, for the formatter: every token, every comment where it stands, and which lines had an empty one before them.

The tree has neither comments nor the parentheses that a writer put for clarity. The tokens have both, so a text is laid out from them, and what is
laid out reads as the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mptc.syntax.brackets import CLOSER, OPENER
from mptc.syntax.lexer import COMMENT, NEWLINE, Token, reserved
from mptc.syntax.tables import END

NEGATION = "negation"


@dataclass(frozen=True)
class Atom:
    """A token. `kind` is its terminal, or `NEGATION` for a minus that has no left side."""

    kind: str
    text: str


@dataclass(frozen=True)
class Remark:
    """A comment inside `( )` or `[ ]`: behind a token, or on a line of its own."""

    text: str
    alone: bool


@dataclass(frozen=True)
class Bracket:
    """`( )` or `[ ]`"""

    opener: str
    items: tuple[Item, ...]

    @property
    def closer(self) -> str:
        return CLOSER[self.opener]


@dataclass(frozen=True)
class Braces:
    """`{ }`; `comment` stands behind the opening one."""

    lines: tuple[Line, ...]
    comment: str


@dataclass(frozen=True)
class Line:
    """A statement, a declaration, a setting or a value, with the comment behind it; or, without items, a comment alone."""

    items: tuple[Item, ...]
    comment: str = ""
    after_blank: bool = False


Item = Atom | Remark | Bracket | Braces


def lines(text: str, tokens: list[Token], comments: list[Token]) -> tuple[Line, ...]:
    """The lines of a file without errors. `tokens` are those that the parser reads."""
    return _Reader(text, sorted([*tokens, *comments], key=lambda token: (token.start, token.kind == END))).lines()


class _Reader:
    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text, self.tokens = text, tokens
        self.place = 0
        self.operand = False  # what has just been read may be the left side of an operator

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def take(self) -> Token:
        token = self.next
        self.place += 1
        if token.kind != COMMENT:
            before = self.tokens[self.place - 2].kind
            word = token.kind in reserved() and before != "as"
            self.operand = not word and (token.text.isidentifier() or token.kind == "NUMBER" or token.kind in OPENER)
        return token

    def lines(self) -> tuple[Line, ...]:
        """Up to a closing brace or the end. Settings on one line are lines too."""
        found: list[Line] = []
        while self.next.kind not in ("}", END):
            gap = self._gap()
            if self.next.kind in (NEWLINE, ","):
                self.take()
            elif self.next.kind != COMMENT:
                found.append(Line(tuple(self._items((NEWLINE, COMMENT, ",", "}", END))), after_blank=gap > 1))
            elif found and not gap:
                found[-1] = replace(found[-1], comment=self.take().text)
            else:
                found.append(Line((), self.take().text, gap > 1))
        return tuple(found)

    def _gap(self) -> int:
        """How many lines end between the next token and what is before it."""
        start = self.next.start
        before = self.text[:start].rstrip() if self.place == 0 else self.text[self._end() : start]
        return before.count("\n")

    def _end(self) -> int:
        """Where the last token that is not a newline ends."""
        place = self.place - 1
        while place > 0 and self.tokens[place].kind == NEWLINE:
            place -= 1
        return 0 if self.tokens[place].kind == NEWLINE else self.tokens[place].end

    def _items(self, stops: tuple[str, ...]) -> Iterator[Item]:
        while self.next.kind not in stops:
            kind = self.next.kind
            if kind == COMMENT:
                yield Remark(alone=self._gap() > 0, text=self.take().text)
            elif kind == "{":
                yield self._braces()
            elif kind in CLOSER:
                self.take()
                yield Bracket(kind, tuple(self._items((CLOSER[kind],))))
                self.take()
            else:
                yield Atom(NEGATION if kind == "-" and not self.operand else kind, self.take().text)

    def _braces(self) -> Braces:
        self.take()
        comment = self.take().text if self.next.kind == COMMENT and not self._gap() else ""
        inside = self.lines()
        self.take()
        return Braces(inside, comment)
