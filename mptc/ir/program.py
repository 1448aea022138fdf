"""A whole model as IR: what the stages hand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Node
from mptc.ir.path import Path, Tie
from mptc.source.text import Span


@dataclass(frozen=True)
class Parameter:
    """A learned tensor: its path (a stack copy is `layers[*]`), axes in memory order, and how it begins (`normal`, `uniform` or `fill`).

    `frozen`: the copies that are not trained. What `Program.ties` covers is stored elsewhere.
    """

    path: str
    axes: tuple[Axis, ...]
    init: str
    value: float
    frozen: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Output:
    """`axes`: the order of the tensor's own, after batch and (where there is a value for each token) seq."""

    name: str
    node: Node
    axes: tuple[Axis, ...]
    per_token: bool = True

    @property
    def order(self) -> tuple[Axis, ...]:
        return (BATCH, *((SEQ,) if self.per_token else ()), *self.axes)


@dataclass(frozen=True)
class Probe:
    """A value to watch. `name` is its path, a stack copy written `layers[*]`.

    `order`: the axes of its tensor: one for each stack around it, which the name's stars stand for, one for each `repeat` around it, then those of
    the value.
    """

    name: str
    node: Node
    order: tuple[Axis, ...]


@dataclass(frozen=True, eq=False)
class Energy:
    """A `grad` of the spec, for those who read: the energy on its formals, where it is declared and where it is used.

    `written`: what of the spec it is made of, its own statements and those of what it calls.
    """

    name: str
    label: str
    formals: tuple[Node, ...]
    value: Node
    declared: Span
    used: Span
    step: Node
    written: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Program:
    """`names` and `spans` tell what the spec calls a node, and where it says it.

    `ties`: copies whose tensors are stored under another path. `copies`: how many each stack has, by path (`outer[*].layers`).
    """

    name: str
    causal: bool
    sizes: dict[Axis, int]
    inputs: tuple[Node, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[Output, ...]
    loss: Node | None
    probes: tuple[Probe, ...]
    span: Span
    names: Mapping[Node, str] = field(default_factory=dict)
    spans: Mapping[Node, Span] = field(default_factory=dict)
    energies: tuple[Energy, ...] = ()
    ties: tuple[Tie, ...] = ()
    copies: Mapping[str, int] = field(default_factory=dict)
    unmasked: tuple[str, ...] = ()  # inputs of ids whose padding would be seen as tokens
    memories: Mapping[Axis, Axis] = field(default_factory=dict)  # contexts that are not the tokens, and the input's axis each is as long as

    @property
    def roots(self) -> list[Node]:
        """Every node asked for."""
        loss = [] if self.loss is None else [self.loss]
        return [*(output.node for output in self.outputs), *loss, *(probe.node for probe in self.probes)]
