"""The call of what is computed by rows: a method of its own, as training computes it once more and names may by then mean something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mptc.backends.torch.names import Names, ambient_name
from mptc.ir.axis import SEQ
from mptc.ir.node import Node
from mptc.ops.region import Result, Rows, Some

if TYPE_CHECKING:
    from mptc.backends.torch.function import Class, Function


def call_of_rows(function: Function, node: Node) -> list[str]:
    """The line that computes a `Rows` node. Its method is added to the function's class."""
    op = node.op
    assert isinstance(op, Rows)
    made = _method(function, node, op)
    given = [f"self.{made.name}", *_tokens(function, node, op), _tuple([str(_joined(function, op, place)) for place in range(len(op.results))])]
    given += [*map(function.code, made.captured), *map(function.provide, made.ambient)]
    given += [f"window={op.window}"] if op.window is not None else []
    function.spend(node)
    users = {user.op.index: user for user, _ in function.plan.uses.get(node, []) if isinstance(user.op, Result)}
    for user in users.values():
        function.text[user] = function.names.take(function.hint(user))
    names = ", ".join(function.text[users[index]] if index in users else "_" for index in range(len(op.results)))
    orders = ", ".join(f"[{', '.join(map(str, function.layout.order(each)))}]" for each in op.results)
    return [f"{names} = {function.provide('by_rows')}({', '.join(given)})\t# {orders}"]


def _method(function: Function, node: Node, op: Rows) -> Class:
    body = function.plan.scopes.bodies[node]
    inner = type(function)(function.module, type(function.made)(function.module.method_name(function.made.path), body, function.made.path), Names())
    inner.kernels = None  # those take all rows at once
    made = inner.made
    for formal in op.formals:
        inner.text[formal] = inner.names.take(inner.hint(formal))
    made.arguments = [inner.text[formal] for formal in sorted(op.formals, key=lambda formal: isinstance(formal.op, Some) and formal.op.seen)]
    made.lines = inner.scope(body, function.module.needs.of(node))
    made.lines.append(f"return {', '.join(inner.code(result) for result in op.results)}")
    made.arguments += [*(inner.text[each] for each in made.captured), *map(ambient_name, made.ambient)]
    made.returns = ["Tensor"] * len(op.results)
    function.made.methods.append(made)
    return made


def _tokens(function: Function, node: Node, op: Rows) -> list[str]:
    """What tokens have, those that ask and those that are seen, each with the dimension in which they lie."""
    several: list[list[str]] = [[], []]
    for formal, arg in zip(op.formals, node.args, strict=True):
        assert isinstance(formal.op, Some)
        several[formal.op.seen].append(f"({function.code(arg)}, {function.layout.order(arg).index(formal.op.along)})")
    return [_tuple(each) for each in several]


def _joined(function: Function, op: Rows, place: int) -> int | None:
    return None if op.added[place] else function.layout.order(op.results[place]).index(SEQ)


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
