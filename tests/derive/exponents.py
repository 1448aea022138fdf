"""The rules of exponentials, logarithms and softmax (`mptc.derive.exponents`, `sums`)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mptc.ir.axis import CTX, SEQ
from mptc.ir.node import make
from mptc.ir.number import Monomial
from mptc.ops.compare import Compare
from mptc.ops.contract import number, power, product, summed, total
from mptc.ops.elementwise import apply
from mptc.ops.leaf import Index, Position
from mptc.ops.reduce import Lse
from mptc.ops.sample import D, E
from tests.derive.rule import (
    HALF,
    MINUS,
    PAIRED,
    PAST,
    SIZE,
    TWO,
    asked,
    exp,
    hidden,
    log,
    lse,
    minus,
    plus,
    positive,
    rule,
    seen,
    softmax,
    times,
)

rule(
    "function of a number",
    holds=lambda v: (product(v("x", D), apply("tanh", number(2))), times(Monomial.of(float(np.tanh(2.0))), v("x"))),
    refuses=lambda v: (plus(v("x", D), log(number(0))), v("x")),
)
rule(
    "exp of log",
    holds=lambda v: (exp(total((2, log(positive(v, "x", D))), (1, v("y", E)))), product(power(v("x"), TWO), exp(v("y")))),
    refuses=lambda v: (exp(total((HALF, log(positive(v, "x", D))), (1, v("y", E)))), product(power(v("x"), HALF), exp(v("y")))),
)
rule(
    "softmax by hand",
    holds=(
        lambda v: (exp(minus(v("x", D), lse(D, v("x")))), softmax(D, v("x"))),
        lambda v: (exp(total((1, v("y", E)), (1, v("x", D)), (-1, lse(D, v("x"))))), product(softmax(D, v("x")), exp(v("y")))),
    ),
    refuses=lambda v: (exp(minus(v("x", D), lse(D, v("y", D)))), softmax(D, v("x"))),
)
rule(
    "sigmoid by hand",
    holds=(
        lambda v: (exp(minus(v("x", D), apply("softplus", v("x")))), apply("sigmoid", v("x"))),
        lambda v: (exp(times(-1, apply("softplus", v("x", D)))), apply("sigmoid", times(-1, v("x")))),
    ),
    refuses=lambda v: (exp(minus(v("x", D), apply("softplus", v("y", D)))), apply("sigmoid", v("x"))),
)
rule(
    "log of exp",
    holds=lambda v: (log(exp(v("x", D))), v("x")),
    refuses=lambda v: (log(apply("softplus", v("x", D))), v("x")),
)
rule(
    "log of softmax",
    holds=lambda v: (log(softmax(D, v("x", D))), minus(v("x"), lse(D, v("x")))),
    refuses=lambda v: (log(apply("sigmoid", v("x", D))), minus(v("x"), apply("softplus", v("x")))),  # it cannot overflow where it is used
)
rule(
    "log of a sum of exps",
    holds=lambda v: (log(plus(number(3), exp(v("x", D)))), plus(log(number(3)), apply("softplus", minus(v("x"), log(number(3)))))),
    refuses=(
        lambda v: (log(minus(exp(positive(v, "x", D)), number(1))), apply("softplus", v("x"))),  # a difference
        lambda v: (log(plus(number(1), power(v("x", D), TWO))), apply("softplus", log(power(v("x"), TWO)))),  # nothing to tame
    ),
)
rule(
    "log of a product",
    holds=(
        lambda v: (log(times(3, positive(v, "x", D), exp(v("y", E)))), total((1, v("y")), (1, log(v("x"))), (1, log(number(3))))),
        lambda v: (log(power(positive(v, "x", D), Fraction(3))), times(3, log(v("x")))),
    ),
    refuses=(
        lambda v: (log(product(v("x", D, low=-2, high=-1), v("y", E, low=-2, high=-1))), plus(log(v("x")), log(v("y")))),  # signs not known
        lambda v: (log(power(v("x", D), TWO)), times(2, log(v("x")))),
    ),
)
rule(
    "log-sum-exp by hand",
    holds=(
        lambda v: (log(summed([exp(v("x", D))], [D])), lse(D, v("x"))),
        lambda v: (log(summed([apply("softplus", v("w", D)), exp(v("x", D, E))], [D])), lse(D, plus(v("x"), log(apply("softplus", v("w")))))),
    ),
    refuses=lambda v: (log(summed([positive(v, "w", D), exp(v("x", D, E))], [D])), lse(D, plus(v("x"), log(v("w"))))),  # weights of unknown sign
)
rule(
    "exps meet",
    holds=(
        lambda v: (product(exp(v("x", D, E)), exp(v("y", E))), exp(plus(v("x"), v("y")))),
        lambda v: (power(exp(v("x", D)), TWO), exp(times(2, v("x")))),
    ),
    refuses=lambda v: (product(exp(v("x", D)), exp(v("y", E))), exp(plus(v("x"), v("y")))),  # two vectors stay two
)
rule(
    "a softmax sums to 1",
    holds=(
        lambda v: (plus(v("y"), summed([softmax(D, v("x", D))], [D])), plus(v("y"), number(1))),
        lambda v: (product(v("y", E), summed([softmax(D, v("x", D))], [D])), v("y")),
    ),
    refuses=lambda v: (summed([softmax(D, v("x", D)), v("y", D)], [D]), summed([v("y")], [D])),
)
rule(
    "a softmax sums to 1",
    holds=lambda v: (plus(v("y"), summed([softmax(CTX, v("x", SEQ, CTX), PAST)], [CTX])), plus(v("y"), number(1))),
    refuses=lambda v: (plus(v("y"), summed([softmax(CTX, v("x", SEQ, CTX), asked(v))], [CTX])), plus(v("y"), number(1))),  # it may be 0
    alike=PAIRED,
)
rule(
    "reciprocal of a sum of exps",
    holds=(
        lambda v: (product(v("y", E), power(summed([exp(v("x", D))], [D]), MINUS)), product(v("y"), exp(times(-1, lse(D, v("x")))))),
        lambda v: (power(plus(number(1), exp(v("x", D))), MINUS), apply("sigmoid", times(-1, v("x")))),
    ),
    refuses=lambda v: (power(summed([exp(v("x", D))], [D]), TWO), exp(times(2, lse(D, v("x"))))),  # it may overflow as it is written
)


# -- reductions ----------------------------------------

rule(
    "shift out of log-sum-exp",
    holds=lambda v: (lse(D, plus(v("x", D), v("y", E))), plus(v("y"), lse(D, v("x")))),
    refuses=lambda v: (lse(D, plus(v("x", D), v("y", D))), plus(v("y"), lse(D, v("x")))),
)
rule(
    "shift out of log-sum-exp",
    holds=lambda v: (lse(CTX, plus(v("x", SEQ, CTX), v("y", SEQ)), PAST), plus(v("y"), lse(CTX, v("x"), PAST))),
    refuses=lambda v: (lse(CTX, plus(v("x", SEQ, CTX), v("y", SEQ)), asked(v)), plus(v("y"), lse(CTX, v("x"), asked(v)))),  # of nothing it is -inf
    alike=PAIRED,
)
rule(
    "log of how many",
    holds=(
        lambda v: (lse(D, hidden(D, v("x", D), v("y"))), plus(v("y"), log(number(SIZE)))),
        lambda v: (
            make(Lse((D, E)), plus(v("x", D), hidden(E, v("z", E), v("y")))),
            total((1, v("y")), (1, lse(D, v("x"))), (1, log(number(Monomial.size(E))))),
        ),
    ),
    refuses=lambda v: (make(Lse((D, E)), plus(v("x", D), v("y", E))), plus(lse(D, v("x")), log(number(Monomial.size(E))))),
)
rule(
    "log of how many",
    holds=lambda v: (lse(CTX, hidden(CTX, seen(v("x", SEQ)), v("y", SEQ)), PAST), plus(v("y"), log(summed([PAST], [CTX])))),
    refuses=lambda v: (lse(CTX, hidden(CTX, seen(v("x", SEQ)), v("y", SEQ)), asked(v)), plus(v("y"), log(summed([asked(v)], [CTX])))),
    alike=PAIRED,
)
rule(
    "shift out of softmax",
    holds=lambda v: (softmax(D, plus(v("x", D), v("y", E))), softmax(D, v("x"))),
    refuses=lambda v: (softmax(D, plus(v("x", D), v("y", D))), softmax(D, v("x"))),
)
rule(
    "score term by term",
    holds=(
        lambda v: (softmax(CTX, product(v("b"), plus(v("q", SEQ), seen(v("k", SEQ))))), softmax(CTX, product(v("b"), seen(v("k"))))),
        lambda v: (
            softmax(CTX, summed([v("w", D), plus(v("q", SEQ, D), seen(v("k", SEQ, D)))], [D])),
            softmax(CTX, summed([v("w"), seen(v("k"))], [D])),
        ),
    ),
    refuses=lambda v: (  # a distance is small where it matters
        lse(CTX, product(v("b"), minus(make(Position()), make(Index(CTX))))),
        lse(CTX, minus(product(v("b"), make(Position())), product(v("b"), make(Index(CTX))))),
    ),
    alike=PAIRED,
)
rule(
    "axis given back",
    holds=lambda v: (softmax(D, hidden(D, v("x", D), v("y"))), softmax(D, product(v("y"), make(Compare("=="), make(Index(D)), make(Index(D)))))),
    refuses=lambda v: (softmax(D, v("y", D)), softmax(D, product(v("y"), make(Compare("=="), make(Index(D)), make(Index(D)))))),
)
