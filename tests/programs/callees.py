"""Declarations of blocks and energies."""

from __future__ import annotations

from tests.programs.numbers import Want, called, combined, fitted, infix, leaf, literal, negated, number, positive, reduced, shuffled, tamed
from tests.programs.scope import Arg, Body, Callee, Scope, World
from tests.programs.statements import absorbed, statements
from tests.programs.term import MULTIPLIED, NONE, TOKEN, Axes, Term
from tests.programs.views import scored, see

INTEGRALS = ("silu", "tanh", "relu", "gelu", "softplus", "sigmoid", "sin", "relu2", "exp")


def declared(callee: Callee, scope: Scope, last: str) -> str:
    """The text of a declaration."""
    before, *after = [_typed(arg) for arg in callee.args]
    inside = f"{before} | {', '.join(after)}" if callee.kind == "energy" and after else ", ".join([before, *after])
    return "\n".join([f"{callee.kind} {callee.name}({inside}) {{", *scope.lines, last, "}"])


def _typed(arg: Arg) -> str:
    axes = ", ".join([*sorted(arg.seen), *sorted(arg.axes)])
    if arg.vocabulary is not None:
        return f"{arg.name}: {f'[{axes}] ' if axes else ''}id[{arg.vocabulary}]"
    return f"{arg.name}: [{axes}]"


def opened(world: World, callee: Callee) -> Scope:
    """The scope of a callable's body, with its arguments in view."""
    body = Body(callee.kind, claimed={arg.name for arg in callee.args}, callee=callee)
    scope = Scope(world, body, ahead=not world.causal)
    for place, arg in enumerate(callee.args):
        scope.naming(*arg.axes, *arg.seen, *([arg.vocabulary] if arg.vocabulary else []))
        mine = callee.kind == "energy" and place == 0
        thin = arg.seen if arg.thin else NONE
        facts = {"axes": arg.axes, "seen": arg.seen, "per": TOKEN, "mine": mine, "thin": thin, "vocabulary": arg.vocabulary}
        scope.enter(arg.name, Term(arg.name, on=frozenset([arg.name]), **facts))
    return scope


def arguments(world: World, first: Axes, most: int) -> list[Arg]:
    """What is beside the first argument: numbers, views, memories, ids."""
    draw = world.draw
    found: list[Arg] = []
    kinds = [(5, "view"), (3, "same"), (2, "number"), (2, "other"), (2, "ids"), (1, "seen ids"), (2 if world.memories else 0, "memory")]
    for name in ["c", "m", "n"][: draw.integer(0, most)]:
        kind = draw.weighted(kinds)
        some = frozenset(draw.some(sorted(world.sizes), 1, 2))
        axes = {"same": first, "view": draw.choice([first, NONE]), "other": some, "memory": frozenset([min(some)])}.get(kind, NONE)
        seen = {"view": [draw.choice(world.views)], "seen ids": [draw.choice(world.views)], "memory": world.memories[:1]}.get(kind, [])
        ids = draw.choice(sorted(world.vocabularies)) if "ids" in kind else None
        found.append(Arg(name, axes, frozenset(seen), ids, thin=kind == "view" and draw.chance(30)))
    return found


# -- blocks -------------------------------------------------------------------------------------------------


def block(world: World, name: str) -> str:
    draw = world.draw
    first = Arg("x", frozenset(draw.some(sorted(world.sizes), 0, 2)))
    callee = Callee("block", name, [first, *arguments(world, first.axes, 2)], plain=draw.chance(50))
    scope = opened(world, callee)
    if draw.chance(70):
        statements(scope, draw.integer(0, 2))
    callee.axes = draw.choice([first.axes, first.axes, frozenset(draw.some(sorted(world.sizes), 0, 2))])
    value = absorbed(scope, number(scope, Want(callee.axes, NONE, draw.integer(1, 3))), callee.axes)
    callee.per = value.per
    return _finished(scope, callee, f"return {value.text}")


