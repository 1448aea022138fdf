"""A mixture over tables as it is generated, beside looking all rows up and summing them: time of a training step, and what it holds in memory.

python tests/bench/mixture.py [experts]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import mptc

EXPERTS = int(sys.argv[1]) if len(sys.argv) > 1 else 8
VOCAB, D, BATCH, SEQ, ROUNDS = 8192, 512, 8, 512, 7
SPEC = f"""
dim vocab  = {VOCAB}
dim d      = {D}
dim expert = {EXPERTS}

model mixed {{
  input tokens: id[vocab]
  input a:      [expert]
  param T:      [expert, vocab, d]
  output m = sum[expert](a * lookup(T, tokens))
}}
"""


def side_by_side(table: Tensor, tokens: Tensor, a: Tensor) -> Tensor:
    rows = F.embedding(tokens, table.transpose(0, 1).flatten(1)).unflatten(-1, table.shape[::2])
    return (a[..., None] * rows).sum(-2)


def step(forward: Callable[[], Tensor], leaves: list[Tensor], slope: Tensor) -> tuple[float, float, int]:
    """Seconds forward and backward, and the bytes that forward keeps for backward (the table and what came in apart)."""
    known = {leaf.data_ptr() for leaf in leaves}
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        if value.data_ptr() not in known:
            kept[value.data_ptr()] = value.untyped_storage().nbytes()
        return value

    begin = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        result = forward()
    middle = time.perf_counter()
    torch.autograd.grad(result, leaves, slope)
    return middle - begin, time.perf_counter() - middle, sum(kept.values())


def main() -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mixed.mpt"
        path.write_text(SPEC)
        model = mptc.load(path)
    tokens, a, slope = torch.randint(0, VOCAB, (BATCH, SEQ)), torch.rand(BATCH, SEQ, EXPERTS, requires_grad=True), torch.randn(BATCH, SEQ, D)
    forms = {"generated": lambda: model(tokens, a).m, "side by side": lambda: side_by_side(model.T, tokens, a)}
    assert torch.allclose(*(form() for form in forms.values()), atol=1e-6)
    print(f"{EXPERTS} tables of {VOCAB} x {D}, {BATCH} x {SEQ} tokens, float32, {torch.get_num_threads()} threads")
    for name, form in forms.items():
        rounds = [step(form, [model.T, a], slope) for _ in range(ROUNDS)]
        forward, backward = (sorted(one[place] for one in rounds)[ROUNDS // 2] * 1e3 for place in (0, 1))
        print(f"{name:>14}: forward {forward:7.1f} ms, backward {backward:7.1f} ms, kept for it {rounds[0][2] / 2**20:6.1f} MiB")


if __name__ == "__main__":
    main()
