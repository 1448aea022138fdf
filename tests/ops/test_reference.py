"""Shape rules, and the torch text of every op, against its reference."""

from __future__ import annotations

import inspect
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mptc.backends.torch import chosen, helpers
from mptc.backends.torch.function import AMBIENT, ambient_name
from mptc.backends.torch.site import TorchSite
from mptc.ir.axis import BATCH, SEQ, Role
from mptc.ir.node import Node
from mptc.ops.base import Operation, Order
from mptc.ops.contract import Contract
from mptc.ops.sample import Sample
from tests.ops.cases import SIZES, arrays, cases, node_of, reference, shape

DIMS = {axis: size for axis, size in SIZES.items() if axis.role is Role.DIM}  # all that a generated module knows before it runs
HELPERS = dict(inspect.getmembers(helpers, inspect.isfunction) + inspect.getmembers(chosen, inspect.isfunction))


@cases("reference")
def test_shape_rule(seed: int, sample: Sample) -> None:
    node = node_of(sample)
    assert reference(sample, node, arrays(sample, seed)).shape == shape(node.axes)


@cases("reference")
def test_reference_leaves_its_operands_alone(seed: int, sample: Sample) -> None:
    values = arrays(sample, seed)
    reference(sample, node_of(sample), values)
    for before, after in zip(arrays(sample, seed), values, strict=True):
        np.testing.assert_array_equal(before, after)


@cases("torch", "reference", canonical=True)
def test_torch_text(seed: int, sample: Sample) -> None:
    node, values = node_of(sample), arrays(sample, seed)
    wanted = reference(sample, node, values)
    for turn in range(4):
        orders = tuple(_order(arg.axes, seed + index, turn) for index, arg in enumerate(node.args))
        result, order, code = torch_value(sample, node, values, orders)
        assert set(order) == set(node.axes), (code, order)
        found = np.transpose(result, [order.index(axis) for axis in node.axes])
        assert found.shape == wanted.shape, (code, orders)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12, err_msg=f"{code}  {orders}")


def _order(axes: Order, seed: int, turn: int) -> Order:
    """The sorted order first, the reverse second, then others."""
    every = list(permutations(axes))
    return every[(0, len(every) - 1, 7 * seed + 3, 11 * seed + 5)[turn] % len(every)]


def torch_value(sample: Sample, node: Node, values: tuple[Any, ...], orders: tuple[Order, ...]) -> tuple[Any, Order, str]:
    """The text run, its memory order, and the text."""
    assert isinstance(sample.op, Operation)
    scope = ambient()
    for index, (arg, array, order) in enumerate(zip(node.args, values, orders, strict=True)):
        tensor = torch.tensor(np.transpose(array, [arg.axes.index(axis) for axis in order]))
        scope[f"x{index}"] = tensor != 0 if index in sample.masks else tensor
    arrangement = sample.op.arrange(node, orders)
    given = tuple((f"x{index}", order) for index, order in enumerate(orders))
    code = sample.op.torch(TorchSite(node, DIMS, arrangement, given, lambda name: ask(name, scope)))
    return np.asarray(torch.as_tensor(eval(code, scope)).to(torch.float64)), arrangement.order, code


def ambient() -> dict[str, Any]:
    """The names that a line of a generated module may use."""
    position = torch.arange(SIZES[SEQ])
    like = torch.zeros((), dtype=torch.float64)
    known = {"batch": SIZES[BATCH], "seq": SIZES[SEQ], "position": position, "behind": position[:, None] - position}
    module = SimpleNamespace(training=False)
    return {"torch": torch, "F": F, "self": module, **HELPERS, **known, "device": like.device, "dtype": like.dtype, "wide": like.dtype, "like": like}


def ask(name: str, scope: dict[str, Any]) -> str:
    if name.partition("(")[0] not in AMBIENT:
        assert name in HELPERS, f"no helper {name}"
        return name
    kind, _, rest = name.partition("(")
    if kind == "length":
        return "seq"
    if kind == "rotation":
        size, base = rest.rstrip(")").split(", ")[:2]
        scope[ambient_name(name)] = eval(f"rotation(seq, {size}, {base}, like)", scope)
    return ambient_name(name)


def test_a_wrong_text_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Contract.samples()[1]
    monkeypatch.setattr(Contract, "torch", lambda self, site: f"{site.whole(0)} * {site.whole(1)}")
    with pytest.raises(AssertionError):
        test_torch_text(1, sample)
