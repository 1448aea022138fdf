"""Diagnostics for people and for programs.

specs/a.mpt:3:7: error[E0203]: message
  3 |   x = rmsnrm(x)
    |       ^^^^^^
help: did you mean `rmsnorm`?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from mptc.source.diagnostic import Diagnostic, Diagnostics, Note
from mptc.source.text import Span

_COLOURS = {"error": "1;31", "warning": "1;33", "note": "1;34", "help": "1;32", "place": "1", "gutter": "34"}
_WIDEST = 160

Paint = Callable[[str, str], str]


def render(diagnostic: Diagnostic, colour: bool = False) -> str:
    """The text of one diagnostic, without a newline at its end."""
    paint = _paint if colour else _keep
    severity = diagnostic.severity
    head = _head(diagnostic.span, f"{severity}[{diagnostic.code}]", severity, diagnostic.message, paint)
    lines = [head, *_excerpt(diagnostic.span, severity, paint)]
    for note in diagnostic.notes:
        lines += [_head(note.span, "note", "note", note.message, paint), *_excerpt(note.span, "note", paint)]
    lines += _drawn(diagnostic.way, paint)
    if diagnostic.help:
        lines.append(f"{paint('help', 'help')}: {_shown(diagnostic.help)}")
    return "\n".join(lines)


def as_json(diagnostics: Diagnostics | Iterable[Diagnostic]) -> str:
    """One JSON array; lines and columns count from 1, the end is the first character after the span."""
    found = diagnostics.found if isinstance(diagnostics, Diagnostics) else diagnostics
    return json.dumps([_record(one) for one in found], indent=2)


def _record(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "help": diagnostic.help,
        **_place(diagnostic.span),
        "notes": [{"message": note.message, **_place(note.span)} for note in diagnostic.notes],
        "way": [{"message": note.message, **_place(note.span)} for note in diagnostic.way],
    }


def _place(span: Span) -> dict[str, Any]:
    end_line, end_column = span.source.position(span.end)
    return {"path": span.source.path, "line": span.line, "column": span.column, "end_line": end_line, "end_column": end_column}


def _head(span: Span, label: str, kind: str, message: str, paint: Paint) -> str:
    place = f"{_shown(span.source.path)}:{span.line}:{span.column}"
    return f"{paint(place, 'place')}: {paint(label, kind)}: {_shown(message)}"


def _excerpt(span: Span, kind: str, paint: Paint) -> list[str]:
    """The span's first line, and carets under what of the span stands on it. Of a very long line, the part around the span."""
    line, first = span.source.line(span.line), span.column - 1
    last = max(first + 1, min(first + span.end - span.start, len(line)))
    offset = max(0, first - _WIDEST // 2) if len(line) > _WIDEST else 0
    last = min(last, offset + _WIDEST)
    written = _shown(line[offset : offset + _WIDEST])
    before, under = _shown(line[offset:first]), _shown(line[first:last]) or "^"
    number = str(span.line)
    margin = " " * (len(number) + 2)
    return [
        f"{paint(f'  {number} |', 'gutter')} {written}".rstrip(),
        f"{paint(f'{margin} |', 'gutter')} {' ' * _columns(before)}{paint('^' * max(1, _columns(under)), kind)}",
    ]


def _drawn(path: tuple[Note, ...], paint: Paint) -> list[str]:
    """The way of a value through the text: each line that it passes, and what happens there."""
    places = [f"{_shown(note.span.source.path.rpartition('/')[2])}:{note.span.line}" for note in path]
    texts = [_shown(_shortened(note.span.source.line(note.span.line).strip())) for note in path]
    wide, wider = max(map(len, places), default=0), max(map(len, texts), default=0)
    arrows = ["│"] * (len(path) - 1) + ["▼"]
    return [
        f"{paint(f'  {arrow} {place:<{wide}}', 'gutter')}  {text:<{wider}}  {_shown(note.message)}"
        for arrow, place, text, note in zip(arrows, places, texts, path, strict=False)
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST // 2 else text[: _WIDEST // 2 - 1] + "…"


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes: East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def _shown(text: str) -> str:
    """Nothing that a terminal obeys: tabs as four spaces, control characters and lone surrogates as `?`, direction marks as `?`."""
    if text.isascii() and text.isprintable():
        return text
    text = text.rstrip("\r\n").replace("\t", "    ")
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def _keep(text: str, _: str) -> str:
    return text


def _paint(text: str, kind: str) -> str:
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m"
