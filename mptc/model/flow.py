"""How far ahead a value looks, and on which way: the facts that the proof of causality computes for each value.

`on[a] = n` says: at token i the value depends on argument a at tokens up to i + n. `past` keeps n, `shift` moves it, `all` makes it infinite. Under
`TOKENS` stand the tokens themselves: that there is one at i + n, as `seq` tells. Dependence on one place more than there is costs a refusal and never
a leak, so every rule rounds up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mptc.model.tree import Apply, Per
from mptc.source.text import Span

TOKENS = -1
FOREVER = math.inf
MOST_SOURCES = 8  # of one value's leaks so many are told apart
Source = tuple[str, Span]


@dataclass(frozen=True)
class Bar:
    """A construct by its name, where it stands, and the calls from there outwards."""

    what: str
    span: Span
    calls: tuple[Span, ...] = ()

    def under(self, call: Span) -> Bar:
        return Bar(self.what, self.span, (*self.calls, call))


@dataclass(frozen=True, eq=False)
class Trail:
    """The way of a later token so far: one step, and those before it. The first is the construct that lets it in."""

    span: Span
    text: str
    before: Trail | None = None
    view: Span | None = None  # of the first step, where it is a gradient: the view that it goes back through

    def steps(self) -> list[Trail]:
        """From the construct on."""
        found: list[Trail] = []
        trail: Trail | None = self
        while trail is not None:
            found.append(trail)
            trail = trail.before
        return found[::-1]


@dataclass(frozen=True)
class Back:
    """How many tokens back a derivative reaches, and the view through which it reaches furthest."""

    tokens: float
    view: Apply | None = None


@dataclass(frozen=True)
class Flow:
    """Of a value: how often it exists, what it depends on, what it has a derivative by, and what lets later tokens into it."""

    per: Per = Per.CONSTANT
    on: Mapping[int, float] = field(default_factory=dict)
    by: Mapping[int, Back] = field(default_factory=dict)
    late: Mapping[Source, Trail] = field(default_factory=dict)

    @property
    def ahead(self) -> float:
        """How many tokens ahead it looks; below 0 where it only looks back."""
        return max(self.on.values(), default=-FOREVER)

    def state(self) -> tuple[object, ...]:
        """What a loop must keep to be understood: all but the trails."""
        return self.per, dict(self.on), {index: back.tokens for index, back in self.by.items()}, frozenset(self.late)

    def moved(self, ahead: float) -> Flow:
        """Of tokens so many places later; that these exist is seen too."""
        on = {index: tokens + ahead for index, tokens in self.on.items()}
        if ahead > 0:
            on[TOKENS] = max(on.get(TOKENS, ahead), ahead)
        late = self.late if max(on.values(), default=0) > 0 else {}
        return replace(self, on=on, late=late)

    def reaching(self, back: float, view: Apply) -> Flow:
        """With derivatives that go through a view of so many tokens back."""
        by = {index: Back(each.tokens + back, view if back > 0 else each.view) for index, each in self.by.items()}
        return replace(self, by=by)

    def let_in(self, source: Source, trail: Trail) -> Flow:
        return self if len(self.late) >= MOST_SOURCES else replace(self, late={**self.late, source: trail})

    def through(self, span: Span, text: str) -> Flow:
        """After one more step on the way of every later token in it."""
        if not self.late:
            return self
        return replace(self, late={source: Trail(span, text, trail) for source, trail in self.late.items()})

    def under(self, args: list[Flow], call: Span, name: str) -> Flow:
        """A callee's result, in the terms of its caller."""
        made = joined([_composed(self, index, arg) for index, arg in enumerate(args) if index in self.on])
        on = dict(made.on)
        if TOKENS in self.on:
            on[TOKENS] = max(on.get(TOKENS, -FOREVER), self.on[TOKENS])
        if max(on.values(), default=0) <= 0:
            return Flow(max((self.per, *(arg.per for arg in args))), on, made.by)
        own = {source: Trail(call, f"out of `{name}`", trail) for source, trail in self.late.items()}
        return Flow(max((self.per, *(arg.per for arg in args))), on, made.by, _capped({**own, **made.late}))

    def grown(self, other: Flow) -> Flow:
        """Both, where what still grows will go on growing: the end of a loop whose passes add to each other."""
        both = joined((self, other))
        on = {index: FOREVER if tokens > self.on.get(index, tokens) else tokens for index, tokens in both.on.items()}
        grew = {index for index, back in both.by.items() if index in self.by and back.tokens > self.by[index].tokens}
        by = {index: Back(FOREVER, back.view) if index in grew else back for index, back in both.by.items()}
        return replace(both, on=on, by=by)

    def scattered(self) -> Flow:
        """Among chosen tokens the next one may be any number of places away."""
        on = {index: FOREVER if tokens > 0 else tokens for index, tokens in self.on.items()}
        by = {index: Back(FOREVER, back.view) if back.tokens > 0 else back for index, back in self.by.items()}
        return replace(self, on=on, by=by)


def _composed(result: Flow, index: int, arg: Flow) -> Flow:
    """What a result sees through one argument."""
    on = {mine: tokens + result.on[index] for mine, tokens in arg.on.items()}
    by: dict[int, Back] = {}
    if index in result.by:
        inner = result.by[index]
        by = {mine: Back(back.tokens + inner.tokens, inner.view or back.view) for mine, back in arg.by.items()}
    return Flow(arg.per, on, by, arg.late if max(on.values(), default=0) > 0 else {})


def joined(flows: Iterable[Flow]) -> Flow:
    """What depends on all of these."""
    per, on, by, late = Per.CONSTANT, dict[int, float](), dict[int, Back](), dict[Source, Trail]()
    for flow in flows:
        per = max(per, flow.per)
        for index, tokens in flow.on.items():
            on[index] = max(on.get(index, tokens), tokens)
        for index, back in flow.by.items():
            if index not in by or by[index].tokens < back.tokens:
                by[index] = back
        for source, trail in flow.late.items():
            late.setdefault(source, trail)
    return Flow(per, on, by, _capped(late))


def _capped(late: dict[Source, Trail]) -> dict[Source, Trail]:
    return late if len(late) <= MOST_SOURCES else dict(list(late.items())[:MOST_SOURCES])
