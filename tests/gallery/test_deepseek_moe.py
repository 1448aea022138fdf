"""deepseek_moe.mpt has the experts of `transformers`' DeepSeek-V3; its bias moves by the sign of what an expert has too much."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, doubled, grouped, ids, loaded, next_token, rewired, rms, seen, under

transformers = pytest.importorskip("transformers")

DEPTH, VOCAB, D, KV, GROUP, HIDDEN, TEAMS, MEMBERS = 2, 61, 24, 2, 2, 10, 4, 3
SIZES = {"depth": DEPTH, "vocab": VOCAB, "d": D, "kv": KV, "group": GROUP, "hidden": HIDDEN, "team": TEAMS, "member": MEMBERS, "top": 3}


def block() -> torch.nn.Module:
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    config = transformers.DeepseekV3Config(
        hidden_size=D,
        moe_intermediate_size=HIDDEN,
        n_routed_experts=TEAMS * MEMBERS,
        num_experts_per_tok=3,
        n_group=TEAMS,
        topk_group=2,
        n_shared_experts=1,
        routed_scaling_factor=2.5,
        norm_topk_prob=True,
        experts_implementation="eager",
    )
    return DeepseekV3MoE(config).double().eval()


def state(e: Tensors) -> Tensors:
    own = {name: e[f"own.W_{name}"].flatten(0, 1) for name in ("gate", "up", "down")}
    found = {"gate.weight": e["router"].flatten(0, 1), "experts.gate_up_proj": torch.cat((own["gate"], own["up"]), 1)}
    shared = {f"shared_experts.{name}_proj.weight": e[f"shared.W_{name}"] for name in ("gate", "up", "down")}
    return {**found, "experts.down_proj": own["down"], **shared}


def reference(p: Tensors, tokens: Tensor) -> Tensors:
    x, nudges = F.embedding(tokens, p["embed"]), torch.zeros((), dtype=torch.float64)
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        e, theirs = under(layer, "experts"), block()
        x = x + grouped(rms(x) * layer["pre_attention.gain"], under(layer, "attention"), seen(tokens.shape[1]))
        h = rms(x) * layer["pre_experts.gain"]
        theirs.gate.e_score_correction_bias.copy_(e["bias"].detach().flatten())  # type: ignore[union-attr, operator]
        x = x + rewired(theirs, state(e), h)
        nudges = nudges + nudge(e, h)
    logits = (rms(x) * p["rmsnorm.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": next_token(logits, tokens) + nudges}


def nudge(e: Tensors, h: Tensor) -> Tensor:
    """0, with the slope by each bias that is the sign of what its expert has beyond its share, the mean over sequences."""
    with torch.no_grad():
        s = torch.einsum("bnd,tmd->bntm", h, e["router"]).sigmoid() + e["bias"]
        teams = s.topk(2, -1).values.sum(-1).topk(2, -1).indices
        inside = torch.zeros(s.shape[:3], dtype=torch.bool).scatter(2, teams, True)[..., None]
        best = s.masked_fill(~inside, -torch.inf).flatten(2).topk(3, -1).indices
        load = torch.zeros(s.flatten(2).shape, dtype=torch.float64).scatter(2, best, 1.0).mean(1)
        over = (load - load.mean(-1, keepdim=True)).sign()
    return (over * (e["bias"] - e["bias"].detach()).flatten()).sum(-1).mean()


def test_same_as_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    doubled(transformers.models.deepseek_v3.modeling_deepseek_v3, monkeypatch)
    agree(loaded("deepseek_moe", **SIZES), reference, {"tokens": ids(VOCAB, 2, 17)})


def test_the_bias_evens_the_load() -> None:
    """Steps by the sign alone: from a router that prefers some experts, the busiest expert's load falls."""
    model = loaded("deepseek_moe", **{**SIZES, "depth": 1})
    tokens = ids(VOCAB, 8, 64)
    biases = [value for name, value in model.named_parameters() if name.endswith("experts.bias")]
    busiest = partial(lambda: float(model(tokens, probe=True).probes["layers.0.experts.load"].mean((0, 1)).max()))
    before = busiest()
    optimizer = torch.optim.SGD(biases, lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        model(tokens, loss=True).loss.backward()
        optimizer.step()
    assert busiest() < 0.75 * before
