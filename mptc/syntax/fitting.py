"""Documents fitted to a width: text with places where a line may break, after Wadler's "A prettier printer".

A group is laid flat where it fits in what is left of the line, and breaks at all of its own places where it does not; groups are decided from the
outside in. So where a line is broken depends on nothing but its text and its width.
"""

from __future__ import annotations

from dataclasses import dataclass

INDENT = 2


@dataclass(frozen=True)
class Break:
    """A place where a line may end; laid flat it is `flat`. A hard one always ends it, and so breaks the groups around it."""

    flat: str = " "
    hard: bool = False


@dataclass(frozen=True)
class Note:
    """A comment at the end of a line. It takes no room from the text before it; a hard break follows."""

    text: str


@dataclass(frozen=True)
class Nest:
    docs: tuple[Doc, ...]


@dataclass(frozen=True)
class Group:
    docs: tuple[Doc, ...]
    width: int


Doc = str | Break | Note | Nest | Group
SPACE = Break(" ")
NOTHING = Break("")
HARD = Break(hard=True)
EMPTY = Note("")  # between two hard breaks: an empty line


@dataclass
class Row:
    """One line of the result. Without code it is a comment alone, or empty."""

    indent: int
    code: str = ""
    comment: str = ""
    begun: bool = False

    @property
    def width(self) -> int:
        return self.indent + len(self.code)


_Step = tuple[int, bool, Doc]  # indent, flat, what


def fit(docs: tuple[Doc, ...]) -> list[Row]:
    rows = [Row(0)]
    steps: list[_Step] = [(0, False, doc) for doc in reversed(docs)]
    while steps:
        indent, flat, doc = steps.pop()
        row = rows[-1]
        if isinstance(doc, Nest):
            steps.extend((indent + INDENT, flat, one) for one in reversed(doc.docs))
        elif isinstance(doc, Group):
            flat = flat or _fits(doc, doc.width - row.width, steps)
            steps.extend((indent, flat, one) for one in reversed(doc.docs))
        elif isinstance(doc, Note):
            row.comment, row.begun = doc.text, True
        elif isinstance(doc, str):
            _write(row, doc)
        elif flat:
            _write(row, doc.flat)
        elif row.begun:
            rows.append(Row(indent))
        else:
            row.indent = indent  # the line has ended already, after a comment
    for row in rows:
        row.code = row.code.rstrip()
    return rows


def _write(row: Row, text: str) -> None:
    row.code += text if row.code else text.lstrip()
    row.begun = row.begun or bool(row.code)


def _fits(group: Group, room: int, after: list[_Step]) -> bool:
    """Whether the group, laid flat, and what follows it up to the next place where the line may end have room."""
    pending: list[tuple[bool, Doc]] = [(True, doc) for doc in reversed(group.docs)]
    following = len(after)
    while room >= 0:
        if not pending:
            if not following:
                return True
            following -= 1
            pending.append((after[following][1], after[following][2]))
        flat, doc = pending.pop()
        if isinstance(doc, Nest | Group):
            pending.extend((flat, one) for one in reversed(doc.docs))
        elif isinstance(doc, Break) and (doc.hard or not flat):
            return not flat
        elif not isinstance(doc, Note):
            room -= len(doc if isinstance(doc, str) else doc.flat)
    return False
