"""The process of its own that measures: pinned threads are read when torch is loaded, and never afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import mptc
from mptc.runtime.bench.job import Job
from mptc.runtime.bench.report import Report, read_report
from mptc.runtime.errors import UserError
from mptc.runtime.spec import typed_spec

PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "MKL_DYNAMIC": "FALSE"}
LAST = 12  # lines of what an unforeseen end left on stderr


def bench(job: Job) -> Report:
    """Measure in a child. Raises `SpecError` for a mistake in the spec, and `UserError` for any other and for a child that dies.

    Where the job names a Python file of the user's own, the child runs it.
    """
    job.check()
    typed_spec(job.spec, job.set, job.variant)  # before a second is spent on torch
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-P", "-m", "mptc.runtime.bench.child", str(result)]
        done = subprocess.run(command, input=json.dumps(asdict(job)), env=environment(job), capture_output=True, text=True, check=False)  # noqa: S603
        if not result.is_file():
            raise UserError(_died(done.returncode, done.stderr))
        record = json.loads(result.read_text(encoding="utf-8"))
    if "error" in record:
        raise UserError(record["error"])
    return read_report(record)


def environment(job: Job) -> dict[str, str]:
    """Of the child: this one's, threads pinned, and this very mptc first on its path (`-P` keeps the current directory off it)."""
    home = str(Path(mptc.__file__).resolve().parent.parent)
    path = os.pathsep.join(each for each in (home, os.environ.get("PYTHONPATH", "")) if each)
    return {**os.environ, **PINNED, "PYTHONPATH": path} | ({"OMP_NUM_THREADS": str(job.threads)} if job.threads else {})


def _died(code: int, said: str) -> str:
    if code < 0:
        return f"error: the process that measures was ended by signal {-code}" + (": is there too little memory?" if code == -9 else "")
    return f"error: the process that measures ended with {code}:\n" + "\n".join(said.splitlines()[-LAST:])
