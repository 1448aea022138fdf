"""Text to tokens, by the terminals of the grammar.

What is no token is reported, and left out or taken for what it was meant to be: one wrong character costs one message.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from mptc.syntax.problems import Problems
from mptc.syntax.tables import END, load

NEWLINE = "_NL"
COMMENT = "COMMENT"
LONGEST_NAME = 100
LARGEST_EXPONENT = 300
LONGEST_NUMBER = 60


class Token(NamedTuple):
    """`kind` is a terminal of the grammar; that of a reserved word or a sign is its text."""

    kind: str
    text: str
    start: int
    end: int


# What comes where no terminal fits: enough of it to say what was meant.
_WRONG = r"(?P<open_string>\"[^\n]*)|(?P<underscored>_\w*)|(?P<other>[^\x00-\x7f]+|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+|.)"
# A number that runs on: `3x`, `1__0`, `5.`, `1.2.3`.
_RUNS_ON = re.compile(r"[A-Za-z0-9_]+|\.(?=[0-9\s)\],]|$)[A-Za-z0-9_.]*")

_MEANT = {
    "!": "mpt has no `!`; comparisons are `<`, `<=`, `>`, `>=` and `==`",
    "%": "mpt has no `%`",
    "&": "for numbers that are 0 or 1, write `*` for and",
    ";": "a newline ends a statement",
    "'": 'a path is written in double quotes: use "lib/std.mpt"',
    "$": "names are made of ASCII letters, digits and `_`",
    "\ufeff": "this is a byte-order mark; save the file without it",
    "\ufffd": "the file is not UTF-8 here; save it as UTF-8",
    "\x00": "this is a NUL byte; a spec is a text file",
}


@cache
def _pattern() -> re.Pattern[str]:
    tables = load()
    signs = sorted((text for text in tables.literals if not text.isalpha()), key=len, reverse=True)
    named = [f"(?P<{name}>{pattern})" for name, pattern in tables.patterns.items()]
    return re.compile("|".join([*named, "(?P<sign>" + "|".join(map(re.escape, signs)) + ")", _WRONG]))


@cache
def reserved() -> frozenset[str]:
    """The words that no declaration may bear: those that the grammar writes out."""
    return frozenset(text for text in load().literals if text.isalpha())


def tokenize(text: str, problems: Problems) -> list[Token]:
    """The tokens with every newline still among them, and an END."""
    words = reserved()
    ignored = frozenset(load().ignored)
    tokens = []
    resume = 0
    for match in _pattern().finditer(text):
        kind, start, end = match.lastgroup or "", match.start(), match.end()
        if kind in ignored or start < resume:
            continue
        written = match.group()
        if kind == "NAME":
            kind = written if written in words else kind
            _check_name(written, start, problems)
        elif kind == "sign":
            kind = written
        elif kind == "NUMBER":
            resume = _check_number(text, start, end, problems)
        elif kind not in _KINDS:
            _complain(kind, written, start, problems)
            if kind == "other":
                continue
            kind = _TAKEN_FOR[kind]
        tokens.append(Token(kind, written, start, max(end, resume)))
    return [*tokens, Token(END, "", len(text), len(text))]


def comments(text: str) -> list[Token]:
    """What `tokenize` leaves out and a reader of the text would miss."""
    return [Token(COMMENT, match.group().rstrip(), *match.span()) for match in _pattern().finditer(text) if match.lastgroup == COMMENT]


_KINDS = frozenset({"STRING", NEWLINE})
_TAKEN_FOR = {"open_string": "STRING", "underscored": "NAME"}


def _check_name(name: str, start: int, problems: Problems) -> None:
    if len(name) > LONGEST_NAME:
        problems.add("E0102", start, start + len(name), f"a name of {len(name)} letters; {LONGEST_NAME} is the most")


def _check_number(text: str, start: int, end: int, problems: Problems) -> int:
    """The end of the number, with what runs on after it."""
    more = _RUNS_ON.match(text, end)
    if more and more.group().rstrip("."):
        help = "digits may be grouped by single `_`: `30_000`; a name begins with a letter"
        problems.add("E0103", start, more.end(), f"`{_short(text[start : more.end()])}` is not a number", help)
    elif more:
        problems.add("E0103", start, more.end(), "a number does not end with a point", f"write `{_short(text[start:end])}`")
    elif too_large(text[start:end]):
        help = f"a number has at most {LONGEST_NUMBER} characters and an exponent of at most {LARGEST_EXPONENT}"
        problems.add("E0103", start, end, "this number is out of range", help)
    return more.end() if more else end


def too_large(number: str) -> bool:
    """Numbers are exact, so their length and exponent have limits."""
    _, _, exponent = number.lower().partition("e")
    return len(number) > LONGEST_NUMBER or (exponent != "" and abs(int(exponent)) > LARGEST_EXPONENT)


def _complain(kind: str, written: str, start: int, problems: Problems) -> None:
    end = start + len(written)
    if kind == "open_string":
        problems.add("E0104", start, end, 'this path is not closed: a `"` is missing at its end', 'write it on one line: use "lib/std.mpt"')
    elif kind == "underscored":
        help = "a name is ASCII letters, digits and `_`"
        problems.add("E0102", start, end, f"`{_short(written)}` is not a name: a name begins with a letter", help)
    else:
        help = _MEANT.get(written[0], "names are ASCII letters, digits and `_`; any character may stand in a comment, after `#`")
        problems.add("E0101", start, end, f"{_character(written)} has no meaning here", help)


def _character(written: str) -> str:
    """A character that may not be shown as it is, by its number."""
    first = written[0]
    return f"`{_short(written)}`" if written.isprintable() else f"the character U+{ord(first):04X}"


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:27] + "…"
