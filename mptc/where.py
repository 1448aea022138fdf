"""What runs where: for each softmax over tokens, which kernel takes it or why none does, and on which machines that one is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mptc.backends.torch import module
from mptc.backends.triton import Kernels
from mptc.backends.triton.locks import ARCHITECTURES, DTYPES, entry, wins
from mptc.derive import Derived
from mptc.derive.fused import Score, scores
from mptc.ir.node import Node
from mptc.ops.region import Result
from mptc.passes import applied


@dataclass(frozen=True)
class Placed:
    """`kernel`: what of `kernels.py` computes a score, or empty, and then `reason` says why none does.

    `shape`: how wide it is, and whether a key is its own value.
    """

    score: Score
    kernel: str
    reason: str
    shape: tuple[int, bool] | None


def where(derived: Derived) -> list[Placed]:
    """Every score of a model, in the order in which they are computed."""
    kernels, moved = _written(derived)
    found = []
    for score in scores(derived):
        node = moved.get(score.node, score.node)
        region = node.args[0] if isinstance(node.op, Result) else node
        kernel, reason = kernels.placed.get(region, ("", score.says[-1]))
        found.append(Placed(score, kernel, reason, kernels.shapes.get(kernel)))
    return found


def told(derived: Derived) -> str:
    """For people. What is no softmax over tokens is torch's."""
    lines = [line for placed in where(derived) for line in _lines(placed)]
    lines += by_rows(derived)
    return "\n".join([*lines, "everything else: torch"]) + "\n"


def _written(derived: Derived) -> tuple[Kernels, Mapping[Node, Node]]:
    """The kernels of a model, and what has become of its planned nodes."""
    program, moved = applied(derived.program)
    kernels = Kernels(derived.program.sizes)
    module(program, {}, set(), "decoding is not asked for", kernels)
    return kernels, moved


def by_rows(derived: Derived) -> Iterator[str]:
    """The steps that one kernel computes row by row, by what they make."""
    for name, group in _written(derived)[0].regional:
        made = ", ".join(sorted({each.op.name for each in group.nodes}))
        yield f"{len(group.nodes)} steps ({made}) of rows of {group.width}"
        yield f"    kernels.{name}, forward and backward; torch where no measurement says that it wins"


def _lines(placed: Placed) -> Iterator[str]:
    score = placed.score
    yield f"{score.used}{f' {score.label}' if score.label else ''}: {score.equation}"
    if placed.shape is None:
        yield f"    torch: {placed.reason}"
        return
    width, tied = placed.shape
    yield f"    kernels.{placed.kernel}, forward and backward, width {width}{', keys are values' if tied else ''}; rotations in torch"
    for architecture in ARCHITECTURES:
        by = {dtype: entry(architecture, dtype, width, tied) for dtype in DTYPES}
        won = [f"{dtype} ({found['ratio']:.2f} times as fast)" for dtype, found in by.items() if wins(found)]
        lost = [dtype for dtype, found in by.items() if not wins(found)]
        said = [f"the kernel for {', '.join(won)}"] if won else []
        said += [f"torch for {', '.join(lost)}: no measurement says that the kernel wins"] if lost else []
        yield f"    {architecture}: {'; '.join(said)}"
