"""What lib/moe.mpt has beside the experts of whole models: Switch and expert choice, by their formulas; their losses and probes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mptc
from tests.gallery.common import Tensors, agree, numbers, under

D, HIDDEN, EXPERTS, CAPACITY = 12, 10, 4, 3
TEXT = f"""
use "lib/moe.mpt"
dim d = {D}
dim hidden = {HIDDEN}
dim expert = {EXPERTS}
const capacity = {CAPACITY}
const balance = 0.3
const spread = 0.2

model m {{kind}} {{
  input x: [d]
  output y = {{block}}(x)
}}
"""


def model(block: str, kind: str, folder: pytest.TempPathFactory) -> torch.nn.Module:
    path = folder.mktemp("moe") / "m.mpt"
    path.write_text(TEXT.replace("{{kind}}", kind).replace("{{block}}", block).replace("{kind}", kind).replace("{block}", block))
    found = mptc.load(path).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in found.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) / value.shape[-1] ** 0.5)
    return found


def each(x: Tensor, p: Tensors) -> Tensor:
    """[batch, token, expert, d]"""
    gate, up = (torch.einsum("ehd,bnd->bneh", p[f"swiglu.W_{name}"], x) for name in ("gate", "up"))
    return torch.einsum("edh,bneh->bned", p["swiglu.W_down"], torch.nn.functional.silu(gate) * up)


def switch(p: Tensors, x: Tensor) -> Tensors:
    p = under(p, "switch")
    s = x @ p["router"].T
    probabilities = s.softmax(-1)
    first = torch.zeros_like(s).scatter(-1, s.topk(1, -1).indices, 1.0)
    y = (probabilities * first)[..., None] * each(x, p)
    balance = EXPERTS * (first.mean((0, 1)) * probabilities.mean((0, 1))).sum()
    return {"y": y.sum(2), "loss": 0.3 * balance + 0.2 * torch.logsumexp(s, -1).square().mean()}


def expert_choice(p: Tensors, x: Tensor) -> Tensors:
    p = under(p, "expert_choice")
    probabilities = (x @ p["router"].T).softmax(-1)
    taken = torch.zeros_like(probabilities).scatter(1, probabilities.topk(CAPACITY, 1).indices, 1.0)
    return {"y": ((probabilities * taken)[..., None] * each(x, p)).sum(2)}


def test_switch(tmp_path_factory: pytest.TempPathFactory) -> None:
    agree(model("switch", "", tmp_path_factory), switch, {"x": numbers(2, 9, D)})


def test_expert_choice(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = model("expert_choice", "bidirectional", tmp_path_factory)
    agree(found, expert_choice, {"x": numbers(2, 9, D)})
    load = found(numbers(2, 9, D), probe=True).probes["expert_choice.load"]
    assert (load.sum(1) == CAPACITY).all()
