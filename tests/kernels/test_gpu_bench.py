"""The benchmark for a GPU runs: on a CPU, by the interpreter, at sizes that mean nothing."""

from __future__ import annotations

import csv
import io

import pytest
import torch
from click.testing import CliRunner

from mptc.cli import main
from mptc.runtime.bench import gpu
from tests.kernels.models import ROOT


def test_every_case_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.chdir(ROOT)
    said: list[str] = []
    size = gpu.Size(batch=1, seq=17, layers=((32, 2, 24),), depth=1, vocab=20, rounds=2)
    run = gpu.Suite(torch.device("cpu"), size, compiles=False, say=said.append)
    run.run()
    rows = list(csv.DictReader(io.StringIO(gpu.table(run.rows, "none"))))
    assert len(rows) == len(said) == len(run.rows)
    ours = [row for row in run.rows if row.side == "kernels"]
    assert {row.case.split(",")[0].split(" of ")[0] for row in ours} == {
        "attention core", "attention with rotations", "CEM layer", "Llama layer", "training step"
    }  # fmt: skip
    assert all(row.milliseconds and row.ratio == 1 and row.share for row in ours)
    left = {row.side for row in run.rows if row.milliseconds is None}
    assert left <= {"SDPA cuDNN", "FlexAttention"}, [row.remark for row in run.rows]
    assert "SDPA cuDNN" in left
    if gpu.handwritten():
        assert {"CemLayer", "CemAutograd", "LlamaLayer", "by hand"} <= {row.side for row in run.rows}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = CliRunner().invoke(main, ["bench", "--device", "cuda"])
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "there is no GPU" in done.output
    assert CliRunner().invoke(main, ["bench"]).exit_code == 2
