"""What rules are written with: their variables, and short names for the raw ops."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from mptc.interpret import Values
from mptc.ir.axis import BATCH, CTX, SEQ, Axis, dim
from mptc.ir.node import Node, Type, axes_of, make
from mptc.ir.number import ONE, Monomial
from mptc.ops.compare import Compare
from mptc.ops.contract import number, power, product, summed, total
from mptc.ops.elementwise import apply
from mptc.ops.leaf import Mask, formal
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Softmax
from mptc.ops.sample import D, E
from mptc.ops.view import View

H = dim("h")
PRIMED = Axis(D.role, D.name, 1)
HALF, TWO, MINUS = Fraction(1, 2), Fraction(2), Fraction(-1)
SEEN = (BATCH, CTX)  # stands for values that are seen: a view of what every token has
ALIKE: tuple[tuple[Axis, ...], ...] = ((), (H,), (BATCH, SEQ), (BATCH, SEQ, H), SEEN)  # the axes that all variables of a rule have beside its own
PAIRED: tuple[tuple[Axis, ...], ...] = ((), (H,), (BATCH,), (BATCH, H))  # of a rule that speaks of tokens itself


class Variables:
    """Makes the variables of a rule: `v(name, *axes)` has these axes and those that all have; numbers are drawn from `low` to `high`."""

    def __init__(self, alike: tuple[Axis, ...], sizes: dict[Axis, int], seed: int) -> None:
        self.alike, self.sizes = alike, sizes
        self.random = np.random.default_rng(seed)
        self.made: dict[str, Node] = {}
        self.values: dict[Node | str, object] = {}

    def __call__(self, name: str, *axes: Axis, low: float = -2.0, high: float = 2.0) -> Node:
        if name not in self.made:
            own = axes_of((*(SEQ if axis == CTX else axis for axis in self.alike), *axes))
            leaf = Node(formal(name, Type(own)), (), Type(own))
            self.values[leaf] = self.random.uniform(low, high, [self.sizes[axis] for axis in own])
            self.made[name] = make(View(CTX), leaf) if CTX in self.alike else leaf
        return self.made[name]

    def given(self, canonical: Callable[[Node], Node]) -> Values:
        """The variables' values, also by what they are in canonical form."""
        return {**self.values, **{canonical(leaf): value for leaf, value in self.values.items() if isinstance(leaf, Node)}}


Sides = Callable[[Variables], tuple[Node, Node]]


class Rule:
    """A name, as the calculus fires it; equations that it makes one of; what it must not touch, beside what it would then become."""

    def __init__(self, name: str, alike: tuple[tuple[Axis, ...], ...], holds: tuple[Sides, ...], refuses: tuple[Sides, ...]) -> None:
        self.name, self.alike, self.holds, self.refuses = name, alike, holds, refuses


RULES: list[Rule] = []


def rule(name: str, *, holds: Sides | tuple[Sides, ...], refuses: Sides | tuple[Sides, ...], alike: tuple[tuple[Axis, ...], ...] = ALIKE) -> None:
    RULES.append(Rule(name, alike, holds if isinstance(holds, tuple) else (holds,), refuses if isinstance(refuses, tuple) else (refuses,)))


def exp(node: Node) -> Node:
    return apply("exp", node)


def log(node: Node) -> Node:
    return apply("log", node)


def lse(over: Axis, *args: Node) -> Node:
    return make(Lse((over,)), *args)


def softmax(over: Axis, *args: Node) -> Node:
    return make(Softmax((over,)), *args)


def seen(node: Node) -> Node:
    return make(View(CTX), node)


def plus(*nodes: Node) -> Node:
    return total(*((1, node) for node in nodes))


def minus(left: Node, right: Node) -> Node:
    return total((1, left), (-1, right))


def times(coef: Monomial | int | Fraction, *nodes: Node) -> Node:
    return product(*nodes, coef=Monomial.of(coef))


def positive(v: Variables, name: str, *axes: Axis) -> Node:
    """A variable whose values are above 0, which the calculus cannot know."""
    return v(name, *axes, low=0.5, high=2.0)


def hidden(over: Axis, wide: Node, narrow: Node) -> Node:
    """A value whose raw form has an axis that it is constant along: narrow + wide - wide."""
    assert over in wide.axes
    return total((1, narrow), (1, wide), (-1, wide))


def squares(node: Node) -> Node:
    return summed([power(node, TWO)], [D])


def root(size: Monomial, exponent: Fraction) -> Node:
    return number(size.power(exponent) or ONE)


def mean_square(node: Node, exponent: int = 2) -> Node:
    return summed([power(node, Fraction(exponent))], [D], ONE.over(Monomial.size(D)))


def mean_plus(node: Node) -> Node:
    return plus(mean_square(node), EPS)


def rms(node: Node) -> Node:
    return make(Rms((D,), Fraction(1, 10)), node)


def rstd(node: Node) -> Node:
    return make(Rstd((D,), Fraction(1, 10)), node)


def linear(v: Variables) -> Node:
    return summed([v("W", D, E), v("z", E)], [E])


PAST, NEAR = make(Mask(CTX, past=True)), make(Mask(CTX, past=True, window=2))


def asked(v: Variables) -> Node:
    """A mask that may leave a token with nothing to see."""
    return make(Mask(CTX, past=True), make(Compare(">"), seen(v("condition", SEQ)), number(0)))


EPS, SIZE = number(Fraction(1, 10)), Monomial.size(D)
