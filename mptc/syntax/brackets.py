"""Brackets, before anything else: which close which, and so which newlines end a statement.

A bracket that is never closed would swallow the rest of a file, and the parser would complain about its last line. So brackets are paired
first, what has no partner is reported where it opens, and the parser is given tokens whose braces are in balance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mptc.source.diagnostic import Note
from mptc.syntax.lexer import NEWLINE, Token
from mptc.syntax.problems import Problems
from mptc.syntax.tables import END

DEEPEST = 100
TOO_DEEP_HELP = "bind a part of it to a name first, and use the name"
CLOSER = {"(": ")", "[": "]", "{": "}"}
OPENER = {closer: opener for opener, closer in CLOSER.items()}
DECLARES = frozenset({"use", "dim", "const", "types", "context", "variant", "energy", "block", "model"})


def balance(tokens: list[Token], problems: Problems) -> list[Token] | None:
    """The tokens that the parser reads: newlines that end nothing left out, braces in balance. None where brackets nest too deep."""
    pairing = _Pairing(tokens)
    pairing.run()
    if pairing.open_braces:
        pairing = _Pairing(tokens, guesses=True)
        pairing.run()
    if pairing.too_deep:
        problems.add("E0110", pairing.too_deep.start, pairing.too_deep.end, f"brackets nest deeper than {DEEPEST} here", TOO_DEEP_HELP)
        return None
    pairing.report(problems)
    return _newlines(pairing)


@dataclass
class _Pairing:
    """One walk over the tokens. With `guesses`, a brace known to be missing is put where the layout says that it belongs."""

    tokens: list[Token]
    guesses: bool = False
    stack: list[int] = field(default_factory=list)
    unclosed: list[tuple[int, int]] = field(default_factory=list)  # opener, where that was noticed
    stray: list[int] = field(default_factory=list)
    added: dict[int, int] = field(default_factory=dict)  # before this token so many closing braces are missing
    too_deep: Token | None = None
    open_braces: bool = False
    _indents: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        indent, line_starts = 0, True
        for place, token in enumerate(self.tokens):
            kind = token.kind
            if kind == NEWLINE:
                line_starts = True
                continue
            if line_starts:
                indent = token.start - (self.tokens[place - 1].end if place else 0)
                line_starts = False
                self._at_line_start(place, indent)
            if kind in CLOSER:
                self._open(place, indent)
            elif kind in OPENER:
                self._close(place)
            elif kind == END:
                self.open_braces = any(self.tokens[opener].kind == "{" for opener in self.stack)
                self._abandon(0, place)
            if self.too_deep:
                return

    def _open(self, place: int, indent: int) -> None:
        self.stack.append(place)
        self._indents[place] = indent
        if len(self.stack) > DEEPEST:
            self.too_deep = self.tokens[place]

    def _close(self, place: int) -> None:
        """Pair a closer with the nearest opener of its kind that no open brace stands before; openers passed over are unclosed."""
        wanted = OPENER[self.tokens[place].kind]
        for level in range(len(self.stack) - 1, -1, -1):
            kind = self.tokens[self.stack[level]].kind
            if kind == wanted:
                self._abandon(level + 1, place)
                self.stack.pop()
                return
            if kind == "{":
                break
        if self.stack and self.tokens[self.stack[-1]].kind != "{" and wanted != "{":
            self.unclosed.append((self.stack.pop(), place))
        self.stray.append(place)

    def _at_line_start(self, place: int, indent: int) -> None:
        if self.guesses and self.stack:
            if self._begins_declaration(place):
                self._abandon(0, place)
            elif self.tokens[place].kind == "}":
                level = len(self.stack)
                while level > 1 and self._indents[self.stack[level - 1]] > indent:
                    level -= 1
                self._abandon(level, place)

    def _begins_declaration(self, place: int) -> bool:
        after = self.tokens[min(place + 1, len(self.tokens) - 1)]
        return self.tokens[place].kind in DECLARES and after.kind in ("NAME", "STRING")

    def _abandon(self, level: int, place: int) -> None:
        """Give up the openers from `level` on: nothing before `place` closes them."""
        for opener in self.stack[level:]:
            self.unclosed.append((opener, place))
            if self.tokens[opener].kind == "{":
                self.added[place] = self.added.get(place, 0) + 1
        del self.stack[level:]

    def report(self, problems: Problems) -> None:
        """Of brackets given up at one place, the innermost and the innermost brace: the others may well be an echo."""
        told = set()
        for opener, noticed in reversed(self.unclosed):
            token = self.tokens[opener]
            if (key := (noticed, token.kind == "{")) not in told:
                told.add(key)
                _report_unclosed(token, self.tokens[noticed], problems)
        paired_wrongly = {noticed for _, noticed in self.unclosed}
        for place in self.stray:
            token = self.tokens[place]
            if place not in paired_wrongly:
                help = f"remove it, or open a `{OPENER[token.kind]}` before it"
                problems.add("E0106", token.start, token.end, f"this `{token.text}` closes nothing", help)


def _report_unclosed(opener: Token, noticed: Token, problems: Problems) -> None:
    closer = CLOSER[opener.kind]
    notes = () if noticed.kind == END else (Note(problems.span(noticed.start, noticed.end), f"no `{closer}` before this"),)
    problems.add("E0105", opener.start, opener.end, f"this `{opener.kind}` is never closed", f"add the missing `{closer}`", notes)


def _newlines(pairing: _Pairing) -> list[Token]:
    """Drop newlines inside `(` and `[`, make one of several, drop stray closers, and add the closing braces that are missing."""
    forgotten = {opener for opener, _ in pairing.unclosed if pairing.tokens[opener].kind != "{"}
    stray = set(pairing.stray)
    kept: list[Token] = []
    opened: list[str] = []
    for place, token in enumerate(pairing.tokens):
        if place in pairing.added:
            kept.extend([Token("}", "", token.start, token.start)] * pairing.added[place])
            del opened[len(opened) - pairing.added[place] :]
            if token.kind in DECLARES:
                kept.append(Token(NEWLINE, "", token.start, token.start))
        if token.kind == NEWLINE:
            if not (opened and opened[-1] != "{") and not (kept and kept[-1].kind == NEWLINE):
                kept.append(token)
        elif place not in stray:
            if token.kind in CLOSER and place not in forgotten:
                opened.append(token.kind)
            elif token.kind in OPENER:
                opened.pop()
            kept.append(token)
    return kept
