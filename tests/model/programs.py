"""Small models, drawn at random, of everything that mixes tokens: legal ones and such as leak.

Every function in them is smooth and no part is 0, so that what a value may depend on it does depend on, by a number that shows.
"""

from __future__ import annotations

import random

# What stands before the variable in an energy that views it, and whether its derivative stays in the past.
OWN = ["past(x)", "all(x)", "window(x, 1)", "window(x, 3)", "past(stop(x))", "past(tanh(x))", "only(past(x), distance(ctx) < 2)", "shift(x, 1)"]
HEAD = """dim d = 4
dim vocab = 8
context mem
energy held(x: [d] | c: [ctx, d]) { minimize -logsumexp[ctx](sum[d](x * c)) }
energy well(x: [d]) { minimize sum[d](tanh(x)^2) }
"""


class Draw:
    """One random spec. `text` is its causal form; `bidirectional` compiles where the proof refuses."""

    def __init__(self, seed: int, *, lowered: bool = False) -> None:
        self.chance = random.Random(seed)
        self.lowered = lowered  # nothing but what compiles today
        self.energies: list[str] = []
        self.blocks: list[str] = []
        self.labels = 0
        self.body = self._body()

    def text(self, kind: str = "") -> str:
        return "\n".join([HEAD, *self.energies, *self.blocks, f"model m {kind} {{", *(f"  {line}" for line in self.body), "}", ""])

    # -- the model -----------------------------------------------------------------------------

    def _body(self) -> list[str]:
        lines = ["input x: [d]", "input z: [d]", "param w: [d] = 1"]
        bound = ["x", "z"]
        for number in range(self.chance.randint(1, 4)):
            lines += self._statement(number, bound)
        return [*lines, f"output y = w * {self._pick(bound)} + {self._pick(bound)}"]

    def _statement(self, number: int, bound: list[str]) -> list[str]:
        """One more name, or an update. The names bound so far go in."""
        made = self._mixed(bound)
        kind = self.chance.random()
        if kind < 0.45:
            name = f"v{number}"
            bound.append(name)
            return [f"{name} = rms[d]({made}) + 0.1 * z"]
        target = self._pick([name for name in bound if name != "z"])
        update = f"{target} <- {target} + rms[d]({made})"
        if kind < 0.7:
            return [update]
        opens = f"repeat {self.chance.randint(1, 3)} {{" if kind < 0.85 else f"stack {self.chance.randint(1, 3)} as s{number} {{"
        extra = [f"  {self._pick([n for n in bound if n != 'z'])} <- {self._mixed(bound)}"] if self.chance.random() < 0.4 else []
        return [opens, f"  {update}", *extra, "}"]

    def _pick(self, names: list[str]) -> str:
        return self.chance.choice(names)

    # -- expressions ---------------------------------------------------------------------------

    def _mixed(self, bound: list[str]) -> str:
        """An expression over `[d]` in which tokens may meet."""
        kinds = [self._plain, self._attended, self._pooled, self._gradient, self._own, self._called]
        if not self.lowered:
            kinds += [self._shifted, self._sequence, self._chosen]
        return self.chance.choice(kinds)(bound)

    def _plain(self, bound: list[str]) -> str:
        return f"tanh({self._pick(bound)}) * {self._pick(bound)}"

    def _view(self, value: str) -> str:
        views = ["past({})", "past({})", "window({}, 2)", "only(past({}), distance(ctx) < 2)", "all({})"]
        return self.chance.choice(views).format(value)

    def _attended(self, bound: list[str]) -> str:
        seen = self._view(self._pick(bound))
        return f"sum[ctx](softmax[ctx](sum[d]({self._pick(bound)} * {seen})) * {seen})"

    def _pooled(self, bound: list[str]) -> str:
        reduction = self.chance.choice(["sum[ctx]({})", "mean[ctx]({})", "logsumexp[ctx]({})"])
        return reduction.format(self._view(f"tanh({self._pick(bound)})"))

    def _shifted(self, bound: list[str]) -> str:
        inner = self._pick(bound) if self.chance.random() < 0.6 else f"shift({self._pick(bound)}, {self.chance.choice([-2, -1, 1, 2])})"
        return f"shift({inner}, {self.chance.choice([-1, 0, 1, 1, 2, 3])})"

    def _sequence(self, bound: list[str]) -> str:
        one = self._pick(bound)
        return self.chance.choice([f"({one} - mean[seq]({one}))", f"softmax[seq]({one})", f"tanh({one} * seq)", f"({one} * (position + 1))"])

    def _chosen(self, bound: list[str]) -> str:
        one = self._pick(bound)
        condition = self.chance.choice(["sum[d](tanh({})) > 0.4", "sum[ctx](past(sum[d]({})) > 0.4) < 3", "sum[ctx](all(sum[d]({})) > 0.4) < 3"])
        return f"(on {condition.format(self._pick(bound))} {{ {self._pooled([one])} }})"

    def _gradient(self, bound: list[str]) -> str:
        variable = self._pick(bound)
        return self.chance.choice([f"grad well({variable})", f"grad held({variable} | {self._view(self._pick(bound))})"])

    def _own(self, bound: list[str]) -> str:
        """A step of an energy that views its own variable."""
        name = f"own{len(self.energies)}"
        options = OWN[:-1] if self.lowered else OWN
        view = self.chance.choice(options)
        value = f"sum[d](tanh(x * {view}))" if "shift" in view else f"logsumexp[ctx](sum[d](x * {view}))"
        self.energies.append(f"energy {name}(x: [d]) {{ minimize {value} + sum[d](tanh(x)^2) }}")
        return self.chance.choice([f"grad {name}({self._pick(bound)})", f"{name}({self._pick(bound)}) * {self._pick(bound)}"])

    def _called(self, bound: list[str]) -> str:
        """A block around another expression, over arguments of its own."""
        if len(self.blocks) > 3:
            return self._plain(bound)
        inner = self._mixed(["a", "b"])
        name = f"block{len(self.blocks)}"
        self.blocks.append(f"block {name}(a: [d], b: [d]) {{\n  t = {inner}\n  return t * 2 + b\n}}")
        return f"{name}({self._pick(bound)}, {self._pick(bound)})"
