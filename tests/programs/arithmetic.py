"""Rules for what works element by element, along dims, and with numbers that count."""

from __future__ import annotations

import math

from tests.programs.numbers import (
    Want,
    called,
    combined,
    contracted,
    infix,
    length,
    negated,
    number,
    picked,
    positive,
    reduced,
    rule,
    shuffled,
    tokenwise,
)
from tests.programs.scope import Scope
from tests.programs.term import ATOM, NONE, TOKEN, Term, literal

BOUNDED = ("tanh", "sin", "cos", "sigmoid")
LINEAR = ("relu", "gelu", "silu", "softplus", "abs")
INTEGRABLE = ("tanh", "sin", "cos", "sigmoid", "relu", "gelu", "silu", "softplus", "abs", "relu2", "exp", "sqrt", "rsqrt")


@rule(11)
def function(scope: Scope, want: Want) -> Term:
    """Of one argument. Those that have a pole or grow fast get an argument where they are tame."""
    name = scope.draw.choice([*BOUNDED, *LINEAR, "relu2", "exp", "log", "sqrt", "rsqrt", "floor", "ceil"])
    if name in BOUNDED:
        return called(name, number(scope, want.deeper()), size=0.7)
    if name in LINEAR:
        inner = number(scope, want.deeper())
        return called(name, inner, size=inner.size)
    if name == "relu2":
        inner = number(scope, want.deeper())
        return called(name, inner, size=inner.size**2)
    if name == "exp":
        return called(name, called("tanh", number(scope, want.deeper())), size=1.3)
    if name in ("floor", "ceil"):
        inner = infix("*", literal(3), called("tanh", number(scope, want.deeper())))
        steps = infix("/", called(name, inner, mine=False, size=2.0), literal(2))
        return infix("+", steps, number(scope, want.deeper())) if want.mine else steps
    return called(name, positive(scope, want), size=1.0)


@rule(5)
def integral(scope: Scope, want: Want) -> Term:
    name = scope.draw.choice(INTEGRABLE)
    if name in ("sqrt", "rsqrt"):
        return called(f"integral({name})", positive(scope, want), size=1.2)
    inner = number(scope, want.deeper())
    if name == "exp":
        inner = called("tanh", inner)
    return called(f"integral({name})", inner, size=max(inner.size, inner.size**2))


@rule(5)
def power(scope: Scope, want: Want) -> Term:
    kind = scope.draw.choice(["2", "3", "-1", "-2", "1 / 2", "-3 / 2", "value"])
    if kind in ("2", "3"):
        inner = number(scope, want.deeper())
        return infix("^", inner, literal(int(kind)), size=min(inner.size ** int(kind), 20.0))
    base = positive(scope, want)
    if kind == "value":
        return infix("^", base, called("tanh", number(scope, want.beside)), size=1.2)
    exponent = Term(kind, ATOM if "/" not in kind else 0)
    return infix("^", base, exponent, size=1.2)


def _halved(scope: Scope, want: Want) -> tuple[Want, Want]:
    """Which axes each of two operands has; together all."""
    left = frozenset(scope.draw.some(sorted(want.axes), 0, len(want.axes)))
    right = frozenset(scope.draw.some(sorted(want.axes), 0, len(want.axes))) | (want.axes - left)
    over = frozenset(scope.draw.some(sorted(want.over), 0, 1))
    one = Want(left, over, want.depth - 1, want.mine)
    other = Want(right, want.over if scope.draw.chance(50) else want.over - over, want.depth - 1, want.mine and scope.draw.chance(30))
    return one, other


@rule(22)
def binary(scope: Scope, want: Want) -> Term:
    one, other = _halved(scope, want)
    left, right = number(scope, one), number(scope, other)
    if scope.draw.chance(50):
        left, right = right, left
    operator = scope.draw.choice(["*", "+", "-", "*"])
    size = left.size * right.size if operator == "*" else math.hypot(left.size, right.size)
    return infix(operator, left, right, scope.draw.chance(10), size=size)


@rule(4)
def quotient(scope: Scope, want: Want) -> Term:
    above = number(scope, want.deeper())
    kind = scope.draw.choice(["literal", "size", "root", "value"])
    one = scope.draw.choice(sorted(scope.world.sizes))
    if kind in ("size", "root"):
        scope.naming(one)
        below = Term(one, size=2.0) if kind == "size" else called("sqrt", Term(one))
    else:
        below = literal(scope.draw.choice([2, 3, 1.5])) if kind == "literal" else positive(scope, want.beside)
    return infix("/", above, below, size=above.size)


@rule(2)
def minus(scope: Scope, want: Want) -> Term:
    return negated(number(scope, want.deeper()))


@rule(4)
def extreme(scope: Scope, want: Want) -> Term:
    one, other = _halved(scope, want)
    left, right = number(scope, one), number(scope, other)
    return called(scope.draw.choice(["min", "max"]), left, right, size=max(left.size, right.size))


