"""What `mptc cost` says of scores that are computed by rows: what torch does chunk by chunk, and once more on the way back."""

from __future__ import annotations

import inspect

import pytest

from mptc.backends.torch.helpers import by_rows
from mptc.cost import OF
from mptc.cost.chunks import SIZE
from mptc.cost.report import leading, peak
from tests.golden import SPECS
from tests.test_cost import CLOSE, ROOT, Case, memory, of, products, told, written

LENGTHS = (96, 128, 256, 320)
BATCH = 3

FRAME = """
dim d    = 32
dim head = 2
dim key  = 16
energy e(x: [d] | c: [ctx, d]) {{
  param W_q: [head, key, d]
  param W_k: [head, key, d]
  q = W_q @ x
  k = W_k @ c
  minimize -sum[head](logsumexp[ctx]({score}))
}}
model m{both} {{
  input x: [d]
  stack 2 as layers {{ x <- x - grad e(x | {view}) }}
  output y = x
}}
"""
CAP, DISTANCE = "5 * tanh(sum[key](q * k) / 5)", "-sum[key]((q - k)^2) / 2"
BIASED = "sum[key](q * k) - abs(distance(ctx)) / 9"
BOTH = " bidirectional"
SPECIMENS = {
    "soft cap": FRAME.format(score=CAP, view="past(x)", both=""),
    "soft cap, short window": FRAME.format(score=CAP, view="window(x, 40)", both=""),
    "soft cap, long window": FRAME.format(score=CAP, view="window(x, 200)", both=""),
    "soft cap, both directions": FRAME.format(score=CAP, view="all(x)", both=BOTH),
    "distance": FRAME.format(score=DISTANCE, view="past(x)", both=""),
    "distance, both directions": FRAME.format(score=DISTANCE, view="all(x)", both=BOTH),
    "bias under fused attention": FRAME.format(score=BIASED, view="past(x)", both=""),
}


def case(name: str) -> Case:
    return of(ROOT / f"specs/{name}.mpt") if name not in SPECIMENS else written(SPECIMENS[name])


every = pytest.mark.parametrize("name", [*SPECIMENS, "energy_transformer", "t5_bias", "alibi"])


@every
def test_products(name: str) -> None:
    for length in LENGTHS:
        assert told(case(name), BATCH, length, 0) == products(case(name), BATCH, length, 0), length


@every
def test_memory(name: str) -> None:
    for length in LENGTHS:
        at = case(name).at(BATCH, length, 0)
        most, measured = peak(case(name).costs(at), at), memory(case(name), BATCH, length, 0)
        assert isinstance(most, int)
        assert abs(most - measured) <= CLOSE * measured, (length, most, measured)


@every
def test_open_lengths(name: str) -> None:
    """The polynomials, exact for products of so many tokens, and linear in length for the peak."""
    found = case(name)
    assert found.cost.by_rows
    for length in (640, 1024):
        at = found.at(BATCH, length, 0)
        row = found.cost.total
        assert (row.forward.at(at).value, row.backward.at(at).value) == told(found, BATCH, length, 0)
        exact = peak(found.costs(at), at)
        assert isinstance(exact, int)
        assert peak(found.cost, at) == pytest.approx(exact, rel=0.01)
    terms = [dict(powers) for each in found.cost.peak for powers, _ in each.terms]
    assert not [powers for powers in terms if powers.get("batch") and powers.get("seq", 0) > 1]


def test_what_is_run_again_reads_no_more_parameters() -> None:
    """Two matrices in each of two copies, the first of them read for the step too; `c` and `x` are one value."""
    total = case("soft cap").cost.total
    assert (total.stored, total.effective) == (2 * 2 * 1024, 2 * 3 * 1024)


def test_chunks_are_those_of_the_generated_module() -> None:
    assert inspect.signature(by_rows).parameters["size"].default == SIZE


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_what_is_printed_of_an_open_peak_is_near_it(spec: object) -> None:
    found = of(spec)  # type: ignore[arg-type]
    shown = leading(found.cost.peak)
    assert len(shown) <= 4
    for batch, length in ((1, 256), (2, 512), (8, 2048), (64, 4096)):
        at = found.at(batch, length, length)
        exact = peak(found.costs(at), at)
        chosen = {name: -(-length * number // OF) for name, number in found.cost.chosen.items()}
        assert max(each.at({**at, **chosen}).value or 0 for each in shown) == pytest.approx(exact, rel=0.07)
