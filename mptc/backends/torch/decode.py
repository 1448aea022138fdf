"""The other half of a generated module: `decode`, the next tokens behind those that a cache holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mptc.backends.asked import Asked
from mptc.backends.layout import Layout
from mptc.backends.scopes import Scope, Scopes
from mptc.backends.torch.function import Class, Function, Module, ambient_name, any_parameter, passes, plan_of
from mptc.backends.torch.lines import Comments, Plan
from mptc.backends.torch.names import Names
from mptc.ir.axis import SEQ, Role
from mptc.ir.listing import listing
from mptc.ir.node import Kind, Node
from mptc.ir.program import Program
from mptc.ops.kept import Earlier, Kept
from mptc.ops.leaf import Input
from mptc.ops.region import Loop


@dataclass(frozen=True)
class Entry:
    """What is kept under one name: `path` below the model (copies of a stack as `*`, passes of a repeat as `#`), and how often that is."""

    path: str
    node: Node
    times: int
    numbers: int  # for each token
    window: int | None

    @property
    def what(self) -> str:
        return "all tokens" if self.window is None else f"the last {self.window - 1}"

    @property
    def axes(self) -> str:
        return "[" + ", ".join(str(axis) for axis in self.node.axes if axis.role is Role.DIM) + "]"


class Decoding(Function):
    """Writes one class's `decode`. `passes`: the counters of the repeats around, within the function."""

    def __init__(self, module: Module, made: Class, names: Names) -> None:
        super().__init__(module, made, names)
        self.passes: list[str] = []
        self.counters: dict[Node, str] = {}

    def provide(self, name: str) -> str:
        kind, _, number = name.rstrip(")").partition("(")
        if kind == "kept":
            assert isinstance(self.module, Decodings)
            return self.key(self.module.labels[int(number)])
        return super().provide(name)

    def key(self, last: str) -> str:
        """The name of an entry, below the function's own part of the cache."""
        formatted = bool(self.passes) or "{" in last
        return f'{"f" if formatted else ""}"{".".join([*(f"{{{each}}}" for each in self.passes), last])}"'

    def repeated(self, op: Loop, body: Scope, states: list[str], watched: list[Node], around: Asked) -> list[str]:
        if body.loop is None or not keeps(self.plan.scopes, body):
            return super().repeated(op, body, states, watched, around)
        self.counters[body.loop] = self.names.take("number")
        self.passes.append(self.counters[body.loop])
        lines = super().repeated(op, body, states, watched, around)
        self.passes.pop()
        return lines

    def stacked(self, node: Node, body: Scope, states: list[str], watched: list[Node]) -> list[str]:
        if keeps(self.plan.scopes, body):
            self.counters[node] = self.names.take("number")
        return super().stacked(node, body, states, watched)

    def given(self, name: str, loop: Node) -> str:
        if name != "cache" or not isinstance(loop.op, Loop):
            return super().given(name, loop)
        return f"{self.provide(name)}.at({self.key(f'{self.attribute(loop.op)}.{{{self.counters[loop]}}}')})"

    def head(self, node: Node, op: Loop) -> str:
        if node not in self.counters:
            return super().head(node, op)
        if op.label is None:
            return f"for {self.counters[node]} in range({op.count}):"
        return f"for {self.counters[node]}, {self.copies[node]} in enumerate(self.{self.attribute(op)}):"


class Decodings(Module):
    """All `decode` functions of a generated module."""

    method = ".decode"
    written_by = Decoding

    def __init__(self, program: Program, plan: Plan) -> None:
        super().__init__(program, plan, Layout(), Comments({}, set(), program.spans))
        self.entries = entries(program, plan.scopes)
        self.labels = {_number(entry.node): entry.path.rpartition(".")[2] for entry in self.entries}


def keeps(scopes: Scopes, scope: Scope) -> bool:
    """Whether something is kept in a scope, or further in."""
    return any(isinstance(node.op, Kept | Earlier) or (node in scopes.bodies and keeps(scopes, scopes.bodies[node])) for node in scope.nodes)


def entries(program: Program, scopes: Scopes) -> list[Entry]:
    """What the cache of a program holds, in the order in which it is made."""
    found: list[Entry] = []
    taken: set[str] = set()
    for node, home in scopes.home.items():
        if not isinstance(node.op, Kept | Earlier):
            continue
        steps: list[str] = []
        times = 1
        scope: Scope | None = home
        while scope is not None and scope.op is not None:
            steps.insert(0, "#" if scope.op.label is None else f"{scope.op.label}.*")
            times *= scope.op.count
            scope = scope.parent
        path = ".".join([*steps, node.op.label])
        while path in taken:
            path += "_"
        taken.add(path)
        numbers = 1
        for axis in node.axes:
            numbers *= program.sizes[axis] if axis.role is Role.DIM else 1
        window = node.op.window if isinstance(node.op, Kept) else node.op.by + 1
        found.append(Entry(path, node, times, numbers, window))
    return found


def _number(node: Node) -> int:
    assert isinstance(node.op, Kept | Earlier)
    return node.op.number


# -- the model -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoder:
    """The decoding half of a page: classes by path, the model's own under ""."""

    classes: dict[str, Class]
    helpers: set[str]
    entries: list[Entry]
    kind: str  # what tells a cache of this model from any other


def decoder(program: Program) -> Decoder:
    """`decode` of every class."""
    written, made = passes(plan_of(program), lambda plan: _written(program, plan))
    classes = {each.path: each for each in (made, *written.classes)}
    kind = hashlib.sha256(listing(program).encode()).hexdigest()[:16]
    return Decoder(classes, written.helpers | {"Cache"}, written.entries, kind)


def _written(program: Program, plan: Plan) -> tuple[Decodings, Class]:
    written = Decodings(program, plan)
    made = Class("Model", plan.scopes.root, "", sites=written.sites("")[0])
    function = Decoding(written, made, Names())
    made.arguments += function.inputs(program)
    lines = function.scope(made.scope, frozenset({"output"}))
    results = [function.expanded_to(output.node, output.order) for output in program.outputs]
    made.lines = [*_begin(program, function), *written.unpacked(made), *lines, "cache.end()", f"return Output({', '.join(results)})"]
    return written, made


def _begin(program: Program, function: Decoding) -> list[str]:
    """What depends on where the sequences stand, computed once."""
    asked = function.made.ambient
    tokens = [node for node in program.inputs if SEQ in node.axes]
    ids = next((node.op.label for node in tokens if isinstance(node.op, Input) and node.type.kind is Kind.ID and not node.op.order), "None")
    first = tokens[0].op
    assert isinstance(first, Input)
    lines = [f"batch, seq = {first.label}.shape[:2]"] if {"batch", "seq"} & set(asked) else []
    lines += [f"dtype = {any_parameter(program)}.dtype"] if any(name == "dtype" or name.startswith("rotation") for name in asked) else []
    lines += [f"device = {first.label}.device"] if "device" in asked else []
    lines.append(f"cache.begin(self.CACHE, {first.label}, {ids})")
    lines += ["position = cache.position()"] if any(name == "position" or name.startswith("rotation") for name in asked) else []
    lines += ["seen = cache.seen()"] if "seen" in asked else []
    for name in asked:
        if name.startswith("rotation"):
            function.module.helpers.add("rotation_at")
            lines.append(f"{ambient_name(name)} = {name.replace('(', '_at(position, ')[:-1]}, dtype)")
    return lines
