"""`mptc compile --emit onnx`, as whole processes; and what opens its files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

import mptc as package
from mptc.compile import compile
from mptc.runtime.deployed import open_graph
from mptc.runtime.errors import UserError
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.conftest import Shell

BIGRAM = """
dim vocab = 256
dim d = 16
model bigram {
  input tokens: id[vocab]
  input counts: id[vocab]
  param embed: [vocab, d]
  param gain: [d] = 1
  x = lookup(embed, tokens)
  output logits = embed @ (gain * rms[d](x))
  probe size = sum[d](x^2)
  loss cross_entropy[vocab](logits, counts)
}
"""
UNUSED = "the graph does without counts, which only a loss reads\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "bigram.mpt").write_text(BIGRAM)
    return tmp_path / "bigram.mpt"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_graph_and_its_weights(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", "--emit", "onnx", "-o", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[2] == "wrote out/bigram/model.safetensors  16.6 kB, float32, 2 tensors"
    assert done.stdout.splitlines()[0].startswith("wrote out/bigram/bigram.onnx  ")
    assert done.stdout.endswith("\n" + UNUSED)
    assert names(tmp_path / "out/bigram") == ["bigram.decode.onnx", "bigram.onnx", "model.safetensors"]
    onnx.checker.check_model(str(tmp_path / "out/bigram/bigram.onnx"), full_check=True)


@pytest.mark.parametrize("seed", [0, 7])
def test_initial_values_are_those_of_load(seed: int, mptc: Shell, spec: Path, tmp_path: Path) -> None:
    assert mptc("compile", "bigram.mpt", "--emit", "torch,onnx", *(["--seed", str(seed)] if seed else [])).returncode == 0
    assert names(tmp_path / "build/bigram") == ["bigram.decode.onnx", "bigram.onnx", "bigram.py", "model.safetensors"]
    found, wanted = load_file(tmp_path / "build/bigram/model.safetensors"), package.load(spec, seed=seed).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    again = package.load(spec, weights=tmp_path / "build/bigram/model.safetensors", seed=seed + 1).state_dict()
    assert all(torch.equal(again[name], wanted[name]) for name in wanted)


def test_weights_of_a_file(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    model = package.load(spec, seed=3)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    assert mptc("compile", "bigram.mpt", "--emit", "onnx", "--weights", "w.safetensors", "--probes").returncode == 0
    tokens = torch.tensor([[1, 2, 300, -1]])
    got = open_graph(tmp_path / "build/bigram/bigram.onnx")(tokens=tokens)
    out = model(tokens, tokens, probe=True)
    np.testing.assert_allclose(got["logits"], out.logits.detach(), atol=1e-6)
    np.testing.assert_allclose(got["size"], out.probes["size"].detach(), atol=1e-6)


def test_weights_of_another_model_write_nothing(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    save_file({"embed": torch.zeros(256, 17), "spare": torch.zeros(1)}, tmp_path / "w.safetensors")
    done = mptc("compile", "bigram.mpt", "--emit", "onnx", "--weights", "w.safetensors")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "error: w.safetensors does not fit this model",
        "  missing: gain",
        "  unexpected: spare",
        "  embed: the file has [256, 17], the model [256, 16]",
    ]
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype: str, mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", "--emit", "onnx", "--dtype", dtype)
    assert done.returncode == 0, done.stderr
    assert ("onnxruntime does not run bfloat16 on a CPU" in done.stdout) == (dtype == "bfloat16")
    found, wanted = load_file(tmp_path / "build/bigram/model.safetensors"), package.load(spec).state_dict()
    assert all(torch.equal(found[name], wanted[name].to(getattr(torch, dtype))) for name in wanted)
    if dtype == "bfloat16":
        with pytest.raises(UserError, match="^error: onnxruntime cannot load .*bigram.onnx: "):
            open_graph(tmp_path / "build/bigram/bigram.onnx")


def test_bytes(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    mptc("compile", "bigram.mpt", "--emit", "onnx")
    done = mptc("compile", "bigram.mpt", "--emit", "onnx", "--quantize", "int8")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "build/bigram") == [
        *(f"bigram.{name}.onnx" for name in ("decode", "int8.decode", "int8")),
        "bigram.onnx",
        "model.int8.safetensors",
        "model.safetensors",
    ]
    said, error = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert said == "largest difference from float32 on random inputs, as a part of the largest magnitude: logits"
    assert 1e-4 < float(error) < 3e-2


@pytest.mark.parametrize("options", [["--dtype", "float16"], ["--quantize", "int8"], ["--probes"], ["--emit", "onnx", "--dtype", "float8"]])
def test_usage(options: list[str], mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", *options)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert not (tmp_path / "build").exists()


BODIES = [
    "repeat 100_000 {\n x <- x * x\n}",
    "stack 100_000 as layers {\n param g: [d]\n x <- x + g\n}",
    "repeat 1000 {\n repeat 1000 {\n x <- x * x\n}\n}",
    "stack 1000 as a {\n stack 1000 as b {\n param g: [d]\n x <- x + g\n}\n}",
]


@pytest.mark.parametrize("body", BODIES)
def test_what_cannot_be_written_out_is_refused(body: str) -> None:
    diagnostics = Diagnostics()
    source = Source("spec.mpt", f"dim d = 4\nmodel m {{\n  input x: [d]\n{body}\n  output y = x\n}}\n")
    found = compile(source, diagnostics, emit=["onnx"])
    assert found is None or found.deployed is None
    assert [one.code for one in diagnostics.found if one.severity == "error"] == ["E0902"]


def test_a_refusal_writes_nothing(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    spec.write_text("dim d = 4\nmodel m {\n  input x: [d]\n  repeat 100_000 { x <- x * x }\n  output y = x\n}\n")
    done = mptc("compile", "bigram.mpt", "--emit", "torch,onnx")
    assert done.returncode == 1
    assert done.stderr.startswith("bigram.mpt:2:7: error[E0902]: ")
    assert not (tmp_path / "build").exists()


def test_what_memory_cannot_hold_is_said(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", "--emit", "onnx", "--set", "vocab=1_000_000_000_000")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: there is no memory for the initial values of embed, [1000000000000, 16]\n"


# -- opening -------------------------------------------------------------------------------------------


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no file"):
        open_graph(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="^error: onnxruntime cannot load .*bad.onnx: "):
        open_graph(tmp_path / "bad.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'mptc\[onnx\]'"):
        open_graph(tmp_path / "bad.onnx")


def test_wrong_inputs_are_said(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    mptc("compile", "bigram.mpt", "--emit", "onnx")
    graph = open_graph(tmp_path / "build/bigram/bigram.onnx")
    assert [(each.name, each.dims) for each in graph.inputs] == [("tokens", ("batch", "seq"))]
    assert [(each.name, each.dims) for each in graph.outputs] == [("logits", ("batch", "seq", 256))]
    with pytest.raises(UserError, match="has the inputs tokens; given were counts"):
        graph(counts=[[1]])
    with pytest.raises(UserError, match="^error: onnxruntime cannot run "):
        graph(tokens=[1])
