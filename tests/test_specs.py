"""Every spec of the repository compiles, to the same bytes wherever and whenever it is compiled, and to those that are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mptc.build import build
from mptc.ir.axis import BATCH, SEQ
from mptc.ir.node import Kind
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.ops.leaf import Input
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.golden import GOLDEN, SPECS, VARIANT, text

VARIANTS = (None, VARIANT)


def each(specs: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", specs, ids=lambda spec: spec.stem)


def test_there_are_specs() -> None:
    assert {spec.stem for spec in SPECS} >= {"cem_small", "energy_transformer", "llama_small"}


@each(SPECS)
def test_module_runs(spec: Path) -> None:
    """The text stands alone, and its model gives what it declares."""
    module = as_module(spec.stem, text(spec))
    assert "mptc" not in [line.split()[1].split(".")[0] for line in text(spec).splitlines() if line.startswith(("import ", "from "))]
    found = module.Model(seed=1)(**inputs(spec))
    assert found[0].shape[0] == 2
    assert bool(found[0].isfinite().all())


def inputs(spec: Path) -> dict[str, torch.Tensor]:
    """The first id everywhere, and numbers all 1: two sequences of five tokens, memories of three."""
    program = raw(spec)
    lengths = {BATCH: 2, SEQ: 5}
    made = {}
    for node in program.inputs:
        assert isinstance(node.op, Input)
        axes = (BATCH, *((SEQ,) if SEQ in node.axes else ()), *node.op.order)
        shape = [lengths.get(axis) or program.sizes.get(axis, 3) for axis in axes]
        made[node.op.label] = torch.zeros(shape, dtype=torch.int64) if node.op.kind is Kind.ID else torch.ones(shape)
    return made


def raw(spec: Path) -> Program:
    diagnostics = Diagnostics()
    model = resolve(Source.read(spec), {}, VARIANT, diagnostics)
    assert model is not None, diagnostics.found
    program = build(model, diagnostics)
    assert program is not None, diagnostics.found
    return program


def compiled_elsewhere(spec: Path, variant: str | None, seed: str, folder: Path) -> dict[str, bytes]:
    """The files that a process of its own writes, its sets and dicts of strings in an order of their own."""
    command = [sys.executable, "-m", "mptc", "compile", str(spec), "-o", str(folder), *(["--variant", variant] if variant else [])]
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.py"))}


@each(SPECS)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant or "base")
def test_same_bytes_in_every_process(spec: Path, variant: str | None, tmp_path: Path) -> None:
    first = compiled_elsewhere(spec, variant, "1", tmp_path / "first")
    second = compiled_elsewhere(spec, variant, "4242", tmp_path / "second")
    assert first
    assert first == second


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no goldens yet: python -m tests.golden")
@each(SPECS)
def test_golden(spec: Path) -> None:
    """Where the text changed on purpose: `python -m tests.golden`, and read the difference."""
    kept = GOLDEN / f"{spec.stem}.py"
    assert kept.is_file(), f"{kept} is missing: python -m tests.golden"
    assert text(spec) == kept.read_text(encoding="utf-8"), f"{kept} differs: python -m tests.golden, then read the difference"
