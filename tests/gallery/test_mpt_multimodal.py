"""mpt_multimodal.mpt against its formula, with one-hot ids in the place of look-ups."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.gallery.common import Tensors, agree, grouped, ids, loaded, next_token, numbers, outputs, rms, seen, swiglu, top, under

DEPTH, TEXT, IMAGE, FACT = 2, 29, 11, 5
VOCAB = TEXT + IMAGE
SIZES = {"depth": DEPTH, "text": TEXT, "image": IMAGE, "fact": FACT, "d": 24, "wide": 14, "narrow": 6, "group": 2, "hidden": 40}


def embedded(tokens: Tensor, z: Tensor, p: Tensors) -> Tensor:
    """One table for each sequence, all ways to embed an id summed into it."""
    e = torch.cat((p["words"] @ p["W_text"].T, p["patches"] @ p["W_image"].T))
    m = torch.einsum("be,evd->bvd", (z @ p["W_mix"].T).softmax(-1), p["experts"])
    r = torch.einsum("bk,kvd->bvd", F.relu(z @ p["W_basis"].T), p["B"])
    table = (e + m + r) * (1 + z @ p["W_scale"].T)[:, None] + (z @ p["W_shift"].T)[:, None]
    return F.one_hot(tokens, VOCAB).double() @ table


def reference(p: Tensors, tokens: Tensor, z: Tensor) -> Tensors:
    x = embedded(tokens, z, under(p, "embedded"))
    past = seen(tokens.shape[1])
    kind = (tokens >= TEXT).long()
    for n in range(DEPTH):
        layer = under(p, f"layers.{n}")
        x = x + grouped(rms(x) * layer["rmsnorm.gain"] * layer["scale"][kind] + layer["shift"][kind], under(layer, "attention"), past)
        x = x + swiglu(rms(x) * layer["pre_mlp.gain"], under(layer, "swiglu"))
    logits = (rms(x) * p["readout.gain"]) @ p["unembed"].T
    return {"logits": logits, "loss": next_token(logits, tokens)}


def mixed() -> Tensors:
    """Both types, the first and the last id of each among them."""
    tokens = ids(VOCAB, 2, 13)
    tokens[0, :4] = torch.tensor([0, TEXT - 1, TEXT, VOCAB - 1])
    return {"tokens": tokens, "z": numbers(2, FACT)}


def test_same_as_the_formula() -> None:
    agree(loaded("mpt_multimodal", **SIZES), reference, mixed())


def test_the_condition_counts() -> None:
    model, given = loaded("mpt_multimodal", **SIZES), mixed()
    assert top(outputs(model, {**given, "z": given["z"].flip(0)})["logits"] - outputs(model, given)["logits"]) > 1e-3
