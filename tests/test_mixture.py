"""A mixture over tables is the sum that it says, with its gradients, and never has the rows of all tables side by side."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mptc.derive import derive
from mptc.ir.node import walk
from mptc.ops.mixture import Mixture
from tests.differential import Returned, Spec, agree, compiled, watched

FRAME = """
dim vocab  = 11
dim d      = 7
dim expert = 3
dim basis  = 5
dim head   = 2
dim key    = 13
dim fact   = 4
dim slot   = 6
types kind of vocab {{ words = 8, marks = 3 }}

energy pulled(x: [d] | c: [d]) {{ minimize sum[d]((x - c)^2 * x) / 2 }}
energy seen_by(x: [d] | c: [ctx, d]) {{ minimize -logsumexp[ctx](sum[d](x * c)) }}

model mixed {{
  input tokens: id[vocab]
  input z:      [fact] per sequence
  input x:      [d]
  input g:      [fact]
  input at:     [slot] id[vocab]
  param W:      [expert, fact]
  param U:      [basis, fact]
  param T:      [{table}]
  param B:      [basis, vocab, d]
  param P:      [expert, basis, vocab, d]
  param H:      [expert, vocab, head, key]
  param M:      [marks, expert, d]
  param E:      [vocab, d]
  param S:      [slot, vocab, d]
  param Q:      [expert, slot, vocab, d]
  a = softmax[expert](W @ {by})
  {body}
  output y = {result}
}}
""".replace("dim vocab  = 11\n", "")  # `types` declares it

VOCAB, BATCH, TOKENS = 11, 17, 19
ONE = "m = sum[expert](a * lookup(T, tokens))"


def spec(body: str = ONE, result: str = "m", table: str = "expert, vocab, d", by: str = "z") -> Spec:
    used = "\n".join(line for line in FRAME.split("\n") if not line.strip().startswith("param") or used_in(line, body + by + result + "{W}{table}"))
    return compiled(used.format(body=body, result=result, table=table, by=by))


def used_in(line: str, text: str) -> bool:
    name = line.split()[1].rstrip(":")
    return name == "W" or (name in text and any(f"{before}{name}{after}" in text for before in " (" for after in " ,@)"))


CASES = {
    "of a sequence": spec,
    "of a token": lambda: spec(by="g"),
    "vocab first": lambda: spec(table="vocab, expert, d"),
    "experts last": lambda: spec(table="vocab, d, expert"),
    "rows first": lambda: spec(table="d, vocab, expert", by="g"),
    "conditional": lambda: spec("m = sum[basis](relu(U @ z) * lookup(B, tokens))"),
    "conditional, of a token": lambda: spec("m = sum[basis](relu(U @ g) * lookup(B, tokens))"),
    "learned weights": lambda: spec("param w: [expert]\n  m = sum[expert](softmax[expert](w) * lookup(T, tokens))"),
    "no weights": lambda: spec("m = sum[expert](lookup(T, tokens))"),
    "the mean": lambda: spec("m = mean[expert](lookup(T, tokens)) + mean[expert](a * lookup(T, tokens))"),
    "factors": lambda: spec("m = sum[expert](3 * a * W @ g * lookup(T, tokens) * x) / 2"),
    "two of weights": lambda: spec("m = sum[expert, basis](a * relu(U @ g) * lookup(P, tokens))"),
    "one after the other": lambda: spec("n = sum[basis](relu(U @ g) * lookup(P, tokens))\n  m = sum[expert](a * n)"),
    "weights of one of two": lambda: spec("m = sum[expert, basis](a * lookup(P, tokens))"),
    "two tables": lambda: spec("m = sum[expert](a * lookup(T, tokens)) * sum[basis](relu(U @ z) * lookup(B, tokens))"),
    "two axes of a row": lambda: spec("m = sum[expert](a * lookup(H, tokens))"),
    "weights with an axis of the row": lambda: spec("param R: [head, expert, fact]\n  m = sum[expert]((R @ g) * lookup(H, tokens))"),
    "weights with an axis of their own": lambda: spec("param R: [slot, expert, fact]\n  m = sum[expert]((R @ g) * lookup(T, tokens))"),
    "mapped": lambda: spec("param V: [key, d]\n  m = V @ sum[expert](a * lookup(T, tokens))"),
    "against a vector": lambda: spec("param v: [d]\n  m = sum[d](v * sum[expert](a * lookup(T, tokens)))", by="g"),
    "scored": lambda: spec("m = sum[d](x * lookup(T, tokens))"),
    "several ids": lambda: spec("param R: [slot, fact]\n  m = sum[slot]((R @ g) * lookup(E, at))"),
    "several ids in several tables": lambda: spec("param R: [slot, expert, fact]\n  m = sum[slot, expert]((R @ g) * lookup(T, at))"),
    "a table for each id": lambda: spec("param R: [slot, fact]\n  m = sum[slot]((R @ g) * lookup(S, at))"),
    "tables for each id": lambda: spec("m = sum[slot, expert](a * lookup(Q, at))"),
    "chosen": lambda: spec("m = on tokens in words { sum[expert](a * lookup(T, tokens)) }"),
    "a part of the vocabulary": lambda: spec("m = on tokens in marks { sum[expert](a * lookup(M, tokens)) }"),
    "seen": lambda: spec("m = sum[ctx](softmax[ctx](sum[d](x * past(x))) * past(sum[expert](a * lookup(T, tokens))))"),
    "seen one by one": lambda: spec("c = past(lookup(T, tokens))\n  m = sum[ctx](sum[d](x * past(x)) * sum[expert](past(a) * c))", by="g"),
    "summed over tokens": lambda: spec("m = sum[ctx](past(sum[expert](a * lookup(T, tokens))))"),
    "a condition": lambda: spec("m = x - grad pulled(x | sum[expert](a * lookup(T, tokens)))"),
    "the seen of a condition": lambda: spec("m = x - grad seen_by(x | past(sum[expert](a * lookup(T, tokens))))"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str) -> None:
    agree(CASES[name]())


TABLES = (3, 5, 6)  # `expert`, `basis`, `slot`
# Of these the spec asks for some: one after the other names what is summed over `basis` alone, and `slot` is an axis of the result.
OTHER_TABLES = {"one after the other": (5,), "weights with an axis of their own": (5,)}


@pytest.mark.parametrize("name", CASES)
def test_rows_of_all_tables_are_never_side_by_side(name: str) -> None:
    """No operator, forward or backward, returns batch, tokens, tables and row at once."""
    made = CASES[name]()
    for returned in long_step(made):
        assert not side_by_side(returned.shape, OTHER_TABLES.get(name, TABLES)), (returned, made.text)


def long_step(made: Spec) -> list[Returned]:
    made = replace(made, lengths={"seq": TOKENS})
    return watched(made, made.inputs(batch=BATCH))


def side_by_side(shape: tuple[int, ...], tables: tuple[int, ...] = TABLES) -> bool:
    """Batch and tokens, with an axis of tables and one of a row (`d`, `key`)."""
    each, rest = divmod(math.prod(shape), BATCH * TOKENS)
    return rest == 0 and each > 0 and any(each % (size * row) == 0 for size in tables for row in (7, 13))


def test_rows_side_by_side_are_found() -> None:
    """Where something else than a sum wants them, they are there, and the watch sees it."""
    made = spec("rows = lookup(T, tokens)\n  m = sum[expert](a * relu(rows))")
    assert any(side_by_side(returned.shape) for returned in long_step(made))
    agree(made)


def test_a_table_for_each_id() -> None:
    """Axes that the table and the ids both have are aligned."""
    agree(spec("m = sum[slot](tanh(lookup(S, at)))"))


def test_rows_that_are_there_are_used() -> None:
    """Rows that are computed anyway are not looked up again."""
    made = spec("rows = lookup(T, tokens)\n  m = sum[expert](a * rows) + max[expert](rows)")
    assert "mixture" not in made.text
    agree(made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("table", ["expert, vocab, d", "vocab, expert, d", "vocab, d, expert"])
def test_no_worse_than_side_by_side(dtype: torch.dtype, table: str) -> None:
    """In every dtype, values and gradients are as near to those of float64 as they are with all rows side by side."""
    made = spec(table=table, by="g")
    model = made.model.to(dtype)
    T, W = model.T, model.W
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in made.inputs(batch=8).items()}
    place = made.program.parameters[1].axes
    order = [[axis.name for axis in place].index(name) for name in ("vocab", "expert", "d")]

    def plain(T: torch.Tensor, W: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        a = torch.softmax(g @ W.T, -1)
        inside = inputs["tokens"] < VOCAB
        rows = T.permute(order)[torch.where(inside, inputs["tokens"], 0)] * inside[..., None, None]
        return (a[..., None] * rows).sum(-2)

    def errors(value: torch.Tensor, leaves: list[torch.Tensor], wanted: list[torch.Tensor]) -> list[float]:
        found = [value, *torch.autograd.grad(value.double().square().sum(), leaves)]
        return [float((one.detach().double() - other).abs().max()) for one, other in zip(found, wanted, strict=True)]

    exact = [T.detach().double().requires_grad_(), W.detach().double().requires_grad_()]
    value = plain(*exact, inputs["g"].double())
    wanted = [value.detach(), *torch.autograd.grad(value.square().sum(), exact)]
    mine = errors(model(**inputs).y, [T, W], wanted)
    theirs = errors(plain(T, W, inputs["g"]), [T, W], wanted)
    for one, other, size in zip(mine, theirs, wanted, strict=True):
        assert one <= 1.5 * other + torch.finfo(dtype).eps * float(size.abs().max()) / 4, (mine, theirs)


def test_a_mixture_is_one_op() -> None:
    for name, made in CASES.items():
        program = derive(made().program).program
        assert any(isinstance(node.op, Mixture) for node in walk(program.roots)), name
