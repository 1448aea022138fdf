"""What a compiler makes of kernels, read without a GPU.

    python tests/kernels/static.py KERNELS.py ARCHITECTURE DTYPE [KERNEL PASS ROWS,COLS,WARPS,STAGES]…

Prints one line of JSON for each kernel: registers, spilled bytes, shared memory, blocks for each multiprocessor, matrix instructions, warnings. They
are given what a launch on long sequences gives them: pointers and steps divisible by 16, a last step and a group of 1. Runs in a process of its own,
with whichever Triton it finds, and imports nothing of this package.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "0"

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "sm_100": ("cuda", 100, 32), "gfx942": ("hip", "gfx942", 64)}
SHARED = {"sm_80": (164, 163), "sm_90": (228, 227), "sm_100": (228, 227), "gfx942": (64, 64)}  # KiB of a multiprocessor, of one block
TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
GATED = ("x", "up", "gate", "u", "z", "g", "dy", "du", "dz", "dup")
MATRIX = ("HGMMA", "HMMA", "UTCHMMA", "mfma")


def signature(kernel: Any, dtype: str, atomic: bool) -> tuple[dict[str, str], dict[str, Any]]:
    """The types of what a launch gives, and what is constant in it."""
    types, constants = {}, {}
    rows = "y0" in kernel.arg_names or "dy0" in kernel.arg_names
    for name in kernel.arg_names:
        if name in ("q", "k", "v", "o", "do", "dk", "dv", *GATED) or (name == "dq" and not atomic) or (rows and re.fullmatch(r"d?[xy]\d+", name)):
            types[name] = f"*{TYPES[dtype]}"
        elif name in ("lse", "delta", "dq") or re.fullmatch(r"d?x\d+", name):
            types[name] = "*fp32"
        elif name == "group" or name.endswith("_c"):
            types[name], constants[name] = "constexpr", 1
        elif name.isupper():
            types[name] = "constexpr"
        else:
            types[name] = "i32"
    return types, constants


def compiled(kernel: Any, architecture: str, dtype: str, tiles: tuple[int, ...], atomic: bool) -> Any:
    types, constants = signature(kernel, dtype, atomic)
    rows, cols, warps, stages = tiles
    given = {"ROWS": rows, "COLS": cols, "INNER": 64, "LONG": False, "ATOMIC": atomic}
    constants |= {name: value for name, value in given.items() if name in types}
    hints = {(at,): [["tt.divisibility", 16]] for at, name in enumerate(kernel.arg_names) if types[name] != "constexpr" and name != "heads"}
    fixed = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=types, constexprs=fixed, attrs=hints)
    return triton.compile(source, target=GPUTarget(*TARGETS[architecture]), options={"num_warps": warps, "num_stages": stages})


def read(made: Any, architecture: str) -> dict[str, Any]:
    if architecture.startswith("gfx"):
        text = made.asm["amdgcn"]
        counted = (("registers", "vgpr_count"), ("spilled", "vgpr_spill_count"))
        found = {name: int(re.search(rf"\.{key}:\s+(\d+)", text)[1]) for name, key in counted}  # type: ignore[index]
        found["spilled"] *= 4
        blocks_ = 64 * 1024 // max(made.metadata.shared, 1)
        matrix = ["mfma"] if "v_mfma_" in text else []
        counts = {"shared": made.metadata.shared, "blocks": blocks_, "matrix": matrix, "products": text.count("v_mfma_")}
        return {**found, **counts, "trap": False, "warnings": []}
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "k.cubin"
        cubin.write_bytes(made.asm["cubin"])
        usage = _said(BINARIES / "cuobjdump", "--dump-resource-usage", cubin)
        code = _said(BINARIES / "cuobjdump", "-sass", cubin)
        log = _assembled(made, architecture, Path(folder))
    ops = Counter(op.split(".")[0] for op in re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)", code, re.MULTILINE))
    registers = int(re.search(r"REG:(\d+)", usage)[1])  # type: ignore[index]
    spilled = re.search(r"(\d+) bytes spill stores", log)
    threads = int(re.search(r"\.reqntid (\d+)", made.asm["ptx"])[1])  # type: ignore[index]
    return {
        "registers": registers,
        "spilled": int(spilled[1]) if spilled else -1,
        "shared": made.metadata.shared,
        "blocks": blocks(architecture, registers, threads, made.metadata.shared),
        "matrix": sorted(name for name in MATRIX if ops[name]),
        "products": sum(ops[name] for name in MATRIX),
        "trap": "BPT" in ops and sum(ops.values()) < 64,
        "warnings": sorted(set(re.findall(r"C75\d\d", log))),
    }


def _assembled(made: Any, architecture: str, folder: Path) -> str:
    """What ptxas says of it."""
    from triton.backends.nvidia.compiler import get_ptxas

    number = int(architecture[3:])
    (folder / "k.ptx").write_text(made.asm["ptx"])
    name = f"sm_{number}{'a' if number >= 90 else ''}"
    command = [get_ptxas(number).path, "-v", "--regAllocOptLevel=2", f"--gpu-name={name}", folder / "k.ptx", "-o", os.devnull]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    return done.stderr + done.stdout


def _said(*command: object) -> str:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=True).stdout


def blocks(architecture: str, registers: int, threads: int, shared: int) -> int:
    """How many blocks a multiprocessor holds; 0 where one does not fit."""
    whole, most = SHARED[architecture]
    if shared > most * 1024:
        return 0
    of_warp = math.ceil(registers * 32 / 256) * 256
    return min(65536 // (of_warp * (threads // 32)), 2048 // threads, whole * 1024 // (shared + 1024), 32)


def kernels(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("kernels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(path: str, architecture: str, dtype: str, *tried: str) -> None:
    module = kernels(path)
    asked: list[tuple[str, str, tuple[int, ...]]] = []
    if tried:
        asked = [(name, part, tuple(map(int, tiles.split(",")))) for name, part, tiles in zip(*[iter(tried)] * 3, strict=True)]
    else:
        for name, by in module.TILES.items():
            entry = by[architecture, dtype]
            asked += [(name, part, entry[part.partition("+")[0]]) for part in ("forward", "keys", "keys+atomic", "queries")]
    for name, part, tiles in asked:
        kernel = getattr(module, f"{name}_{part.partition('+')[0]}")
        try:
            found = read(compiled(kernel, architecture, dtype, tiles, part.endswith("atomic")), architecture)
        except Exception as reason:  # noqa: BLE001 -- a compiler that fails is a finding
            found = {"failed": f"{type(reason).__name__}: {str(reason)[:120]}"}
        print(json.dumps({"kernel": name, "pass": part, "tiles": tiles, **found}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
