"""What the registry's tests run on: every sample of every op, and a few more where an op has ways to go wrong that its samples do not show."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mptc.interpret import Lengths
from mptc.ir.axis import BATCH, CTX, SEQ, Axis, context, dim
from mptc.ir.node import Absent, Kind, Node, Type, make
from mptc.ir.number import ONE, Monomial
from mptc.ops.choose import Lookup
from mptc.ops.compare import Compare
from mptc.ops.contract import Contract, Operand, Sum
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Mask, formal
from mptc.ops.norm import GainedRms, Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.rotary import Rope
from mptc.ops.sample import SIZES as SAMPLE_SIZES
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.stream import Stream
from mptc.ops.table import absences, every_op
from mptc.ops.token import IDS, CrossEntropy
from mptc.ops.view import View

ZETA = context("zeta")  # after `ctx`: a view through it puts axes in another order
GROUP = dim("group")
PRIMED = Axis(D.role, D.name, 1)
SIZES = Lengths({**SAMPLE_SIZES, GROUP: 2, ZETA: SAMPLE_SIZES[SEQ]})
TOKEN = (BATCH, SEQ)
PLAIN = Fraction(1)
SEEN = of(SEQ, CTX)


def _contract(coef: Monomial, *operands: tuple[Type, tuple[Axis | int, ...]], **options: Any) -> Sample:
    return Sample(Contract(coef, tuple(Operand(labels) for _, labels in operands)), tuple(type_ for type_, _ in operands), **options)


def _stream(types: tuple[Type, ...], *, causal: bool = False, biased: bool = False, masked: bool = False, scale: Monomial = ONE) -> Sample:
    return Sample(Stream(CTX, (K,), scale, causal, biased, masked), types, masks=(len(types) - 1,) if masked else ())


QUERY, KEY, VALUE = of(*TOKEN, E, GROUP, K), of(*TOKEN, E, K), of(*TOKEN, E, D)
MEMORY = of(BATCH, CTX, E, K)

EXTRA: list[tuple[str, Sample]] = [
    ("linear", _contract(ONE, (of(*TOKEN, D), (*TOKEN, 0)), (of(D, E, K), (0, E, K)))),
    ("linear, two summed", _contract(Monomial.of(2), (of(*TOKEN, D, E), (*TOKEN, 0, 1)), (of(D, E, K), (0, 1, K)))),
    ("linear to a number", _contract(ONE, (of(*TOKEN, D), (*TOKEN, 0)), (of(D), (0,)))),
    ("linear to a number, not the last axis", _contract(ONE, (of(*TOKEN, D, K), (*TOKEN, 0, K)), (of(D), (0,)))),
    ("linear of a number", _contract(ONE, (of(D), (0,)), (of(D, K), (0, K)))),
    ("linear, transposed", _contract(ONE, (of(*TOKEN, D, E), (*TOKEN, 1, 0)), (of(D, E, K), (1, 0, K)))),
    ("scores", _contract(ONE, (of(*TOKEN, E, K), (*TOKEN, E, 0)), (of(BATCH, CTX, E, K), (BATCH, CTX, E, 0)))),
    ("matmul", _contract(ONE, (of(*TOKEN, E, K), (BATCH, SEQ, E, 0)), (of(*TOKEN, D, K), (BATCH, SEQ, D, 0)))),
    ("einsum", _contract(ONE, (of(*TOKEN, E), (BATCH, 0, 1)), (of(*TOKEN, E, K), (BATCH, 0, 1, K)))),
    ("three operands", _contract(ONE, (of(D, E), (0, 1)), (of(E, K), (1, K)), (of(D, K), (0, K)))),
    ("summed in one operand only", _contract(ONE, (of(D, E), (0, E)), (of(E, K), (E, K)))),
    ("outer product", _contract(-ONE, (of(E), (E,)), (of(BATCH), (BATCH,)), (of(SEQ), (SEQ,)))),
    ("transposed", _contract(ONE, (of(D, PRIMED), (PRIMED, D)))),
    ("as many as tokens", _contract(Monomial(Fraction(2), ((SEQ, Fraction(-1, 2)),)), (of(*TOKEN), TOKEN))),
    ("divided", Sample(Contract(ONE, (Operand((D, E)), Operand((D,), -PLAIN), Operand((E,), Fraction(-2)))), (of(D, E), of(D), of(E)), low=0.5)),
    ("one term", Sample(Sum((Monomial.of(3),)), (of(D),))),
    ("far apart", Sample(Sum((ONE, -ONE, Monomial.size(K))), (of(BATCH), of(K), of(SEQ)))),
    ("large", Sample(Map("softplus"), (of(D),), low=50.0, high=90.0)),
    ("far below", Sample(Map("silu", -1), (of(D),), low=-90.0, high=-50.0)),
    ("far above", Sample(Map("softplus", -1), (of(D),), low=50.0, high=90.0)),
    ("windowed", Sample(Mask(ZETA, window=3), ())),
    ("with conditions", Sample(Mask(CTX, past=True), (of(BATCH, CTX), SEEN), masks=(0, 1))),
    ("conditions alone", Sample(Mask(CTX), (of(CTX),), masks=(0,))),
    ("large scores", Sample(Lse((D,)), (of(D, E),), low=500.0, high=900.0)),
    ("two axes, masked", Sample(Softmax((CTX, E)), (of(SEQ, CTX, E), SEEN), masks=(1,))),
    ("mask with a batch", Sample(Max((CTX,)), (of(SEQ, CTX), of(BATCH, SEQ, CTX)), masks=(1,))),
    ("ids", Sample(Compare("=="), (IDS, Type((BATCH, CTX), Kind.ID)))),
    ("an id and a number", Sample(Compare("<"), (IDS, of(K)))),
    ("first axis", Sample(Rms((D,)), (of(BATCH, D, E),))),
    ("last axis", Sample(Rms((K,)), (of(*TOKEN, D, K),))),
    ("two axes", Sample(Rstd((D, K), Fraction(1, 10)), (of(*TOKEN, D, K),))),
    ("gain, last axis", Sample(GainedRms((K,)), (of(*TOKEN, K), of(K)))),
    ("gain, two axes", Sample(GainedRms((D, E)), (of(*TOKEN, D, E), of(D, E)))),
    ("of a batch", Sample(Rope(K), (of(*TOKEN, E, K),))),
    ("not the last axis", Sample(Rope(D, inverse=True), (of(*TOKEN, D, E),))),
    ("table turned", Sample(Lookup(K), (of(D, K), IDS), vocabulary=9)),
    ("ids viewed", Sample(Lookup(K), (of(D, E, K), Type((BATCH, SEQ, CTX), Kind.ID)))),
    ("not the last axis", Sample(CrossEntropy(D), (of(*TOKEN, D, K), Type((*TOKEN, K), Kind.ID)))),
    ("seen twice", Sample(View(ZETA), (of(SEQ, CTX, D),))),
    ("the same for all", Sample(View(CTX), (of(D),))),
    ("grouped queries", _stream((QUERY, KEY, VALUE), causal=True, scale=Monomial.size(K).power(Fraction(-1, 2)) or ONE)),
    ("a bias for a group", _stream((QUERY, KEY, VALUE, of(SEQ, CTX, GROUP)), biased=True)),
    ("padding", _stream((QUERY, KEY, VALUE, of(BATCH, CTX)), masked=True)),
    ("no heads", _stream((of(*TOKEN, K), of(*TOKEN, K), of(*TOKEN, D), of(BATCH, SEQ, CTX)), masked=True)),
    ("of a memory", _stream((QUERY, MEMORY, MEMORY, of(BATCH, CTX)), masked=True)),
    ("a bias of the query", _stream((of(*TOKEN, E, K), KEY, VALUE, of(CTX, E), SEEN), biased=True, masked=True)),
]


def samples() -> Iterator[tuple[str, Sample]]:
    for op in every_op():
        if "samples" not in absences(op):
            yield from ((f"{op.__name__}-{index}", sample) for index, sample in enumerate(op.samples()))
    yield from ((f"{type(sample.op).__name__}-{name}", sample) for name, sample in EXTRA)


def cases(*facets: str, masked: bool = False, canonical: bool = False) -> Any:
    """A parameter for each sample of the ops that have these facets; its number is the seed.

    `masked`: only those that have a mask. `canonical`: only those that the canonical IR may hold.
    """

    def wanted(sample: Sample) -> bool:
        return (bool(sample.masks) or not masked) and not (canonical and raw(sample)) and not any(lacks(sample, facet) for facet in facets)

    found = [pytest.param(seed, sample, id=name) for seed, (name, sample) in enumerate(samples()) if wanted(sample)]
    return pytest.mark.parametrize(("seed", "sample"), found)


def raw(sample: Sample) -> bool:
    """Whether a coefficient has a number of tokens in it: the canonical IR has `Length` instead."""
    return isinstance(sample.op, Contract) and any(base == SEQ for base, _ in sample.op.coef.powers)


def lacks(sample: Sample, facet: str) -> bool:
    return isinstance(getattr(sample.op, facet), Absent)


def node_of(sample: Sample) -> Node:
    """The op on variables. What it sees is a mask of conditions, so that it may be nothing at all."""
    variables = [Node(formal(f"x{index}", type_), (), type_) for index, type_ in enumerate(sample.types)]
    for index in sample.masks:
        variables[index] = Node(Mask(CTX), (variables[index],), sample.types[index])
    return make(sample.op, *variables)


def given(node: Node, values: tuple[Any, ...]) -> dict[Node | str, Any]:
    """The arguments' values, for the interpreter."""
    conditions = {arg.args[0]: value for arg, value in zip(node.args, values, strict=True) if arg.args}
    return {**dict(zip(node.args, values, strict=True)), **conditions}


def shape(axes: tuple[Axis, ...]) -> tuple[int, ...]:
    return tuple(SIZES[axis] for axis in axes)


def arrays(sample: Sample, seed: int, *, empty: bool = True) -> tuple[Any, ...]:
    """Values in the op's domain. Masks leave some tokens without anything to see, unless `empty` is false; ids are masked or outside now and then."""
    generator = np.random.default_rng(seed)
    return tuple(_array(sample, index, type_, generator, empty) for index, type_ in enumerate(sample.types))


def _array(sample: Sample, index: int, type_: Type, generator: np.random.Generator, empty: bool) -> Any:
    if type_.kind is Kind.ID:
        return generator.integers(-1, sample.vocabulary, shape(type_.axes))
    if index not in sample.masks:
        return generator.uniform(sample.low, sample.high, shape(type_.axes))
    seen = generator.integers(0, 2, shape(type_.axes)).astype(float)
    seen[..., 0] = 1.0  # nobody is without the first token …
    if empty and SEQ in type_.axes:
        seen[(slice(None),) * type_.axes.index(SEQ) + (2,)] = 0.0  # … but token 2
    return seen


def reference(sample: Sample, node: Node, values: tuple[Any, ...]) -> Any:
    return sample.op.reference(node, values, SIZES)
