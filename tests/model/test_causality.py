"""What is refused in a causal model, passes in a bidirectional one; what shows only the past, in both."""

from __future__ import annotations

import pytest

from mptc.source.render import render

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


WAY = """dim d = 4
block mixed(x: [d]) {
  m = mean[seq](x)
  return x - m
}
model m {
  input x: [d]
  h = tanh(x)
  stack 3 as layers {
    x <- x + mixed(h)
    h <- 2 * x
  }
  probe seen = mean[seq](x)
  output y = x
  penalty sum[d](mean[seq](h))
}
"""


def test_the_way_of_a_later_token_is_drawn(told) -> None:
    [found] = [one for one in told(WAY) if one.severity == "error"]
    assert (found.code, found.span.line) == ("E0404", 3)
    assert [(note.span.line, note.message) for note in found.way] == [
        (3, "`mean[seq]` takes in later tokens, into `m`"),
        (4, "into the result"),
        (10, "out of `mixed`, into `x`"),
        (14, "into `y`, the output `y`"),
    ]
    text = render(found)
    assert "  │ spec.mpt:3   m = mean[seq](x)   `mean[seq]` takes in later tokens, into `m`\n" in text
    assert "  ▼ spec.mpt:14  output y = x " in text


def test_a_long_way_is_shortened(told) -> None:
    steps = "".join(f"  v{n} = v{n - 1} * 2\n" for n in range(1, 40))
    [found] = [one for one in told(f"model m {{\n  input x: []\n  v0 = x / seq\n{steps}  output y = v39\n}}\n") if one.severity == "error"]
    assert len(found.way) == 8
    assert "and on over 33 more lines" in found.way[4].message


def test_only_outputs_count(sound) -> None:
    """A statistic of the whole sequence may be watched, and learned from."""
    lines = ["s = mean[seq](sum[d](x))", "probe seen = s", "penalty s^2", "output y = x"]
    assert sound("dim d = 4\nmodel m {\n  input x: [d]\n" + "".join(f"  {line}\n" for line in lines) + "}\n") is not None


def test_several_leaks_are_told_at_once(told) -> None:
    text = "model m {\n  input x: []\n  a = x / seq\n  b = sum[ctx](all(a))\n  c = shift(x, -1)\n  output y = b\n  output z = c\n}\n"
    assert [one.code for one in told(text) if one.severity == "error"] == ["E0403", "E0401", "E0407"]
