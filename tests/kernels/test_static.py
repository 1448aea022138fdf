"""What compilers make of the kernels at the tiles of the lock files, for four architectures and without a GPU, is what it was: `static-VERSION.txt`.

By default a few kernels under the Triton that is installed. MPTC_KERNELS=full: all; MPTC_TRITON=DIR: under the Triton in a folder (`pip install
--target DIR --no-deps triton==3.6.0`). `python -m tests.kernels.test_static` writes the file anew, for that Triton.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mptc.backends.triton import locks
from tests.kernels.models import ROOT, compiled

HERE = Path(__file__).resolve().parent
FULL = os.environ.get("MPTC_KERNELS") == "full"
OTHER = os.environ.get("MPTC_TRITON")
PARTS = ("forward", "keys", "keys+atomic", "queries")
CAPPED = """use "lib/std.mpt"
dim d = {d}
dim head = 2
dim key = d / head
model capped {{
  input x: [d]
  param W_q: [head, key, d]
  param W_k: [head, key, d]
  q = W_q @ x
  k = W_k @ past(x)
  s = 30 * tanh(sum[key](q * k) / sqrt(key) / 30)
  output y: [head, key] = sum[ctx](softmax[ctx](s) * k)
}}
"""
SPILLED = 128  # bytes that may be spilled where the score is not a multiple of the product, and elsewhere than on sm_90


@dataclass(frozen=True)
class Kernel:
    """One compilation. `kind`: tied and untied attention with plain scores; `capped`: tied with a soft cap; `documents`: untied, windowed."""

    architecture: str
    kind: str
    width: int
    dtype: str
    part: str

    def __str__(self) -> str:
        return f"{self.architecture} {self.kind} {self.width} {self.dtype} {self.part}"


def every() -> Iterator[Kernel]:
    for architecture in locks.ARCHITECTURES:
        for kind in ("tied", "untied", *(("capped", "documents") if architecture == "sm_90" else ())):
            for width in (64, 128):
                yield from (Kernel(architecture, kind, width, "bfloat16", part) for part in PARTS)
    yield from (Kernel("sm_90", "tied", 64, "float32", part) for part in PARTS)


FEW = [
    *(Kernel("sm_90", "tied", 64, "bfloat16", part) for part in PARTS),
    Kernel("sm_90", "tied", 128, "bfloat16", "keys+atomic"),
    *(Kernel(architecture, "tied", 64, "bfloat16", "keys+atomic") for architecture in ("sm_80", "sm_100", "gfx942")),
]


def text(kind: str, width: int) -> str:
    """The kernels of a model whose heads are so wide."""
    if kind == "capped":
        with TemporaryDirectory() as folder:
            spec = Path(folder) / "capped.mpt"
            spec.write_text(CAPPED.format(d=2 * width), encoding="utf-8")
            return compiled(spec).kernels
    name, heads = {"tied": ("cem_small", 2), "untied": ("llama_small", 4), "documents": ("windowed_documents", 4)}[kind]
    sizes = {"d": str(heads * width), **({"head": "2"} if kind == "tied" else {"kv": "2", "group": "2"})}
    return compiled(ROOT / "specs" / f"{name}.mpt", None, sizes).kernels


@cache
def found(kernels: tuple[Kernel, ...]) -> dict[Kernel, dict[str, object]]:
    """What compilers make of them, in processes of their own."""
    made: dict[Kernel, dict[str, object]] = {}
    groups: dict[tuple[str, str, int, str], list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault((kernel.architecture, kernel.kind, kernel.width, kernel.dtype), []).append(kernel)
    for (architecture, kind, width, dtype), several in groups.items():
        with TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.py"
            file.write_text(text(kind, width), encoding="utf-8")
            asked = []
            for kernel in several:
                entry = locks.entry(architecture, dtype, width, kind in ("tied", "capped"))
                asked += ["attention", kernel.part, ",".join(map(str, entry[kernel.part.partition("+")[0]]))]
            command = [sys.executable, str(HERE / "static.py"), str(file), architecture, dtype, *asked]
            place = {"PYTHONPATH": OTHER} if OTHER else {}
            environment = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1", "TRITON_CACHE_DIR": folder, **place}
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
        assert done.returncode == 0, done.stderr
        made |= dict(zip(several, map(json.loads, done.stdout.splitlines()), strict=True))
    return made


@cache
def version() -> str:
    code = "import triton; print(triton.__version__)"
    environment = {**os.environ, **({"PYTHONPATH": OTHER} if OTHER else {})}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout.strip()


def line(kernel: Kernel, made: dict[str, object]) -> str:
    if "failed" in made:
        return f"{kernel}: {made['failed']}"
    tiles = "x".join(map(str, made["tiles"]))  # type: ignore[call-overload]
    matrix = " ".join(made["matrix"]) or "no matrix instruction"  # type: ignore[call-overload]
    shown = f"{made['registers']} registers, {made['spilled']} B spilled, {made['shared']} B shared, {made['blocks']} blocks, {matrix}"
    return f"{kernel} at {tiles}: {shown}"


def golden() -> Path:
    return HERE / f"static-{version()}.txt"


CHOSEN = tuple(every()) if FULL or OTHER else tuple(FEW)


@pytest.mark.parametrize("kernel", CHOSEN, ids=str)
def test_kernels_fit(kernel: Kernel) -> None:
    made = found(CHOSEN)[kernel]
    assert "failed" not in made, made
    assert not made["trap"]
    assert made["blocks"]
    assert not made["warnings"]
    if kernel.dtype != "float32":
        assert made["matrix"] == {"sm_90": ["HGMMA"], "sm_80": ["HMMA"], "gfx942": ["mfma"]}.get(kernel.architecture, made["matrix"])
        assert made["matrix"]
    strict = kernel.architecture == "sm_90" and kernel.kind in ("tied", "untied")
    assert made["spilled"] <= (0 if strict else SPILLED)  # type: ignore[operator]


@pytest.mark.parametrize("kernel", CHOSEN, ids=str)
def test_registers_and_shared_memory_are_what_they_were(kernel: Kernel) -> None:
    if not golden().is_file():
        pytest.skip(f"no figures are written down for Triton {version()}")
    assert line(kernel, found(CHOSEN)[kernel]) in golden().read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("part", ["forward", "inner", "weight"])
def test_gated_maps_fit(part: str, tmp_path: Path) -> None:
    """On sm_90, 768 wide and 2,048 inside."""
    file = tmp_path / "kernels.py"
    file.write_text(compiled(ROOT / "specs" / "cem_small.mpt", None, {"d": "768", "head": "12", "hidden": "2048"}).kernels, encoding="utf-8")
    command = [sys.executable, str(HERE / "static.py"), str(file), "sm_90", "bfloat16", "gated1", part, "128,64,8,3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)})
    made = json.loads(done.stdout)
    assert "failed" not in made, made
    assert (made["spilled"], made["matrix"], made["warnings"]) == (0, ["HGMMA"], [])
    assert made["blocks"]


@pytest.mark.parametrize("part", ["forward", "backward"])
@pytest.mark.parametrize("name", ["rows1", "rows2"])
def test_row_kernels_fit(name: str, part: str, tmp_path: Path) -> None:
    """Rows of 768: a sum and a norm, and a gated activation."""
    file = tmp_path / "kernels.py"
    sizes = {"d": "768", "kv": "12", "group": "1", "hidden": "2048"}
    file.write_text(compiled(ROOT / "specs" / "llama_small.mpt", None, sizes).kernels, encoding="utf-8")
    entry = dict(locks.row_tiles(1024))["('sm_90', 'bfloat16')"]
    rows, warps = re.findall(r"\d+", entry)[:2]
    command = [sys.executable, str(HERE / "static.py"), str(file), "sm_90", "bfloat16", name, part, f"{rows},0,{warps},1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)})
    made = json.loads(done.stdout)
    assert "failed" not in made, made
    assert made["spilled"] == 0
    assert made["blocks"]


if __name__ == "__main__":
    kernels_ = tuple(every())
    golden().write_text("".join(f"{line(kernel, made)}\n" for kernel, made in found(kernels_).items()), encoding="utf-8")
