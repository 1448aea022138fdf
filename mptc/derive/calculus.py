"""The canonical IR: one object for everything that is equal by the rules.

The rules are smart constructors; to make a raw graph canonical is to rebuild it bottom-up through them. Each pair of inverse rules has one
direction, which is the termination argument:

    a product in a product          dissolves (`products.flatten`); the reverse, factoring, happens when contractions are planned
    a product over a sum            stays, but in the argument of a softmax, where terms of one token come apart (`sums.score_terms`)
    a coefficient in a sum          the first term's comes out in front; sums of coefficients go back in (`sums.terms_of`)
    op(view(e))                     becomes view(op(e)) (`sink`); a view dissolves only into a product
    exp(log r), log(exp u)          cancel; exps multiply into one only where one side has all axes of the other
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from mptc.derive import exponents, products, sums
from mptc.derive.differentiate import gradient
from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node, Op, walk
from mptc.ir.number import ONE, Monomial
from mptc.ops.chance import Dropout
from mptc.ops.choose import Entry, Lookup, Shift
from mptc.ops.compare import Compare
from mptc.ops.contract import Contract, Label, Operand, Sum
from mptc.ops.contract_text import is_constant
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Formal, Index, Mask, Position
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.region import Derivative, Loop, Result
from mptc.ops.rotary import Rope, token_axis
from mptc.ops.token import CrossEntropy
from mptc.ops.view import Hold, Limit, View
from mptc.source.text import Span

FUEL = 200_000


class OutOfFuel(Exception):
    """Rules went on firing: two of them undo each other. Names the ones that ran most."""


class Calculus:
    """Interned nodes, and the constructors that keep them canonical. `sizes` are those of the dims; `memories`: see `Program`."""

    def __init__(
        self,
        sizes: dict[Axis, int],
        names: Mapping[Node, str] | None = None,
        spans: Mapping[Node, Span] | None = None,
        memories: Mapping[Axis, Axis] | None = None,
    ) -> None:
        self.sizes = sizes
        self.memories = memories or {}
        self.names: dict[Node, str] = {}  # what the spec calls a canonical node, the view around it apart
        self.scales: dict[Node, Monomial | None] = {}  # what the spec's value is times such a node, where it is not 1; None: something learned
        self.spans: dict[Node, Span] = {}
        self.written: Mapping[Node, str] = names or {}  # what it calls a raw one
        self._places: Mapping[Node, Span] = spans or {}
        self.fired: Counter[str] = Counter()  # each rule by its name; a test asks for a case of every one
        self._spent = 0
        self._table: dict[tuple[Op, tuple[Node, ...]], Node] = {}
        self._keys: dict[Node, tuple[str, int]] = {}
        self._canonical: dict[Node, Node] = {}
        self._gradients: dict[tuple[Node, Node], Node] = {}

    # -- interning ----------------------------------------------------------------------------------

    def node(self, op: Op, *args: Node) -> Node:
        """The one node of this op on these arguments."""
        found = self._table.get((op, args))
        if found is None:
            found = Node(op, args, replace(op.infer(*(arg.type for arg in args)), seen=()))
            self._table[op, args] = found
            text = "|".join([_signature(op, self), *(self.key(arg)[0] for arg in args)])
            self._keys[found] = (hashlib.blake2b(text.encode(), digest_size=12).hexdigest(), len(self._table))
        return found

    def key(self, node: Node) -> tuple[str, int]:
        """What nodes are sorted by: structure first, so that the order things were made in does not show."""
        return self._keys[node]

    def widen(self, wide: Axis, parts: Iterable[Axis]) -> None:
        """An axis of the compiler's own, as long as others together."""
        self.sizes[wide] = sum(self.sizes[replace(axis, tick=0)] for axis in parts)

    def fire(self, rule: str) -> None:
        self.fired[rule] += 1
        self._spent += 1
        if self._spent > FUEL:
            raise OutOfFuel(", ".join(f"{name} ×{count}" for name, count in self.fired.most_common(4)))

    # -- constructors -------------------------------------------------------------------------------

    def contract(self, coef: Monomial, parts: Iterable[tuple[Node, tuple[Label, ...], Fraction]]) -> Node:
        return products.contract(self, coef, list(parts))

    def number(self, value: Monomial) -> Node:
        return self.node(Contract(value, ()))

    def scale(self, coef: Monomial, node: Node) -> Node:
        return self.contract(coef, [(node, node.axes, Fraction(1))])

    def rename(self, node: Node, arrows: Mapping[Axis, Axis]) -> Node:
        if not any(axis in arrows for axis in node.axes):
            return node
        return self.contract(ONE, [(node, tuple(arrows.get(axis, axis) for axis in node.axes), Fraction(1))])

    def add(self, *terms: tuple[Monomial, Node]) -> Node:
        return sums.add(self, terms)

    def map(self, function: str, argument: Node, order: int = 0) -> Node:
        if order == 0 and function == "exp":
            return exponents.exp(self, argument)
        if order == 0 and function == "log":
            return exponents.log(self, argument)
        if exponents.is_number(argument):
            return self.constant(Map(function, order), argument)
        return self.sink(Map(function, order), argument)

    def constant(self, op: Map, argument: Node) -> Node:
        """A function of a number, where its value is finite: a number, to the precision of a double."""
        assert isinstance(argument.op, Contract)
        with np.errstate(all="ignore"):
            value = float(op.reference(argument, (np.asarray(argument.op.coef.evaluate(self.sizes)),), {}))
        if not math.isfinite(value):
            return self.node(op, argument)
        self.fire("function of a number")
        return self.number(Monomial.of(value))

    def rope(self, op: Rope, argument: Node) -> Node:
        """R⁻¹ R = 1;  R(f r) = f R(r) for a factor f without the rotated axis."""
        inner = argument.op
        if isinstance(inner, Rope) and inner == replace(op, inverse=not op.inverse):
            self.fire("rotation and back")
            return argument.args[0]
        outside, inside = products.split(self, argument, op.axis)
        if outside and token_axis(argument.axes) in inside.axes:
            self.fire("factor out of rotation")
            turned = self.sink(op, inside)
            return self.contract(ONE, [*outside, (turned, turned.axes, Fraction(1))])
        return self.sink(op, argument)

    def hold(self, argument: Node) -> Node:
        """[c r] = c [r];  [-a - b] = -[a + b];  [[r]] = [r], and a leaf stands still by itself.  [r] is what nothing dissolves."""
        terms = sums.terms_of(self, argument)
        if not terms:
            return argument
        if len(terms) == 1:
            coef, inner = terms[0]
            if coef != ONE:
                self.fire("number out of a barrier")
                return self.scale(coef, self.hold(inner))
            if isinstance(inner.op, Hold | Result) or not inner.args:
                self.fire("barrier of a barrier")
                return inner
            return self.sink(Hold(), inner)
        if all(coef.rational < 0 for coef, _ in terms):
            self.fire("number out of a barrier")
            return self.scale(-ONE, self.sink(Hold(), self.scale(-ONE, argument)))
        return self.sink(Hold(), argument)

    def view(self, op: View | Limit, argument: Node) -> Node:
        """view(e) = e with `seq` called as the context, and limit(e) = e: what hides a token is the mask where the context is reduced."""
        self.fire("view as a rename")
        return self.rename(argument, {SEQ: op.over}) if isinstance(op, View) else argument

    def index(self, axis: Axis) -> Node:
        """0, 1, …: of tokens that are seen, their positions. index(ctx) = view(position)"""
        if axis.role is not Role.CONTEXT:
            return self.node(Index(axis))
        self.fire("index of what is seen")
        memory = self.memories.get(axis)
        return self.rename(self.node(Position()), {SEQ: axis}) if memory is None else self.rename(self.node(Index(memory)), {memory: axis})

    def sink(self, op: Op, *args: Node) -> Node:
        """op(view(e)) = view(op(e)), where all that is seen is seen through one view and the viewer takes no part."""
        contexts = {axis for arg in args for axis in arg.axes if axis.role is Role.CONTEXT}
        if len(contexts) != 1 or any(SEQ in arg.axes for arg in args):
            return self.node(op, *args)
        (over,) = contexts
        inner = [unviewed(arg, over) if over in arg.axes else arg for arg in args]
        reduced = getattr(op, "over", ())
        if any(arg is None for arg in inner) or over == reduced or over in (reduced if isinstance(reduced, tuple) else ()):
            return self.node(op, *args)
        self.fire("sink view")
        result = self.build(op, tuple(arg for arg in inner if arg is not None))
        return self.rename(result, {SEQ: over})

    # -- rebuilding ---------------------------------------------------------------------------------

    def build(self, op: Op, args: tuple[Node, ...], old: tuple[Node, ...] | None = None) -> Node:
        """The canonical node of an op on canonical arguments. `old`: the arguments that a contract's labels were written for."""
        lost = [axis for axis in needed(op, old or args) if axis not in args[0].axes] if args else []
        if lost:
            args = (self.along(args[0], lost), *args[1:])
        match op:
            case Contract():
                return self.contract(*_relabelled(self, op, args, old or args))
            case Sum():
                return self.add(*zip(op.coefs, args, strict=True))
            case Map():
                return self.map(op.function, args[0], op.order)
            case Lse():
                return sums.lse(self, op, args[0], *args[1:])
            case Softmax():
                return sums.softmax(self, op, args[0], *args[1:])
            case Rope():
                return self.rope(op, args[0])
            case Hold():
                return self.hold(args[0])
            case Limit() | View():
                return self.view(op, args[0])
            case Index():
                return self.index(op.axis)
            case Mask():
                return self.sink(op, *dict.fromkeys(args))
            case _:
                return self.sink(op, *args)

    def along(self, node: Node, axes: Sequence[Axis]) -> Node:
        """A value that lost axes in what was simplified, with them again: times 1 along each. 0 is where a place is before itself."""
        if not axes:
            return node
        self.fire("axis given back")
        parts = [] if exponents.is_zero(node) else [node]
        for axis in axes:
            here = self.node(Position()) if axis.role is Role.TOKEN else self.index(axis)
            parts.append(self.build(Compare("==" if parts else "<"), (here, here)))
        return self.contract(ONE, [(part, part.axes, Fraction(1)) for part in parts])

    def canonical(self, root: Node) -> Node:
        """A raw graph, rebuilt. Derivatives are taken on the way."""
        for node in walk([root], self._canonical):
            self._canonical[node] = self._rebuilt(node)
            self._remember(node, self._canonical[node])
        return self._canonical[root]

    def _remember(self, raw: Node, made: Node) -> None:
        """A name belongs to what is inside the view: the spec's `k = W_k @ c` is the key of every token."""
        if raw in self.written:
            whole = bare(made)
            core = unscaled(whole)
            if core not in self.names and core is not whole:
                self.scales[core] = whole.op.coef if isinstance(whole.op, Contract) and len(whole.args) == 1 else None
            self.names.setdefault(core, self.written[raw])
        if raw in self._places:
            self.spans.setdefault(bare(made), self._places[raw])

    def _rebuilt(self, node: Node) -> Node:
        args = tuple(self._canonical[arg] for arg in node.args)
        if isinstance(node.op, Derivative):
            return self.derivative(node.op, args)
        if isinstance(node.op, Loop):
            results = tuple(self.canonical(result) for result in node.op.results)
            watched = tuple(self.canonical(each) for each in node.op.watched)
            formals = tuple(self.canonical(formal) for formal in node.op.formals)
            return self.node(replace(node.op, formals=formals, results=results, watched=watched), *args)
        return self.build(node.op, args, node.args)

    def derivative(self, op: Derivative, args: tuple[Node, ...]) -> Node:
        """Differentiated on the formals, canonical, and only then at the arguments."""
        variable = self.canonical(op.formals[0])
        step = self.gradient_at(self.canonical(op.energy), variable)
        values = {self.canonical(formal): arg for formal, arg in zip(op.formals, args, strict=True)}
        for node in walk([op.energy]):  # what the energy calls its parts, here
            if node in self.written and node.args:
                self.substitute(self.canonical(node), values)
        return self.substitute(step, values)

    def gradient_at(self, energy: Node, variable: Node) -> Node:
        found = self._gradients.get((energy, variable))
        if found is None:
            found = self._gradients[energy, variable] = self.canonical(gradient(energy, variable))
        return found

    def substitute(self, root: Node, values: Mapping[Node, Node]) -> Node:
        new = dict(values)
        for node in walk([root], new):
            args = tuple(new[arg] for arg in node.args)
            new[node] = node if args == node.args else self.build(node.op, args, node.args)
            self.call_alike(node, new[node])
        return new[root]

    def call_alike(self, old: Node, new: Node) -> None:
        """What stands in the place of a named node has its name."""
        self.named_like(bare(old), bare(new))
        if bare(old) in self.spans:
            self.spans.setdefault(bare(new), self.spans[bare(old)])

    def named_like(self, old: Node, new: Node) -> None:
        """The same value, and so the same name."""
        if old in self.names and new not in self.names:
            self.names[new] = self.names[old]
            if old in self.scales:
                self.scales[new] = self.scales[old]


