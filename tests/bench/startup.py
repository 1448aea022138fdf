"""Whole processes of `mptc`, as a ratio to `python -c "import torch"` in the same rounds.

    python tests/bench/startup.py [ROUNDS]

Medians of interleaved runs. Further: `check` of a spec of 2,000 lines, depth 8 against 800, and 100, 200 and 400 blocks written out, whose
time should grow as their number does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = "specs/cem_small.mpt"
WRITTEN_OUT = (100, 200, 400)
LINES = 2000


def blocks(count: int) -> str:
    """A model of `count` blocks, each a statement of its own with parameters of its own."""
    steps = "\n".join(f"  x <- x + swiglu(rmsnorm(x) as norm_{n}) as mlp_{n}" for n in range(count))
    head = 'use "lib/std.mpt"\ndim vocab = 256\ndim d = 64\ndim hidden = 128\nmodel long {\n  input tokens: id[vocab]\n  param embed: [vocab, d]\n'
    return f"{head}  x = lookup(embed, tokens)\n{steps}\n  output logits = embed @ x\n}}\n"


def long_spec(lines: int = LINES) -> str:
    """A spec of so many lines: blocks and energies of its own, each used in turn. The model uses every fifth."""
    head = 'use "lib/cem.mpt"\ndim vocab = 256\ndim d = 64\ndim head = 2\ndim key = d / head\ndim hidden = 128\ndim rank = 4\n'
    written = [head]
    uses = []
    for n in range(lines * 2 // 29):
        written.append(
            f"""
# Layer {n}: a gated block around a step of its own energy.
block gate_{n}(x: [d]) {{
  param W_{n}: [hidden, d] ~ normal(0.02)
  g = sigmoid(W_{n} @ x)
  return W_{n} @ (g * silu(W_{n} @ rmsnorm(x)))
}}

energy well_{n}(x: [d] | c: [ctx, d]) {{
  param W_k: [head, key, d]
  q = rope[key](W_k @ x)
  s = sum[key](q * (W_k @ c)) / sqrt(key)
  minimize -sum[head](logsumexp[ctx](s))
}}
"""
        )
        if n % 5 == 0:
            uses += [f"  x <- x - grad well_{n}(x | past(x))", f"  x <- x + gate_{n}(x)"]
    model = ["model long {", "  input tokens: id[vocab]", "  param embed: [vocab, d]", "  x = lookup(embed, tokens)", *uses]
    return "".join(written) + "\n" + "\n".join([*model, "  output logits = embed @ x", "}", ""])


def commands(folder: Path) -> dict[str, list[str]]:
    out = ["-o", str(folder / "out")]
    compile_ = ["-m", "mptc", "compile"]
    made = {
        "import torch": ["-c", "import torch"],
        "check": ["-m", "mptc", "check", SPEC],
        "compile": [*compile_, SPEC, *out],
        "compile --emit onnx": [*compile_, SPEC, *out, "--emit", "onnx", "--seed", "0"],
        "compile, depth 800": [*compile_, SPEC, *out, "--set", "depth=800"],
    }
    (folder / "long.mpt").write_text(long_spec(), encoding="utf-8")
    made["check, 2,000 lines"] = ["-m", "mptc", "check", str(folder / "long.mpt")]
    for count in WRITTEN_OUT:
        path = folder / f"blocks_{count}.mpt"
        path.write_text(blocks(count), encoding="utf-8")
        made[f"compile, {count} blocks"] = [*compile_, str(path), *out]
    return made


def medians(rounds: int) -> dict[str, float]:
    """Seconds of each command."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        made = commands(Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in made}
        for number in range(rounds + 1):
            for name, arguments in made.items():
                began = time.perf_counter()
                done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
                if number:  # the first fills the caches
                    seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> int:
    found = medians(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    torch = found["import torch"]
    few, some, many = (found[f"compile, {count} blocks"] for count in WRITTEN_OUT)
    measured = {
        "check / import torch": (found["check"] / torch, 0.45),
        "check of 2,000 lines / import torch": (found["check, 2,000 lines"] / torch, 2.0),
        "compile / import torch": (found["compile"] / torch, 0.9),
        "compile --emit onnx / import torch": (found["compile --emit onnx"] / torch, 2.0),
        "depth 800 / depth 8": (found["compile, depth 800"] / found["compile"], 1.15),
        "(200 to 400 blocks) / (100 to 200)": ((many - some) / (some - few), 2.5),  # 2 where it is linear
    }
    for name, seconds in found.items():
        print(f"{name:22} {1000 * seconds:8.0f} ms")
    for name, (ratio, bar) in measured.items():
        print(f"{name:36} {ratio:6.2f}   at most {bar:.2f}{'' if ratio <= bar else '   above the bar'}")
    return int(any(ratio > bar for ratio, bar in measured.values()))


if __name__ == "__main__":
    sys.exit(main())
