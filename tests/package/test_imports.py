"""What starting up loads: a compiler that checks text has no use for torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "onnx", "triton", "safetensors", "transformers", "onnxruntime"}

REPORT = """
import json, sys
sys.argv = ["mptc", *{arguments!r}]
try:
    {body}
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded(body: str, cwd: Path, *arguments: str) -> set[str]:
    """The top-level modules loaded by a fresh process after `body`."""
    text = REPORT.format(body=body, arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", text], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("body", ["import mptc", "import mptc.cli", "import mptc.cli.train, mptc.cli.generate", "from mptc import SpecError"])
def test_importing_loads_nothing_heavy(body: str, root: Path) -> None:
    assert not loaded(body, root) & (HEAVY | {"rich", "networkx", "jinja2"})


@pytest.mark.parametrize("arguments", [["check"], ["compile", "-o", "{out}"], ["compile", "--emit", "derivation"], ["explain", "E0205"]])
def test_commands_load_no_torch(arguments: list[str], root: Path, tmp_path: Path) -> None:
    words = [word.format(out=tmp_path) for word in arguments]
    spec = [] if "explain" in words else ["specs/cem_small.mpt"]
    found = loaded("from mptc.cli import main; main()", root, *words, *spec)
    assert "click" in found
    assert not found & (HEAVY | {"rich"})


def test_deploying_weights_of_a_file_loads_no_torch(root: Path, tmp_path: Path) -> None:
    words = ["compile", "specs/cem_small.mpt", "--variant", "tiny", "--emit", "onnx", "-o", str(tmp_path)]
    text = "from mptc.cli import main; main()"
    assert "torch" in loaded(text, root, *words)
    found = loaded(text, root, *words, "--weights", str(tmp_path / "cem_small/model.safetensors"))
    assert "onnx" in found
    assert not found & {"torch", "safetensors", "onnxruntime"}


def test_load_is_what_brings_torch(root: Path) -> None:
    assert "torch" in loaded("import mptc; mptc.load", root)
