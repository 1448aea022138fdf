"""Numbers: an expression with the axes that are wanted, by rules that other files add to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.programs.scope import OPERATIONS, Name, Scope
from tests.programs.term import ATOM, NEGATED, NONE, TOKEN, Axes, Term, called, infix, joined, literal

LARGE = 4.0  # numbers beyond are made smaller


@dataclass(frozen=True)
class Want:
    """What an expression should be: exactly these dims and contexts (all limited); `mine` where it must depend on the energy's variable."""

    axes: Axes = NONE
    over: Axes = NONE
    depth: int = 2
    mine: bool = False

    def deeper(self, **changed: object) -> Want:
        return replace(self, **{"depth": self.depth - 1, **changed})  # type: ignore[arg-type]

    @property
    def beside(self) -> Want:
        """For an operand that need not depend on the variable."""
        return replace(self, depth=self.depth - 1, mine=False)


Rule = Callable[[Scope, Want], "Term | None"]
RULES: list[tuple[int, Rule]] = []


def rule(weight: int) -> Callable[[Rule], Rule]:
    """Adds a way to make a number, so often. It gives None where it does not apply; what it makes is fitted to what is wanted."""

    def add(made: Rule) -> Rule:
        RULES.append((weight, made))
        return made

    return add


def number(scope: Scope, want: Want) -> Term:
    """A value with exactly the axes and contexts that are wanted."""
    scope.world.spent += 1
    made: Term | None = None
    if want.depth > 0 and scope.world.spent < OPERATIONS:
        made = scope.draw.weighted(RULES)(scope, want)
    if made is None:
        made = leaf(scope, want)
    elif want.mine and not made.mine:
        made = combined(scope, leaf(scope, want), made)
    return tamed(scope, fitted(scope, made, want))


def tamed(scope: Scope, term: Term) -> Term:
    """About as large as 1: what is made of many would else leave the numbers that float64 tells apart."""
    if term.size <= LARGE or term.infinite:
        return term
    shrunk = literal(f"{1 / term.size:.1g}")
    scaled = infix("*", shrunk, term, size=1.0)
    return scope.draw.choice([scaled, called("tanh", scaled), scaled])


# -- what is there already ----------------------------------------------------------------------------------


def leaf(scope: Scope, want: Want) -> Term:
    if want.mine:
        mine = [entry for entry in scope.numbers() if entry.term.mine]
        return scope.use(closest(scope, [entry for entry in mine if _near(entry, want)] or mine, want))
    near = [entry for entry in scope.numbers() if _near(entry, want)]
    kind = scope.draw.weighted([(14 if near else 0, "name"), (2 if want.axes else 0, "parameter"), (1, "literal")])
    if kind == "name":
        return scope.use(closest(scope, near, want))
    if kind == "parameter":
        return scope.parameter(sorted(want.axes), base="b")
    return scope.draw.choice([literal(0.5), literal(2), *(Term(const) for const in scope.world.consts)])


def closest(scope: Scope, entries: list[Name], want: Want) -> Name:
    """One of them, most often one that takes little to make what is wanted of it."""
    if scope.draw.chance(25):
        return picked(scope, entries)

    def far(entry: Name) -> int:
        term = entry.term
        return 4 * len(want.over - term.seen) + 2 * len(term.axes ^ want.axes) + 3 * (term.per == 0) + entry.used

    return scope.draw.choice(sorted(entries, key=far)[:3])


def _near(entry: Name, want: Want) -> bool:
    """Whether it takes no reduction of a context to make what is wanted of it."""
    return entry.term.contexts <= want.over and not entry.term.infinite


def picked(scope: Scope, entries: list[Name]) -> Name:
    """One of them: most often the last that nothing has read."""
    unread = [entry for entry in entries if not entry.used]
    if unread and scope.draw.chance(60):
        return unread[-1]
    return scope.draw.choice(entries)


# -- making it fit ------------------------------------------------------------------------------------------


def fitted(scope: Scope, term: Term, want: Want) -> Term:
    term = _without_contexts(scope, term, want)
    extra = sorted(term.axes - want.axes)
    missing = sorted(want.axes - term.axes)
    if extra and missing and scope.draw.chance(70):
        W = scope.parameter(shuffled(scope, [*missing, *extra]))
        return fitted(scope, contracted(scope, W, term), want)
    if extra:
        term = reduced(scope, term, extra)
    for context in sorted(want.over - term.seen):
        term = combined(scope, term, view_of_something(scope, context, want))
        term = reduced(scope, term, sorted(term.axes - want.axes)) if term.axes - want.axes else term
    missing = sorted(want.axes - term.axes)
    return _along(scope, term, missing) if missing else term


def _without_contexts(scope: Scope, term: Term, want: Want) -> Term:
    for context in sorted(term.contexts - want.over):
        if context in term.unlimited:
            term = combined(scope, term, view_of_something(scope, context, want))
        term = over_context(scope, term, context)
    return term


def _along(scope: Scope, term: Term, missing: list[str]) -> Term:
    """The same with more dims."""
    names = [entry for entry in scope.numbers() if entry.term.axes & set(missing) and not entry.term.contexts and entry.term.axes <= set(missing)]
    kind = scope.draw.choice(["parameter", "bias", "index", *(["name"] * 3 if names else [])])
    if kind == "index":
        one = scope.draw.choice(missing)
        scope.naming(one)
        more = called("cos", infix("+", Term(f"index({one})", axes=frozenset([one])), literal(0.5)))
    elif kind == "name":
        more = scope.use(picked(scope, names))
    else:
        more = scope.parameter(shuffled(scope, missing), base="b" if kind == "bias" else "gain")
    term = infix("+" if kind == "bias" else "*", term, more) if not term.infinite else infix("+", term, more)
    left = sorted(set(missing) - term.axes)
    return _along(scope, term, left) if left else term


