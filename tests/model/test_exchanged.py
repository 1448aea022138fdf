"""`f[d -> e]` puts `e` in the place of `d` throughout: in sizes, counts, options and checks of `f` and of what it calls."""

from __future__ import annotations

import pytest

from mptc.model import tree

HEAD = """dim d = 4
dim e = 6
dim odd = 3
block inner(x: [d]) {
  repeat d - 1 { x <- x / (d + 1) }
  return sum[ctx](window(x, d))
}
block outer(x: [d]) { return inner(x) }
block turned(x: [d]) { return rope[d](x) }
block through(x: [d]) { return turned(x) }
"""


def model(call: str) -> str:
    return f"{HEAD}model m {{\n  input x: [e]\n  input u: [d]\n  input z: [odd]\n  y = {call}\n  output y = y\n}}\n"


def inner_of(model: tree.Model) -> tree.Callable:
    bind = next(each for each in model.body if isinstance(each, tree.Bind))
    assert isinstance(bind.value, tree.Invoke)
    outer = bind.value.callee
    assert isinstance(outer.result, tree.Invoke)
    return outer.result.callee


@pytest.mark.parametrize(("call", "count"), [("outer[d -> e](x)", 5), ("outer(u)", 3), ("outer[d -> odd](z)", 2)])
def test_counts_follow(sound, call: str, count: int) -> None:
    repeat = inner_of(sound(model(call))).body[0]
    assert isinstance(repeat, tree.Repeat)
    assert repeat.count == count


def test_one_check_for_each_size(sound) -> None:
    text = model("outer[d -> e](x)").replace("  output", "  w = outer[d -> e](2 * x)\n  output")
    first, second = (each.value for each in sound(text).body if isinstance(each, tree.Bind))
    assert isinstance(first, tree.Invoke)
    assert isinstance(second, tree.Invoke)
    assert first.callee is second.callee


@pytest.mark.parametrize("call", ["turned[d -> odd](z)", "through[d -> odd](z)"])
def test_checks_follow(told, call: str) -> None:
    [found] = [one for one in told(model(call)) if one.severity == "error"]
    assert (found.code, found.span.text) == ("E0309", "d")
    assert "size 3, an odd number" in found.message
    assert found.notes[-1].span.text == call.partition("(")[0]


def test_a_size_that_only_the_call_knows(sound) -> None:
    """The library leaves `width` free, and nobody declares it."""
    library = "block f(x: [width]) {\n  repeat width { x <- x / (width + 1) }\n  return x\n}\n"
    text = 'use "library.mpt"\ndim e = 6\nmodel m {\n  input x: [e]\n  y = f[width -> e](x)\n  output y = y\n}\n'
    bind = next(each for each in sound(text, library=library).body if isinstance(each, tree.Bind))
    assert isinstance(bind.value, tree.Invoke)
    repeat = bind.value.callee.body[0]
    assert isinstance(repeat, tree.Repeat)
    assert repeat.count == 6


def test_too_many_sizes_are_refused(refused) -> None:
    calls = "".join(f"  y{n} = outer[d -> a{n}](index(a{n}) * sum[e](x))\n" for n in range(250))
    text = HEAD + "".join(f"dim a{n} = {n + 10}\n" for n in range(250)) + f"model m {{\n  input x: [e]\n{calls}  output y = x\n}}\n"
    assert {code for code, _ in refused(text)} == {"E0225"}


LIBRARY = "block turned(x: [key]) { return rope[key](x) }\nblock around(x: [key]) { return turned(x) }\nblock plain(x: [key]) { return 2 * x }\n"


@pytest.mark.parametrize(
    ("call", "codes"),
    [("plain(x)", []), ("turned(x)", ["E0309"]), ("around(x)", ["E0309"]), ("around[key -> odd](w)", ["E0309"])],
)
def test_a_library_is_judged_by_sizes_where_it_is_called(told, call: str, codes: list[str]) -> None:
    inputs = "  input x: [key]\n  input z: [even]\n  input w: [odd]\n"
    text = f'use "library.mpt"\ndim key = 5\ndim even = 4\ndim odd = 3\nmodel m {{\n{inputs}  y = {call}\n  output y = y\n}}\n'
    assert [one.code for one in told(text, library=LIBRARY) if one.severity == "error"] == codes


def test_a_library_by_itself_is_judged_by_its_own_sizes(told) -> None:
    assert [one.code for one in told("dim key = 5\n" + LIBRARY) if one.severity == "error"] == ["E0309"]
