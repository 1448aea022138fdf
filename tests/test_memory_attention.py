"""Attention whose queries are a memory's tokens, or latents: fused wherever the score is bilinear plus a bias."""

from __future__ import annotations

import pytest

from mptc.compile import check
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.differential import agree, compiled, watched

FRAME = """
use "lib/std.mpt"
context notes
context far
dim d      = 6
dim kv     = 2
dim group  = 3
dim head   = 2
dim key    = 4
dim latent = 9
dim other  = latent
dim hidden = 5

block look(x: [notes, d], c: [ctx, d]) {{
  param W_q: [kv, group, key, d]
  param W_k: [kv, key, d]
  param W_v: [kv, key, d]
  s = sum[key](rope[key](W_q @ x) * rope[key](W_k @ c)) / sqrt(key) - 0.1 * abs(index(notes) - index(ctx))
  o = sum[ctx](softmax[ctx](s) * (W_v @ c))
  return sum[kv, group, key](o^2)
}}

energy recall(x: [d] | c: [ctx, d]) {{
  param W_q: [head, key, d]
  param W_k: [head, key, d]
  minimize -sum[head](logsumexp[ctx](sum[key]((W_q @ x) * (W_k @ c))))
}}

model reader bidirectional {{
  input x:       [d]
  input written: [notes, d] per sequence
  input mask:    [notes] per sequence
  param begin:   [latent, d]
  m = written
  {body}
}}
"""

READ = "output y = x * sum[notes](m)"
SELF = "h = layernorm(m) as pre\n  m <- m + attend[ctx -> far](h, {c}) as a\n  " + READ
FUSED = {
    "itself": SELF.format(c="h[notes -> far]"),
    "itself, padded": SELF.format(c="only(h[notes -> far], mask[notes -> far] > 0)"),
    "itself, near": SELF.format(c="only(h[notes -> far], abs(index(notes) - index(far)) < 3)"),
    "itself, so far": SELF.format(c="only(h[notes -> far], index(far) <= index(notes))"),
    "grouped, turned, biased": f"m <- m + look[ctx -> far](m, m[notes -> far]) as a\n  {READ}",
    "twice": f"stack 2 as s {{\n    h = layernorm(m) as pre\n    m <- m + attend[ctx -> far](h, h[notes -> far])\n  }}\n  {READ}",
    "an energy of a memory": f"m <- m - 0.1 * grad recall[ctx -> far](m | m[notes -> far])\n  {READ}",
    "tokens": "output y = x * sum[notes](attend(m, all(x)))",
    "latents": "z = begin + attend[ctx -> notes](begin, only(m, mask > 0)) as a\n  output y = x * sum[latent](z)",
    "latents of tokens": "z = begin + attend(begin, all(x)) as a\n  output y = x * sum[latent](z)",
    "latents, then themselves": """z = begin + attend[ctx -> notes](begin, m) as a
  param W: [head, key, d]
  q = W @ z
  s = sum[key](q * q[latent -> other])
  o = sum[other](softmax[other](s) * q[latent -> other])
  output y = x * sum[latent, head, key](o^3)""",
    "an energy of latents": """z = begin + attend[ctx -> notes](begin, m) as a
  w = z - 0.1 * grad recall[ctx -> notes](z | m)
  output y = x * sum[latent](w)""",
}  # fmt: skip
LENGTHS = {"seq": 5, "notes": 7}


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str) -> None:
    made = compiled(FRAME.format(body=FUSED[name]), LENGTHS)
    assert "scaled_dot_product_attention" in made.text
    assert "softmax(" not in made.text
    agree(made)


@pytest.mark.parametrize("name", FUSED)
def test_no_pairs_are_stored(name: str) -> None:
    """What the spec makes of places goes into the attention as [notes, far]; with a batch or heads no operator returns pairs of tokens."""
    made = compiled(FRAME.format(body=FUSED[name]), {"seq": 23, "notes": 29})
    of_places = "index(" in FUSED[name] or "look" in FUSED[name]
    for returned in watched(made):
        pairs = [size for size in returned.shape if size in (23, 29, 9)]
        assert len(pairs) < 2 or (of_places and returned.shape == (29, 29)), (returned, made.text)


def test_what_is_not_fused_is_warned_of() -> None:
    """A soft cap on the scores of a memory costs a number for each pair of its tokens."""
    text = FRAME.format(body=f"m <- m + sum[far](softmax[far](tanh(sum[d](m * m[notes -> far]))) * m[notes -> far])\n  {READ}")
    diagnostics = Diagnostics()
    check(Source("spec.mpt", text), diagnostics)
    assert [one.code for one in diagnostics.found if one.code == "W0601"] == ["W0601"]
