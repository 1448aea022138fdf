"""The IR: an immutable graph of nodes, each one op at work on other nodes, with one value.

    node = op(arg, …) : [axis, …]

The raw IR keeps what was written: two nodes are the same when they are one object. The canonical IR is made by `mptc.derive.calculus`,
which interns: there, equal is identical.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, ClassVar

from mptc.ir.axis import Axis, Role
from mptc.source.text import Span


class Kind(Enum):
    NUMBER = "number"
    ID = "id"


# Which tokens a context value shows: "past", ("window", n), or a condition node that is non-zero for them. Empty: all of them.
Constraint = Any
Seen = tuple[tuple[Axis, tuple[Constraint, ...]], ...]


@dataclass(frozen=True, slots=True)
class Type:
    """The axes that a value varies along (its support), sorted; broadcasting over the others is implicit.

    `seen`: for each context axis that a view made, what limits it. Only the raw IR has it; canonical reductions name their mask.
    """

    axes: tuple[Axis, ...] = ()
    kind: Kind = Kind.NUMBER
    seen: Seen = ()

    def __str__(self) -> str:
        return ("id" if self.kind is Kind.ID else "") + "[" + ", ".join(map(str, self.axes)) + "]"


def axes_of(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    return tuple(sorted(set(axes)))


class Absent:
    """A facet that does not apply, and why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, *_: object, **__: object) -> Any:
        raise AbsentFacet(self.reason)


class AbsentFacet(Exception):
    pass


def absent(reason: str) -> Any:
    return Absent(reason)


FACETS = ("infer", "cost", "gradient", "reference", "torch", "triton", "onnx", "samples")


class Op(ABC):
    """One operation; its attributes are the fields of a frozen dataclass.

    Facets, every one required (a missing one fails when the class is defined):

    infer(*types) -> Type                    the axes and kind of the result
    cost(node, sizes) -> float               floating-point operations, `batch` and `seq` at `sizes`
    gradient(node, adjoint, i) -> Node|None  what flows to argument i, unsimplified; None: nothing
    reference(node, arrays, sizes) -> array  the meaning, numpy float64; an array's axes are those of the node's type, in order
    torch(site) -> str                       an expression; `site` gives operands and their memory order
    triton, onnx                             likewise for those targets
    samples() -> tuple of Sample             arguments to test the facets on, inside their domain
    """

    registry: ClassVar[list[type[Op]]] = []
    derived: ClassVar[bool] = True  # whether it may stand in a program whose energies are differentiated

    infer: Callable[..., Type]
    cost: Callable[..., float]
    gradient: Callable[..., Node | None]
    reference: Callable[..., Any]
    torch: Callable[..., str]
    triton: Callable[..., str]
    onnx: Callable[..., Any]
    samples: Callable[..., tuple[Any, ...]]

    def __init_subclass__(cls, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if abstract:
            return
        missing = [facet for facet in FACETS if not any(facet in base.__dict__ for base in cls.__mro__ if base is not Op)]
        if missing:
            raise TypeError(f"op {cls.__name__} lacks {', '.join(missing)}; say absent(…) where one does not apply")
        Op.registry.append(cls)

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    @property
    def interior(self) -> Interior | None:
        """The graph that the op holds, where it holds one."""
        return None

    @property
    def parameter(self) -> str | None:
        """The path of the parameter that this leaf reads, where it reads one."""
        return None

    def fault(self, node: Node, sizes: Mapping[Axis, int]) -> str | None:
        """What is wrong with a node of this op, beyond what `infer` sees. `sizes` are those of the dims."""
        return None

    def listed(self, node: Node, names: Sequence[str]) -> str:
        """The node as text, for the listing; `names` are its arguments'."""
        return listed(self.name, self, names)


@dataclass(frozen=True)
class Interior:
    """A graph inside an op: its variables, what it computes, and where the parameters begin that it has anew in every pass (`layers[*].`)."""

    formals: tuple[Node, ...]
    roots: tuple[Node, ...]
    path: str | None = None


def listed(name: str, op: object, names: Sequence[str]) -> str:
    """`name[attribute, …](argument, …)`"""
    shown = [_attribute(item.name, getattr(op, item.name)) for item in fields(op)] if is_dataclass(op) else []
    kept = [text for text in shown if text]
    return f"{name}{'[' + ', '.join(kept) + ']' if kept else ''}({', '.join(names)})"


def _attribute(name: str, value: object) -> str:
    """Axes stand for themselves, flags are named where they are set, the rest is `name=value`."""
    if isinstance(value, bool) or value is None or value == ():
        return name if value is True else ""
    if isinstance(value, Axis) or (isinstance(value, tuple) and all(isinstance(item, Axis) for item in value)):
        return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{name}={value}"


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    op: Op
    args: tuple[Node, ...]
    type: Type
    span: Span | None = None

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.type.axes

    def __repr__(self) -> str:
        return f"<{self.op!r} {self.type}>"


def make(op: Op, *args: Node, span: Span | None = None) -> Node:
    """A raw node. Its type is inferred; what a context shows is what every argument with that context shows."""
    inferred = op.infer(*(arg.type for arg in args))
    kept = {axis for axis in inferred.axes if axis.role is Role.CONTEXT}
    seen = dict(inferred.seen)
    for arg in args:
        for axis, limits in arg.type.seen:
            if axis in kept:
                known = seen.get(axis, ())
                seen[axis] = known + tuple(limit for limit in limits if limit not in known)
    return Node(op, args, Type(inferred.axes, inferred.kind, tuple(sorted(seen.items(), key=lambda item: item[0]))), span)


def rebuilt(node: Node, args: tuple[Node, ...]) -> Node:
    """The same op on other arguments."""
    return node if args == node.args else make(node.op, *args, span=node.span)


def walk(roots: Iterable[Node], known: Container[Node] = frozenset()) -> Iterator[Node]:
    """Every node once, arguments first, without recursion. Neither a node of `known` nor what only it leads to is visited."""
    done: set[Node] = set()
    pending: list[tuple[Node, bool]] = [(root, False) for root in reversed(list(roots))]
    while pending:
        node, ready = pending.pop()
        if ready:
            if node not in done:
                done.add(node)
                yield node
        elif node not in done and node not in known:
            pending.append((node, True))
            pending.extend((arg, False) for arg in reversed(node.args))


def substitute(roots: Iterable[Node], replacements: Mapping[Node, Node], build: Callable[[Node, tuple[Node, ...]], Node] = rebuilt) -> list[Node]:
    """The graphs again with some nodes replaced; `build` makes each node that has new arguments."""
    roots = list(roots)
    new: dict[Node, Node] = dict(replacements)
    for node in walk(roots):
        if node not in new:
            new[node] = build(node, tuple(new[arg] for arg in node.args))
    return [new[root] for root in roots]
