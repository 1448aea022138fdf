"""Starting is cheap: whole processes, interleaved, as a ratio to `python -c "import torch"`. The fastest of each, as other work slows some."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROUNDS = 5


@pytest.fixture(scope="module")
def fastest(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Seconds of each command."""
    spec, out = "specs/cem_small.mpt", str(tmp_path_factory.mktemp("out"))
    commands = {
        "torch": ["-c", "import torch"],
        "check": ["-m", "mptc", "check", spec],
        "compile": ["-m", "mptc", "compile", spec, "-o", out],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, arguments in commands.items():
            began = time.perf_counter()
            done = subprocess.run([sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=False)
            seconds[name].append(time.perf_counter() - began)
            assert done.returncode == 0, done.stderr
    return {name: min(each) for name, each in seconds.items()}


@pytest.mark.parametrize(("command", "ratio"), [("check", 0.45), ("compile", 0.9)])
def test_ratio_to_importing_torch(command: str, ratio: float, fastest: dict[str, float]) -> None:
    assert fastest[command] <= ratio * fastest["torch"], fastest
