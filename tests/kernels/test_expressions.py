"""What ops print for a tile of numbers means what their reference on numpy means: run by Triton's interpreter."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
import torch

from mptc.backends.triton.pairs import Lines, Refused
from mptc.ir.axis import Sizes, dim
from mptc.ir.node import Node, Type, make
from mptc.ir.number import Monomial
from mptc.ops.compare import SIGNS, Compare, Extreme, Where
from mptc.ops.contract import contract, total
from mptc.ops.elementwise import FUNCTIONS, Map
from mptc.ops.leaf import Mask, formal
from mptc.ops.norm import GainedRms, Rms, Rstd
from mptc.runtime.module import as_module

D = dim("d")
COUNT = 64
PAGE = """import triton
import triton.language as tl


@triton.jit
def written(a, b, c, out):
    inside = tl.full([1, 64], True, tl.int1)
    at = tl.arange(0, 64)[None, :]
    a_tile, b_tile, c_tile = tl.load(a + at), tl.load(b + at), tl.load(c + at)
{lines}
    tl.store(out + at, tl.zeros([1, 64], tl.float32) + {value})
"""


def given(label: str) -> Node:
    return make(formal(f"{label}_tile", Type((D,))))


A, B, C = (given(label) for label in "abc")


def contracted(*parts: tuple[Node, Fraction], coef: Monomial = Monomial.of(3), bound: bool = False) -> Node:
    return contract(coef, [(node, (0 if bound else D,), power) for node, power in parts])


CASES: dict[str, Node] = {
    **{name: make(Map(name), A) for name in FUNCTIONS},
    **{f"a {sign} b": make(Compare(sign), A, B) for sign in SIGNS},
    "where": make(Where(), make(Compare("<"), A, B), B, C),
    "where a number is not 0": make(Where(), A, B, C),
    "min": make(Extreme(False), A, B),
    "max": make(Extreme(True), A, B),
    "sum": total((Monomial.of(Fraction(1, 3)), A), (-2, B), (1, make(Compare(">"), A, C))),
    "mask": make(Mask(D), make(Compare(">"), A, B), make(Compare(">"), A, C)),
    "product": contracted((A, Fraction(1)), (B, Fraction(2)), (C, Fraction(3))),
    "quotient": contracted((A, Fraction(1)), (B, Fraction(-1)), (C, Fraction(-2)), coef=Monomial.size(D)),
    "roots": contracted((A, Fraction(1, 2)), (B, Fraction(-1, 2)), (C, Fraction(3, 2))),
    "number": contract(Monomial.of(Fraction(-7, 2)), ()),
    "sum of a row": contracted((A, Fraction(1)), (B, Fraction(1)), bound=True),
    "rms": make(Rms((D,)), A),
    "rstd": make(Rstd((D,)), A),
    "gained": make(GainedRms((D,)), A, B),
}


@pytest.mark.parametrize("name", CASES)
def test_a_tile_is_what_numpy_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    node, sizes = CASES[name], Sizes({D: COUNT})
    low = FUNCTIONS[name].low if name in FUNCTIONS else 0.3 if name in ("roots", "quotient") else -2.0
    generator = np.random.default_rng(0)
    arrays = {each: generator.uniform(low, 2.0, COUNT).astype(np.float32) for each in (A, B, C)}
    lines = Lines(sizes, rows=True)
    value = lines.value(node)
    made = value if value[0] in "(-0123456789" else f"{value}.to(tl.float32)"  # digits, or a tile of truths or numbers
    text = PAGE.format(lines="\n".join(f"    {line}" for line in lines.lines), value=made)
    out = torch.full((1, COUNT), torch.nan)
    module = as_module(f"tile_{hashlib.sha256(text.encode()).hexdigest()[:8]}", text)
    module.written[(1,)](*(torch.from_numpy(arrays[each]) for each in (A, B, C)), out)
    wanted = np.broadcast_to(meaning(node, {each: array.astype(np.float64) for each, array in arrays.items()}, sizes), (1, COUNT))
    assert np.abs(out.numpy() - wanted).max() <= 2e-6 * max(1.0, np.abs(wanted).max())


def meaning(node: Node, arrays: dict[Node, np.ndarray], sizes: Sizes) -> np.ndarray:
    if node in arrays:
        return arrays[node]
    return np.asarray(node.op.reference(node, tuple(meaning(arg, arrays, sizes) for arg in node.args), sizes))


def test_what_a_tile_cannot_say_is_refused() -> None:
    with pytest.raises(Refused, match="no integral"):
        Lines(Sizes({D: 4}), rows=True).value(make(Map("silu", -1), A))
    with pytest.raises(Refused, match="a sum over an axis"):
        Lines(Sizes({D: 4})).value(CASES["sum of a row"])