def _finished(scope: Scope, callee: Callee, last: str) -> str:
    callee.parameters = scope.body.parameters
    scope.world.callees.append(callee)
    return declared(callee, scope, last)


# -- energies -----------------------------------------------------------------------------------------------


def energy(world: World, name: str) -> str:
    draw = world.draw
    first = Arg("x", frozenset(draw.some(sorted(world.sizes), 1 if draw.chance(90) else 0, 2)))
    callee = Callee("energy", name, [first, *arguments(world, first.axes, 2)], plain=True)
    callee.may_own = draw.chance(10 if world.causal else 50)
    scope = opened(world, callee)
    terms = [_term(scope) for _ in range(draw.weighted([(5, 1), (4, 2), (1, 3)]))]
    value = terms[0]
    for term in terms[1:]:
        value = infix(draw.choice(["+", "-", "+"]) if not term.infinite else "+", value, term)
    value = absorbed(scope, value, NONE) if not value.infinite else value
    callee.infinite = value.infinite
    callee.per = value.per
    return _finished(scope, callee, f"minimize {value.text}")


def _term(scope: Scope) -> Term:
    """One term of an energy: a number that depends on the variable."""
    draw = scope.draw
    kinds = [(6, _attending), (5, _gated), (4, _quadratic), (3, _bilinear), (5, _anything), (3, _summed), (3, _extremes), (2, _own)]
    made = draw.weighted(kinds)(scope)
    if not made.infinite:
        made = tamed(scope, made)
    if made.level < MULTIPLIED or draw.chance(30):
        made = made.but(f"({made.text})", level=6)
    kind = draw.choice(["plain", "plain", "minus", "half", "scaled"])
    if kind == "minus":
        return negated(made)
    if kind == "half":
        return infix("/", made, literal(2))
    return infix("*", literal(0.5), made) if kind == "scaled" else made


def _seen_context(scope: Scope) -> str | None:
    """A context along which a condition is seen, or one along which one may be viewed."""
    conditions = sorted({context for entry in scope.numbers() for context in entry.term.seen})
    return scope.draw.choice(conditions) if conditions else None


def _attending(scope: Scope) -> Term:
    """`-logsumexp[ctx](score)` of one head or several."""
    draw = scope.draw
    context = _seen_context(scope) or draw.choice(scope.world.views)
    heads = frozenset(draw.some(sorted(scope.world.sizes), 0, 1))
    score = scored(scope, Want(heads, frozenset([context]), 2, mine=True), context)
    score = fitted(scope, score, Want(heads, frozenset([context])))
    scope.naming(context, *heads)
    thin = context in score.thin
    text = f"logsumexp[{context}]({score.text})"
    if not thin and draw.chance(25):
        text = f"log(sum[{context}](exp({score.text})))"
    made = score.but(text, seen=score.seen - {context}, thin=score.thin - {context}, infinite=thin or score.infinite, size=2.0)
    if heads:
        made = called("sum", made, brackets=sorted(heads), axes=NONE)
    if draw.chance(30):
        beta = scope.parameter([], base="beta", init=" = 1")
        made = infix("/", made, infix("+", infix("^", beta, literal(2)), literal(0.5)).but(f"({beta.text}^2 + 0.5)", level=6)) if not thin else made
    return made


def _gated(scope: Scope) -> Term:
    """`sum[hidden](gate * integral(f)(W @ x))`"""
    draw = scope.draw
    hidden = frozenset([draw.choice(sorted(scope.world.sizes))])
    inner = number(scope, Want(hidden, NONE, draw.integer(1, 2), mine=True))
    name = draw.choice(INTEGRALS)
    inner = called("tanh", inner) if name == "exp" else inner
    made = called(f"integral({name})", inner, size=max(1.0, inner.size))
    if draw.chance(70):
        gate = number(scope, Want(hidden, NONE, 1))
        made = infix("*", gate, made) if draw.chance(70) else infix("*", made, gate)
    scope.naming(*hidden)
    return called("sum", made, brackets=sorted(hidden), axes=NONE, size=2.0)


