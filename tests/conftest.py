"""What the tests of every room share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# What of Triton is written in itself is interpreted or not as it was when Triton was first imported, by whoever did (peft does).
os.environ["TRITON_INTERPRET"] = "1"
with contextlib.suppress(ImportError):  # there is Triton for some systems only
    import triton.language  # noqa: F401
del os.environ["TRITON_INTERPRET"]  # tests that run kernels set it

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers that each take every core slow one another down

ROOT = Path(__file__).resolve().parent.parent

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def mptc(tmp_path: Path) -> Shell:
    """Run `mptc ARGUMENTS` as a process of its own in `tmp_path`."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mptc", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run