def unviewed(node: Node, over: Axis) -> Node | None:
    """e, where the node is e with `seq` seen as this context; None where it is anything else."""
    op = node.op
    if not isinstance(op, Contract) or op.coef != ONE or len(op.operands) != 1:
        return None
    (operand,), (inner,) = op.operands, node.args
    expected = tuple(over if axis == SEQ else axis for axis in inner.axes)
    return inner if SEQ in inner.axes and operand == Operand(expected) else None


def bare(node: Node) -> Node:
    """What is seen, of a view; any other node itself."""
    contexts = [axis for axis in node.axes if axis.role is Role.CONTEXT]
    return (unviewed(node, contexts[0]) or node) if len(contexts) == 1 else node


def needed(op: Op, args: tuple[Node, ...]) -> tuple[Axis, ...]:
    """The axes that an op asks of its first argument."""
    match op:
        case Rms(over=over) | Rstd(over=over) | Softmax(over=over) | Max(over=over):
            return over
        case Rope(axis=axis):
            return (axis, token_axis(args[0].axes))
        case CrossEntropy(axis=axis) | Entry(axis=axis) | Lookup(axis=axis):
            return (axis,)
        case Shift():
            return (SEQ,)
        case _:
            return ()


def unscaled(node: Node) -> Node:
    """What a positive number or learned scales (narrower than it) multiply: it is called the same wherever they were written."""
    op = node.op
    if not isinstance(op, Contract) or op.bound or op.coef.rational < 0:
        return node
    kept = [place for place, arg in enumerate(node.args) if not is_constant(arg)]
    if len(kept) != 1 or op.operands[kept[0]] != Operand(node.args[kept[0]].axes):
        return node
    inner = node.args[kept[0]]
    dims = {axis for axis in inner.axes if axis.role is Role.DIM}
    scales = [set(arg.axes) for place, arg in enumerate(node.args) if place != kept[0]]
    return inner if all(not axes or axes < dims for axes in scales) else node


def _relabelled(c: Calculus, op: Contract, args: tuple[Node, ...], old: tuple[Node, ...]) -> tuple[Monomial, list[products.Part]]:
    """A contract on other arguments: axes keep their labels, new ones label themselves, a sum over what is gone multiplies by its size."""
    parts: list[products.Part] = []
    for operand, arg, before in zip(op.operands, args, old, strict=True):
        labels = dict(zip(before.axes, operand.labels, strict=True))
        parts.append((arg, tuple(labels.get(axis, axis) for axis in arg.axes), operand.power))
    present = {label for _, labels, _ in parts for label in labels}
    coef = op.coef
    for label, axis in op.label_axes(arg.type for arg in old).items():
        if isinstance(label, int) and label not in present:
            coef = coef * Monomial.size(axis)
            c.fire("sum over what is gone")
    return coef, parts


def _signature(op: Op, calculus: Calculus) -> str:
    if isinstance(op, Formal):
        return f"{op.label}{op.type}"
    if isinstance(op, Dropout):
        return f"dropout {op.p}"
    if isinstance(op, Loop):
        return f"{op.label} {op.count} " + " ".join(calculus.key(result)[0] for result in (*op.results, *op.watched))
    return repr(op)

