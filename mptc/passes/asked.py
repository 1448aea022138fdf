"""What each value is computed for: always, or only where the loss or the probes are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ops.region import Gathered, Loop, Rows

Asked = frozenset[str]  # of "loss" and "probe"; with "output", the value is always computed


class Needs:
    """For what the values of a program are needed. A loop's states are needed wherever it is, what it watches only where that is read."""

    def __init__(self, program: Program) -> None:
        losses = [] if program.loss is None else [program.loss]
        roots = {"output": [output.node for output in program.outputs], "loss": losses, "probe": [probe.node for probe in program.probes]}
        self._needed = {kind: needed(nodes) for kind, nodes in roots.items()}

    def of(self, node: Node) -> Asked:
        return frozenset(kind for kind, nodes in self._needed.items() if node in nodes)


def needed(roots: Sequence[Node]) -> set[Node]:
    """Every node whose value these need."""
    found: set[Node] = set()
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found.add(node)
        pending += node.args
        match node.op:
            case Loop(results=results) | Rows(results=results):
                pending += results
            case Gathered(index=index):
                loop = node.args[0].op
                assert isinstance(loop, Loop)
                pending.append(loop.watched[index])
    return found
