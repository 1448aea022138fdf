"""What is made of places and numbers alone is not rounded to the dtype of the parameters: it chooses entries and tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.differential import agree, compiled
from tests.gallery.common import ids, loaded

TOKENS = 700  # bfloat16 has not all whole numbers above 256, float16 not all above 2048
FRAME = """
context mem
dim slot  = 1_400
dim vocab = 3
dim d     = 2

block bucket_of(back: []) {{
  n = abs(back)
  far = 8 + floor(log(max(n, 1) / 8) / log(16) * 8 + 1e-4)
  return where(back < 0, 16, 0) + where(n < 8, n, min(far, 15))
}}

model places bidirectional {{
  input tokens: id[vocab]
  input x:      [d]
  input memory: [mem, d] per sequence
  param T: [slot]
  param w: [] = 300
  {body}
}}
"""


def entry(number: str) -> str:
    return f"output y = lookup[slot](T, {number})"


def of_pairs(number: str, at: str = "distance(ctx) == 299") -> str:
    """The entry of one of the tokens that are seen."""
    return f"output y = sum[ctx](only(all(position * 0 + 1), {at}) * lookup[slot](T, {number}))"


CASES = {
    "positions": entry("position"),
    "doubled": entry("2 * position - 1"),
    "halves": entry("floor((position + 1) / 2)"),
    "thirds": entry("ceil(position / 3 + 300)"),
    "roots": entry("floor(sqrt(position) * 20)"),
    "chosen": entry("where(position > 350, position - 3, max(position, 100))"),
    "counted": entry("sum[ctx](past(tokens) == tokens)"),
    "counted in pairs": entry("sum[ctx](past(position) * 0 + 1) + sum[ctx](all(position) < position)"),
    "far back": entry("sum[ctx](only(all(position), distance(ctx) > 2) * 0 + 1)"),
    "the mean": entry("floor(2 * mean[ctx](past(position)))"),
    "the furthest": entry("max[ctx](only(all(position), distance(ctx) > 1))"),
    "a place of a memory": "output y = x * sum[mem](lookup[slot](T, index(mem)) * where(index(mem) == 401, 1, 0))",
    "distances": of_pairs("abs(distance(ctx))"),
    "buckets": of_pairs("bucket_of(distance(ctx)) + bucket_of(-distance(ctx)) * 32"),
    "a number that is learned": of_pairs("distance(ctx)", "(distance(ctx) < w) * (distance(ctx) > w - 2)"),
    "through a name": "p = 3 * position\n  q = p - position\n  " + entry("q - 100"),
    "in a loop": "y = x * 0\n  repeat 2 { y <- y + lookup[slot](T, position + 3) }\n  output out = y",
    "in a stack": "y = x * 0\n  stack 2 as s { y <- y + lookup[slot](T, floor(position / 2) + 301) }\n  output out = y",
    "in an `on`": "output y = on position > 301 { lookup[slot](T, position) }",
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_the_same_entries_in_every_dtype(name: str, dtype: torch.dtype) -> None:
    """The table has numbers that every dtype has, and neighbours differ: an entry beside the right one is another number."""
    made = compiled(FRAME.format(body=CASES[name]), {"seq": TOKENS, "mem": 500})
    model = made.model
    with torch.no_grad():
        model.T.copy_(torch.arange(model.T.numel()) % 101)
        model.w.fill_(300)
    inputs = made.inputs(batch=1)
    exact = model(**inputs)[0]
    narrow = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
    found = model.to(dtype)(**narrow)[0]
    assert found.dtype == dtype
    assert exact.abs().max() > 50
    scale = inputs["x"].abs().max() if name == "a place of a memory" else 0
    assert (found.double() - exact).abs().max() <= torch.finfo(dtype).eps * 101 * scale


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    agree(compiled(FRAME.format(body=CASES[name]), {"seq": 11, "mem": 13}))


OF_NUMBERS = {
    "the length": "output y = x * log(seq) + x * min(seq, 4) - max(seq / 2, 3) * where(x > 0, seq, 0.3)",
    "numbers that float32 has not": "output y = where(x > 0, 0.1, 0.3) + where(position > 2, 0.7, x)",
    "numbers that it has": "output y = x * exp(where(position > 2, 1, 0.5))",
    "places": "output y = position\n  output z = 2 * sum[ctx](all(position))\n  output c = sum[ctx](all(x) > x)",
    "the state of a loop": "p = position\n  n = 0\n  repeat 3 {\n    p <- p + 1\n    n <- tanh(n + 1)\n  }\n  output y = p + x * n",
    "a constant": "output y = 3\n  penalty seq\n  penalty 2\n  loss sum[d](x^2)",
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_numbers_are_of_the_parameters_dtype(name: str) -> None:
    """Python's numbers and places become numbers of the dtype of the parameters, float64's at full precision."""
    made = compiled(FRAME.format(body=OF_NUMBERS[name]))
    agree(made, 1e-13)
    for dtype in (torch.float32, torch.bfloat16):
        narrow = {key: value.to(dtype) if value.is_floating_point() else value for key, value in made.inputs().items()}
        assert all(value.dtype == dtype for value in made.model.to(dtype)(**narrow))


@pytest.mark.parametrize("name", ["device", "dtype", "wide", "position", "behind", "length_mem", "rotation_4", "max"])
def test_inputs_of_any_name(name: str) -> None:
    """What the generated text calls something else is an input's name too."""
    body = FRAME.replace("input x:      [d]", f"input {name}: [d]").replace("input tokens:", f"input {'tokens' if name != 'tokens' else 'ids'}:")
    text = body.format(body=f"output y = {name} * sum[ctx](only(all({name}), distance(ctx) < w)) + mean[mem](index(mem) * memory) + rope[d]({name})")
    agree(compiled(text))


# -- the gallery ------------------------------------------------------------------------------------------


def seen(model: Any, name: str, inputs: dict[str, Tensor]) -> list[tuple[Any, ...]]:
    """What a function of the generated module is called with."""
    scope = type(model).forward.__globals__
    plain, calls = scope[name], []
    scope[name] = lambda *args, **options: (calls.append((*args, options)), plain(*args, **options))[1]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        scope[name] = plain
    return calls


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_buckets_of_t5(dtype: torch.dtype) -> None:
    model = loaded("t5_bias", reach=128, bucket=32)
    inputs = {"tokens": ids(256, 1, 600)}
    exact, found = (torch.cat([index for _, index, *_ in seen(model.to(kind), "entries", inputs)]) for kind in (torch.float32, dtype))
    assert exact.unique().numel() == 31
    assert torch.equal(found.long(), exact.long())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_slopes_of_alibi(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A penalty is rounded as one number, near to where it is small: not as the difference of two large ones."""
    model = loaded("alibi").to(dtype)
    masks = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def kept(*args: Tensor, attn_mask: Tensor) -> Tensor:
        masks.append(attn_mask)
        return plain(*args, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", kept)
    model.requires_grad_(False)(tokens=ids(256, 1, 600))
    distance = torch.arange(600.0)[:, None] - torch.arange(600.0)
    slopes = 2 ** (-8 * torch.arange(1.0, 5) / 4)
    wanted = torch.where(distance >= 0, -slopes[:, None, None] * distance, -torch.inf)
    rows = [torch.nn.functional.pad(mask, (0, 600 - mask.shape[-1]), value=-torch.inf) for mask in masks[: len(masks) // 2]]  # of the first layer
    torch.testing.assert_close(torch.cat(rows, 2)[0].float(), wanted, rtol=torch.finfo(dtype).eps, atol=0)
