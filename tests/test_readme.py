"""What the README shows is what the compiler writes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mptc
from mptc.runtime.report import Lines
from mptc.runtime.session import Asked, train_spec
from mptc.show import costs, show
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def listing(mark: str) -> list[str]:
    """The lines of the block after a mark."""
    block = README.partition(f"<!-- {mark} -->")[2].split("```")[1]
    return block.splitlines()[1:]


def written(stage: str) -> str:
    diagnostics = Diagnostics()
    text = show(Source.read(ROOT / "specs" / "cem_small.mpt"), diagnostics, stage)
    assert text is not None, diagnostics.found
    return text


def follows(text: str, lines: list[str]) -> bool:
    """Whether the lines stand in the text one after another."""
    return "\n".join(lines) in text


def test_derivation() -> None:
    assert follows(written("derivation"), listing("derivation"))


def test_generated_code() -> None:
    code = re.sub(r"(?m) +# \[.*$", "", written("torch"))
    assert follows(code, listing("generated"))


def test_cost() -> None:
    text = costs(Source.read(ROOT / "specs" / "cem_small.mpt"), Diagnostics())
    assert text is not None
    assert set(listing("cost")) <= set(text.splitlines())


def test_a_function_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "readme_tasks.py").write_text("\n".join(listing("cloze")))
    monkeypatch.chdir(tmp_path)
    numbers = {"steps": 2, "batch": 4, "length": 64}
    loss = train_spec(Asked(str(ROOT / "specs/bert.mpt"), "readme_tasks:cloze", variant="tiny", numbers=numbers), Lines(io.StringIO()))
    assert 5 < loss < 6  # log 256


def test_energy_is_the_prelude_s() -> None:
    energy = README.split("```")[1].partition("\n\n")[0].strip()
    assert energy in (ROOT / "specs" / "lib" / "cem.mpt").read_text()


def test_a_deployment_needs_onnxruntime_alone(tmp_path: Path) -> None:
    """What the README deploys with writes what torch writes."""
    command = [sys.executable, "-m", "mptc", "compile", str(ROOT / "specs/cem_small.mpt"), "--variant", "tiny", "--emit", "onnx", "--seed", "3"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    code = "import sys\nsys.modules['torch'] = sys.modules['mptc'] = None\n" + "\n".join(listing("deployment")) + "\nprint(text)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = mptc.load(ROOT / "specs/cem_small.mpt", variant="tiny", seed=3)
    text = list(b"ROMEO:")
    with torch.no_grad():
        for _ in range(20):
            text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
    assert done.stdout.strip() == str(text)
