"""Where `LayerNormalization` is written, and where it must not be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.deploy.agree import agrees

HEAD = "dim d = 6\ndim e = 4\nmodel m {\n  input x: [d]\n  input z: [d, e]\n  param gain: [d] = 1\n  param bias: [d] = 0\n  param other: [e] = 1\n"


@pytest.mark.parametrize(
    ("lines", "layer", "rms"),
    [
        ("output y = gain * rms[d](x - mean[d](x)) + bias", 1, 0),
        ("output y = gain * rms[d](x - mean[d](x))", 1, 0),
        ("output y = rms[d](x - mean[d](x)) + bias", 1, 0),
        ("output y = bias - gain * rms[d](x - mean[d](x))", 1, 0),
        ("output y = x + gain * rms[d](x - mean[d](x)) + bias", 1, 0),
        ("w = x + sin(x)\n  output y = gain * rms[d](w - mean[d](w)) + bias", 1, 0),
        ("output y = gain * rms[d](x - mean[d](x)) + bias\n  output u = mean[d](x)", 1, 0),
        ("output y = rms[d, e](z - mean[d, e](z))", 1, 0),
        ("output y = gain * rms[d](x) + bias", 0, 1),
        ("output y = rms[d](x - 2 * mean[d](x))", 0, 1),
        ("output y = rms[d](x + mean[d](x))", 0, 1),
        ("output y = rms[d](x - mean[d](x^2))", 0, 1),
        ("output y = rms[d](x - mean[d](sin(x)))", 0, 1),
        ("output y = rms[e](z - mean[d](z))", 0, 1),
        ("output y = rms[e](z - mean[d, e](z))", 0, 1),
        ("output y = other * rms[e](z - mean[e](z)) + bias", 1, 0),
        ("output y = rms[d](z - mean[d](z))", 0, 0),  # not the last axis of what is given: its parts
    ],
)
def test_where_a_mean_is_taken_off(lines: str, layer: int, rms: int, tmp_path: Path) -> None:
    made = agrees(HEAD + "  " + lines + "\n}\n", tmp_path, tolerance=2e-6)
    counts = Counter(node.op_type for node in made.model().graph.node)
    assert (counts["LayerNormalization"], counts["RMSNormalization"]) == (layer, rms)
    assert not layer or not counts["ReduceMean"] or "output u" in lines
