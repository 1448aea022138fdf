"""The graph in graphviz's language."""

from __future__ import annotations

from collections.abc import Iterator

from mptc.graph import Box, Edge, Graph, Group, Kind, Style

Members = dict[int | None, tuple[list[Box], list[Group]]]

SHAPES = {
    Kind.INPUT: "shape=box, style=rounded",
    Kind.PARAMETER: "shape=cylinder",
    Kind.CALL: 'shape=box, style=filled, fillcolor="#e8eef7"',
    Kind.SHARE: "shape=cylinder",
    Kind.VALUE: "shape=box",
    Kind.STATE: "shape=ellipse",
    Kind.RESULT: "shape=box, peripheries=2",
}
LINES = {Style.FLOW: "", Style.HELD: "style=dotted", Style.NEXT: "constraint=false", Style.TIE: "style=dashed, dir=none, constraint=false"}


def dot(graph: Graph) -> str:
    """Ties are dashed and have no direction, what is held fixed is dotted."""
    head = [f"digraph {quoted(graph.name)} {{", '  node [fontname="sans-serif", fontsize=11]', '  edge [fontname="sans-serif", fontsize=9]']
    return "\n".join([*head, *_inside(graph.members(), None, 1), *(f"  {_edge(edge)}" for edge in graph.edges), "}"]) + "\n"


def _inside(members: Members, group: int | None, depth: int) -> Iterator[str]:
    indent = "  " * depth
    boxes, groups = members[group]
    for box in boxes:
        yield indent + _box(box)
    for inner in groups:
        yield f"{indent}subgraph cluster_{inner.number} {{"
        yield f'{indent}  label={quoted(inner.title)}; fontname="sans-serif"; fontsize=11; style=rounded'
        yield from _inside(members, inner.number, depth + 1)
        yield f"{indent}}}"


def _box(box: Box) -> str:
    return f"n{box.number} [label={quoted(box.label)}, {SHAPES[box.kind]}]"


def _edge(edge: Edge) -> str:
    label = [f"label={quoted(', '.join(edge.labels))}"] if edge.labels else []
    given = ", ".join([*label, *([LINES[edge.style]] if LINES[edge.style] else [])])
    return f"n{edge.source} -> n{edge.target}" + (f" [{given}]" if given else "")


def quoted(label: str) -> str:
    """A string of graphviz's: quotes and backslashes, which begin escapes, stand for themselves; so do entities."""
    plain = label.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;").replace("\n", " ")
    return f'"{plain}"'
