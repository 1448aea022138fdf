"""What is refused in a causal model, passes in a bidirectional one; what shows only the past, in both."""

from __future__ import annotations

import pytest

HEAD = """use "lib/std.mpt"
dim d = 4
dim vocab = 8
block mixed(x: [d]) { return x - mean[seq](x) }
energy own(x: [d]) { minimize -logsumexp[ctx](sum[d](x * past(x))) }
energy both(x: [d]) { minimize -logsumexp[ctx](sum[d](x * all(x))) }
energy stopped(x: [d]) { minimize -logsumexp[ctx](sum[d](x * past(stop(x)))) }
energy held(x: [d] | c: [ctx, d]) { minimize -logsumexp[ctx](sum[d](x * c)) }
energy nested(x: [d] | c: [d]) { minimize held(x | past(c)) + own(c) }
"""


def model(text: str, kind: str = "") -> str:
    return f"{HEAD}model m {kind} {{\n  input x: [d]\n  input t: id[vocab]\n  s = sum[d](x)\n  y = {text}\n  output y = y\n}}\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sum[ctx](all(x))", "E0401"),
        ("mixed(x)", "E0404"),
        ("grad own(x)", "E0405"),
        ("grad both(x)", "E0401"),
        ("x * softtopk[seq](s, keep = 2)", "E0402"),
        ("x * exp(topk[seq](s, 2))", "E0402"),
        ("x / seq", "E0403"),
        ("shift(x, -1)", "E0407"),
        ("sum[ctx](past(mixed(x)))", "E0404"),
    ],
)
def test_refused_where_causal(refused, sound, text: str, code: str) -> None:
    assert [found for found, _ in refused(model(text))] == [code]
    assert sound(model(text, "bidirectional")) is not None


@pytest.mark.parametrize(
    "text",
    [
        "sum[ctx](past(x))",
        "sum[ctx](window(x, 3))",
        "shift(x, 2)",
        "own(x) * x",
        "grad held(x | past(x))",
        "grad nested(x | x)",
        "grad stopped(x)",
        "x * (position + 1)",
        "on route_causal(s, 4) { x * s }",
    ],
)
def test_allowed_where_causal(sound, text: str) -> None:
    assert sound(model(text)) is not None


def test_the_message_says_what_to_write(refused) -> None:
    [(_, message)] = refused(model("grad own(x)"))
    assert "`own`" in message
    assert "`past`" in message
