"""The listing: what a line looks like, and that it is all there."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from mptc.derive import derive
from mptc.ir.axis import BATCH, CTX, SEQ, dim
from mptc.ir.listing import listing
from mptc.ir.node import make, walk
from mptc.ir.number import Monomial
from mptc.ops.contract import contract, power, total
from mptc.ops.leaf import Mask, Param
from mptc.ops.reduce import Softmax
from mptc.ops.view import View
from tests.ops.test_interpret import raw
from tests.ops.test_verify import X, layer, program, stack

D, E = dim("d"), dim("e")


def lines(text: str) -> list[str]:
    """The nodes' lines, without comments and surrounding space."""
    return [line.partition("#")[0].strip() for line in text.splitlines() if line.strip().startswith("%")]


def test_contracts_are_mathematics() -> None:
    weight = make(Param("V", (E, D)))
    node = contract(Monomial.size(D).power(Fraction(-1, 2)) or Monomial(), [(weight, (0, E), Fraction(2)), (X, (BATCH, SEQ, 0), Fraction(1))])
    text = lines(listing(program(total((1, node), (-3, power(node, Fraction(1, 2)))))))
    assert text == [
        "%0 = input x : [batch, seq, d]",
        "%1 = param V : [d, e]",
        "%2 = d^(-1/2) · Σ_{d} %1[d, e]^2 %0[batch, seq, d] : [batch, seq, e]",
        "%3 = %2^(1/2) : [batch, seq, e]",
        "%4 = %2 - 3 · %3 : [batch, seq, e]",
    ]


def test_what_a_context_shows_is_said() -> None:
    seen = make(View(CTX, ("past", ("window", 3))), X)
    text = lines(listing(program(make(Softmax((CTX,)), seen, make(Mask(CTX, past=True, window=3))))))
    assert text[1:] == [
        "%1 = view[ctx](%0) : [batch, ctx, d] sees ctx: past and window 3",
        "%2 = mask[ctx, past, window=3]() : [seq, ctx]",
        "%3 = softmax[ctx](%1, %2) : [batch, seq, ctx, d] sees ctx: past and window 3",
    ]


def test_loops_are_indented() -> None:
    assert listing(program(stack(*layer()))).splitlines()[5:] == [
        "  %0 = input x : [batch, seq, d]",
        "  %1 = stack 2 as layers(%0)",
        "    %2 = variable x : [batch, seq, d]",
        "    %3 = param layers[*].W : [d]",
        "    %4 = %2 %3 : [batch, seq, d]",
        "    %5 = %2 + %4 : [batch, seq, d]",
        "    → %5",
        "  %6 = %1.0 : [batch, seq, d]",
        "",
        "  output y = %6 : [batch, seq, d]",
    ]


def test_every_node_has_a_line_before_it_is_used(root: Path) -> None:
    for spec in ("cem_small", "llama_small", "energy_transformer"):
        derived = derive(raw(root / "specs" / f"{spec}.mpt"))
        for form in (derived.canonical, derived.program):
            text = listing(form)
            assert text == listing(form)
            numbers = re.findall(r"^ *(%\d+) = ", text, re.MULTILINE)
            assert numbers == [f"%{place}" for place in range(len(numbers))]
            assert len(numbers) >= len(set(walk(form.roots)))
            for line in lines(text):
                name, _, body = line.partition(" = ")
                assert all(int(used[1:]) < int(name[1:]) for used in re.findall(r"%\d+", body)), line


def test_names_and_places_stand_beside(root: Path) -> None:
    text = listing(raw(root / "specs" / "cem_small.mpt"))
    assert re.search(r"%\d+ = rope\[key, base=10000\]\(%\d+\) : .*# q  cem.mpt:9\n", text)
    assert "  param layers[*].interaction.W_q: [head, key, d] ~ normal(0.02)\n" in text
