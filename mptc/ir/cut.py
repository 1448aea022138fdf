"""Minimum cuts, by networkx (imported here alone, and only where a cut is asked for: it takes a seventh of a second)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any


def minimum_cut(members: Sequence[Sequence[Hashable]], weights: Mapping[Any, float], source: Sequence[int], sink: Sequence[int]) -> set[int]:
    """Splits things that hang together by labels in two, cutting as little as can be.

    `members[i]` are the labels of thing i; a label whose things end on both sides costs its weight (a hyperedge, however many things share it).
    Things of `source` and `sink` are fixed. Returns the source's side, the largest one among the cheapest.
    """
    import networkx

    graph: Any = networkx.DiGraph()
    for index, labels in enumerate(members):
        graph.add_node(index)
        for label in labels:
            graph.add_edge(("in", label), ("out", label), capacity=weights[label])
            graph.add_edge(index, ("in", label), capacity=math.inf)
            graph.add_edge(("out", label), index, capacity=math.inf)
    for end, things in (("source", source), ("sink", sink)):
        graph.add_node(end)
        for index in things:
            tail, head = (end, index) if end == "source" else (index, end)
            graph.add_edge(tail, head, capacity=math.inf)
    residual = networkx.algorithms.flow.edmonds_karp(graph, "source", "sink")
    reaches: set[Hashable] = {"sink"}
    pending: list[Hashable] = ["sink"]
    while pending:
        node = pending.pop()
        for before in residual.predecessors(node):
            edge = residual[before][node]
            if before not in reaches and edge["capacity"] - edge["flow"] > 1e-9:
                reaches.add(before)
                pending.append(before)
    return {index for index in range(len(members)) if index not in reaches}
