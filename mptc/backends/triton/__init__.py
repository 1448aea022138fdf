"""IR → `kernels.py` beside the torch module: what of it a kernel computes, and the calls that stand in the module."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mptc.backends.grades import Grade
from mptc.backends.templates import render
from mptc.backends.torch.names import called
from mptc.backends.torch.site import TorchSite, reordered
from mptc.backends.triton.attention import WIDEST, Attention, Tile, attention, tile
from mptc.backends.triton.locks import gated_tiles, row_tiles, tiles
from mptc.backends.triton.pairs import Leaf, Refused, padded
from mptc.backends.triton.rows import Group, arranged
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Node, make, walk
from mptc.ops.contract import Contract
from mptc.ops.region import Rows, Some
from mptc.ops.site import tight
from mptc.ops.stream import Stream
from mptc.passes.fuse import Region, regions

if TYPE_CHECKING:
    from mptc.backends.torch.function import Function
    from mptc.ir.program import Program
    from mptc.passes.scopes import Scope

NAMES = "abcdefgh"


@dataclass
class Kernels:
    """The kernels of one module. `texts`: each by what it says when it is called `attention`, so that what is the same is written once."""

    sizes: Mapping[Axis, int]
    mode: str = "auto"
    regional: list[tuple[str, Group]] = field(default_factory=list)  # by which kernel each region is computed
    regions: list[Region] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    entries: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    placed: dict[Node, tuple[str, str]] = field(default_factory=dict)  # which kernel takes a node, or none and why
    shapes: dict[str, tuple[int, bool]] = field(default_factory=dict)  # of each kernel: how wide, and whether a key is its own value

    def begin(self, program: Program) -> None:
        self.regions = regions(program)
        self.texts.clear()
        self.entries.clear()
        self.placed.clear()
        self.regional.clear()
        self.shapes.clear()

    def imported(self, name: str, source: str) -> str:
        return f"kernels_{digest(self.page(name, source))}" if self.texts else ""

    def call(self, function: Function, node: Node) -> tuple[str, str] | None:
        """When a kernel computes a node, and the call; None where none does, and `placed` says why."""
        if not isinstance(node.op, Stream | Rows):
            return None
        parts = [node, *(walk(node.op.results) if isinstance(node.op, Rows) else ())]
        try:
            call = _Call(self, function, attention(node))
            test, code = call.text()
        except Refused as reason:
            self.placed.update((part, ("", str(reason))) for part in parts)
            return None
        self.placed.update((part, (call.name, "")) for part in parts)
        return test, code

    def arranged(self, function: Function, scope: Scope) -> list[Node | Group]:
        """The steps of a scope, those that one kernel takes row by row side by side."""
        return arranged(self, function, scope)

    def row_kernel(self, made: Mapping[str, object], width: int) -> str:
        """What a kernel of rows is called, which is written where it is new."""
        return self._numbered("rows", made, row_tiles(padded(width)))

    def gated_kernel(self, made: Mapping[str, object]) -> str:
        """What a kernel of a gated map is called, which is written where it is new."""
        return self._numbered("gated", made, gated_tiles())

    def _numbered(self, kind: str, made: Mapping[str, object], tiles_: list[tuple[str, str]]) -> str:
        key = tidied(render(f"{kind}.py.j2", of={**made, "name": kind}))
        if key not in self.texts:
            name = f"{kind}{sum(each.startswith(kind) for each, _ in self.entries) + 1}"
            self.texts[key] = tidied(render(f"{kind}.py.j2", of={**made, "name": name}))
            self.entries.append((name, tiles_))
        return self.entries[list(self.texts).index(key)][0]

    def name(self, made: Mapping[str, object], width: int) -> str:
        """What a kernel is called, which is written where it is new."""
        key = tidied(render("attention.py.j2", of={**made, "name": "attention"}))
        if key not in self.texts:
            number = sum(each.startswith("attention") for each, _ in self.entries) + 1
            name = f"attention{number if number > 1 else ''}"
            self.texts[key] = tidied(render("attention.py.j2", of={**made, "name": name}))
            self.shapes[name] = (width, bool(made["tied"]))
            self.entries.append((name, tiles(*self.shapes[name])))
            return name
        return self.entries[list(self.texts).index(key)][0]

    def page(self, name: str, source: str) -> str:
        """The text of `kernels.py`."""
        values = {"name": name, "source": source, "mode": self.mode, "tiles": self.entries, "kernels": list(self.texts.values())}
        return render("kernels.py.j2", **values)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class _Call:
    """One attention of one function of the module, being printed."""

    kernels: Kernels
    function: Function
    found: Attention
    name: str = ""

    def text(self) -> tuple[str, str]:
        stream, function = self.found.stream, self.function
        assert isinstance(stream.op, Stream)
        width, value_width = (self._size(axis) for axis in (stream.op.inner[0], stream.op.width(stream)[0]))
        if max(width, value_width) > WIDEST:
            raise Refused(f"its heads are {max(width, value_width)} wide, and a tile holds {WIDEST}")
        learned = {leaf.formal for leaf in self.found.pairs.leaves if function.layout.grade(leaf.whole) is Grade.NUMBER}
        made = tile(self.found, self.kernels.sizes, learned)
        self.name = name = self.kernels.name(self._described(made, width, value_width), max(width, value_width))
        given = self._operands()
        test = ", ".join(function.code(self._outside(stream.args[index])) for index in ((0, 1) if self.found.tied else (0, 1, 2)))
        own = called(function.module.program, "kernels")
        call = f"{own}.{name}({', '.join([*given, *map(self._leaf, self.found.pairs.leaves)])})"
        return f'{own}.takes("{name}", {test})', self._as_wanted(call)

    def _size(self, axis: Axis) -> int:
        return self.kernels.sizes[Axis(axis.role, axis.name)]

    @staticmethod
    def _outside(node: Node) -> Node:
        """What some rows are rows of, called as they are."""
        if isinstance(node.op, Some):
            return node.op.of
        if isinstance(node.op, Contract) and node.op.renames and isinstance(node.args[0].op, Some):
            return make(node.op, node.args[0].op.of)
        return node

    def _site(self) -> TorchSite:
        stream, function = self.found.stream, self.function
        outside = [self._outside(arg) for arg in stream.args]
        for arg in outside:
            function.plan.crowd_in(arg)
        given = tuple((function.code(arg), function.layout.order(arg)) for arg in outside)
        return TorchSite(stream, function.sizes, function.layout.arrangement(stream), given, function.provide, function.layout.grade)

    def _heads(self) -> tuple[Axis, ...]:
        stream = self.found.stream
        assert isinstance(stream.op, Stream)
        return stream.op.heads(stream, self.function.layout.order(self._outside(stream.args[0])))

    def _operands(self) -> list[str]:
        """Queries, keys and values, each [batch, heads, tokens, width]."""
        stream, site, heads = self.found.stream, self._site(), self._heads()
        assert isinstance(stream.op, Stream)
        keys = sum(axis in stream.args[1].axes for axis in heads)
        counts = (len(heads), keys) if self.found.tied else (len(heads), keys, keys)
        return [stream.op.folded(site, index, count) for index, count in enumerate(counts)]

    def _leaf(self, leaf: Leaf) -> str:
        """What tokens have beside: [batch or 1, heads or 1, tokens or 1], of pairs one more."""
        function, heads = self.function, self._heads()
        code, order = function.code(leaf.whole), function.layout.order(leaf.whole)
        called = dict(zip(leaf.whole.axes, leaf.labels, strict=True))
        order = tuple(called[axis] for axis in order)
        own = [axis for axis in heads if axis in order]
        if not set(order) <= {BATCH, SEQ, self.found.over, *heads}:
            raise Refused("what is beside its score has axes that it lacks")
        places: list[Axis | None] = [BATCH if BATCH in order else None, *([axis if axis in own else None for axis in heads] if own else [None])]
        places += [axis if axis in order else None for axis in {"row": (SEQ,), "col": (self.found.over,), "pair": (SEQ, self.found.over)}[leaf.kind]]
        code = reordered(code, order, tuple(places))
        if own and len(heads) > 1:
            sizes = ", ".join(str(self._size(axis)) for axis in heads)
            code = f"{tight(code)}.expand(-1, {sizes}{', -1' * (len(places) - 1 - len(heads))}).flatten(1, {len(heads)})"
        return code

    def _as_wanted(self, call: str) -> str:
        """What the kernel gives, as the module wants the value that it takes the place of."""
        stream, function, heads = self.found.stream, self.function, self._heads()
        assert isinstance(stream.op, Stream)
        if len(heads) != 1:
            call = f"{call}.unflatten(1, ({', '.join(str(self._size(axis)) for axis in heads)}))" if heads else f"{call}.squeeze(1)"
        return reordered(call, function.layout.order(stream), function.layout.order(self.found.result))

    def _described(self, made: Tile, width: int, value_width: int) -> dict[str, object]:
        leaves = [{"name": leaf.name, "kind": leaf.kind, "exact": self._exact(leaf)} for leaf in self.found.pairs.leaves]
        learns = [{"name": leaf.name, "kind": leaf.kind, "adjoint": adjoint} for leaf, adjoint in made.learns]
        given = ["q", "k"] if self.found.tied else ["q", "k", "v"]
        names = [*given, *(leaf.name for leaf in self.found.pairs.leaves)]
        text = " ".join([*made.forward, *made.seen, *made.tests, *made.backward, made.score, made.factor])
        place = {leaf.name: len(given) + index for index, (leaf, _) in enumerate(made.learns)}
        flows = [f"found[{index}]" for index in range(len(given))]
        flows += [f"found[{place[name]}].to({name}.dtype)" if name in place else "None" for name in names[len(given) :]]
        if place:
            unpack = {name: f"inputs[{index}]" for index, name in enumerate(names)}
            flows = [flow.replace(f"({name}.dtype)", f"({unpack[name]}.dtype)") for name, flow in zip(names, flows, strict=True)]
        return {
            "tied": self.found.tied,
            "causal": self.found.causal,
            "window": self.found.window or 0,
            "places": "at_i" in text or "at_j" in text,
            "width": width,
            "value_width": value_width,
            "padded": padded(width),
            "value_padded": padded(value_width),
            "leaves": leaves,
            "learns": learns,
            **{name: getattr(made, name) for name in ("forward", "score", "factor", "seen", "tests", "backward", "product", "simple")},
            "typed": ", ".join(f"{name}: Tensor" for name in names),
            "whole": ", ".join(names),
            "laid": ", ".join(f"*{name}.stride()" for name in names),
            "results": ", ".join(["dq", "dk", *([] if self.found.tied else ["dv"]), *(f"d{leaf.name}" for leaf, _ in made.learns)]),
            "tensors": ", ".join(["Tensor"] * (len(given) + len(learns))),
            "nothing": ", ".join(["None"] * len(names)),
            "flows": ", ".join(flows),
            **self._said(leaves),
        }

    def _exact(self, leaf: Leaf) -> bool:
        return self.function.layout.grade(leaf.whole) <= Grade.EXACT

    def _said(self, leaves: list[dict[str, object]]) -> dict[str, object]:
        kinds = {"row": "[batch, heads, rows], of what asks", "col": "[batch, heads, cols], of what is seen", "pair": "[batch, heads, rows, cols]"}
        shapes = ["q: [batch, heads, rows, width]", "k: [batch, shared, cols, width]" + (", its own values" if self.found.tied else "")]
        shapes += [] if self.found.tied else ["v: [batch, shared, cols, value width]"]
        shapes += [f"{leaf['name']}: {kinds[str(leaf['kind'])]}" for leaf in leaves]
        return {"says": "Attention over what each token sees: [batch, heads, rows, value width].", "shapes": shapes}


def tidied(text: str) -> str:
    """Without the blank lines and blanks that a template's conditions leave, and with two before what stands outermost."""
    lines: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        outermost = not line.startswith((" ", ")")) and not (lines and lines[-1].startswith("@"))
        lines += ["", ""] * (outermost and bool(lines)) + [line.rstrip()]
    return "\n".join(lines)


