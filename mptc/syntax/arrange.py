"""Lines to documents: which tokens stand apart, and where a line that is too long may break."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from mptc.syntax.columns import pads
from mptc.syntax.fitting import EMPTY, HARD, NOTHING, SPACE, Break, Doc, Group, Nest, Note
from mptc.syntax.lexer import too_large
from mptc.syntax.pieces import NEGATION, Atom, Braces, Bracket, Item, Line, Remark
from mptc.syntax.unparse_expr import number

WIDEST = 120
WIDEST_BODY = 96  # of a body on one line with its head

_BODIES = frozenset({"energy", "block", "model", "stack", "repeat"})
_SETTINGS = frozenset({"types", "variant"})
_LOOSEST_FIRST = (frozenset({"<", "<=", ">", ">=", "==", "in"}), frozenset("+-"), frozenset("*/"), frozenset("@"))


def arrange(line: Line, pad: int = 0) -> tuple[Doc, ...]:
    """One line without its comment; `pad` widens it where its neighbours' names are longer."""
    head, last = line.items, line.items[-1]
    word = head[0].kind if isinstance(head[0], Atom) else ""
    if word in _BODIES | _SETTINGS and isinstance(last, Braces):
        return (*_sequence(head[:-1]), " ", *(_body(last) if word in _BODIES else _settings(last)))
    place = 0 if not pad else 3 if word in ("param", "input") else 2
    return (*_sequence(head[:place]), " " * pad, *_sequence(head[place:], head[place - 1] if place else None))


# -- braces --


def _body(braces: Braces) -> tuple[Doc, ...]:
    """One statement without a body of its own stays beside its head where both are short."""
    if len(braces.lines) == 1 and not braces.comment and _simple(braces.lines[0]):
        return (Group(("{", Nest((SPACE, *arrange(braces.lines[0]))), SPACE, "}"), WIDEST_BODY),)
    return _open(braces)


def _settings(braces: Braces) -> tuple[Doc, ...]:
    """On one line between commas, or each on its own without them."""
    if braces.comment or not braces.lines or any(line.comment for line in braces.lines):
        return _open(braces)
    inside = _joined([arrange(line) for line in braces.lines], Break(", "))
    return (Group(("{", Nest((SPACE, *inside)), SPACE, "}"), WIDEST),)


def _value(braces: Braces) -> tuple[Doc, ...]:
    """The body of `each` or `on`."""
    if _must_open(braces):
        return _open(braces)
    return (Group(("{", Nest((SPACE, *arrange(braces.lines[0]))), SPACE, "}"), WIDEST),)


def _must_open(braces: Braces) -> bool:
    return len(braces.lines) != 1 or bool(braces.comment or braces.lines[0].comment)


def _simple(line: Line) -> bool:
    first = line.items[0] if line.items else None
    return isinstance(first, Atom) and first.kind not in _BODIES and not line.comment


def _open(braces: Braces) -> tuple[Doc, ...]:
    if not braces.lines and not braces.comment:
        return ("{}",)
    return ("{", *_behind(braces.comment), Nest((HARD, *body(braces.lines))), HARD, "}")


def body(lines: Sequence[Line]) -> tuple[Doc, ...]:
    """Lines one below the other, at most one empty line between two, none before the first."""
    docs: list[Doc] = []
    for place, (line, pad) in enumerate(zip(lines, pads(lines), strict=True)):
        docs += [HARD] if place else []
        docs += [EMPTY, HARD] if place and line.after_blank else []
        docs += arrange(line, pad) if line.items else ()
        docs += _behind(line.comment)
    return tuple(docs)


def _behind(comment: str) -> tuple[Doc, ...]:
    return (Note(comment), HARD) if comment else ()


# -- what stands in a line --


def _sequence(items: Sequence[Item], before: Item | None = None) -> tuple[Doc, ...]:
    """Items one after another, with the spaces between them."""
    docs: list[Doc] = []
    for item in items:
        if before is not None and _apart(before, item):
            docs.append(" ")
        docs += _item(item)
        before = item
    return tuple(docs)


def _item(item: Item) -> tuple[Doc, ...]:
    if isinstance(item, Braces):
        return _value(item)
    if isinstance(item, Bracket):
        return _bracket(item)
    if isinstance(item, Remark):
        return (HARD, Note(item.text), HARD) if item.alone else (Note(item.text), HARD)
    return (_number(item.text) if item.kind == "NUMBER" else item.text,)


def _number(text: str) -> str:
    """The usual spelling, unless that is longer than a number may be."""
    usual = number(Fraction(text.replace("_", "")))
    return text if too_large(usual) else usual


def _bracket(bracket: Bracket) -> tuple[Doc, ...]:
    items = bracket.items
    if not items:
        return (bracket.opener + bracket.closer,)
    if isinstance(items[-1], Braces) and _must_open(items[-1]) and not any(isinstance(item, Remark) for item in items):
        return (bracket.opener, *_sequence(items), bracket.closer)
    behind = 1 if isinstance(items[0], Remark) and not items[0].alone else 0
    parts = _parts(items[behind:])
    inside = _joined([_part(part, len(parts) > 1) for part in parts], SPACE)
    return (Group((bracket.opener, *_sequence(items[:behind]), Nest((NOTHING, *inside)), NOTHING, bracket.closer), WIDEST),)


def _parts(items: Iterable[Item]) -> list[list[Item]]:
    """What commas end and a bar begins; a comment behind a comma belongs to what is before it."""
    parts: list[list[Item]] = [[]]
    for item in items:
        ended = parts[-1] and parts[-1][-1] == Atom(",", ",")
        behind = isinstance(item, Remark) and not item.alone
        commented = len(parts[-1]) > 1 and isinstance(parts[-1][-1], Remark) and parts[-1][-2] == Atom(",", ",")
        if parts[-1] and ((ended and not behind) or commented or item == Atom("|", "|")):
            parts.append([])
        parts[-1].append(item)
    return parts


def _part(items: list[Item], several: bool) -> tuple[Doc, ...]:
    """One argument: where it is too long, it breaks before its loosest operators."""
    kinds = {item.kind for item in items if isinstance(item, Atom)}
    loosest = next((group for group in _LOOSEST_FIRST if group & kinds), frozenset[str]())
    places = [place for place, item in enumerate(items) if place and isinstance(item, Atom) and item.kind in loosest]
    if not places:
        return _sequence(items)
    docs = _joined([_sequence(items[start:end]) for start, end in zip([0, *places], [*places, len(items)], strict=True)], SPACE)
    return (Group((Nest(docs),) if several else docs, WIDEST),)


def _joined(many: Sequence[tuple[Doc, ...]], between: Doc) -> tuple[Doc, ...]:
    return tuple(doc for place, docs in enumerate(many) for doc in ((between,) if place else ()) + docs)


# -- spaces --

_NONE_AFTER = frozenset({NEGATION, ".", "^"})
_NONE_BEFORE = frozenset({",", ".", "^", ":"})


def _apart(before: Item, after: Item) -> bool:
    if isinstance(before, Atom) and before.kind in _NONE_AFTER:
        return False
    if isinstance(after, Atom):
        return after.kind not in _NONE_BEFORE
    if isinstance(after, Bracket):
        return _apart_from_bracket(before, after.opener)
    return isinstance(after, Braces)


def _apart_from_bracket(before: Item, opener: str) -> bool:
    if isinstance(before, Bracket | Braces):
        return False
    if opener == "[":
        return isinstance(before, Atom) and before.kind == ":"
    return not (isinstance(before, Atom) and before.kind in ("NAME", "integral"))
