"""Text to tree.

The tables are lark's; the walk over them is here, because it does what lark's does not: it goes on after an error at the next statement, it
measures how deep the tree gets, and it starts without importing lark.
"""

from __future__ import annotations

from typing import Any

from mptc.source.diagnostic import Diagnostics
from mptc.source.text import MOST_CHARACTERS, Source, Span
from mptc.syntax import tree
from mptc.syntax.brackets import DECLARES, DEEPEST, TOO_DEEP_HELP, balance
from mptc.syntax.construct import MAKE, At
from mptc.syntax.expected import Place, complain
from mptc.syntax.lexer import NEWLINE, Token, tokenize
from mptc.syntax.problems import Problems
from mptc.syntax.tables import END, START, Rule, load

_LONGEST_STACK = 2_000


def parse(source: Source, diagnostics: Diagnostics) -> tree.File | None:
    """The tree, or None where the text is wrong; then the diagnostics say how. No text makes it raise."""
    problems = Problems(source)
    file = _parse(source, problems)
    problems.tell(diagnostics)
    return None if problems.found else file


def _parse(source: Source, problems: Problems) -> tree.File | None:
    size = len(source.text)
    if size > MOST_CHARACTERS:
        problems.add("E0111", 0, 0, f"this file has more than {MOST_CHARACTERS:,} characters", "split it with `use`")
        return None
    tokens = tokenize(source.text, problems)
    balanced = None if problems.enough else balance(tokens, problems)
    return None if balanced is None else _Walk(source, problems, balanced).run()


class _Inner(list[Any]):
    """The parts of an inner rule, on their way into the rule around it."""


