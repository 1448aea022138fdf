"""Scores that are one sum of terms: taken apart where each factor has to do with one token, and left whole where that would lose what is close."""

from __future__ import annotations

import pytest
import torch

from tests.differential import agree, compiled

FRAME = """
dim d = {d}
energy E(x: [d] | c: [ctx, d]) {{
  param W: [d]
  minimize -logsumexp[ctx]({score})
}}
model m {{
  input x: [d]
  output y = grad E(x | past(x))
}}
"""
APART = {
    "a product and a square": ("sum[d](x * c - c^2 / 2)", "sum[d](x * c) - sum[d](c^2) / 2"),
    "learned": ("sum[d](W * x * c + silu(c))", "sum[d](W * x * c) + sum[d](silu(c))"),
    "before a factor": ("sum[d](x * c + c) / sqrt(d)", "sum[d](x * c) / sqrt(d) + sum[d](c) / sqrt(d)"),
    "with what the one who asks has": ("sum[d](x * c - x^2)", "sum[d](x * c) - sum[d](x^2)"),
}
WHOLE = {
    "the square of a difference": "-sum[d]((x - c)^2) / 2",
    "a function of both": "sum[d](silu(x + c) + x * c)",
}


def text(score: str) -> str:
    """The code, without the comments that say the energy as it is spelt."""
    lines = compiled(FRAME.format(score=score, d=4)).text.splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("name", APART)
def test_one_sum_is_what_its_terms_are(name: str) -> None:
    one, several = map(text, APART[name])
    assert one == several
    assert "F.scaled_dot_product_attention(" in one


@pytest.mark.parametrize("name", [*APART, *WHOLE])
def test_it_means_the_same(name: str) -> None:
    agree(compiled(FRAME.format(score=APART[name][0] if name in APART else WHOLE[name], d=4)))


@pytest.mark.parametrize("name", WHOLE)
def test_what_sees_both_tokens_stays_whole(name: str) -> None:
    assert "F.scaled_dot_product_attention(" not in text(WHOLE[name])


def test_a_difference_is_exact_where_the_tokens_are_close() -> None:
    """Multiplied out it would be wrong by more than a hundredth here."""
    made = compiled(FRAME.format(score=WHOLE["the square of a difference"], d=64))
    x = 0.3 * torch.randn(2, 48, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100
    exact = made.run({"x": x})["y"]
    found = made.model.float()(x.float()).y.double()
    assert (found - exact).abs().max() < 1e-4
