"""Several errors at once, none of them because of another; and for every kind of name the one that was meant."""

from __future__ import annotations

import pytest

HEAD = """dim vocab = 16
dim width = 4
const depth = 2
context memory
types kind of words { text = 4, image = 4 }
variant small { width = 2 }
block squash(x: [width]) {
  param gain: [width] = 1
  return tanh(gain * x)
}
energy pull(x: [width] | held: [width]) { minimize sum[width](x * held) }
"""


def model(*lines: str) -> str:
    body = ["input hidden: [width]", "input words_in: id[words]", "stack 2 as layers { hidden <- squash(hidden) }", *lines, "output y = hidden"]
    return HEAD + "model m {\n" + "\n".join(f"  {line}" for line in body) + "\n}\n"


@pytest.mark.parametrize(
    ("kind", "line", "meant"),
    [
        ("value", "v = hiden", "hidden"),
        ("updated value", "hiden <- hidden", "hidden"),
        ("const", "v = hidden * detph", "depth"),
        ("axis", "v = sum[widht](hidden)", "width"),
        ("axis of a parameter", "param W: [widht]", "width"),
        ("context", "v = sum[memroy](past[memroy](hidden))", "memory"),
        ("vocabulary", "input more: id[vocba]", "vocab"),
        ("function", "v = sofmax[width](hidden)", "softmax"),
        ("block", "v = squahs(hidden)", "squash"),
        ("energy", "v = grad pul(hidden | hidden)", "pull"),
        ("share", "share n: squahs", "squash"),
        ("option", "v = rms[width](hidden, esp = 1e-5)", "eps"),
        ("element-wise function", "v = integral(slu)(hidden)", "silu"),
        ("path", "freeze layers[*].squahs", "squash"),
        ("path of a tie", "tie layers[*].squash.gian = layers[0].squash.gain", "gain"),
        ("stack in a path", "freeze layres[0]", "layers"),
        ("exchanged axis", "v = squash[wdith -> vocab](hidden) as other", "width"),
        ("axis put in", "v = squash[width -> vocba](hidden) as other", "vocab"),
        ("part of a vocabulary", "v = on words_in in imgae { hidden }", "image"),
        ("distribution", "param W: [width] ~ noraml(0.02)", "normal"),
        ("place", "v = hidden * posiiton", "position"),
    ],
)
def test_did_you_mean(told, kind: str, line: str, meant: str) -> None:
    found = told(model(line))
    assert [one.help for one in found if one.severity == "error"] == [f"did you mean `{meant}`?"], [(one.message, one.help) for one in found]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("dim d = widht\n", "width"),
        ("const c = detph + 1\n", "depth"),
        ("variant big { widht = 8 }\n", "width"),
        ('use "lib/sdt.mpt"\n', "lib/std.mpt"),
        ('use "otehr.mpt"\n', "other.mpt"),
    ],
)
def test_did_you_mean_outside_of_bodies(told, text: str, meant: str) -> None:
    found = told(text + model(), other="dim unused = 2\n")
    assert [one.help for one in found if one.severity == "error"] == [f"did you mean `{meant}`?"]


@pytest.mark.parametrize(
    ("settings", "variant", "meant"),
    [({"widht": "8"}, None, "width"), ({"depht": "8"}, None, "depth"), ({"width": "detph"}, None, "depth"), ({}, "smal", "small")],
)
def test_did_you_mean_from_outside(told, settings: dict[str, str], variant: str | None, meant: str) -> None:
    found = told(model(), settings, variant)
    assert [one.help for one in found if one.severity == "error"] == [f"did you mean `{meant}`?"]


def test_each_error_once_and_no_cascades(told) -> None:
    """A value without a shape, a callee that is broken, a parameter with an unknown axis: what comes after uses all three."""
    text = HEAD + "block broken(x: [width]) { return sum[vocab](x) }\n"
    lines = [
        "param W: [nowhere]",
        "a = hidden + unknown_thing",
        "b = unknown_thing * a",
        "c = broken(a) * W",
        "repeat 2 { hidden <- hidden + sum[width](c) @ b }",
        "d = hidden * hidden @ hidden ^ unknown_function(b)",
        "e = squash(hidden, hidden)",
        "f = e + squash(d) as again",
        "tie layers[*].nothing = layers[0].squash.gain",
        "stack 0.5 as more { f <- squash(f) }",
        "probe seen = f + a + c",
    ]
    found = [one for one in told(text + model(*lines).removeprefix(HEAD)) if one.severity == "error"]
    codes = ["E0201", "E0202", "E0209", "E0212", "E0219", "E0303", "E0306"]
    assert sorted(one.code for one in found) == codes, [(one.code, one.message) for one in found]


def test_what_is_wrong_in_a_library_is_told_where_it_is(told) -> None:
    found = told('use "library.mpt"\nmodel m {\n  input x: []\n  output y = f(x)\n}\n', library="block f(x: []) { return x + typo }\n")
    assert [(one.code, one.span.line) for one in found if one.severity == "error"] in ([("E0201", 1)], [("E0209", 4)])
