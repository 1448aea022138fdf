"""Rules for what a token sees: views, what limits them, and reductions over them."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.programs.arithmetic import rope, truth
from tests.programs.numbers import Want, combined, fitted, length, number, over_context, picked, rule, shuffled, tokenwise
from tests.programs.scope import Scope
from tests.programs.term import NONE, TOKEN, Term, called, infix, literal


def viewing(scope: Scope, term: Term) -> bool:
    """Whether this may be viewed here. In an energy its variable may, where the energy may be one that views it."""
    if not term.mine:
        return True
    callee = scope.owner()
    if callee is None or not callee.may_own:
        return False
    callee.own = True
    return True


def see(scope: Scope, term: Term, context: str, full: bool = False) -> Term:
    """A view of a value that every token has; `full`: of one token at least."""
    scope.looking(context)
    if term.mine and not viewing(scope, term):
        term = called("stop", term, mine=False)
    scope.views(term)
    brackets = () if context == "ctx" and scope.draw.chance(80) else (context,)
    kind = scope.draw.choice(["past", "past", "window", *(["all", "all"] if scope.ahead else [])])
    options = f", {scope.draw.choice([2, 3, 1])}" if kind == "window" else ""
    made = called(kind, term, brackets=brackets, options=options, late=term.late or kind == "all")
    made = replace(made, seen=term.seen | {context}, per=TOKEN, size=term.size)
    return limited(scope, made, context) if scope.draw.chance(30) and not full else made


def viewed(scope: Scope, want: Want, context: str) -> Term:
    """A new view, of what stands at hand or of an expression; or one that has a name."""
    names = [entry for entry in scope.numbers() if entry.term.seen == {context} and entry.term.axes == want.axes and not entry.term.infinite]
    if names and scope.draw.chance(50):
        return scope.use(picked(scope, names))
    callee = scope.owner()
    inner = number(scope, Want(want.axes, NONE, want.depth, want.mine and callee is not None and callee.may_own))
    return see(scope, tokenwise(scope, inner), context)


def limited(scope: Scope, view: Term, context: str) -> Term:
    """`only(view, condition)`"""
    condition, thin = _condition(scope, context)
    brackets = (context,) if len(view.contexts) > 1 or scope.draw.chance(20) else ()
    made = called("only", view, replace(condition, mine=False), brackets=brackets)
    return replace(made, axes=view.axes, seen=view.seen, unlimited=view.unlimited, size=view.size, thin=view.thin | ({context} if thin else NONE))


def _condition(scope: Scope, context: str) -> tuple[Term, bool]:
    """A number for each token or pair, and whether there may be no token at all."""
    where = "" if context == "ctx" else f"[{context}]"
    distance = Term(f"distance({context})", unlimited=frozenset([context]), per=TOKEN)
    documents = [entry for entry in scope.ids() if entry.term.per == TOKEN and not entry.term.axes and not entry.term.contexts]
    see_all = "all" if scope.ahead and scope.draw.chance(50) else "past"
    late = see_all == "all"
    kind = scope.draw.choice(["distance", "strict", "documents", "padding", "pair", "rank"])
    scope.looking(context)
    if kind == "distance":
        return infix("<", distance, literal(scope.draw.choice([2, 3, 4]))), False
    if kind == "strict":
        return infix(scope.draw.choice([">", "=="]), distance, literal(scope.draw.choice([0, 1]))), True
    if kind == "documents" and documents:
        ids = scope.use(scope.draw.choice(documents))
        scope.views(ids)
        seen = replace(ids, text=f"{see_all}{where}({ids.text})", seen=frozenset([context]), late=late or ids.late)
        return infix("==", seen, ids), False
    if kind == "pair":
        one = number(scope, Want(depth=1))
        other = see_all_of(scope, context, see_all)
        return infix(">", infix("*", one, other), literal(-0.2)), True
    score = tokenwise(scope, number(scope, Want(depth=1)))
    if score.mine and not viewing(scope, score):
        score = called("stop", score, mine=False)
    score = scope.bind("s", score) if scope.draw.chance(70) or not score.text.isidentifier() else score
    scope.views(score)
    seen = replace(score, text=f"{see_all}{where}({score.text})", seen=frozenset([context]), late=late or score.late)
    if kind == "rank":
        return infix(scope.draw.choice([">=", ">"]), seen, score), True
    return infix(">", seen, literal(-0.3)), True


def see_all_of(scope: Scope, context: str, function: str) -> Term:
    where = "" if context == "ctx" else f"[{context}]"
    inner = tokenwise(scope, number(scope, Want(depth=1)))
    if inner.mine and not viewing(scope, inner):
        inner = called("stop", inner, mine=False)
    scope.views(inner)
    return replace(inner, text=f"{function}{where}({inner.text})", level=6, seen=inner.seen | {context}, late=inner.late or function == "all")


# -- rules --------------------------------------------------------------------------------------------------


@rule(12)
def pooled(scope: Scope, want: Want) -> Term | None:
    """A reduction over a context of an expression in it."""
    contexts = [context for context in scope.contexts() if context not in want.over]
    if not contexts:
        return None
    context = scope.draw.choice(contexts)
    inner = number(scope, want.deeper(over=want.over | {context}))
    return over_context(scope, inner, context)


@rule(5)
def view(scope: Scope, want: Want) -> Term | None:
    """A view itself, where a context is wanted."""
    contexts = [context for context in sorted(want.over) if context in scope.world.views]
    if not contexts:
        return None
    made = viewed(scope, want.deeper(over=NONE), scope.draw.choice(contexts))
    return scope.bind("c", made) if scope.draw.chance(40) else made


@rule(4)
def far(scope: Scope, want: Want) -> Term | None:
    """A number by distance."""
    contexts = [context for context in sorted(want.over) if context in scope.world.views]
    if not contexts or want.mine:
        return None
    context = scope.draw.choice(contexts)
    scope.looking(context)
    distance = Term(f"distance({context})", unlimited=frozenset([context]), per=TOKEN)
    slope = scope.parameter(shuffled(scope, sorted(want.axes)), base="slope") if scope.draw.chance(50) else literal(0.3)
    bias = infix("*", distance, slope, size=1.5)
    return scope.draw.choice([infix("/", distance, literal(4)), bias, called("exp", infix("/", distance, literal(-3)), size=0.5)])


@rule(7)
def attention(scope: Scope, want: Want) -> Term | None:
    """A softmax over a context of several terms, and what it weighs."""
    contexts = [context for context in scope.contexts() if context not in want.over]
    if not contexts or want.over:
        return None
    context = scope.draw.choice(contexts)
    heads = frozenset(scope.draw.some(sorted(scope.world.sizes), 0, 1))
    score = scored(scope, Want(heads, frozenset([context]), want.depth - 1, want.mine), context)
    score = fitted(scope, score, Want(heads, frozenset([context])))
    scope.looking(context)
    over = [context]
    if heads and scope.draw.chance(12):
        over = shuffled(scope, [context, *sorted(heads)])
        scope.naming(*heads)
    weights = called("softmax", score, brackets=over, size=0.4)
    again = scope.draw.chance(25)
    if again or scope.draw.chance(50):
        weights = scope.bind("a", weights)
    values = number(scope, Want(want.axes, frozenset([context]), want.depth - 1, False))
    made = _mixed(scope, weights, values, context)
    if again:
        made = combined(scope, made, _mixed(scope, weights, number(scope, Want(want.axes, frozenset([context]), 1, False)), context))
    return made


def _mixed(scope: Scope, weights: Term, values: Term, context: str) -> Term:
    both = infix("*", weights, values, size=values.size)
    return called("sum", both, brackets=[context], seen=both.seen - {context}, thin=both.thin - {context}, size=values.size)


def scored(scope: Scope, want: Want, context: str) -> Term:
    """A score `[context, *axes]`: bilinear terms, biases, temperatures."""
    score = bilinear(scope, want, context)
    for _ in range(scope.draw.weighted([(5, 0), (4, 1), (1, 2)])):
        kind = scope.draw.choice(["bias", "bilinear", "mask", "any"])
        if kind == "bias" and context in scope.world.views:
            more = far(scope, want.beside) or literal(0.1)
        elif kind == "mask":
            more = called("where", truth(scope, Want(NONE, want.over, 1)), literal(0.5), literal(-1))
        elif kind == "bilinear":
            more = bilinear(scope, want, context)
        else:
            more = number(scope, Want(want.axes, want.over, 1, False))
        score = infix(scope.draw.choice(["+", "-"]) if not more.text.startswith("-") else "+", score, more, size=score.size + more.size)
    kind = scope.draw.weighted([(5, "plain"), (3, "learned"), (2, "number"), (1, "cap")])
    if kind == "learned":
        beta = scope.parameter(shuffled(scope, sorted(want.axes)), base="beta", init=" = 1")
        score = infix("*", beta, score, size=score.size)
    if kind == "number":
        score = infix(scope.draw.choice(["*", "/"]), score, literal(scope.draw.choice([1.5, 2])), size=score.size)
    if kind == "cap":
        score = infix("*", literal(3), called("tanh", infix("/", score, literal(3))), size=1.5)
    return score


def bilinear(scope: Scope, want: Want, context: str) -> Term:
    """`sum[key](q * k)`: a query, where it depends on the variable if anything does, and what is seen."""
    key = scope.draw.choice(sorted(set(scope.world.sizes) - want.axes))
    scope.naming(key)
    near = [entry for entry in scope.numbers() if entry.term.seen == {context} and not entry.term.infinite]
    k_axes = frozenset({key} | set(scope.draw.some(sorted(want.axes), 0, 1)))
    k_want = Want(k_axes, frozenset([context]), min(want.depth, 1))
    q_axes = want.axes | {key} if scope.draw.chance(70) else frozenset({key})
    q = number(scope, Want(q_axes, NONE, min(want.depth, 1), want.mine))
    k = fitted(scope, scope.use(picked(scope, near)), k_want) if near and scope.draw.chance(60) else number(scope, k_want)
    if scope.world.sizes[key] % 2 == 0 and scope.draw.chance(20):
        q, k = rope(scope, tokenwise(scope, q), key), rope(scope, k, key)
    if scope.draw.chance(30):
        q = scope.bind("q", q)
    if scope.draw.chance(30):
        k = scope.bind("k", k)
    both = infix("*", q, k, size=q.size * k.size)
    size = both.size * math.sqrt(length(scope, key))
    score = called("sum", both, brackets=[key], axes=both.axes - {key}, size=size)
    if size > 2:
        root = called("sqrt", Term(key))
        score = infix("/", score, root, size=size / math.sqrt(length(scope, key)))
    return score