@rule(5)
def where(scope: Scope, want: Want) -> Term:
    one, other = _halved(scope, want)
    condition = truth(scope, Want(scope.draw.choice([NONE, want.axes]), scope.draw.choice([NONE, want.over]), want.depth - 1))
    left, right = number(scope, one), number(scope, other)
    return called("where", condition, left, right, size=max(left.size, right.size))


@rule(2)
def indicator(scope: Scope, want: Want) -> Term | None:
    return None if want.mine else truth(scope, want)


def truth(scope: Scope, want: Want) -> Term:
    """1 or 0: comparisons. What is compared with a number is not the same everywhere, and hardly ever equal to it."""
    sign = scope.draw.choice(["<", "<=", ">", ">="])
    kind = scope.draw.choice(["number", "number", "values", "position", "parity"])
    if kind == "position" and not want.over:
        return infix(sign, Term("position", per=TOKEN), literal(scope.draw.choice([2, 1, 3])), mine=False, size=1.0)
    if kind == "parity":
        half = infix("/", Term("position", per=TOKEN), literal(2))
        return infix("==", infix("*", literal(2), called("floor", half)), Term("position", per=TOKEN), size=1.0)
    left = number(scope, want.beside)
    right = literal(scope.draw.choice([0.1, 0.35, 0.72])) if kind != "values" else number(scope, want.beside)
    return infix(sign, left, right, mine=False, size=1.0, least=0.0)


@rule(2)
def stopped(scope: Scope, want: Want) -> Term | None:
    if want.mine:
        return infix("*", called("stop", number(scope, want.deeper()), mine=False), number(scope, want.deeper()))
    return called("stop", number(scope, want.deeper()))


# -- along dims ---------------------------------------------------------------------------------------------


@rule(5)
def normed(scope: Scope, want: Want) -> Term | None:
    axes = scope.draw.some(sorted(want.axes), 1, 2)
    if not axes:
        return None
    scope.naming(*axes)
    name = scope.draw.choice(["rms", "rms", "softmax"])
    options = scope.draw.choice(["", "", ", eps = 0.01", ", eps = 1e-3"]) if name == "rms" else ""
    return called(name, number(scope, want.deeper()), brackets=axes, options=options or (", eps = 0.001" if name == "rms" else ""), size=1.0)


@rule(6)
def reduction(scope: Scope, want: Want) -> Term | None:
    axes = sorted(scope.dims(1, 2) - want.axes)
    if not axes:
        return None
    inner = number(scope, want.deeper(axes=want.axes | set(axes)))
    return reduced(scope, inner, axes)


@rule(10)
def linear(scope: Scope, want: Want) -> Term:
    """`W @ x`"""
    summed = scope.dims(1, 2) - want.axes
    x = number(scope, want.deeper(axes=frozenset(summed) | frozenset(scope.draw.some(sorted(want.axes), 0, 1)), depth=min(want.depth - 1, 1)))
    missing = sorted(want.axes - x.axes)
    shared = sorted(summed) or sorted(x.axes)
    if not shared:
        return x
    W = scope.parameter(shuffled(scope, [*missing, *shared]))
    if scope.draw.chance(15) and not missing:  # U @ U @ x
        return contracted(scope, W, infix("*", W, contracted(scope, W, x)))
    return contracted(scope, W, x) if scope.draw.chance(80) else contracted(scope, x, W)


@rule(6)
def product_summed(scope: Scope, want: Want) -> Term | None:
    """`sum[k](a * b)` or `a @ b` of two values."""
    axes = sorted(scope.dims(1, 1) - want.axes)
    if not axes:
        return None
    one, other = _halved(scope, want)
    left = number(scope, Want(one.axes | set(axes), one.over, one.depth, one.mine))
    right = number(scope, Want(other.axes | set(axes), other.over, other.depth, other.mine))
    if left.axes & right.axes == set(axes) and scope.draw.chance(50):
        return contracted(scope, left, right)
    scope.naming(*axes)
    both = infix("*", left, right, size=left.size * right.size)
    return called("sum", both, brackets=axes, axes=both.axes - set(axes), size=both.size * math.sqrt(length(scope, axes[0])))


@rule(5)
def renamed(scope: Scope, want: Want) -> Term | None:
    """`e[a -> b]` of a value that has `a` in the place of `b`."""
    sizes = scope.world.sizes
    pairs = [(a, b) for b in sorted(want.axes & set(sizes)) for a in sorted(sizes) if a not in want.axes and sizes[a] == sizes[b]]
    if not pairs:
        return None
    old, new = scope.draw.choice(pairs)
    scope.naming(old, new)
    owner = scope.owner()
    if owner is not None:
        owner.equal.add(frozenset([old, new]))
    inner = number(scope, want.deeper(axes=(want.axes - {new}) | {old}))
    text = inner.text if inner.text.isidentifier() or (inner.level == ATOM and inner.text.endswith(")")) else f"({inner.text})"
    return inner.but(f"{text}[{old} -> {new}]", axes=want.axes)