def _quadratic(scope: Scope) -> Term:
    """`sum[d](s * (x - c)^2)`"""
    draw = scope.draw
    x = leaf(scope, Want(mine=True))
    difference = x
    if draw.chance(70):
        other = number(scope, Want(x.axes, NONE, 1))
        difference = infix("-", x, other).but(f"({x.text} - {other.at(MULTIPLIED)})", level=6)
    made = infix("^", difference, literal(2), size=2.0, mine=True)
    if draw.chance(60):
        made = infix("*", scope.parameter(shuffled(scope, sorted(x.axes)), base="stiffness", init=" = 1"), made)
    scope.naming(*x.axes)
    return called("sum", made, brackets=sorted(made.axes), axes=NONE) if made.axes else made


def _bilinear(scope: Scope) -> Term:
    """A product of something linear in the variable and something else."""
    axes = frozenset(scope.draw.some(sorted(scope.world.sizes), 1, 1))
    left = number(scope, Want(axes, NONE, 1, mine=True))
    right = number(scope, Want(axes, NONE, 1, mine=scope.draw.chance(30)))
    scope.naming(*axes)
    both = infix("*", left, right, size=left.size * right.size)
    return called("sum", both, brackets=sorted(axes), axes=NONE, size=2.0)


def _anything(scope: Scope) -> Term:
    return number(scope, Want(NONE, NONE, 3, mine=True))


def _summed(scope: Scope) -> Term:
    """A sum (or a mean, or a product inside a logarithm) over what is seen of any function of both tokens."""
    draw = scope.draw
    context = _seen_context(scope) or draw.choice(scope.world.views)
    axes = frozenset(draw.some(sorted(scope.world.sizes), 0, 1))
    inner = number(scope, Want(axes, frozenset([context]), 2, mine=True))
    scope.naming(context)
    name = draw.choice(["sum", "sum", "mean"]) if context not in inner.thin else "sum"
    made = called(name, inner, brackets=[context], seen=inner.seen - {context}, thin=inner.thin - {context}, size=2 * inner.size)
    return reduced(scope, made, sorted(axes)) if axes else made


def _extremes(scope: Scope) -> Term:
    """A log-sum-exp or a maximum over dims, or the entropy of a softmax."""
    draw = scope.draw
    axes = frozenset(draw.some(sorted(scope.world.sizes), 1, 2))
    inner = number(scope, Want(axes, NONE, 2, mine=True))
    scope.naming(*axes)
    kind = draw.choice(["logsumexp", "max", "entropy", "rms"])
    if kind == "entropy":
        p = scope.bind("p", called("softmax", inner, brackets=sorted(axes)))
        made = infix("*", p, called("log", infix("+", p, literal(0.01))))
        return called("sum", made, brackets=sorted(axes), axes=NONE)
    if kind == "rms":
        made = called("rms", inner, brackets=sorted(axes), options=", eps = 0.01", size=1.0)
        return called("sum", combined(scope, made, positive(scope, Want(axes, NONE, 1))), brackets=sorted(axes), axes=NONE)
    return called(kind, inner, brackets=sorted(axes), axes=NONE, size=inner.size + 1)


def _own(scope: Scope) -> Term:
    """The variable seen by others: through a view, or one that stops the gradient."""
    draw = scope.draw
    context = draw.choice(scope.world.views)
    x = leaf(scope, Want(mine=True))
    seen = see(scope, x, context)
    both = infix("*", x, seen, mine=True)
    scope.naming(*x.axes, context)
    score = called("sum", both, brackets=sorted(x.axes), axes=NONE) if x.axes else both
    thin = context in seen.thin
    name = draw.choice(["logsumexp", "logsumexp", "sum", "mean"]) if not thin else "sum"
    if name != "logsumexp":
        score = called("tanh", score)
    return called(name, score, brackets=[context], seen=NONE, thin=NONE, size=2.0)
