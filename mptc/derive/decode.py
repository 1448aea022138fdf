"""The program of the next tokens: what it computes of them, beside what earlier calls have kept.

Made from the canonical program: the values of a cut (`kept`) take the place of all that views see of other tokens, positions are counted from where
the sequence stands, and contractions are planned anew, for few new tokens and many kept ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, combinations, count
from typing import ClassVar

from mptc.derive import Derived
from mptc.derive.calculus import Calculus, unviewed
from mptc.derive.exponents import joint
from mptc.derive.kept import CannotDecode, Cut, asked, viewed
from mptc.derive.plan import Planner
from mptc.derive.products import Part
from mptc.derive.search import Search
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Node, axes_of, walk
from mptc.ir.number import ONE, ZERO, Monomial
from mptc.ir.program import Program
from mptc.ir.verify import verify
from mptc.ops.choose import Shift
from mptc.ops.compare import Compare
from mptc.ops.contract import Contract, Label
from mptc.ops.kept import Earlier, Kept, Place, after_parameter
from mptc.ops.leaf import Formal, Length, Mask, Position
from mptc.ops.region import Loop, Result
from mptc.ops.rotary import Rope
from mptc.ops.view import Hold

FEW, MANY = 1, 4096  # new tokens, kept tokens: what decoding is planned for


def next_tokens(derived: Derived) -> Program | str:
    """The program that decoding runs, or why there is none."""
    try:
        program = decoding(derived)
    except CannotDecode as reason:
        return str(reason)
    verify(program, "derive")
    return program


def decoding(derived: Derived) -> Program:
    """The program of the next tokens. Raises `CannotDecode`."""
    program = derived.canonical
    if not program.causal:
        raise CannotDecode("it is bidirectional: what it says of a token changes with the tokens after it")
    made = Decoder(derived)
    outputs = [made.token(output.node) for output in program.outputs]
    planner = DecodePlanner(made.c)
    planner.plan(outputs)
    steps = {output: planner.lower(node) for output, node in zip(program.outputs, outputs, strict=True)}
    inputs = tuple(planner.lower(node) for node in program.inputs)
    return replace(
        program,
        inputs=inputs,
        outputs=tuple(replace(output, node=node) for output, node in steps.items()),
        loss=None,
        probes=(),
        names=made.c.names,
        spans=made.c.spans,
    )


@dataclass
class Window:
    """How many of the last tokens the reductions that share kept values see; None: all."""

    length: int | None
    parent: Window | None = None

    def top(self) -> Window:
        return self if self.parent is None else self.parent.top()

    def join(self, other: Window) -> None:
        mine, theirs = self.top(), other.top()
        if mine is not theirs:
            theirs.parent = mine
            mine.length = None if mine.length is None or theirs.length is None else max(mine.length, theirs.length)


class Decoder:
    """Rewrites canonical nodes. What varies along a context is made for the window of the reduction that ends it."""

    def __init__(self, derived: Derived) -> None:
        self.c: Calculus = derived.calculus
        self.planner = DecodePlanner(self.c)
        self.cut = Cut(derived)
        self.planned = derived.planned
        self.windows: dict[Node, Window] = {}  # of reductions and of what they see
        self.made: dict[Node, Node] = {}
        self.there: dict[tuple[Node, int | None], Node] = {}  # what varies along a context, by its window
        self.stores: dict[tuple[Node, int | None], Node] = {}  # what is kept, by what it is and how long
        self.shifts = count(-1, -1)
        nodes = asked([output.node for output in derived.canonical.outputs])
        self.over = {over for node in nodes for _, over in viewed(node)}
        self.over |= {node.op.over for node in nodes if isinstance(node.op, Mask)} - {*self.c.memories}  # tokens may be counted alone
        for node in nodes:
            if isinstance(node.op, Length):
                raise CannotDecode("it depends on how many tokens there are")
            if self.ends(node):
                self._share(node)

    def contexts(self, node: Node) -> bool:
        """Whether a value varies along a context that shows tokens of the sequence."""
        return any(axis in self.over for axis in node.axes)

    def ends(self, node: Node) -> bool:
        """Whether a node reduces such a context."""
        return not self.contexts(node) and (any(map(self.contexts, node.args)) or next(viewed(node), None) is not None)

    # -- windows ----------------------------------------------------------------------------------------

    def _share(self, node: Node) -> None:
        """Values that meet in one reduction are kept for as long as the one that is seen longest."""
        masks, values = self._below(node)
        lengths = [mask.window for mask in masks]
        if any(BATCH in value.axes for value in values) and not any(mask.past or mask.window is not None for mask in masks):
            raise CannotDecode("a token sees all others")
        longest = [length for length in lengths if length is not None]
        self.windows[node] = own = Window(max(longest) if longest and len(longest) == len(lengths) else None)
        for value in values:
            if BATCH in value.axes:  # what depends on the position alone is not kept
                self.windows.setdefault(value, own).join(own)

    def _below(self, node: Node) -> tuple[list[Mask], list[Node]]:
        """The masks, and the values of tokens that are seen, of the contexts that a reduction ends."""
        masks: list[Mask] = []
        values: list[Node] = []
        pending, done = [node], {node}
        while pending:
            one = pending.pop()
            masks += [one.op] if isinstance(one.op, Mask) else []
            values += [value for value, _ in viewed(one)]
            below = [arg for arg in one.args if arg not in done and self.contexts(arg)]
            done |= set(below)
            pending += below
        return masks, values

    # -- values of the next tokens ------------------------------------------------------------------------

    def token(self, node: Node) -> Node:
        """A value of the next tokens, which varies along no such context."""
        if self.contexts(node):
            raise CannotDecode("what a token sees of another one depends on a third")
        for one in walk([node], self.made):
            if not self.contexts(one):
                self.made[one] = self._token(one)
                self.c.call_alike(one, self.made[one])
        return self.made[node]

    def _token(self, node: Node) -> Node:
        match node.op:
            case Position():
                return self.c.node(Place(SEQ))
            case Rope() if SEQ in node.axes:
                return self.c.node(node.op, self.token(node.args[0]), self.c.node(Place(SEQ)))
            case Shift(by=by):
                return self.c.node(Earlier(by, self._label(node.args[0]), next(self.shifts)), self.token(node.args[0]))
            case Loop(formals=formals, results=results):
                formals, results = (tuple(map(self.token, each)) for each in (formals, results))
                return self.c.node(replace(node.op, formals=formals, results=results, watched=(), passes=None), *map(self.token, node.args))
            case Formal(type=type_) | Result(type=type_) if SEQ in type_.axes:  # sequences need not stand at the same position
                return self.c.node(replace(node.op, type=replace(type_, axes=axes_of((BATCH, *type_.axes)))), *map(self.token, node.args))
        if self.ends(node):
            if node not in self.windows:  # a part of a product, by which that is planned
                self._share(node)
            return self._seeing(node, self.windows[node].top().length)
        return self._rebuilt(node, tuple(map(self.token, node.args)))

    def _rebuilt(self, node: Node, args: tuple[Node, ...]) -> Node:
        return node if args == node.args else self.c.build(node.op, args, node.args)

    def _label(self, node: Node) -> str:
        planned = self.planned.get(node, node)
        return self.c.names.get(node) or self.c.names.get(planned) or after_parameter(planned) or "value"

    # -- what is seen of other tokens -----------------------------------------------------------------------

    def along(self, node: Node, window: int | None) -> Node:
        """A value that may vary along a context, as a reduction with this window has it."""
        if not self.contexts(node):
            return self.token(node)
        if (node, window) not in self.there:
            self.there[node, window] = self._seeing(node, window)
        return self.there[node, window]

    def _seeing(self, node: Node, window: int | None) -> Node:
        op = node.op
        if isinstance(op, Mask) and (op.past or op.window is not None):
            return self._mask(op, tuple(self.along(arg, window) for arg in node.args), window)
        if isinstance(op, Contract):
            return self._contract(op, node, window)
        if isinstance(op, Rope) and SEQ in node.axes:  # by the place of the token that looks
            return self.c.node(op, self.along(node.args[0], window), self.c.node(Place(SEQ)))
        return self._rebuilt(node, tuple(self.along(arg, window) for arg in node.args))

    def _mask(self, op: Mask, conditions: tuple[Node, ...], window: int | None) -> Node:
        """j ≤ i, and i - j < window: by the positions of both. Of a window that is not full yet, only what is there (j ≥ 0)."""
        here, there = self.c.node(Place(SEQ)), self.c.node(Place(op.over, window))
        limits = [self.c.node(Compare(">="), here, there)]
        if op.window is not None:
            back = self.c.add((ONE, here), (-ONE, there))
            limits.append(self.c.node(Compare("<"), back, self.c.number(Monomial.of(op.window))))
        if window is not None:
            limits.append(self.c.node(Compare(">="), there, self.c.number(ZERO)))
        return self.c.node(Mask(op.over, itself=not conditions), *limits, *conditions)

    def _contract(self, op: Contract, node: Node, window: int | None) -> Node:
        """A product: its factors that see other tokens become kept values, together with the factors that were kept with them."""
        parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
        seeing = {place for place, (arg, labels, _) in enumerate(parts) if SEQ in arg.axes and labels[arg.axes.index(SEQ)] != SEQ}
        used: set[int] = set()
        new: list[Part] = []
        for place in sorted(seeing):
            if place not in used:
                taken, part = self._seen(parts, place, seeing - used, used, window)
                used |= taken
                new.append(part)
        for place, (arg, labels, power) in enumerate(parts):
            if place not in used:
                new.append(_with_labels(self.along(arg, window), arg.axes, labels, power))
        return self.c.contract(op.coef, new)

    def _seen(self, parts: list[Part], place: int, seeing: set[int], used: set[int], window: int | None) -> tuple[set[int], Part]:
        """What a factor that sees other tokens becomes, and the places of the factors that go into it."""
        arg, labels, power = parts[place]
        naming = joint(parts)
        over = naming[labels[arg.axes.index(SEQ)]]
        search = Search(self.planner, parts, naming)
        near = [other for other, part in enumerate(parts) if other != place and other not in used and (other in seeing or SEQ not in part[1])]
        near = [other for other in near if not self.contexts(parts[other][0])]
        for chosen in _subsets(near):
            plain = self._plain(search.node(sum(1 << other for other in (place, *chosen))), over)
            if plain is not None and self.cut.keeps(plain[0]):
                return {place, *chosen}, self._kept_part(*plain, naming, over, window)
        made = self.elsewhere(arg, over, window)
        return {place}, _with_labels(made, tuple(over if axis == SEQ else axis for axis in arg.axes), labels, power)

    def _kept_part(self, value: Node, primes: dict[Axis, Axis], naming: Mapping[Label, Axis], over: Axis, window: int | None) -> Part:
        kept = self.keep(value, over, window)
        back = {over: over, **{axis: label for label, axis in naming.items()}}
        return kept, tuple(back[primes.get(axis, axis)] for axis in kept.axes), Fraction(1)

    def _partly(self, node: Node, over: Axis, window: int | None) -> Node | None:
        """A product of every token that is seen, as what is kept of it times the rest; None where nothing of it is kept."""
        op = node.op
        assert isinstance(op, Contract)
        parts: list[Part] = [(arg, operand.labels, operand.power) for arg, operand in zip(node.args, op.operands, strict=True)]
        naming = joint(parts, (over,))  # what it sums of tokens that it sees itself is not that along which it is seen
        search = Search(self.planner, parts, naming)
        for chosen in _subsets(list(range(len(parts)))):
            value, primes = self._unprimed(search.node(sum(1 << place for place in chosen)))
            if chosen and self.cut.keeps(value):
                new = [self._kept_part(value, primes, naming, over, window)]
                for arg, labels, power in (part for place, part in enumerate(parts) if place not in chosen):
                    axes = tuple(over if axis == SEQ else axis for axis in arg.axes)
                    seen = tuple(over if label == SEQ else label for label in labels)
                    new.append(_with_labels(self.elsewhere(arg, over, window), axes, seen, power))
                return self.c.contract(op.coef, new)
        return None

    def _plain(self, node: Node, over: Axis) -> tuple[Node, dict[Axis, Axis]] | None:
        """What a token has, of a value that is seen."""
        value = unviewed(node, over)
        return None if value is None else self._unprimed(value)

    def _unprimed(self, value: Node) -> tuple[Node, dict[Axis, Axis]]:
        """A value with plain axes for the primed ones of a product's joint names, and how those are primed."""
        arrows: dict[Axis, Axis] = {}
        for axis in value.axes:
            plain = replace(axis, tick=0)
            if plain not in value.axes and plain not in arrows.values():
                arrows[axis] = plain
        return self.c.rename(value, arrows), {plain: primed for primed, plain in arrows.items()}

    def keep(self, value: Node, over: Axis, window: int | None) -> Node:
        """A value of every token so far: kept once, whatever contexts it is seen along."""
        planned = self.planned.get(value, value)
        if (planned, window) not in self.stores:
            op = Kept(over, window, self._label(value), len(self.stores))
            self.stores[planned, window] = self.c.node(op, self.token(value))
            self.c.call_alike(value, self.stores[planned, window])
        kept = self.stores[planned, window]
        assert isinstance(kept.op, Kept)
        return self.c.rename(kept, {kept.op.over: over})

    def elsewhere(self, node: Node, over: Axis, window: int | None) -> Node:
        """A value of every token that is seen. What depends on positions alone, or is a map of what is kept, is made anew for each."""
        if SEQ not in node.axes:
            return self.along(node, window)
        if isinstance(node.op, Position):
            return self.c.node(Place(over, window))
        fixed = BATCH not in node.axes and not isinstance(node.op, Shift | Loop | Result) and not self.ends(node)
        if not node.args or not (fixed or self.cut.crosses(node)):
            return self.keep(node, over, window)
        partly = self._partly(node, over, window) if isinstance(node.op, Contract) else None
        if partly is not None:
            return partly
        args = tuple(self.elsewhere(arg, over, window) for arg in node.args)
        if isinstance(node.op, Rope):
            return self.c.node(node.op, args[0], self.c.node(Place(over, window)))
        return args[0] if isinstance(node.op, Hold) else self.c.build(node.op, args, node.args)


