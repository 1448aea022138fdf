"""Choosing: the best entries along an axis, a soft choice of tokens, and experts of which some work for a token."""

from __future__ import annotations

from tests.programs.numbers import Want, length, number, rule, tokenwise
from tests.programs.scope import Scope
from tests.programs.term import NONE, TOKEN, Axes, Term, called, infix, literal


def scores(scope: Scope, axes: Axes, depth: int) -> Term:
    """Something to choose by, of which no two entries are equal."""
    inner = tokenwise(scope, number(scope, Want(axes, NONE, depth)))
    for axis in sorted(axes):
        inner = infix("+", inner, infix("*", literal(0.31), Term(f"index({axis})", axes=frozenset([axis]))))
    return inner


def best(scope: Scope, by: Term, axis: str) -> Term:
    """0 for all but a few of an axis."""
    few = scope.draw.choice([1, 2, 1, length(scope, axis)])
    kind = scope.draw.choice(["softmax", "softmax", "sigmoid", "relu", "exp", "other"])
    if kind == "other":
        s = by if by.text.isidentifier() else scope.bind("s", by)
        other = infix("+", s, infix("*", literal(0.7), called("cos", Term(f"index({axis})", axes=frozenset([axis])))))
        return called("sigmoid", infix("+", s, other).but(f"topk[{axis}]({s.text}, {few}, by = {other.text})"), size=1.0)
    chosen = by.but(f"topk[{axis}]({by.text}, {few})")
    if kind == "exp":
        chosen = by.but(f"topk[{axis}](tanh({by.text}), {few})")
    return called(kind, chosen, brackets=[axis] if kind == "softmax" else [], size=1.0)


@rule(2)
def few_of(scope: Scope, want: Want) -> Term | None:
    """Weights of the best."""
    if not want.axes or want.over or want.mine or scope.energy:
        return None
    axis = scope.draw.choice(sorted(want.axes))
    scope.naming(axis)
    return best(scope, scores(scope, want.axes, want.depth - 1), axis)


@rule(4)
def experts(scope: Scope, want: Want) -> Term | None:
    """`sum[a](w * each a { … })`, the body a layer of its own for each."""
    others = sorted(set(scope.world.sizes) - want.axes)
    if scope.energy or want.over or want.mine or len(others) < 2:
        return None
    axis, within = scope.draw.some(others, 2, 2)
    x = number(scope, Want(frozenset([within]), NONE, 1))
    if within not in x.axes or x.contexts:
        return None
    x = x if x.text.isidentifier() else scope.bind("x", tokenwise(scope, x))
    weights = best(scope, scores(scope, frozenset([axis]), 1), axis)
    names = []
    lines = []
    for base, axes in (("inner", [scope.draw.choice([within, *others[:1]]), within]), ("out", [*sorted(want.axes)]), ("shift", sorted(want.axes))):
        name = scope.fresh(base)
        scope.body.claimed.add(name)
        names.append(name)
        lines.append((name, axes))
    hidden = next(each for each in sorted(scope.world.sizes) if each not in (axis, within))
    scope.naming(axis, within, hidden, *want.axes)
    inner, out, shift = names
    head = [f"param {inner}: [{hidden}, {within}] ~ normal(0.5)", f"param {shift}: [{', '.join(sorted(want.axes))}] ~ normal(0.3)"]
    outer = sorted(want.axes - {hidden})
    made = f"tanh({inner} @ {x.text})"
    if hidden in want.axes:
        head.append(f"param {out}: [{', '.join([*outer, hidden])}] ~ normal(0.5)")
        last = f"{out} * {made} + {shift}"
    else:
        head.append(f"param {out}: [{', '.join([*outer, hidden])}] ~ normal(0.5)")
        last = f"{out} @ {made} + {shift}"
    body = "\n".join([f"each {axis} {{", *head, last, "}"])
    y = x.but(body, axes=want.axes | {axis}, size=2.0)
    y = scope.bind("y", y, updatable=False)
    return called("sum", infix("*", weights, y), brackets=[axis], axes=want.axes, size=2.0)


@rule(2)
def softly(scope: Scope, want: Want) -> Term | None:
    """Soft top-k over the sequence, where later tokens may be seen."""
    if not scope.ahead or scope.energy or want.over or want.mine:
        return None
    return soft(scope, want.depth - 1)


def soft(scope: Scope, depth: int) -> Term:
    inner = infix("+", tokenwise(scope, number(scope, Want(NONE, NONE, depth))), infix("*", literal(0.13), Term("position", per=TOKEN)))
    keep = scope.draw.choice(["2", "seq / 2", "1", "seq", "0.4 * seq"])
    steps = scope.draw.choice(["", "", ", steps = 3"])
    return inner.but(f"softtopk[seq]({inner.text}, keep = {keep}, eps = 1{steps})", per=TOKEN, late=True, size=1.0)
