"""The words of syntax errors: what was found, what could stand there, and what was perhaps meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from mptc.source.suggest import closest
from mptc.syntax.brackets import DECLARES
from mptc.syntax.lexer import NEWLINE, Token, reserved
from mptc.syntax.problems import Problems
from mptc.syntax.tables import END

COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "in"})
STATEMENTS = frozenset(
    {"param", "input", "stack", "repeat", "share", "tie", "freeze", "penalty", "probe", "loss", "output", "minimize", "return"},
)
_OPERATORS = frozenset({"+", "-", "*", "/", "^", "@"}) | COMPARISONS
# A whole group in the accepted terminals is told in one phrase, with what would only distract beside it.
_GROUPS: tuple[tuple[frozenset[str], str, frozenset[str]], ...] = (
    (STATEMENTS, "a statement", frozenset({"NAME", "NUMBER", "(", "-", "grad", "integral", "each", "on"})),
    (DECLARES, "a declaration", frozenset({END})),
    (frozenset({"each", "grad", "NAME", "NUMBER"}), "an expression", frozenset({"(", "-", "integral", "on"})),
    (frozenset({"NAME", "NUMBER", "("}), "a number", frozenset({"-"})),
    (frozenset({"+", "*"}), "an operator", _OPERATORS | {"[", "(", "as"}),
)
_PHRASES = {"NAME": "a name", "NUMBER": "a number", "STRING": "a path in double quotes", NEWLINE: "the end of the line", END: "the end of the file"}
_MEANT = {
    "<-": "`<-` is always one token, the arrow of an update; write `a < -b` for a comparison",
    "as": "`as` labels a call, right after its arguments: `f(x) as name`",
    "->": "`->` renames axes, inside `[ ]`",
    ";": "a newline ends a statement",
}


@dataclass(frozen=True)
class Place:
    """Where the parser is stuck: the token, the one before it, the terminals that would do, and the last three values read."""

    token: Token
    previous: Token
    accepted: frozenset[str]
    top_level: bool
    values: tuple[Any, ...]

    @property
    def begins(self) -> bool:
        """Whether a statement or declaration begins here. Where any word may stand, all of these words may, and `as`."""
        return (self.accepted >= STATEMENTS or self.accepted >= DECLARES) and "as" not in self.accepted


def complain(place: Place, problems: Problems) -> None:
    """One problem for the place: the first that knows it, or the general one."""
    causes = (_reserved, _misplaced, _chain, _unused, _no_value)
    told = next((told for cause in causes if (told := cause(place))), None)
    code, at, message, help = told or _unexpected(place)
    problems.add(code, at.start, at.start if at.kind == NEWLINE else at.end, message, help)


class _Told(NamedTuple):
    code: str
    token: Token
    message: str
    help: str | None


def _reserved(place: Place) -> _Told | None:
    kind = place.token.kind
    if kind not in reserved() or "NAME" not in place.accepted or place.begins:
        return None
    return _Told(
        "E0108", place.token, f"`{kind}` is a reserved word and names nothing here", f"call it `{kind}_`, perhaps; any word may stand after `as`"
    )


def _misplaced(place: Place) -> _Told | None:
    kind = place.token.kind
    if place.begins and not place.top_level and kind in DECLARES:
        return _Told("E0109", place.token, f"`{kind}` is a declaration, and stands outside all braces", "move it to the top level of the file")
    if place.begins and place.top_level and (kind in STATEMENTS or kind == "NAME"):
        meant = closest(place.token.text, DECLARES) if kind == "NAME" else None
        help = f"did you mean `{meant}`?" if meant else "a statement stands in the braces of a `model`, `block` or `energy`"
        return _Told("E0109", place.token, f"{_found(place.token)} does not begin a declaration", help)
    return None


def _chain(place: Place) -> _Told | None:
    operator = place.values[1] if len(place.values) == 3 else None
    if place.token.kind in COMPARISONS and isinstance(operator, Token) and operator.kind in COMPARISONS:
        return _Told("E0107", place.token, "comparisons do not chain", "compare twice and multiply: `(a < b) * (b < c)`")
    return None


def _unused(place: Place) -> _Told | None:
    """A statement that begins with a name goes on with `=` or `<-`."""
    if not {"=", "<-"} <= place.accepted or place.top_level:
        return None
    word, kind = place.previous.text, place.token.kind
    meant = closest(word, STATEMENTS)
    if meant and kind not in ("(", "[", NEWLINE):
        return _Told("E0107", place.previous, f"`{word}` begins no statement", f"did you mean `{meant}`?")
    return _Told(
        "E0107",
        place.token,
        f"expected `=` or `<-` after `{word}`, found {_found(place.token)}",
        f"a statement binds what it computes: `h = {word}…`",
    )


def _no_value(place: Place) -> _Told | None:
    if place.token.kind == "}" and place.begins and "NUMBER" in place.accepted:
        return _Told(
            "E0107", place.token, "expected the value of this body, found `}`", "the last line of `each` and `on` is an expression, its value"
        )
    return None


def _unexpected(place: Place) -> _Told:
    token, accepted = place.token, place.accepted
    if place.begins:
        accepted -= {NEWLINE, "}"}
    return _Told("E0107", place.token, f"expected {_listed(accepted)}, found {_found(token)}", _meant(place))


def _meant(place: Place) -> str | None:
    kind, accepted = place.token.kind, place.accepted
    if kind == NEWLINE and "{" in accepted:
        return "`{` stands on the line of its statement"
    if kind == "*" and place.previous.kind == "*":
        return "a power is written `x ^ 2`"
    if kind == "." and "NUMBER" in accepted:
        return "a number begins with a digit: `0.5`"
    if kind == "NUMBER" and place.previous.kind == ".":
        return "copies of a stack are written `layers[3]`, or `layers[*]` for all"
    if accepted == {"}"} and place.previous.kind == NEWLINE:
        return "the value of `each` and `on` is on their last line; a line before it binds a name: `h = …`"
    if kind == "," and "|" in accepted and ")" in accepted:
        return "an energy has one variable; what is held fixed comes after a bar: `energy e(x: [d] | c: [d])`"
    if kind == "=" and "+" in accepted:
        return "`=` binds a name at the beginning of a statement; equality is `==`"
    if kind in _OPERATORS and place.previous.kind == NEWLINE:
        return "a newline ends a statement, unless the innermost open bracket is `(` or `[`: put the expression in parentheses"
    return _MEANT.get(kind)


def _found(token: Token) -> str:
    text = token.text if len(token.text) <= 30 else token.text[:27] + "…"
    return _PHRASES[token.kind] if token.kind in (NEWLINE, END) else f"`{text}`"


def _listed(accepted: frozenset[str]) -> str:
    """What may stand here, in a few words: groups first, then single signs."""
    left = set(accepted)
    if reserved() <= accepted:
        left -= reserved()
    if NEWLINE in left:
        left -= {"}", END}
    phrases = []
    for group, phrase, beside in _GROUPS:
        if group <= left:
            phrases.append(phrase)
            left -= group | beside
    phrases = [*(_PHRASES.get(kind, f"`{kind}`") for kind in sorted(left)), *phrases]
    return " or ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))
