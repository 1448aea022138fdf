"""Along which axes a value has entries only for some: what `topk` chooses is carried on by what keeps it."""

from __future__ import annotations

import pytest

from mptc.model import tree
from mptc.model.listing import listing

HEAD = "dim d = 4\ndim e = 8\ndim f = 8\n"
INPUTS = "  input x: [d]\n  input s: [e]\n  input t: [f, e]\n  c = topk[e](s, 2)\n  w = softmax[e](c)\n"


def probe(sound, text: str) -> tree.Shape:
    model = sound(f"{HEAD}model m bidirectional {{\n{INPUTS}  probe p = {text}\n  output y = x\n}}\n")
    return next(each for each in model.body if isinstance(each, tree.Probe)).value.shape


@pytest.mark.parametrize(
    ("text", "chosen", "sparse"),
    [
        ("c", "e", ""),
        ("c + s", "e", ""),
        ("c - s", "e", ""),
        ("s - c", "", ""),
        ("c * s", "", ""),
        ("w", "", "e"),
        ("softmax[f](topk[e](t, 2))", "", "e"),
        ("exp(topk[f, e](t, 2))", "", "e f"),
        ("w * each e { tanh(x) }", "", "e"),
        ("sum[e](w * each e { tanh(x) })", "", ""),
        ("sum[f](exp(topk[f, e](t, 2)))", "", "e"),
        ("w @ t", "", ""),
        ("w / 2 + w * s", "", "e"),
        ("w + s", "", ""),
        ("silu(w)", "", "e"),
        ("exp(w)", "", ""),
        ("softtopk[seq](sum[e](s), keep = 2)", "", "seq"),
    ],
)
def test_carried(sound, text: str, chosen: str, sparse: str) -> None:
    shape = probe(sound, text)
    assert (" ".join(sorted(map(str, shape.chosen))), " ".join(sorted(map(str, shape.sparse)))) == (chosen, sparse)


def test_the_listing_says_so(sound) -> None:
    model = sound(f"{HEAD}model m {{\n{INPUTS}  output y = w * x\n}}\n")
    assert "w = softmax[e](c)" in listing(model)
    assert "# [e], sparse in e" in listing(model)
