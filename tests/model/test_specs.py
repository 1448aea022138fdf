"""The specs of the repository and the programs of the language resolve; their parameters are where the language says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptc.model import tree
from mptc.model.listing import listing
from mptc.model.paths import parameters
from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

ROOT = Path(__file__).resolve().parent.parent.parent
LEGAL = sorted((Path(__file__).parent / "legal").glob("*.mpt"))
SPECS = sorted((ROOT / "specs").rglob("*.mpt"))


def resolved(path: Path, variant: str | None = None, **settings: str) -> tree.Model | None:
    diagnostics = Diagnostics()
    model = resolve(Source.read(path), settings, variant, diagnostics)
    assert not diagnostics.found, "\n".join(map(render, diagnostics.found))
    return model


def spec(name: str, variant: str | None = None, **settings: str) -> tree.Model:
    model = resolved(ROOT / "specs" / f"{name}.mpt", variant, **settings)
    assert model is not None
    return model


@pytest.mark.parametrize("path", [*LEGAL, *SPECS], ids=lambda path: path.stem)
def test_resolves(path: Path) -> None:
    model = resolved(path)
    has_model = "\nmodel " in path.read_text()
    assert (model is not None) == has_model
    assert model is None or f"\nmodel {model.name}" in listing(model)


def test_cem_small_has_the_parameters_of_the_language() -> None:
    model = spec("cem_small", depth="2")
    layer = {
        "context.gain": [512],
        "query.gain": [512],
        "interaction.W_q": [8, 64, 512],
        "interaction.W_k": [8, 64, 512],
        "precondition.scale": [512],
        "precondition.U": [16, 512],
        "pre_gate.gain": [512],
        "gated.W_up": [1408, 512],
        "gated.W_gate": [1408, 512],
    }
    copies = {f"layers.{copy}.{path}": shape for copy in range(2) for path, shape in layer.items()}
    expected = {"embed": [32_000, 512], **copies, "rmsnorm.gain": [512]}
    assert {path: [model.sizes[axis] for axis in axes] for path, axes in parameters(model.body)} == expected


def test_llama_small_in_the_declared_order() -> None:
    shapes = dict(parameters(spec("llama_small").body, expand=False))
    assert [axis.name for axis in shapes["layers[*].attention.W_q"]] == ["kv", "group", "key", "d"]
    assert [axis.name for axis in shapes["layers[*].attention.W_k"]] == ["kv", "key", "d"]
    assert [axis.name for axis in shapes["unembed"]] == ["vocab", "d"]


def test_energy_transformer_is_bidirectional() -> None:
    model = spec("energy_transformer", "tiny")
    assert not model.causal
    assert [path for path, _ in parameters(model.body)] == [
        *("embed", "center.gain", "center.bias", "total.attend.W_q", "total.attend.W_k", "total.hopfield.Xi", "readout.gain", "readout.bias"),
    ]


@pytest.mark.parametrize("name", ["cem_small", "llama_small", "energy_transformer"])
def test_tiny(name: str) -> None:
    sizes = {axis.name: size for axis, size in spec(name, "tiny").sizes.items()}
    assert (sizes["vocab"], sizes["d"]) == (256, 64)


def test_a_setting_wins_over_a_variant_and_what_follows_follows() -> None:
    sizes = {axis.name: size for axis, size in spec("cem_small", "tiny", d="96").sizes.items()}
    assert (sizes["d"], sizes["head"], sizes["key"], sizes["rank"]) == (96, 2, 48, 4)


def test_the_listing_names_sizes_axes_and_paths() -> None:
    text = listing(spec("cem_small", "tiny"))
    assert "dim key = 32\n" in text
    assert "# layers[*].interaction.W_q" in text
    assert "[head, key, d] = 2 × 32 × 64" in text
    assert "stack 2 as layers {" in text
    assert "# carries x" in text
    assert text.index("block rmsnorm") < text.index("model cem_small")


def test_a_stack_carries_what_it_updates() -> None:
    model = spec("cem_small", "tiny")
    stack = next(each for each in model.body if isinstance(each, tree.Stack))
    repeat = next(each for each in stack.body if isinstance(each, tree.Repeat))
    assert [binding.name for binding in stack.carried] == ["x"]
    assert stack.carried == repeat.carried
    assert (stack.count, repeat.count) == (2, 2)