class _Walk:
    """One walk of the tables over the tokens. The stacks hold, for each symbol read: its state, its value, where it is, its height as a tree."""

    def __init__(self, source: Source, problems: Problems, tokens: list[Token]) -> None:
        tables = load()
        self.source, self.problems, self.tokens = source, problems, tokens
        self.actions, self.gotos, self.rules = tables.actions, tables.gotos, tables.rules
        self.states = [0]
        self.values: list[Any] = [None]
        self.starts = [0]
        self.ends = [0]
        self.heights = [0]
        self.resumed = -1
        self.skipped: list[tuple[int, int]] = []
        self.given_up = False

    def run(self) -> tree.File | None:
        place, states, actions, rules = 0, self.states, self.actions, self.rules
        while not self.given_up:
            token = self.tokens[place]
            action = actions[states[-1]].get(token.kind)
            if action is None:
                place = self._recover(place)
            elif action >= 0:
                self._push(action, token, token.start, token.end, 0)
                place += 1
            elif (rule := rules[-action - 1]).passes:
                states[-1] = self.gotos[states[-2]][rule.origin]
            elif self._reduce(rule):
                self.problems.forget("E0106", self.skipped)
                file: tree.File = self.values[-1]
                return file
        return None

    def _push(self, state: int, value: Any, start: int, end: int, height: int) -> None:
        self.states.append(state)
        self.values.append(value)
        self.starts.append(start)
        self.ends.append(end)
        self.heights.append(height)
        if height > DEEPEST or len(self.states) > _LONGEST_STACK:
            self.problems.add("E0110", start, min(end, self._line_end(start)), f"this nests deeper than {DEEPEST}", TOO_DEEP_HELP)
            self.given_up = True

    def _line_end(self, start: int) -> int:
        end = self.source.text.find("\n", start)
        return len(self.source.text) if end < 0 else end

    def _pop_to(self, length: int) -> None:
        for stack in (self.states, self.values, self.starts, self.ends, self.heights):
            del stack[length:]

    def _reduce(self, rule: Rule) -> bool:
        """Replace the symbols of a rule by what it makes. True at the end: the file is made."""
        base = len(self.states) - rule.size
        start, end = (self.starts[base], self.ends[-1]) if rule.size else (self.ends[-1], self.ends[-1])
        height = max(self.heights[base:], default=0)
        parts = self._parts(rule, base)
        self._pop_to(base)
        if rule.inner or (rule.single and len(parts) == 1):
            value: Any = parts
        else:
            value, height = MAKE[rule.name](parts, At(Span(self.source, start, end), self.problems)), height + 1
        self._push(self.gotos[self.states[-1]][rule.origin], value, start, end, height)
        return rule.origin == START

    def _parts(self, rule: Rule, base: int) -> _Inner:
        """The values that a rule keeps, inner ones opened. A list that grows by one at a time is not copied each time."""
        parts = _Inner()
        for kept in rule.kept:
            value = self.values[base + kept]
            if not isinstance(value, _Inner):
                parts.append(value)
            elif parts or not rule.inner:
                parts.extend(value)
            else:
                parts = value
        return parts

    # -- errors --

    def _recover(self, place: int) -> int:
        """Report the token, drop the statement that it stands in, and return the place of the next one."""
        token = self.tokens[place]
        length = self._list_start(len(self.states))
        begins = length == len(self.states)
        if not self._echo(place, token.start if begins else self.starts[length]):
            complain(self._place(place), self.problems)
        if begins and token.kind == "}":
            length = self._list_start(length - 1)
        depth, before = self._open_braces(), len(self.states)
        self._pop_to(length)
        self.resumed = self._next(place, depth)
        self.given_up = self.problems.enough or (self.resumed == place and length == before)
        self.skipped.append((token.end, self.tokens[self.resumed].start))
        return self.resumed

    def _list_start(self, length: int) -> int:
        """How much of the stack to keep, at most `length`, so that a statement or declaration may follow."""
        if self._brace(length - 1) == "}":
            length = max(place for place in range(length) if self._brace(place) == "{")
        while length > 1 and not self._is_list(self.states[length - 1]):
            length -= 1
        return max(length, 1)

    def _brace(self, place: int) -> str | None:
        """The brace at this place of the stack, if one is there. One that closes is on top: the next token makes a whole of it."""
        value = self.values[place]
        return value.kind if isinstance(value, Token) and value.kind in ("{", "}") else None

    def _is_list(self, state: int) -> bool:
        return "_statement" in self.gotos[state] or "_declaration" in self.gotos[state]

    def _echo(self, place: int, start: int) -> bool:
        """Whether the error follows from one that has been reported: in the same statement, or where one was dropped."""
        token = self.tokens[place]
        made_up = token.start == token.end and token.kind != END
        return made_up or (place == self.resumed and token.kind == "}") or self.problems.covers(start, token.start)

    def _open_braces(self) -> int:
        braces = [self._brace(place) for place in range(len(self.values))]
        return braces.count("{") - braces.count("}")

    def _next(self, place: int, depth: int) -> int:
        """The first token of the next statement of the body on top of the stack, or the brace that ends it."""
        inside = self._open_braces()
        for at in range(place, len(self.tokens)):
            kind = self.tokens[at].kind
            if kind == "{":
                depth += 1
            elif kind == "}":
                depth -= 1
                if depth < inside:
                    return at
            elif kind == NEWLINE and depth == inside and (inside or self.tokens[at + 1].kind in (*DECLARES, END)):
                return at + 1
        return len(self.tokens) - 1

    def _place(self, place: int) -> Place:
        top_level = "_declaration" in self.gotos[self.states[self._list_start(len(self.states)) - 1]]
        return Place(self.tokens[place], self.tokens[max(place - 1, 0)], self._accepted(), top_level, tuple(self.values[-3:]))

    def _accepted(self) -> frozenset[str]:
        """The terminals that may stand here. The table's row alone promises too many: its reductions are shared between contexts."""
        return frozenset(kind for kind in self.actions[self.states[-1]] if self._accepts(kind))

    def _accepts(self, kind: str) -> bool:
        height = len(self.states)
        above: list[int] = []
        while True:
            action = self.actions[above[-1] if above else self.states[height - 1]].get(kind)
            if action is None or action >= 0:
                return action is not None
            rule = self.rules[-action - 1]
            if rule.origin == START:
                return True
            inside = min(rule.size, len(above))
            del above[len(above) - inside :]
            height -= rule.size - inside
            above.append(self.gotos[above[-1] if above else self.states[height - 1]][rule.origin])
