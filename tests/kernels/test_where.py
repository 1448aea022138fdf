"""What runs where is said; a fallback is an error where none is wanted; tuning writes lock files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import mptc
from mptc.backends.triton import locks
from mptc.cli import main
from mptc.runtime.tune import Size, measured
from tests.kernels.models import ROOT, compiled

SPECS = ROOT / "specs"


def called(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def won(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tied kernel had been measured to win on sm_90, in bfloat16 and float16."""
    lock = json.loads(json.dumps(locks.lock("sm_90")))
    lock["attention"]["tied"]["half"]["64"]["ratio"] = 1.25
    plain = locks.lock
    monkeypatch.setattr(locks, "lock", lambda name: lock if name == "sm_90" else plain(name))


def test_a_kernel_that_nobody_measured_is_not_used() -> None:
    done = called("explain", "--where", SPECS / "cem_small.mpt")
    assert done.exit_code == 0
    assert "kernels.attention, forward and backward, width 64, keys are values; rotations in torch" in done.output
    assert "sm_90: torch for float32, float16, bfloat16: no measurement says that the kernel wins" in done.output
    assert "'wins': True" not in compiled(SPECS / "cem_small.mpt").kernels


def test_a_kernel_that_won_is_used(won: None) -> None:
    done = called("explain", "--where", SPECS / "cem_small.mpt")
    assert "sm_90: the kernel for float16 (1.25 times as fast), bfloat16 (1.25 times as fast); torch for float32: no" in done.output
    lines = [line for line in compiled(SPECS / "cem_small.mpt").kernels.splitlines() if "'wins': True" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["('sm_90', 'float16')", "('sm_90', 'bfloat16')"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("t5_bias", "it learns something of its own for each pair of tokens"),
        ("perceiver", "a memory asks, not the tokens"),
    ],
)
def test_what_no_kernel_takes(spec: str, why: str, tmp_path: Path) -> None:
    path = SPECS / f"{spec}.mpt"
    assert f"torch: {why}" in called("explain", "--where", path).output
    assert called("compile", path, "--emit", "triton", "-o", tmp_path / "loose").exit_code == 0
    done = called("compile", path, "--emit", "triton", "--strict", "-o", tmp_path / "strict")
    assert done.exit_code == 1
    assert f"error[E0903]: no kernel takes this score: {why}" in done.output
    assert not (tmp_path / "strict").exists()


def test_strict_is_content_where_kernels_take_all(tmp_path: Path) -> None:
    assert called("compile", SPECS / "cem_small.mpt", "--emit", "triton", "--strict", "-o", tmp_path).exit_code == 0
    assert called("compile", SPECS / "cem_small.mpt", "--strict", "-o", tmp_path).exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tuning_wants_a_gpu(tmp_path: Path) -> None:
    done = called("tune", "-o", tmp_path)
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "there is no GPU" in done.output
    assert not list(tmp_path.iterdir())


def test_what_tuning_writes_is_what_the_compiler_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the interpreter, whose times mean nothing."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    candidates = {"forward": [(32, 32, 4, 1), (16, 32, 4, 1)], "keys": [(16, 32, 4, 1)], "queries": [(16, 16, 4, 1)]}
    monkeypatch.setattr("mptc.runtime.tune.GROUPS", {"half": torch.float16, "float32": torch.float32})
    said: list[object] = []
    found = measured(torch.device("cpu"), Size(1, 1, 40), said.append, (64,), candidates)
    assert found["architecture"] == "interpreter"
    assert len(said) == 4
    monkeypatch.setattr(locks, "lock", lambda _: found)
    for tied in (True, False):
        entry = locks.entry("sm_90", "float16", 40, tied)
        assert tuple(entry["forward"]) in candidates["forward"]
        assert entry["keys"] == [16, 32, 4, 1]
        assert entry["ratio"] > 0
        assert not locks.wins(entry)


def test_every_lock_file_has_every_entry() -> None:
    for architecture in locks.ARCHITECTURES:
        assert locks.lock(architecture)["architecture"] == architecture
        for dtype in locks.DTYPES:
            for width in locks.WIDTHS:
                for tied in (True, False):
                    found = locks.entry(architecture, dtype, width, tied)
                    assert all(len(found[each]) == 4 for each in locks.PASSES)
                    assert locks.wins(found) is False, "a win must come with the machine that it was measured on"


def test_auto_without_a_gpu_is_torch() -> None:
    model = mptc.load(SPECS / "cem_small.mpt", variant="tiny")
    assert "kernels" not in vars(sys.modules[type(model).__module__]) or torch.cuda.is_available()
