"""The graph as lines: boxes by number, where each takes its values from, and the ties below."""

from __future__ import annotations

from collections.abc import Iterator

from mptc.graph import Box, Edge, Graph, Group, Style

ARROWS = {Style.FLOW: "←", Style.HELD: "⇠", Style.NEXT: "↺"}
LEGEND = "← value   ⇠ held fixed   ↺ from the copy or pass before   ┄ one tensor"
COLUMN = 64


def text(graph: Graph) -> str:
    """One line a box, what is inside a stack or a repeat below it."""
    page = _Page(graph)
    lines = [graph.name, *page.inside(None, 1)]
    ties = [edge for edge in graph.edges if edge.style is Style.TIE]
    lines += ["", *(f"  {edge.source} ┄ {edge.target}  {', '.join(edge.labels)}" for edge in ties)] if ties else []
    return "\n".join([*lines, "", LEGEND]) + "\n"


class _Page:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.members = graph, graph.members()
        self.taken: dict[int, list[str]] = {}
        for edge in graph.edges:
            if edge.style is not Style.TIE:
                self.taken.setdefault(edge.target, []).append(_taken(edge))

    def inside(self, group: int | None, depth: int) -> Iterator[str]:
        """The boxes and groups of a group, in the order in which they begin."""
        boxes, groups = self.members[group]
        begins: list[tuple[int, Box | Group]] = [(box.number, box) for box in boxes]
        begins += [(self.first(inner), inner) for inner in groups]
        for _, each in sorted(begins, key=lambda begun: begun[0]):
            if isinstance(each, Group):
                yield f"{'  ' * depth}{each.title}"
                yield from self.inside(each.number, depth + 1)
            else:
                label = f"{'  ' * depth}{each.number}  {each.label}"
                yield f"{label.ljust(COLUMN)}  {'  '.join(self.taken.get(each.number, ()))}".rstrip()

    def first(self, group: Group) -> int:
        """The first box inside; of an empty group, none that is there."""
        boxes, groups = self.members[group.number]
        return min([box.number for box in boxes[:1]] + [self.first(inner) for inner in groups], default=len(self.graph.boxes) + 1)


def _taken(edge: Edge) -> str:
    labels = [label for label in edge.labels if edge.style is not Style.NEXT or not label.startswith("next ")]
    return f"{ARROWS[edge.style]} {edge.source}" + (f" ({', '.join(labels)})" if labels else "")
