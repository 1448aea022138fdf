"""What stands in columns: the `=` of dims and consts, the types of params and inputs, the comments behind lines."""

from __future__ import annotations

from collections.abc import Sequence

from mptc.syntax.fitting import Row
from mptc.syntax.pieces import Atom, Line

# How much longer the longest name of a group may be than the shortest: beyond that a column is more gap than order.
_MOST_GAP = {"dim": 12, "const": 12, "input": 6, "param": 3}

_LONGEST_COMMENTED = 80
_FIRST_COLUMN, _COLUMNS = 18, 16


def pads(lines: Sequence[Line]) -> list[int]:
    """How many spaces each line gets for its column: its group is the lines of one kind around it, with nothing in between."""
    found: list[int] = []
    while len(found) < len(lines):
        group = _group(lines, len(found))
        widths = [_name(line) for line in lines[len(found) : len(found) + group]]
        word = _word(lines[len(found)])
        aligned = max(widths) - min(widths) <= _MOST_GAP.get(word, 0)
        found += [max(widths) - width if aligned else 0 for width in widths]
    return found


def _group(lines: Sequence[Line], start: int) -> int:
    word, end = _word(lines[start]), start + 1
    while word in _MOST_GAP and end < len(lines) and _word(lines[end]) == word and not lines[end].after_blank:
        end += 1
    return end - start


def _word(line: Line) -> str:
    first = line.items[0] if line.items else None
    return first.kind if isinstance(first, Atom) else ""


def _name(line: Line) -> int:
    second = line.items[1] if _word(line) in _MOST_GAP else None
    return len(second.text) if isinstance(second, Atom) else 0


def align(rows: Sequence[Row]) -> list[str]:
    """The text of rows whose comments stand in one column: the first of 18, 34, 50, … that leaves two spaces."""
    widths = [row.width for row in rows if row.code and row.comment and row.width <= _LONGEST_COMMENTED]
    beyond = max(widths, default=0) + 2 - _FIRST_COLUMN
    column = _FIRST_COLUMN + -(-max(beyond, 0) // _COLUMNS) * _COLUMNS
    return [_text(row, column) for row in rows]


def _text(row: Row, column: int) -> str:
    code = " " * row.indent + row.code if row.code or row.comment else ""
    if not row.comment or not row.code:
        return code + row.comment
    return f"{code:<{column}}{row.comment}" if row.width <= _LONGEST_COMMENTED else f"{code}  {row.comment}"
