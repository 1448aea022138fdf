"""What of a program is stored: every parameter of `state_dict`, and which of them are matrices."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

from mptc.backends.deployment import DTYPES, MOST, SCALES, Deployment, File, Stored, TooLarge, placed
from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ir.path import Path, stored
from mptc.ir.program import Parameter, Program
from mptc.ops.base import Order
from mptc.ops.choose import Entry, Lookup
from mptc.ops.contract import Contract
from mptc.ops.leaf import Param
from mptc.ops.mixture import Mixture
from mptc.ops.region import everything
from mptc.ops.routed import Grouped


def file(program: Program, deployment: Deployment) -> File:
    """The file of a program's parameters, `model.safetensors`, with the names and shapes of `state_dict`."""
    return placed("model.int8.safetensors" if deployment.packed else "model.safetensors", _tensors(program, deployment))


def _tensors(program: Program, deployment: Deployment) -> Iterator[Stored]:
    leads = rows_of(program) if deployment.packed else {}
    dtype = DTYPES[deployment.dtype]
    for parameter, path, shape in parameters(program):
        rows = prod(shape[: leads[parameter.path]]) if parameter.path in leads else 0
        begins = (parameter.init, parameter.value)
        yield Stored(path, path, "I8" if rows else dtype, shape, rows, begins)
        if rows:
            yield Stored(path + SCALES, path, dtype, (rows,), rows, begins)


def parameters(program: Program) -> list[tuple[Parameter, str, tuple[int, ...]]]:
    """Every tensor of `state_dict`: the parameter it is a copy of, its own path, and its shape. Raises `TooLarge`."""
    copies = {f"{stack}[*]": count for stack, count in program.copies.items()}
    if sum(prod(copies.get(star, 0) for star in _stars(parameter.path)) for parameter in program.parameters) > MOST:
        raise TooLarge
    found = []
    for parameter in program.parameters:
        shape = tuple(program.sizes[axis] for axis in parameter.axes)
        every = [Path(parameter.path, numbers) for numbers in product(*(range(copies.get(star, 0)) for star in _stars(parameter.path)))]
        own = [path for path in every if stored(path, parameter.axes, program.ties)[0] == path]
        found += [(parameter, path.name, shape) for path in own]
    return found


def _stars(pattern: str) -> list[str]:
    """The stacks around a parameter, by their paths: `outer[*]`, `outer[*].layers[*]`."""
    stacks = pattern.split("[*].")[:-1]
    return ["[*].".join(stacks[: count + 1]) + "[*]" for count in range(len(stacks))]


# -- matrices ------------------------------------------------------------------------------------------


def rows_of(program: Program) -> dict[str, int]:
    """The parameters that are matrices of a linear map or tables that are looked up in: how many of their first axes count rows.

    A row makes one entry of the output where the parameter is read as it lies; one that is only read transposed is taken by its last axis.
    """
    found: dict[str, int] = {}
    turned: dict[str, int] = {}
    for node in everything(program.roots):
        for place, arg in enumerate(node.args):
            path, order = _read(arg)
            inner = _inner(node, place, order)
            if len(order) < 2 or not inner:
                continue
            if inner == set(order[-len(inner) :]) and len(inner) < len(order):
                found.setdefault(path, len(order) - len(inner))
            else:
                turned[path] = len(order) - 1
    return {**turned, **found}


def _read(node: Node) -> tuple[str, Order]:
    """The parameter that a node reads, and what its axes are called there; "" for any other node."""
    op = node.op
    if isinstance(op, Param):
        return op.path, op.order
    if not isinstance(op, Contract) or not op.renames:
        return "", ()
    path, order = _read(node.args[0])
    called = dict(zip(node.args[0].axes, op.operands[0].labels, strict=True))
    return path, tuple(label for axis in order if isinstance(label := called[axis], Axis))


def _inner(node: Node, place: int, order: Order) -> set[Axis]:
    """The axes of a parameter that are summed, or that come with an entry."""
    axes, op = node.args[place].axes, node.op
    if isinstance(op, Contract) and len(node.args) > 1:
        return {axis for axis, label in zip(axes, op.operands[place].labels, strict=True) if isinstance(label, int)}
    if isinstance(op, Grouped) and place == 1:
        return {axis for axis, label in zip(axes, op.operands[1].labels, strict=True) if isinstance(label, int)}
    if order and ((isinstance(op, Lookup | Entry) and place == 0) or (isinstance(op, Mixture) and place == 1)):
        return set(order[order.index(op.axis) + 1 :])
    return set()
