"""The rules of views, rotations and barriers (`mptc.derive.calculus`)."""

from __future__ import annotations

from fractions import Fraction

from mptc.ir.axis import CTX, SEQ
from mptc.ir.node import make
from mptc.ops.contract import product, renamed, total
from mptc.ops.elementwise import apply
from mptc.ops.leaf import Index, Position
from mptc.ops.rotary import Rope
from mptc.ops.sample import D, E, K
from mptc.ops.view import Limit, hold
from tests.derive.rule import (
    PAIRED,
    PRIMED,
    lse,
    minus,
    plus,
    rule,
    seen,
    times,
)

rule(
    "sink view",
    holds=(
        lambda v: (apply("tanh", seen(v("x", SEQ, D))), seen(apply("tanh", v("x")))),
        lambda v: (product(seen(v("x", SEQ, D)), seen(v("y", SEQ))), seen(product(v("x"), v("y")))),
        lambda v: (apply("tanh", times(3, seen(v("x", SEQ, D)))), seen(apply("tanh", times(3, v("x"))))),
    ),
    refuses=(
        lambda v: (apply("tanh", product(seen(v("x", SEQ, D)), v("y", SEQ))), seen(apply("tanh", product(v("x"), v("y"))))),  # who sees takes part
        lambda v: (plus(seen(v("x", SEQ, D)), v("y", SEQ)), seen(plus(v("x"), v("y")))),
        lambda v: (lse(CTX, seen(v("x", SEQ))), lse(SEQ, v("x"))),  # it is what is seen that is reduced
    ),
    alike=PAIRED,
)
rule(
    "view as a rename",
    holds=(
        lambda v: (seen(v("x", SEQ, D)), renamed(v("x"), {SEQ: CTX})),
        lambda v: (make(Limit(CTX, ("past",)), seen(v("x", SEQ, D))), renamed(v("x"), {SEQ: CTX})),
    ),
    refuses=lambda v: (apply("tanh", renamed(v("x", SEQ, D), {D: PRIMED})), v("x")),
    alike=PAIRED,
)
rule(
    "index of what is seen",
    holds=lambda v: (product(v("x", CTX), make(Index(CTX))), product(v("x"), renamed(make(Position()), {SEQ: CTX}))),
    refuses=lambda v: (product(v("x", D), make(Index(D))), product(v("x"), make(Position()))),
    alike=PAIRED,
)
rule(
    "rotation and back",
    holds=lambda v: (make(Rope(K, inverse=True), make(Rope(K), v("x", SEQ, K))), v("x")),
    refuses=lambda v: (make(Rope(K, inverse=True), make(Rope(K, Fraction(500)), v("x", SEQ, K))), v("x")),  # by other angles
    alike=PAIRED,
)
rule(
    "factor out of rotation",
    holds=lambda v: (make(Rope(K), times(3, v("y", E), v("x", SEQ, K))), times(3, v("y"), make(Rope(K), v("x")))),
    refuses=(
        lambda v: (make(Rope(K), product(v("y", K), v("x", SEQ, K))), product(v("y"), make(Rope(K), v("x")))),  # it turns too
        lambda v: (make(Rope(K), product(v("y", SEQ), v("x", K))), product(v("y"), make(Rope(K), v("x")))),  # only one has the token that turns it
    ),
    alike=PAIRED,
)
rule(
    "number out of a barrier",
    holds=(
        lambda v: (hold(times(-2, apply("tanh", v("x", D)))), times(-2, hold(apply("tanh", v("x"))))),
        lambda v: (hold(total((-1, v("x", D)), (-2, v("y", E)))), times(-1, hold(total((1, v("x")), (2, v("y")))))),
    ),
    refuses=lambda v: (hold(minus(v("x", D), v("y", E))), minus(hold(v("x")), hold(v("y")))),
)
rule(
    "barrier of a barrier",
    holds=(
        lambda v: (hold(hold(apply("tanh", v("x", D)))), hold(apply("tanh", v("x")))),
        lambda v: (hold(v("x", D)), v("x")),
    ),
    refuses=lambda v: (plus(hold(plus(v("x", D), v("y", D))), v("z", D)), total((1, v("x")), (1, v("y")), (1, v("z")))),  # what `x <-` made stays
)
