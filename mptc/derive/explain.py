"""How each layer came about: energy, gradient and layer as numbered equations, and the same in short as comments of the generated code."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

from mptc.derive import Derived, step_of
from mptc.derive.calculus import bare
from mptc.derive.equation import SEER, Equations, letters
from mptc.derive.plan import Planner
from mptc.derive.sums import terms_of
from mptc.ir.axis import Role
from mptc.ir.node import Node, walk
from mptc.ir.number import ONE
from mptc.ir.program import Energy
from mptc.ops.leaf import Formal
from mptc.ops.region import Loop, Result, everything
from mptc.source.text import Span


@dataclass(frozen=True)
class Derivation:
    """One energy of a spec: the equations of its value and of its step (the derivative with the sign turned), with the parts they name."""

    energy: Energy
    value: str
    step: str
    where: tuple[tuple[str, str, str], ...]  # name, equation, axes
    layer: str | None
    state: Node | None  # what the step goes into, as planned


def derivations(derived: Derived) -> list[Derivation]:
    states: dict[tuple[str, int], Node] = {}
    for node in everything(derived.program.roots):  # the last value of a line is what the statement there updates
        if node in derived.program.spans and node in derived.program.names and node.args and not isinstance(node.op, Loop | Result):
            states[_line(derived.program.spans[node])] = node
    return [_derivation(derived, energy, states.get(_line(energy.used))) for energy in derived.program.energies]


def _derivation(derived: Derived, energy: Energy, state: Node | None) -> Derivation:
    c = derived.calculus
    down = c.scale(-ONE, c.gradient_at(c.canonical(energy.value), c.canonical(energy.formals[0])))
    (step,) = Planner(c).plan([down])
    written = Equations(_told_apart(energy, c.written))
    value = written.of(energy.value)
    where: list[tuple[str, str, str]] = []
    for node in written.used:  # grows while parts name further parts
        axes = ", ".join(str(axis) for axis in node.axes if axis.role is Role.DIM)
        where.append((f"{c.written[node]}{letters(node, SEER)}", written.of(node), f"[{axes}]"))
    layer = None if state is None else _layer(derived, energy, state)
    return Derivation(energy, value, Equations(_told_apart(energy, c.names), c.scales).of(step), tuple(where), layer, state)


def _told_apart(energy: Energy, names: Mapping[Node, str]) -> dict[Node, str]:
    """Names without those that blocks give to what they are called with, where the energy's own variables are called so."""
    own = set(_labels(energy))
    return {node: name for node, name in names.items() if node is not energy.value and (name not in own or isinstance(node.op, Formal))}


def _layer(derived: Derived, energy: Energy, state: Node) -> str:
    """The update that the step goes into, as planned."""
    step = step_of(derived, energy)
    name = derived.program.names.get(state, "x")
    terms = terms_of(derived.calculus, derived.calculus.canonical(energy.step))  # none where the step is 0
    sign = {-ONE: "−", ONE: ""}.get(terms[0][0]) if terms else None
    stands = {} if step is None or step is state or sign is None else {step: f"({sign}∂E/∂{_variable(energy)})"}
    names = ChainMap(stands, dict(derived.program.names))
    scales = {node: scale for node, scale in derived.calculus.scales.items() if node not in stands}
    given = zip(_labels(energy), _arguments(derived, energy), strict=True)
    at = [f"{label} = {(names.get(arg) if arg not in scales else None) or Equations(names, scales).of(arg)}" for label, arg in given]
    return f"{name}_i ← {Equations(names, scales).of(state)}   at {', '.join(at)}"


def _arguments(derived: Derived, energy: Energy) -> list[Node]:
    """What the energy is taken at."""
    found = (derived.calculus.canonical(arg) for arg in energy.step.args)
    return [derived.planned.get(bare(arg), arg) for arg in found]


def _line(span: Span) -> tuple[str, int]:
    return (span.source.path, span.line)


# -- for the terminal --------------------------------------------------------------------------------


def derivation(derived: Derived) -> str:
    """`--emit derivation`"""
    parts = []
    number = 1
    for one in derivations(derived):
        parts.append(section(one, number))
        number += 3 if one.layer else 2
    if not parts:
        return f"{derived.program.name} has no energies: its layers are written, not derived.\n"
    return "\n".join(parts)


def section(one: Derivation, number: int) -> str:
    """The equations of one energy, the first of them with this number."""
    energy = one.energy
    label = energy.label
    lines = [f"{_signature(energy)}   {energy.declared}, used at {energy.used} as {label}", ""]
    lines.append(f"  ({number})  E_i = {one.value}")
    for place, (name, text, axes) in enumerate(one.where):
        lines.append(f"         {'where' if place == 0 else '     '} {name} = {text}   {axes}")
    variable = _variable(energy)
    lines.append(f"  ({number + 1})  −∂E/∂{variable}_i = {one.step}")
    if one.layer:
        lines.append(f"  ({number + 2})  {one.layer}")
    return "\n".join(lines) + "\n"


def _variable(energy: Energy) -> str:
    return _labels(energy)[0]


def _labels(energy: Energy) -> list[str]:
    return [formal.op.label for formal in energy.formals if isinstance(formal.op, Formal)]


def _signature(energy: Energy) -> str:
    first, *rest = _labels(energy)
    return f"{energy.name}({first}{' | ' + ', '.join(rest) if rest else ''})"


# -- for the generated module --------------------------------------------------------------------------


def layers(derived: Derived) -> tuple[dict[Node, list[str]], set[Node]]:
    """Comments for the first planned value of each energy's step, and where the steps end."""
    comments: dict[Node, list[str]] = {}
    steps: set[Node] = set()
    seen: set[Node] = set()
    for one in derivations(derived):
        step = step_of(derived, one.energy)
        ends = [node for node in (step, one.state) if node is not None][:1]  # a step whose terms went into a sum has no value of its own
        steps |= {step} if step is not None else set()
        seen |= set(walk(_arguments(derived, one.energy)))
        lines = [f"{_signature(one.energy)}: E = {one.value}", f"-∂E/∂{_variable(one.energy)} = {one.step}    {_short(one.energy.declared)}"]
        inside = list(walk(ends, seen))
        seen |= set(inside)
        comments.update((node, lines) for node in inside if node.args)
    return comments, steps


def _short(span: Span) -> str:
    return str(span).rpartition("/")[2]