# -- numbers that count -------------------------------------------------------------------------------------


@rule(4)
def place(scope: Scope, want: Want) -> Term | None:
    """The position, the place along an axis, or the size of one."""
    if want.mine:
        return None
    one = scope.draw.choice(sorted(scope.world.sizes))
    kind = scope.draw.choice(["position", "index", "size", "seq" if scope.ahead and not scope.energy else "position"])
    if kind == "size":
        scope.naming(one)
        return infix("/", number(scope, want.deeper()), Term(one, size=2.0))
    if kind == "index":
        one = scope.draw.choice(sorted(want.axes & set(scope.world.sizes)) or [one])
        scope.naming(one)
        return infix("/", Term(f"index({one})", axes=frozenset([one])), literal(2))
    if kind == "seq":
        return infix("/", Term("seq", per=1, late=True), literal(6))
    return infix("/", Term("position", per=TOKEN), literal(5))


@rule(4)
def rotated(scope: Scope, want: Want) -> Term | None:
    even = [axis for axis in sorted(want.axes & set(scope.world.sizes)) if scope.world.sizes[axis] % 2 == 0]
    if not even:
        return None
    axis = scope.draw.choice(even)
    inner = number(scope, want.deeper())
    if not inner.contexts:
        inner = tokenwise(scope, inner)
    return rope(scope, inner, axis)


def rope(scope: Scope, inner: Term, axis: str) -> Term:
    scope.naming(axis)
    owner = scope.owner()
    if owner is not None:
        owner.even.add(axis)
    return called("rope", inner, brackets=[axis], options=scope.draw.choice(["", "", ", base = 100"]))


@rule(3)
def shifted(scope: Scope, want: Want) -> Term | None:
    """The value some tokens earlier; in an energy that counts as a view of it."""
    if want.over or (want.mine and not scope.ahead):
        return None
    inner = tokenwise(scope, number(scope, want.deeper()))
    if inner.mine:
        from tests.programs.views import viewing

        if not viewing(scope, inner):
            inner = called("stop", inner, mine=False)
    scope.views(inner)
    by = scope.draw.choice([1, 2, 0, 9, *([-1] if scope.ahead else [])])
    return called("shift", inner, options=f", {by}", late=inner.late or by < 0)


@rule(4)
def entry(scope: Scope, want: Want) -> Term | None:
    """`lookup[a](table, n)`: by a number. Outside it is 0."""
    axis = scope.draw.choice(sorted(scope.world.sizes))
    if axis in want.axes:
        return None
    scope.naming(axis)
    table_axes = frozenset(scope.draw.some(sorted(want.axes), 0, len(want.axes)))
    table = scope.parameter(shuffled(scope, sorted({axis, *table_axes})), base="places") if scope.draw.chance(60) or want.mine else None
    if table is None or want.mine:
        table = number(scope, Want(table_axes | {axis}, NONE, want.depth - 1, want.mine))
    others = sorted(want.axes - table_axes)
    kinds = ["position", "index" if others else "position", "capped", "counted"]
    kinds += ["distance"] * 3 if want.over and min(want.over) in scope.world.views else []
    kind = scope.draw.choice(kinds)
    place = Term("position", per=TOKEN)
    if kind == "distance":
        context = next(each for each in sorted(want.over) if each in scope.world.views)
        place = Term(f"distance({context})", per=TOKEN, unlimited=frozenset([context]))
        scope.naming(context)
    if kind == "index":
        one = scope.draw.choice(others)
        place = Term(f"index({one})", axes=frozenset([one]))
        scope.naming(one)
    if kind in ("capped", "distance") and scope.draw.chance(60):
        place = called("min", place, literal(length(scope, axis) - 1))
    if kind == "counted":
        place = called("floor", infix("*", literal(2), called("sigmoid", number(scope, Want(NONE, NONE, 1)))))
    made = called("lookup", table, place, brackets=[axis], size=table.size)
    return made.but(made.text, axes=(table.axes - {axis}) | place.axes, mine=table.mine)


@rule(3)
def over_sequence(scope: Scope, want: Want) -> Term | None:
    """A reduction over the sequence, where later tokens may be seen."""
    if not scope.ahead or scope.energy or want.over or want.mine:
        return None
    inner = tokenwise(scope, number(scope, want.deeper()))
    kind = scope.draw.choice(["mean", "sum", "max", "logsumexp", "softmax"])
    if kind == "softmax":
        return called("softmax", inner, brackets=["seq"], late=True)
    return called(kind, inner, brackets=["seq"], per=1, late=True, size=inner.size + 1)


@rule(3)
def together(scope: Scope, want: Want) -> Term | None:
    """Two names in view, made one."""
    entries = [entry for entry in scope.numbers() if not entry.term.contexts and not entry.term.infinite and (entry.term.mine or not want.mine)]
    if len(entries) < 2:
        return None
    return combined(scope, scope.use(picked(scope, entries)), scope.use(scope.draw.choice(entries)))