def view_of_something(scope: Scope, context: str, want: Want) -> Term:
    """A value that has this context, to limit another."""
    names = [entry for entry in scope.numbers() if entry.term.seen == {context} and entry.term.axes <= want.axes]
    if names and (context in scope.world.memories or scope.draw.chance(70)):
        return scope.use(picked(scope, names))
    if context in scope.world.memories:
        memory = next(entry for entry in scope.numbers() if context in entry.term.seen)
        term = scope.use(memory)
        term = reduced(scope, term, sorted(term.axes - want.axes)) if term.axes - want.axes else term
        for other in sorted(term.contexts - {context}):
            term = over_context(scope, term, other)
        return term
    from tests.programs.views import viewed

    return viewed(scope, Want(scope.draw.choice([NONE, want.axes]), depth=min(want.depth - 1, 1)), context)


# -- pieces that several rules use ---------------------------------------------------------------------------


def shuffled(scope: Scope, several: list[str]) -> list[str]:
    left, result = list(several), []
    while left:
        result.append(left.pop(scope.draw.integer(0, len(left) - 1)))
    return result


def combined(scope: Scope, left: Term, right: Term) -> Term:
    """Two values as one that depends on both."""
    if left.infinite or right.infinite:
        return infix("+", left, right, size=left.size + right.size)
    kind = scope.draw.choice(["*", "+", "-", "tanh"])
    if kind == "*":
        return infix("*", left, right, scope.draw.chance(15), size=left.size * right.size)
    if kind == "tanh":
        return called("tanh", infix("+", left, right), size=0.7)
    return infix(kind, left, right, scope.draw.chance(15), size=math.hypot(left.size, right.size))


def contracted(scope: Scope, left: Term, right: Term) -> Term:
    """`left @ right`: over every dim that both have."""
    shared = left.axes & right.axes
    count = math.prod(length(scope, axis) for axis in shared)
    return infix("@", left, right, axes=(left.axes | right.axes) - shared, size=left.size * right.size * math.sqrt(count))


def length(scope: Scope, axis: str) -> int:
    return scope.world.sizes.get(axis, 4)


def reduced(scope: Scope, term: Term, axes: list[str]) -> Term:
    """Over these dims: a sum, a mean, …"""
    scope.naming(*axes)
    count = math.prod(length(scope, axis) for axis in axes)
    kinds = ["sum"] if term.infinite else ["sum", "mean", "sum", "mean", "logsumexp", "max", "weights"]
    kind = scope.draw.choice(kinds)
    if kind == "weights":
        weights = scope.parameter(shuffled(scope, axes), base="w")
        order = (weights, term) if scope.draw.chance(50) else (term, weights)
        return contracted(scope, *order)
    size = {"sum": math.sqrt(count), "mean": 1 / math.sqrt(count), "logsumexp": 1.0, "max": 1.0}[kind]
    return called(kind, term, brackets=shuffled(scope, axes), axes=term.axes - set(axes), size=term.size * size + (kind == "logsumexp"))


def over_context(scope: Scope, term: Term, context: str) -> Term:
    """Over the tokens that are seen. Over none at all a maximum and a log-sum-exp are -inf."""
    scope.naming(context)
    rest = {"seen": term.seen - {context}, "thin": term.thin - {context}}
    thin = context in term.thin
    kind = scope.draw.weighted([(4, "sum"), (3, "mean"), (0 if thin else 2, "max"), (0 if thin else 3, "logsumexp"), (3, "softmax")])
    if kind == "softmax":
        term = term if term.text.isidentifier() else scope.bind("s", term)
        weights = called("softmax", term, brackets=[context], size=0.4)
        return called("sum", infix("*", weights, term), brackets=[context], size=term.size, **rest)
    size = {"sum": 2.0, "mean": 0.6, "max": 1.0, "logsumexp": 1.0}[kind]
    return called(kind, term, brackets=[context], size=term.size * size + (kind == "logsumexp"), **rest)


def negated(term: Term) -> Term:
    return joined(f"-{term.at(NEGATED + 1)}", NEGATED, [term], size=term.size)


def positive(scope: Scope, want: Want) -> Term:
    """A value that is well above 0."""
    if want.depth <= 0:
        return literal(scope.draw.choice([1.5, 0.75, 2]))
    inner = number(scope, want.deeper())
    kind = scope.draw.choice(["square", "softplus", "exp", "sigmoid", "abs"])
    if kind == "exp":
        return called("exp", called("tanh", inner), least=0.3)
    if kind == "square":
        return infix("+", infix("^", inner, literal(2)), literal(0.5), least=0.5, size=inner.size**2 + 0.5)
    if kind == "abs":
        return infix("+", called("abs", inner), literal(0.3), least=0.3, size=inner.size + 0.3)
    return infix("+", called(kind, inner, size=1.0), literal(0.5), least=0.5, size=1.5)


def tokenwise(scope: Scope, term: Term) -> Term:
    """With a value for each token, where it had one for all."""
    if term.per == TOKEN:
        return term
    tokens = [entry for entry in scope.numbers() if entry.term.per == TOKEN and entry.term.axes <= term.axes and entry.term.contexts <= term.contexts]
    if tokens and scope.draw.chance(70):
        return combined(scope, term, scope.use(picked(scope, tokens)))
    return infix("*", term, called("cos", Term("position", ATOM, per=TOKEN)), per=TOKEN)
