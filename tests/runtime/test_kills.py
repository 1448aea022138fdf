"""Killed at random, in the middle of steps and of checkpoints, a run loses nothing but time.

All 20 times: `MPTC_KILLS=20 pytest tests/runtime/test_kills.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from mptc.runtime.run import read_run

KILLS = int(os.environ.get("MPTC_KILLS", "6"))


def test_every_restart_finds_a_whole_checkpoint_and_the_end_is_the_same(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.runtime.killed", str(tmp_path), str(KILLS), "1"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["killed"] == KILLS
    assert len({step for steps in found["runs"] for step in steps}) > KILLS // 2  # they fell at different places
    undisturbed = read_run(tmp_path / "undisturbed")
    for number in range(len(found["runs"])):
        run = read_run(tmp_path / f"run-{number}")
        for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
            assert (run.checkpoints()[-1] / name).read_bytes() == (undisturbed.checkpoints()[-1] / name).read_bytes()
        assert numbers(run.path) == numbers(undisturbed.path)
        assert sorted(path.name for path in run.path.iterdir()) == sorted(path.name for path in undisturbed.path.iterdir())


def numbers(path: Path) -> list[dict[str, float]]:
    """The log, but for how long things took."""
    records = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]
