"""A trained model writes the same text from torch, from torch with its cache, and from onnxruntime."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def mptc(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "mptc", *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("spec", ["cem_small", "latent_attention"])
def test_the_same_greedy_text(spec: str, tmp_path: Path) -> None:
    text = "the cat sat on a mat, and a dog lay by the door.\n" * 300
    (tmp_path / "text").write_text(text)
    path = ROOT / "specs" / f"{spec}.mpt"
    numbers = ("--steps", "120", "--batch", "8", "--length", "64", "--threads", "1")
    mptc("train", path, "--variant", "tiny", "--data", "text", "--out", "run", *numbers, cwd=tmp_path)
    newest = max((tmp_path / "run").glob("step-*")) / "model.safetensors"
    asked = ("--prompt", "the cat", "--tokens", "50", "--temperature", "0")
    whole = mptc("generate", "run", *asked, "--no-cache", cwd=tmp_path).stdout
    assert whole[:24] in text
    assert mptc("generate", "run", *asked, cwd=tmp_path).stdout == whole
    made = mptc("compile", path, "--variant", "tiny", "--emit", "onnx", "--weights", newest, cwd=tmp_path).stdout
    graph = next(line.split()[1] for line in made.splitlines() if line.split()[1].endswith(".onnx") and "decode" not in line)
    ran = mptc("run", graph, *asked, cwd=tmp_path)
    assert ran.stdout == whole
    assert "50 bytes" in ran.stderr


def test_running_imports_no_torch() -> None:
    code = "import sys, mptc.cli.run, mptc.runtime.behind; assert not {'torch', 'mptc.build'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
