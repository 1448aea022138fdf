"""What is too large, too deep or too much is refused by its own diagnostic, and soon: four times the text takes about four times as long."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mptc.compile import check
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

MODEL = "model m {\n  input x: []\n  output y = x\n}\n"


def codes(text: str) -> set[str]:
    diagnostics = Diagnostics()
    check(Source("spec.mpt", text), diagnostics)
    return {one.code for one in diagnostics.found if one.severity == "error"}


def blocks(count: int, value: str) -> str:
    """Each block is made of the one before."""
    return "block f0(x: []) { return tanh(x) }\n" + "".join(
        f"block f{n}(x: []) {{ return {value.replace('F', f'f{n - 1}')} }}\n" for n in range(1, count)
    )


def within(body: str, head: str = "") -> str:
    return f"dim d = 4\n{head}model m {{\n  input x: [d]\n{body}  output y = x\n}}\n"


def scales(count: int) -> str:
    params = "".join(f"  param w{n}: [d]\n" for n in range(count))
    return f"block f(x: [d]) {{\n{params}  return {' * '.join(f'w{n}' for n in range(count))} * x\n}}\n"


SCALE = scales(1)


def named(copies: int) -> str:
    """A star over two stacks, one in the other, of which other ties name so many copies."""
    lines = [f"  tie a[{k}].b[{k}].f = a[{k + 1}].b[{k + 1}].f\n" for k in range(copies)]
    return "  stack 900 as a { stack 900 as b { x <- f(x) as g + f(x) } }\n  param v: [d]\n" + "".join(lines) + "  tie a[*].b[*].g.w0 = v\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("const a = 9^9^9", "E0217"),
        ("const a = 9^9^9^9^9^9", "E0217"),
        ("const a = 2^-9^9", "E0217"),
        ("const a = 1e99999999", "E0103"),
        ("const a = " + "9" * 100_000, "E0103"),
        ("const a = (1/3)^(1/9999999)", "E0217"),
        ("const a = 999_999_999_999_999_989^0.5", "E0217"),
        ("dim d = 10^13", "E0217"),
        ("dim d = 2^40 * 2^40", "E0217"),
        (blocks(300, "F(x)"), "E0225"),
        (blocks(60, "F(F(x))"), "E0225"),
        (blocks(60, "F(x) + F(x)"), "E0225"),
        ("".join(f"context c{n}\n" for n in range(500)), "E0226"),
        ("const a = " + "(" * 5000 + "1" + ")" * 5000, "E0110"),
        ("block f(x: []) { return " + "-" * 5000 + "x }", "E0110"),
        ("block f(x: []) {\n" + "repeat 2 {\n" * 150 + "x <- tanh(x)\n" + "}\n" * 150 + "return x\n}", "E0110"),
        ("#" * 300_000, "E0111"),
        (within(named(120), SCALE), "E0225"),
        (within("  stack 200 as l { x <- f(x) }\n" + "".join(f"  freeze l[{k}]\n" for k in range(200)), scales(80)), "E0225"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_refused_at_once(text: str, code: str) -> None:
    began = time.process_time()
    assert code in codes(text + "\n" + ("" if "model m" in text else MODEL))
    assert time.process_time() - began < 2


GROWING: dict[str, Callable[[int], str]] = {
    "unknown names": lambda n: within("".join(f"  v{k} = nothing{k} + x\n" for k in range(n))),
    "wrong axes": lambda n: within("".join(f"  v{k} = sum[d](sum[d](x))\n" for k in range(n))),
    "leaks": lambda n: within("".join(f"  x <- x + mean[seq](x)\n  v{k} = x * {k}\n" for k in range(n))),
    "updates": lambda n: within("".join(f"  x <- x + sum[ctx](past(x)) * {k}\n" for k in range(n))),
    "loops beside each other": lambda n: within("".join(f"  repeat 3 {{ x <- shift(x, 1) + {k} }}\n" for k in range(n))),
    "roots": lambda n: "".join(f"const c{k} = {10**15 + 37 + 2 * k}^0.5\n" for k in range(n)) + within(""),
    "consts in a row": lambda n: "const c0 = 1\n" + "".join(f"const c{k + 1} = c{k} + 1\n" for k in range(n)) + within(""),
    "ties": lambda n: within("".join(f"  param w{k}: [d]\n" for k in range(n)) + "".join(f"  tie w{k} = w{k + 1}\n" for k in range(n - 1))),
    "ties of one": lambda n: within("  param w: [d]\n  param v: [d]\n" + "  tie w = v\n" * n),
    "ties of copies": lambda n: within(
        f"  stack {n} as l {{ x <- f(x) }}\n" + "".join(f"  tie l[{k}].f = l[{k + 1}].f\n" for k in range(n - 1)), SCALE
    ),
    "ties of all copies": lambda n: within(
        f"  stack {n} as l {{ x <- f(x) }}\n  stack {n} as m {{ x <- f(x) }}\n  param v: [d]\n  tie m[*].f = l[*].f\n"
        + "".join(f"  tie l[{k}].f.w0 = v\n" for k in range(n - 1)),
        SCALE,
    ),
    "declared twice": lambda n: "dim e = 4\n" * n + within(""),
    "exchanges": lambda n: within("".join(f"  v{k} = f[d -> e](x[d -> e])\n" for k in range(n)), "dim e = 4\nblock f(x: [d]) { return tanh(x) }\n"),
    "arguments": lambda n: within(f"  v = f({', '.join(['x'] * n)})\n"),
    "open brackets": lambda n: within("  v = (x\n" * n),
}


@pytest.mark.parametrize("kind", GROWING)
def test_time_grows_as_the_text_does(kind: str) -> None:
    """The best of three; sixteen times as long would be quadratic."""
    some, many = (min(seconds(GROWING[kind](count)) for _ in range(3)) for count in (250, 1000))
    assert many < 9 * some + 0.02, (some, many)


def seconds(text: str) -> float:
    began = time.process_time()
    codes(text)
    return time.process_time() - began
