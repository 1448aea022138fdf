"""The graph in Mermaid's language: a flowchart."""

from __future__ import annotations

from collections.abc import Iterator

from mptc.graph import Box, Edge, Graph, Group, Kind, Style

Members = dict[int | None, tuple[list[Box], list[Group]]]

SHAPES = {
    Kind.INPUT: ('(["', '"])'),
    Kind.PARAMETER: ('[("', '")]'),
    Kind.CALL: ('["', '"]'),
    Kind.SHARE: ('[("', '")]'),
    Kind.VALUE: ('("', '")'),
    Kind.STATE: ('(("', '"))'),
    Kind.RESULT: ('[["', '"]]'),
}
ARROWS = {Style.FLOW: "-->", Style.HELD: "-.->", Style.NEXT: "==>", Style.TIE: "---"}
LINES = {Style.HELD: "stroke-dasharray:2 3", Style.TIE: "stroke-dasharray:8 4"}
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ")


def mermaid(graph: Graph) -> str:
    """Ties are dashed and have no direction, what is held fixed is dotted."""
    lines = ["flowchart TD", *_inside(graph.members(), None, 1), *(f"  {_edge(edge)}" for edge in graph.edges)]
    lines += [f"  linkStyle {place} {LINES[edge.style]}" for place, edge in enumerate(graph.edges) if edge.style in LINES]
    return "\n".join(lines) + "\n"


def _inside(members: Members, group: int | None, depth: int) -> Iterator[str]:
    indent = "  " * depth
    boxes, groups = members[group]
    for box in boxes:
        yield indent + _box(box)
    for inner in groups:
        yield f'{indent}subgraph g{inner.number}["{escaped(inner.title)}"]'
        yield from _inside(members, inner.number, depth + 1)
        yield f"{indent}end"


def _box(box: Box) -> str:
    before, after = SHAPES[box.kind]
    return f"n{box.number}{before}{escaped(box.label)}{after}"


def _edge(edge: Edge) -> str:
    label = f'|"{escaped(", ".join(edge.labels))}"|' if edge.labels else ""
    return f"n{edge.source} {ARROWS[edge.style]}{label} n{edge.target}"


def escaped(label: str) -> str:
    """Whatever is no letter, digit or space as Mermaid's entity: a label ends nothing and is no markup."""
    return "".join(each if each in PLAIN else f"#{ord(each)};" for each in label)
