"""The other half of a generated module: `decode`, the next tokens behind those that a cache holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mptc.backends.kept import Entry, entries, keeps, labels
from mptc.backends.layout import Layout
from mptc.backends.torch.function import Class, Function
from mptc.backends.torch.lines import Comments, Plan
from mptc.backends.torch.modules import Module, passes, plan_of
from mptc.backends.torch.names import Names, ambient_name
from mptc.backends.torch.opening import first_of, lengths, renamed
from mptc.ir.axis import SEQ
from mptc.ir.listing import listing
from mptc.ir.node import Kind, Node
from mptc.ir.program import Program
from mptc.ops.leaf import Input
from mptc.ops.region import Loop
from mptc.passes.asked import Asked
from mptc.passes.scopes import Scope


class Decoding(Function):
    """Writes one class's `decode`. `passes`: the counters of the repeats around, within the function."""

    def __init__(self, module: Module, made: Class, names: Names) -> None:
        super().__init__(module, made, names)
        self.always = False  # of a token at a time, little is idle
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
        return f"{self.provide(name)}.at({self.key(f'{_below(loop.op.path, self.made.path)}.{{{self.counters[loop]}}}')})"

    def head(self, node: Node, op: Loop) -> str:
        if node not in self.counters:
            return super().head(node, op)
        if op.label is None:
            return f"for {self.counters[node]} in range({op.count}):"
        return f"for {self.counters[node]}, {self.copies[node]} in enumerate({self.stack(op.path)}):"


def _below(stack: str, path: str) -> str:
    """A stack's copies, `layers` of `layers[*]`, as the cache of a class at `path` calls them."""
    own = stack.removesuffix("[*]")
    return own.removeprefix(path).replace("[*]", "")


class Decodings(Module):
    """All `decode` functions of a generated module."""

    method = ".decode"
    written_by = Decoding

    def __init__(self, program: Program, plan: Plan) -> None:
        super().__init__(program, plan, Layout(), Comments({}, set(), program.spans))
        self.entries = entries(program, plan.scopes)
        self.labels = labels(self.entries)


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
    kind = hashlib.sha256(listing(program, notes=False).encode()).hexdigest()[:16]
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
    turned = any(name.startswith("rotation") for name in asked)
    if turned and "dtype" not in asked:
        asked.append("dtype")
    tokens = [node for node in program.inputs if SEQ in node.axes]
    ids = [function.text[node] for node in tokens if isinstance(node.op, Input) and node.type.kind is Kind.ID and not node.op.order]
    lines = [*renamed(program, function), *lengths(program, function, {"batch", "seq"} & set(asked) != set())]
    lines.append(f"cache.begin({first_of(program, function)}, {(ids or ['None'])[0]})")
    lines += ["position = cache.position()"] if turned or "position" in asked else []
    lines += ["seen = cache.seen()"] if "seen" in asked else []
    for name in asked:
        if name.startswith("rotation"):
            lines.append(f"{ambient_name(name)} = {function.module.helper('rotation_at')}(position, {name.partition('(')[2][:-1]}, dtype)")
    return lines
