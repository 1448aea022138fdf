"""What a `freeze` covers is not trained: one copy or all, under whichever of its names."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch

import mptc
from mptc.runtime.settings import Settings
from mptc.runtime.train import make_optimizer
from tests.sharing.cases import TOKENS, Case

LAYERS = "stack 3 as layers { x <- x + f(x) }\n"
NEST = "stack 2 as a {\nx <- x + g(x)\nstack 3 as b { x <- x + f(x) }\n}\n"
CASES = {
    "a tensor": (LAYERS + "freeze embed", ["embed"]),
    "no name that begins as it does": ("param embed_more: [d]\nx <- x * embed_more\nfreeze embed", ["embed"]),
    "a call site": (LAYERS + "x <- x + g(x)\nfreeze g", ["g.U", "g.W", "g.gain"]),
    "every copy": (LAYERS + "freeze layers[*]", [f"layers.{n}.f.{name}" for n in range(3) for name in ("U", "W", "gain")]),
    "one copy": (LAYERS + "freeze layers[1]", ["layers.1.f.U", "layers.1.f.W", "layers.1.f.gain"]),
    "a call site in one copy": (LAYERS + "freeze layers[0].f", ["layers.0.f.U", "layers.0.f.W", "layers.0.f.gain"]),
    "a tensor in one copy": (LAYERS + "freeze layers[2].f.U", ["layers.2.f.U"]),
    "a tensor in every copy": (LAYERS + "freeze layers[*].f.U", [f"layers.{n}.f.U" for n in range(3)]),
    "in the body of a stack": ("stack 2 as layers {\nx <- x + f(x)\nfreeze f.W\n}", ["layers.0.f.W", "layers.1.f.W"]),
    "a star and a number": (NEST + "freeze a[1].b[*].f.W", ["a.1.b.0.f.W", "a.1.b.1.f.W", "a.1.b.2.f.W"]),
    "a number and a star": (NEST + "freeze a[*].b[2].f.W", ["a.0.b.2.f.W", "a.1.b.2.f.W"]),
    "ten and more": ("stack 12 as layers { x <- x + f(x) }\nfreeze layers[1].f.W", ["layers.1.f.W"]),
    "under its other name": ("param readout: [vocab, d]\ntie readout = embed\nfreeze readout\noutput y = readout @ f(x)", ["embed"]),
    "under its other name, in one copy": (LAYERS + "tie layers[0].f.W = layers[2].f.U\nfreeze layers[0].f.W", ["layers.2.f.U"]),
    "under another name in some copies": (
        LAYERS + "x <- x + g(x)\ntie layers[1].f.W = g.W\nfreeze layers[*].f.W",
        ["g.W", "layers.0.f.W", "layers.2.f.W"],
    ),
    "at the end of a chain": (
        LAYERS + "x <- x + g(x)\ntie layers[2].f = layers[1].f\ntie layers[1].f.W = g.W\nfreeze layers[2].f.W",
        ["g.W"],
    ),
    "a share": ("share k: f\nx <- x + k(k(x))\nfreeze k", ["k.U", "k.W", "k.gain"]),
    "a stack in a share": (
        "share k: tower\nx <- x + k(k(x))\nfreeze k.layers[1].more[0].g",
        ["k.layers.1.more.0.g.U", "k.layers.1.more.0.g.W", "k.layers.1.more.0.g.gain"],
    ),
    "a label that is a word of the language": (
        "x <- x + f(x) as freeze\nx <- x + f(x) as tie\nfreeze freeze.W\ntie tie = freeze",
        ["freeze.W"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_is_covered_stays(name: str, tmp_path: Path) -> None:
    lines, frozen = CASES[name]
    path = tmp_path / "frozen.mpt"
    path.write_text(Case(lines, (), 0).text(shared=True))
    for model in (made := mptc.load(path), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), mptc.load(path, seed=1).double()):
        assert sorted(name for name, parameter in model.named_parameters() if not parameter.requires_grad) == frozen
        before = copy.deepcopy(model.state_dict())
        optimizer = make_optimizer(model, Settings(lr=0.01))
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before) - len(frozen)
        model(TOKENS)[0].square().sum().backward()
        optimizer.step()
        assert sorted(name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])) == frozen
