"""The one layout of a text: `format(format(t)) == format(t)`, and both read as the same tree.

    text ─lexer▶ tokens, comments ─pieces▶ nested lines ─arrange▶ documents ─fitting▶ rows ─columns▶ text
"""

from __future__ import annotations

from collections.abc import Sequence

from mptc.source.diagnostic import Diagnostics
from mptc.source.text import MOST_CHARACTERS, Source, Span
from mptc.syntax.arrange import arrange
from mptc.syntax.brackets import balance
from mptc.syntax.columns import align, pads
from mptc.syntax.fitting import Note, Row, fit
from mptc.syntax.lexer import comments, tokenize
from mptc.syntax.parse import parse
from mptc.syntax.pieces import Atom, Line, lines
from mptc.syntax.problems import Problems


def format(source: Source, diagnostics: Diagnostics) -> str | None:
    """The text in its layout, or None where it has errors."""
    file = parse(source, diagnostics)
    if file is None:
        return None
    problems = Problems(source)
    tokens = balance(tokenize(source.text, problems), problems)
    assert tokens is not None
    text = _layout(lines(source.text, tokens, comments(source.text)))
    if len(text) > MOST_CHARACTERS:
        diagnostics.add("E0111", Span(source, 0, 0), f"laid out, this file has more than {MOST_CHARACTERS:,} characters", "split it with `use`")
        return None
    assert parse(Source(source.path, text), Diagnostics()) == file, "the layout changed what the text means"
    return text


def _layout(entries: Sequence[Line]) -> str:
    made = [_rows(line, pad) for line, pad in zip(entries, pads(entries), strict=True)]
    spaced = _spaced(entries, made)
    written: list[str] = []
    group: list[Row] = []
    for place, rows in enumerate(made):
        if group and (spaced[place] or len(rows) > 1 or len(made[place - 1]) > 1):
            written += align(group)
            group = []
        written += [""] if spaced[place] else []
        group += rows
    return "".join(f"{line}\n" for line in [*written, *align(group)])


def _rows(line: Line, pad: int) -> list[Row]:
    return fit((*(arrange(line, pad) if line.items else ()), Note(line.comment)))


_NUMBERS = (Atom("dim", "dim"), Atom("const", "const"))  # however long, they stay with their group


def _spaced(entries: Sequence[Line], made: Sequence[list[Row]]) -> list[bool]:
    """Which entries have an empty line before them: as written, and around a declaration of several lines with the comments on top of it."""
    spaced = [line.after_blank for line in entries]
    for place, rows in enumerate(made):
        if len(rows) > 1 and entries[place].items[0] not in _NUMBERS:
            spaced[_top(entries, spaced, place)] = True
            spaced[place + 1 : place + 2] = [True] * len(spaced[place + 1 : place + 2])
    return [False, *spaced[1:]] if spaced else []


def _top(entries: Sequence[Line], spaced: Sequence[bool], place: int) -> int:
    """The first of the comments that stand on top of an entry."""
    while place and not spaced[place] and not entries[place - 1].items:
        place -= 1
    return place
