"""However an energy is spelt, one text comes out: the promise that makes recognition a normal form and no collection of patterns.

A few hundred spellings by default; MPTC_SPELLINGS=1000 asks for more, MPTC_SEED for others.
"""

from __future__ import annotations

import ast
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from mptc.compile import compile
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

COUNT = int(os.environ.get("MPTC_SPELLINGS", "300"))
SEED = int(os.environ.get("MPTC_SEED", "0"))


class Speller:
    """Writes one thing in one of the ways that mean the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, *ways: str) -> str:
        return self.random.choice(ways)

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def product(self, *factors: str) -> str:
        """Factors in any order."""
        mixed = list(factors)
        self.random.shuffle(mixed)
        return " * ".join(mixed)

    def linear(self, weight: str, value: str, axis: str) -> str:
        return self.one(f"{weight} @ {value}", f"{value} @ {weight}", f"sum[{axis}]({self.product(weight, value)})")

    def split(self, text: str) -> str:
        """The same in two parts, or twice a half."""
        first = self.random.choice(["0.5", "0.25", "2", "-1", "0.1"])
        rest = {"0.5": "0.5", "0.25": "0.75", "2": "-1", "-1": "2", "0.1": "0.9"}[first]
        return f"({first} * {text} + {rest} * {text})"


# -- the interaction of causal energy minimization ----------------------------------------------------------

# β as a product of factors that may stand anywhere, the declaration it needs, and 1 / β.
TEMPERATURES = {
    "one": ((), "", "1"),
    "by size": (("(1 / sqrt(key))",), "", "sqrt(key)"),
    "constant": (("0.3",), "", "1 / 0.3"),
    "learned": (("beta",), "param beta: [] = 1", "1 / beta"),
    "for each head": (("beta",), "param beta: [head] = 1", "1 / beta"),
}


def scaled(speller: Speller, text: str, factors: tuple[str, ...]) -> str:
    if not factors:
        return text
    (factor,) = factors
    ways = [f"({factor} * ({text}))", f"(({text}) * {factor})"]
    if factor == "(1 / sqrt(key))":
        ways += [f"(({text}) / sqrt(key))", f"(key ^ -0.5 * ({text}))", f"(({text}) * sqrt(key) / key)"]
    return speller.one(*ways)


def score(speller: Speller, factors: tuple[str, ...], for_each: bool) -> list[str]:
    """The statements that make `s`: queries, keys, their product, with the temperature on one of them."""
    late, place = speller.maybe(0.5), speller.one("score", "score", "query", "key", "input", "terms", "rotated")
    if for_each and place == "input":  # `W_q @ (beta * x)` would sum over the heads
        place = "terms"
    q = speller.linear("W_q", scaled(speller, "x", factors) if place == "input" else "x", "d")
    q = f"rope[key]({scaled(speller, q, factors) if place == 'query' else q})"
    if place == "rotated":
        q = scaled(speller, q, factors)
    if late:
        k = f"rope[key]({speller.linear('W_k', 'c', 'd')})"
        k = speller.one(f"past({k})", f"rope[key](past({speller.linear('W_k', 'c', 'd')}))", f"rope[key]({speller.linear('W_k', 'past(c)', 'd')})")
    else:
        k = f"rope[key]({speller.linear('W_k', 'c', 'd')})"
    if place == "key":
        k = scaled(speller, k, factors)
    terms = speller.product("q", "k")
    if place == "terms":
        terms = scaled(speller, terms, factors)
    s = speller.one(f"sum[key]({terms})", f"(key * mean[key]({terms}))", f"-sum[key](-({terms}))")
    if speller.maybe(0.3):
        s = speller.split(s)
    if place == "score":
        s = scaled(speller, s, factors)
    return ["late" if late else "early", f"q = {q}", f"k = {k}", f"s = {s}"]


LOG_SUM_EXP = (
    "logsumexp[ctx](s)",
    "log(sum[ctx](exp(s)))",
    "(max[ctx](s) + log(sum[ctx](exp(s - max[ctx](s)))))",
    "-log(1 / sum[ctx](exp(s)))",
    "log(sum[ctx](exp(s / 2) ^ 2))",
    "log(sum[ctx](exp(s / 2) * exp(s / 2)))",
    "log(3 * sum[ctx](exp(s)))",
    "(log(sum[ctx](exp(s + 2))) - 2)",
    "(2 * log(sqrt(sum[ctx](exp(s)))))",
    "log(sum[ctx](exp(s)) ^ 2) / 2",
    "(logsumexp[ctx](s + sum[key](q ^ 2)) - sum[key](q ^ 2))",
    "logsumexp[ctx](0.5 * s + s / 2)",
)


def interaction(speller: Speller, temperature: str) -> str:
    factors, declared, inverse = TEMPERATURES[temperature]
    for_each = temperature == "for each head"
    view, *statements = score(speller, factors, for_each)
    value = speller.one(*LOG_SUM_EXP)
    inside = for_each or speller.maybe(0.5)
    inner = f"({inverse}) * {value}" if inside and inverse != "1" else value
    if speller.maybe(0.2):
        inner = speller.split(f"({inner})")
    energy = speller.one(f"sum[head]({inner})", f"(head * mean[head]({inner}))")
    if not inside and inverse != "1":
        energy = speller.one(f"({inverse}) * {energy}", f"{energy} * ({inverse})")
    energy = speller.one(f"-({energy})", f"0 - {energy}", f"-1 * ({energy})", f"1 - {energy}", f"-({energy}) + 3 * 7")
    if speller.maybe(0.5):  # bindings read as they would be where they are used
        s = statements.pop().removeprefix("s = ")
        energy = substituted(energy, "s", f"({s})")
    lines = [*([declared] if declared else []), *statements, f"minimize {energy}"]
    condition, given = ("c: [d]", "h") if view == "late" else ("c: [ctx, d]", "past(h)")
    return model(["param W_q: [head, key, d]", "param W_k: [head, key, d]", *lines], condition, given)


def substituted(text: str, name: str, value: str) -> str:
    """A name replaced where it stands as a word of its own."""
    words = text.replace("(", " ( ").replace(")", " ) ").split(" ")
    return " ".join(value if word == name else word for word in words).replace("( ", "(").replace(" )", ")")


def model(lines: list[str], condition: str, given: str) -> str:
    body = "\n".join(f"  {line}" for line in lines)
    dims = "dim d = 64\ndim head = 4\ndim key = 16\ndim hidden = 96\n"
    energy = f"energy E(x: [d] | {condition}) {{\n{body}\n}}\n"
    return f"{dims}{energy}model spelt {{\n  input x: [d]\n  input h: [d]\n  output y = x - grad E(x | {given})\n}}\n"


# -- the gated energy -----------------------------------------------------------------------------------------


def gated(speller: Speller) -> str:
    up, gate = speller.linear("W_up", "x", "d"), speller.linear("W_gate", "c", "d")
    statements = []
    if speller.maybe(0.5):
        statements.append(f"g = {gate}")
        gate = "g"
    if speller.maybe(0.5):
        statements.append(f"z = {up}")
        up = "z"
    nonlinear = f"integral(silu)({up})"
    if speller.maybe(0.2):
        nonlinear = f"log(exp({nonlinear}))"
    gate = speller.one(f"({gate})", f"(2 * ({gate}) / 2)", f"(-(-({gate})))")
    terms = speller.product(gate, nonlinear)
    if speller.maybe(0.3):
        terms = speller.split(f"({terms})")
    ways = [f"sum[hidden]({terms})", f"hidden * mean[hidden]({terms})", f"{gate} @ {nonlinear}", f"(sum[hidden]({terms} / 3) * 3)"]
    energy = speller.one(*ways)
    if speller.maybe(0.3):
        energy = speller.split(f"({energy})")
    energy = speller.one(f"-({energy})", f"0 - {energy}", f"({energy}) * -1", f"1 - ({energy})", f"-({energy}) - 5")
    return model(["param W_up: [hidden, d]", "param W_gate: [hidden, d]", *statements, f"minimize {energy}"], "c: [d]", "h")


# -- a norm by hand and a capped score ---------------------------------------------------------------------------


def normed(speller: Speller, value: str) -> str:
    """rms over `key`, with what it adds below the root."""
    squares = speller.one(f"mean[key]({value}^2)", f"(sum[key]({value} * {value}) / key)", f"(key^-1 * sum[key]({value}^2))")
    below = speller.one(f"{squares} + 1e-6", f"1e-6 + {squares}")
    root = speller.one(f"sqrt({below})", f"({below})^0.5")
    by_hand = speller.one(f"{value} / {root}", f"1 / {root} * {value}", f"{value} * ({below})^-0.5", f"rsqrt({below}) * {value}")
    return speller.one(f"rms[key]({value})", f"({by_hand})")


def capped(speller: Speller) -> str:
    """30 tanh(s / 30) under a log-sum-exp; what is bound to names, in what order it is added, and what it is called is not to show."""
    q, k = speller.one("q", "queries"), speller.one("k", "seen")
    named = speller.one("s", "score")
    product = f"sum[key]({speller.product(q, k)})"
    inner = speller.one(f"{product} / 30", f"{product} * (1 / 30)", f"sum[key]({q} * ({k} / 30))", f"key * mean[key]({speller.product(q, k)}) / 30")
    cap = speller.one(f"30 * tanh({inner})", f"tanh({inner}) / (1 / 30)", f"-30 * -tanh({inner})")
    statements = [f"{q} = {normed(speller, 'u')}", f"{k} = {speller.linear('W_k', 'c', 'd')}"]
    if speller.maybe(0.5):
        statements.reverse()
    if speller.maybe(0.5):
        statements.append(f"{named} = {cap}")
        cap = named
    value = speller.one(f"logsumexp[ctx]({cap})", f"log(sum[ctx](exp({cap})))", f"logsumexp[ctx]({cap} - 1) + 1")
    first = speller.one(f"sum[head]({value})", f"head * mean[head]({value})")
    second = speller.one("sum[d](x^2) / 2", "d * mean[d](0.5 * x * x)", "sum[d](x / 2 * x)")
    energy = speller.one(f"{second} - {first}", f"-{first} + {second}", f"-({first} - {second})")
    parameters = ["param W_q: [head, key, d]", "param W_k: [head, key, d]"]
    return model([*parameters, f"u = {speller.linear('W_q', 'x', 'd')}", *statements, f"minimize {energy}"], "c: [ctx, d]", "past(h)")


# -- what comes out -------------------------------------------------------------------------------------------


class Inlined(ast.NodeTransformer):
    """What a spelling bound to a name stands on a line of its own. Values used once go where they are used; others are named by their order."""

    def __init__(self, function: ast.FunctionDef) -> None:
        self.values: dict[str, ast.expr] = {}
        self.names: dict[str, str] = {}
        self.uses = Counter(node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
        self.stores = Counter(node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        node.value = self.visit(node.value)
        (target,) = node.targets
        if not isinstance(target, ast.Name):
            return node
        if self.uses[target.id] == self.stores[target.id] == 1:
            self.values[target.id] = node.value
            return None
        self.names[target.id] = f"v{len(self.names)}"
        node.targets = [ast.Name(self.names[target.id], ast.Store())]
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, ast.Name(self.names.get(node.id, node.id), node.ctx))


def forward(text: str) -> str:
    """The code of `Model.forward` without comments and without the names that spellings do not share."""
    spec = compile(Source("spelt.mpt", text), found := Diagnostics())
    assert spec is not None, text + "\n".join(render(each) for each in found.found)
    (made,) = spec.files.values()
    (class_,) = [node for node in ast.parse(made).body if isinstance(node, ast.ClassDef) and node.name == "Model"]
    (function,) = [node for node in class_.body if isinstance(node, ast.FunctionDef) and node.name == "forward"]
    return ast.unparse(Inlined(function).visit(function))


def distinct(spell: Callable[[Speller], str], count: int) -> dict[str, list[str]]:
    """The texts that came out, and the spellings of each."""
    found: dict[str, list[str]] = {}
    for index in range(count):
        text = spell(Speller(SEED * 1_000_003 + index))
        found.setdefault(forward(text), []).append(text)
    return found


def judge(found: dict[str, list[str]]) -> None:
    common, *others = sorted(found, key=lambda text: -len(found[text]))
    message = "\n".join(f"--- {len(found[text])} spellings, as\n{min(found[text], key=len)}\n{text}\n" for text in others[:3])
    assert not others, f"{len(found)} texts; the common one ({len(found[common])} spellings)\n{common}\n{message}"


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_interaction(temperature: str) -> None:
    found = distinct(lambda speller: interaction(speller, temperature), COUNT // len(TEMPERATURES))
    judge(found)
    assert "scaled_dot_product_attention" in next(iter(found))


def test_gated() -> None:
    judge(distinct(gated, COUNT))


def test_capped() -> None:
    judge(distinct(capped, COUNT // 3))


def test_temperatures_differ() -> None:
    """Each temperature has a text of its own, or one text for all would pass."""
    assert len({forward(interaction(Speller(0), temperature)) for temperature in TEMPERATURES}) == len(TEMPERATURES)
