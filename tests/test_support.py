"""What no token sees does not matter, even where it is infinite or no number: it is left out, not multiplied by 0."""

from __future__ import annotations

import pytest
import torch

from tests.differential import compiled, gradients

FRAME = """
dim d = 3

model m {{
  input x: [d]
  input w: []
  output y = {value}
}}
"""
HIDDEN = {
    "reciprocal distances": "sum[ctx](only(past(x), distance(ctx) > 0) / distance(ctx))",
    "roots of distances": "sum[ctx](past(x) * sqrt(distance(ctx)))",
    "logarithms of distances": "mean[ctx](past(x) * log(distance(ctx) + 1))",
    "behind a softmax": "sum[ctx](softmax[ctx](past(w)) * log(distance(ctx) + 1) * past(x))",
    "behind the softmax of a condition": "sum[ctx](softmax[ctx](only(past(w), distance(ctx) > 1)) / (distance(ctx) - 1) * past(x))",
    "of both": "sum[ctx](only(past(x), past(w) > w) * log(past(w) - w))",
    "a kernel": "sum[ctx](only(past(x), distance(ctx) > 2) * exp(1000 * (2 - distance(ctx))))",
    "a power": "sum[ctx](past(x) * (distance(ctx) + 1)^-1.5)",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_does_not_matter(name: str) -> None:
    """Values are those of the meaning, where the mask is a `where`, and what x gets is that of differences."""
    made = compiled(FRAME.format(value=HIDDEN[name]))
    inputs = made.inputs()
    value = made.run(inputs)["y"]
    torch.testing.assert_close(value, made.meaning({}, inputs)["y"], rtol=1e-12, atol=1e-12)
    assert value.isfinite().all()
    slope = gradients(lambda _, given: made.run(given), {}, inputs)["d x"]
    assert slope.isfinite().all()
    step = torch.randn(inputs["x"].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ends = [(made.run({**inputs, "x": inputs["x"] + at * step})["y"] * weights).sum() for at in (1e-6, -1e-6)]
    torch.testing.assert_close((slope * step).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-8)
