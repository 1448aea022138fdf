"""The rules of products and sums (`mptc.derive.products`, `sums`)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mptc.ir.axis import CTX, SEQ
from mptc.ir.node import make
from mptc.ir.number import ONE, Monomial
from mptc.ops.compare import Compare
from mptc.ops.contract import contract, number, power, product, renamed, summed, total
from mptc.ops.elementwise import apply
from mptc.ops.leaf import Length
from mptc.ops.norm import Rstd
from mptc.ops.sample import D, E
from tests.derive.rule import (
    EPS,
    HALF,
    MINUS,
    NEAR,
    PAIRED,
    PAST,
    PRIMED,
    SIZE,
    TWO,
    hidden,
    linear,
    mean_plus,
    mean_square,
    minus,
    plus,
    positive,
    rms,
    root,
    rstd,
    rule,
    softmax,
    squares,
    times,
)

rule(
    "product in a product",
    holds=(
        lambda v: (times(3, v("x", D), times(2, v("y", D), v("z", E))), times(6, v("x", D), v("y", D), v("z", E))),
        lambda v: (
            summed([v("x", D), summed([v("y", D, E), v("z", E)], [E])], [D]),
            summed([v("x", D), v("y", D, E), v("z", E)], [D, E]),
        ),
        lambda v: (power(times(2, v("x", D), v("y", E)), TWO), times(4, power(v("x"), TWO), power(v("y"), TWO))),
    ),
    refuses=(
        lambda v: (power(summed([v("x", D)], [D]), TWO), summed([power(v("x", D), TWO)], [D])),  # what is summed is not squared one by one
        lambda v: (power(power(v("x", D), TWO), HALF), v("x", D)),  # the root of a square is |x|
    ),
)
rule(
    "equal factors",
    holds=lambda v: (product(positive(v, "x", D), power(v("x"), TWO), power(v("x"), MINUS)), power(v("x"), TWO)),
    refuses=lambda v: (product(v("x", D), renamed(v("x"), {D: PRIMED})), power(v("x"), TWO)),  # x_d x_d' is a matrix
)
rule(
    "power of an indicator",
    holds=(
        lambda v: (power(apply("step", v("x", D)), TWO), apply("step", v("x"))),
        lambda v: (product(*[make(Compare("<"), v("x", D), v("y", E))] * 3), make(Compare("<"), v("x"), v("y"))),
    ),
    refuses=lambda v: (power(apply("relu", v("x", D)), TWO), apply("relu", v("x"))),
)
rule(
    "times 0",
    holds=lambda v: (product(v("x", D), number(0)), number(0)),
    refuses=lambda v: (product(v("x", D), power(number(0), MINUS)), number(0)),  # 0 to a power below 0 is none
)
rule(
    "sum over what is gone",
    holds=(
        lambda v: (summed([hidden(D, v("x", D), v("y", E))], [D]), times(SIZE, v("y"))),
        lambda v: (summed([positive(v, "x", D), power(v("x"), MINUS)], [D]), number(SIZE)),
    ),
    refuses=lambda v: (summed([v("x", D), v("y", E)], [D]), times(SIZE, v("x"), v("y"))),
)
rule(
    "number of tokens",
    holds=lambda v: (times(Monomial.size(SEQ), v("x", D)), product(v("x"), make(Length()))),
    refuses=lambda v: (times(SIZE, v("x", D)), product(v("x"), make(Length()))),
)
rule(
    "number out of a power",
    holds=(
        lambda v: (power(times(4, positive(v, "x", D), positive(v, "y", D)), HALF), times(2, power(product(v("x"), v("y")), HALF))),
        lambda v: (power(times(-2, squares(v("x", D))), MINUS), times(-HALF, power(squares(v("x")), MINUS))),
    ),
    refuses=lambda v: (power(times(-4, v("x", D, low=-2, high=-1)), HALF), times(2, power(v("x"), HALF))),
)
rule(
    "power of a number",
    holds=lambda v: (product(v("x", D), power(number(10007 * 10009), HALF)), times(Monomial.of(float(np.sqrt(10007 * 10009))), v("x"))),
    refuses=lambda v: (product(v("x", D), power(number(2), HALF)), times(Monomial.of(float(np.sqrt(2))), v("x"))),  # √2 is exact
)
rule(
    "relu · step",
    holds=(
        lambda v: (product(apply("relu", v("x", D)), apply("step", v("x"))), apply("relu", v("x"))),
        lambda v: (product(apply("relu2", v("x", D)), apply("step", v("x")), v("y", E)), product(apply("relu2", v("x")), v("y"))),
    ),
    refuses=lambda v: (product(apply("relu", v("x", D)), apply("step", v("y", D))), apply("relu", v("x"))),
)
rule(
    "mask · softmax",
    holds=lambda v: (product(PAST, softmax(CTX, v("x", SEQ, CTX), PAST)), softmax(CTX, v("x"), PAST)),
    refuses=lambda v: (product(NEAR, softmax(CTX, v("x", SEQ, CTX), PAST)), softmax(CTX, v("x"), PAST)),
    alike=PAIRED,
)
rule(
    "1/rms by hand",
    holds=(
        lambda v: (power(plus(mean_square(v("x", D)), EPS), -HALF), rstd(v("x"))),
        lambda v: (
            power(total((5, squares(v("x", D))), (2, number(SIZE))), -HALF),
            product(root(Monomial.of(5), -HALF), root(SIZE, -HALF), make(Rstd((D,), Fraction(2, 5)), v("x"))),
        ),
    ),
    refuses=(
        lambda v: (power(plus(mean_square(v("x", D), 4), EPS), -HALF), rstd(v("x"))),
        lambda v: (power(minus(mean_square(v("x", D, low=1)), EPS), -HALF), make(Rstd((D,), Fraction(-1, 10)), v("x"))),  # no eps below 0
    ),
)
rule(
    "rms",
    holds=(
        lambda v: (product(v("x", D), power(plus(mean_square(v("x")), EPS), -HALF)), rms(v("x"))),
        lambda v: (contract(ONE, [(v("x", D), v("x").axes, Fraction(1)), (mean_plus(v("x")), mean_plus(v("x")).axes, -HALF)]), rms(v("x"))),
        lambda v: (product(v("y", E), apply("tanh", v("x", D)), rstd(apply("tanh", v("x")))), product(v("y"), rms(apply("tanh", v("x"))))),
        lambda v: (product(linear(v), times(3, v("y"), rstd(linear(v)))), times(3, v("y"), rms(linear(v)))),
    ),
    refuses=lambda v: (product(v("y", D), rstd(v("x", D))), rms(v("x"))),
)


# -- sums ----------------------------------------

rule(
    "sum in a sum",
    holds=lambda v: (total((2, v("x", D)), (3, total((1, v("y", E)), (-1, v("z"))))), total((2, v("x")), (3, v("y")), (-3, v("z")))),
    refuses=lambda v: (product(v("x", D), plus(v("y", E), v("z", E))), plus(product(v("x"), v("y")), product(v("x"), v("z")))),  # none in a product
)
rule(
    "equal terms",
    holds=(
        lambda v: (total((2, v("x", D)), (1, v("y", E)), (3, v("x"))), total((5, v("x")), (1, v("y")))),
        lambda v: (total((Monomial.size(D), v("x", D)), (-4, v("x")), (1, v("y", D))), v("y")),  # by the sizes there are
    ),
    refuses=lambda v: (plus(v("x", D), renamed(v("x"), {D: PRIMED})), times(2, v("x"))),
)
rule(
    "number out of a sum",
    holds=lambda v: (total((2, v("x", D)), (4, v("y", E))), times(2, total((1, v("x")), (2, v("y"))))),
    refuses=lambda v: (plus(product(v("b"), v("x", D)), product(v("b"), v("y", E))), product(v("b"), plus(v("x"), v("y")))),  # what is learned stays
)