def _with_labels(made: Node, axes: tuple[Axis, ...], labels: tuple[Label, ...], power: Fraction) -> Part:
    """An operand in the place of one over `axes`: what it has beyond those labels itself."""
    own = dict(zip(axes, labels, strict=True))
    return made, tuple(own.get(axis, axis) for axis in made.axes), power


def _subsets(places: list[int]) -> Iterable[tuple[int, ...]]:
    """The largest first."""
    return chain.from_iterable(combinations(places, size) for size in range(len(places), -1, -1))


class DecodePlanner(Planner):
    """Plans for few new tokens and many kept ones. Of what varies along a context only kept values are there for nothing."""

    nominal: ClassVar[Mapping[Role, int]] = {**Planner.nominal, Role.TOKEN: FEW, Role.CONTEXT: MANY}
    together: ClassVar[bool] = False

    def wanted(self, node: Node) -> bool:
        return not any(axis.role is Role.CONTEXT for axis in node.axes) and super().wanted(node)

    def streams(self, keys: Node, values: Node) -> bool:
        return isinstance(keys.op, Kept) and isinstance(values.op, Kept)

    def is_past(self, mask: Node, over: Axis) -> bool:
        past = self.c.node(Compare(">="), self.c.node(Place(SEQ)), self.c.node(Place(over)))
        return mask.op == Mask(over, itself=True) and mask.args == (past,)
