"""Killed at any time and resumed, a run ends with the same bits."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mptc.runtime.checkpoint import newest_weights
from mptc.runtime.run import read_run

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "text"
    path.write_bytes(np.random.default_rng(0).integers(97, 105, 4_000).astype(np.uint8).tobytes())
    return path


def driver(root: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "tests.runtime.driver", *map(str, arguments)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def undisturbed(root: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(driver(root, data, out))
    return final(out)


def final(out: Path) -> dict[str, bytes]:
    newest = newest_weights(read_run(out)).parent
    assert newest.name == "step-00000040"
    return {name: (newest / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_killed_between_steps(lines: int, root: Path, data: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """`lines` of its report are read before the process is killed: before the first checkpoint, after it, later."""
    process = driver(root, data, tmp_path / "run")
    assert process.stdout
    for _ in range(lines):
        process.stdout.readline()
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "from step 0 " not in finish(driver(root, data, tmp_path / "run", "--resume")) or lines == 1
    assert final(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_it_falls_into(number: signal.Signals, root: Path, data: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    process = driver(root, data, tmp_path / "run", "--ask-to-stop", str(int(number)))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert err == f"stopped after step 6, which is saved; go on with --resume --out {tmp_path / 'run'}\n"
    assert read_run(tmp_path / "run").checkpoints()[-1].name == "step-00000006"
    assert "from step 6 " in finish(driver(root, data, tmp_path / "run", "--resume"))
    assert final(tmp_path / "run") == undisturbed


@pytest.mark.parametrize("count", [1, 4])
def test_killed_while_writing(count: int, root: Path, data: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """The first weights, then the second optimizer state: half a file each time, and never a checkpoint that has it."""
    process = driver(root, data, tmp_path / "run", "--die-writing", str(count))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert len(read_run(tmp_path / "run").checkpoints()) == (count - 1) // 2
    assert any(path.name.endswith(".tmp") for path in (tmp_path / "run").iterdir())
    finish(driver(root, data, tmp_path / "run", "--resume"))
    assert final(tmp_path / "run") == undisturbed
    assert not any(path.name.endswith(".tmp") for path in (tmp_path / "run").iterdir())


def test_a_finished_run_resumes_to_itself(root: Path, data: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    finish(driver(root, data, tmp_path / "run"))
    assert "from step 40 to 40" in finish(driver(root, data, tmp_path / "run", "--resume"))
    assert final(tmp_path / "run") == undisturbed
