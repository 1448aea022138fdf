"""The IR as text, one node a line, for people:

    %7 = softmax[ctx](%5, %6) : [batch, seq, ctx, head]    # weights  file.mpt:12
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mptc.ir.axis import Role
from mptc.ir.node import Node, Seen, walk
from mptc.ir.program import Program
from mptc.ir.region import inside

BESIDE = 88  # the column of the comments


UNMARKED: Mapping[Node, str] = {}


def listing(program: Program, notes: bool = True, marks: Mapping[Node, str] = UNMARKED) -> str:
    """The whole program; the same text for the same program. `notes` say what the spec calls a value and where, `marks` what else there is to say."""
    page = _Page(program, notes, marks)
    lines = [f"{'causal' if program.causal else 'bidirectional'} model {program.name}"]
    sizes = [f"{axis} = {size}" for axis, size in program.sizes.items() if axis.role is Role.DIM]
    lines += [f"  sizes {', '.join(sizes)}"] if sizes else []
    for parameter in program.parameters:
        begins = f"= {parameter.value:g}" if parameter.init == "fill" else f"~ {parameter.init}({parameter.value:g})"
        lines.append(f"  param {parameter.path}: [{', '.join(map(str, parameter.axes))}] {begins}")
        lines += [f"  freeze {path}" for path in parameter.frozen]
    lines += [f"  tie {tie.path} = {tie.home}" for tie in program.ties]
    page.graph([*program.inputs, *program.roots], 1)
    lines += ["", *page.lines, ""]
    for output in program.outputs:
        lines.append(f"  output {output.name} = {page.number(output.node)} : [{', '.join(map(str, output.order))}]")
    lines += [] if program.loss is None else [f"  loss {page.number(program.loss)}"]
    lines += [f"  probe {probe.name} = {page.number(probe.node)} : [{', '.join(map(str, probe.order))}]" for probe in program.probes]
    return "\n".join(lines) + "\n"


def excerpt(program: Program, nodes: Container[Node], marks: Mapping[Node, str] = UNMARKED) -> list[str]:
    """The lines of a listing that some nodes have."""
    page = _Page(program, marks=marks)
    page.graph([*program.inputs, *program.roots], 1)
    return [line for node, line in page.own if node in nodes]


def numbered(program: Program) -> dict[Node, str]:
    """What the listing calls each node."""
    page = _Page(program)
    page.graph([*program.inputs, *program.roots], 1)
    return {node: page.number(node) for node in page.numbers}


@dataclass
class _Page:
    program: Program
    notes: bool = True
    marks: Mapping[Node, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    own: list[tuple[Node, str]] = field(default_factory=list)
    numbers: dict[Node, int] = field(default_factory=dict)

    def number(self, node: Node) -> str:
        return f"%{self.numbers[node]}"

    def graph(self, roots: Sequence[Node], depth: int) -> None:
        """What the roots need and is not there yet; what depends on no region around stands before it."""
        for node in walk(roots):
            if node not in self.numbers:
                self.node(node, depth)

    def node(self, node: Node, depth: int) -> None:
        interior = node.op.interior
        if interior is not None:
            self.graph(_outside([*interior.formals, *interior.roots], inside(node)), depth)
        self.numbers[node] = len(self.numbers)
        text = node.op.listed(node, [self.number(arg) for arg in node.args])
        type_ = "" if interior is not None and not node.axes else f" : {node.type}{self.seen(node.type.seen)}"
        line = self.beside(f"{'  ' * depth}{self.number(node)} = {text}{type_}", node)
        self.lines.append(line)
        self.own.append((node, line))
        if interior is not None:
            self.graph([*interior.formals, *interior.roots], depth + 1)
            self.lines.append(f"{'  ' * (depth + 1)}→ {', '.join(self.number(root) for root in interior.roots)}")

    def seen(self, limits: Seen) -> str:
        """What the contexts of a raw value show."""
        parts = [f"{axis}: {' and '.join(map(self.limit, each)) or 'all'}" for axis, each in limits]
        return f" sees {', '.join(parts)}" if parts else ""

    def limit(self, limit: object) -> str:
        if isinstance(limit, Node):
            return f"where {self.number(limit)}" if limit in self.numbers else "where a condition holds"
        return " ".join(map(str, limit)) if isinstance(limit, tuple) else str(limit)

    def beside(self, text: str, node: Node) -> str:
        """A line with what the spec calls the value, and where it says it."""
        if not self.notes:
            return text
        span = self.program.spans.get(node, node.span)
        place = "" if span is None else f"{span.source.path.rpartition('/')[2]}:{span.line}"
        note = "  ".join(part for part in (self.marks.get(node, ""), self.program.names.get(node, ""), place) if part)
        return f"{text.ljust(BESIDE)}  # {note}" if note else text


def _outside(roots: Iterable[Node], own: set[Node]) -> list[Node]:
    """The nodes that a region reads and that do not depend on it, in the order of the walk."""
    found: list[Node] = []
    for node in walk(roots):
        found += [arg for arg in node.args if arg not in own] if node in own else []
        nested = node.op.interior
        if nested is not None and node in own:
            found += _outside([*nested.formals, *nested.roots], own | inside(node))
    return [*found, *(root for root in roots if root not in own)]
