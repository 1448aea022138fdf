"""Graphs inside ops: what of them is computed anew in every pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mptc.ir.node import Node, walk


def everywhere(roots: Iterable[Node]) -> Iterator[Node]:
    """Every node that the roots need, those inside of others too, once."""
    pending, done = list(roots), set[Node]()
    while pending:
        for node in walk([pending.pop()], done):
            done.add(node)
            if node.op.interior is not None:
                pending.extend(node.op.interior.roots)
            yield node


def inside(node: Node) -> set[Node]:
    """The nodes of an op's own graph that depend on its variables or its own parameters: what is computed anew in every pass."""
    interior = node.op.interior
    assert interior is not None
    found = set(interior.formals)
    _depends(interior.roots, interior.path, found, set())
    return found


def _depends(roots: Sequence[Node], path: str | None, found: set[Node], done: set[Node]) -> None:
    for node in walk(roots):
        if node in done:
            continue
        done.add(node)
        own = path is not None and (node.op.parameter or "").startswith(path)
        nested = node.op.interior
        if nested is not None:
            _depends(nested.roots, path, found, done)
        if own or any(arg in found for arg in node.args) or (nested is not None and any(root in found for root in nested.roots)):
            found.add(node)
