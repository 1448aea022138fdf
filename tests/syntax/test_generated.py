"""Generated trees are printed and read back; generated and mutated texts never make the parser raise, nor slow."""

from __future__ import annotations

import gc
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mptc.source.diagnostic import Diagnostics
from mptc.source.render import as_json, render
from mptc.source.text import MOST_CHARACTERS, Source, Span
from mptc.syntax import tree
from mptc.syntax.lexer import reserved
from mptc.syntax.parse import parse
from mptc.syntax.unparse import show, unparse

SPAN = Span(Source("generated.mpt", ""), 0, 0)


def calm(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def node(make: type, *parts: st.SearchStrategy, **fixed: object) -> st.SearchStrategy:
    return st.builds(lambda *values: make(*values, span=SPAN, **fixed), *parts)


def tuples(of: st.SearchStrategy, least: int = 0, most: int = 3) -> st.SearchStrategy:
    return st.lists(of, min_size=least, max_size=most).map(tuple)


NAMES = st.sampled_from(["a", "b", "ctx", "W_q", "max", "position", "e1", "normal"])
WORD = node(tree.Word, NAMES)
ANY_WORD = node(tree.Word, st.one_of(NAMES, st.sampled_from(sorted(reserved()))))
NUMBER = node(
    tree.Number, st.builds(lambda digits, exponent: Fraction(digits) * Fraction(10) ** exponent, st.integers(0, 10**9), st.integers(-20, 20))
)
ARROWS = tuples(node(tree.Arrow, WORD, WORD), 1)
CALLEE = st.one_of(node(tree.Callee, WORD, tuples(WORD)), node(tree.Callee, WORD, st.just(()), ARROWS))
TYPE = node(tree.TypeOf, tuples(WORD), st.none() | WORD)
PATH = node(tree.Path, tuples(node(tree.Step, ANY_WORD, st.one_of(st.none(), st.just("*"), st.integers(0, 99))), 1))
OPERATORS = st.sampled_from(["+", "-", "*", "/", "^", "@", "<", "<=", ">", ">=", "=="])


def calls(expr: st.SearchStrategy) -> st.SearchStrategy:
    options = tuples(node(tree.Option, WORD, expr), most=2)
    label = st.none() | ANY_WORD
    with_conditions = node(tree.Call, CALLEE, tuples(expr, 1), tuples(expr), options, label)
    return node(tree.Call, CALLEE, tuples(expr), st.just(()), options, label) | with_conditions


def grown(expr: st.SearchStrategy) -> st.SearchStrategy:
    statements = tuples(st.one_of(node(tree.Bind, WORD, expr), node(tree.Update, WORD, expr), node(tree.Repeat, expr, st.just(()))), most=2)
    return st.one_of(
        node(tree.Negate, expr),
        node(tree.Binary, OPERATORS, expr, expr),
        node(tree.Binary, st.just("in"), expr, node(tree.Name, NAMES)),
        calls(expr),
        node(tree.Grad, calls(expr)),
        node(tree.Integral, WORD, expr),
        node(tree.Rename, expr, ARROWS),
        node(tree.Each, WORD, statements, expr),
        node(tree.On, expr, statements, expr),
    )


EXPR = st.recursive(NUMBER | node(tree.Name, NAMES), grown, max_leaves=8)
INIT = node(tree.Init, st.sampled_from(["normal", "uniform", "fill"]), EXPR)
ARGUMENT = node(tree.Argument, WORD, TYPE)
SETTINGS = tuples(node(tree.Setting, WORD, EXPR))


def bodies(statement: st.SearchStrategy) -> st.SearchStrategy:
    return node(tree.Stack, EXPR, ANY_WORD, tuples(statement)) | node(tree.Repeat, EXPR, tuples(statement))


LEAF = st.one_of(
    node(tree.Param, WORD, TYPE, st.none() | INIT),
    node(tree.Input, WORD, TYPE, st.booleans()),
    node(tree.Bind, WORD, EXPR),
    node(tree.Update, WORD, EXPR),
    node(tree.Share, WORD, CALLEE),
    node(tree.Tie, PATH, PATH),
    node(tree.Freeze, PATH),
    node(tree.Probe, WORD, EXPR),
    node(tree.Output, WORD, st.none() | tuples(WORD), EXPR),
    *[node(make, EXPR) for make in (tree.Penalty, tree.Loss, tree.Minimize, tree.Return)],
)
BODY = tuples(st.recursive(LEAF, bodies, max_leaves=3))
DECLARATION = st.one_of(
    node(tree.Use, st.sampled_from(["lib/std.mpt", "", "# no comment", "über.mpt"])),
    node(tree.Dim, WORD, EXPR),
    node(tree.Const, WORD, EXPR),
    node(tree.Types, WORD, WORD, SETTINGS),
    node(tree.Context, WORD),
    node(tree.Variant, WORD, SETTINGS),
    node(tree.Energy, WORD, ARGUMENT, tuples(ARGUMENT), BODY),
    node(tree.Block, WORD, tuples(ARGUMENT), BODY),
    node(tree.Model, WORD, st.booleans(), BODY),
)
FILE = node(tree.File, tuples(DECLARATION))


@calm(150)
@given(FILE)
def test_what_is_printed_is_read_back(file: tree.File) -> None:
    text = unparse(file)
    diagnostics = Diagnostics()
    assert parse(Source("printed.mpt", text), diagnostics) == file, [render(one) for one in diagnostics.found] + [text]


@calm(100)
@given(EXPR)
def test_no_parentheses_can_be_left_out(expr: tree.Expr) -> None:
    """Without any one pair of parentheses that stand around an operand, the text is another expression, or none."""
    text = unparse(tree.File((tree.Const(tree.Word("a", span=SPAN), expr, span=SPAN),), span=SPAN))
    assert "\n" not in show(expr)
    opened: list[int] = []
    for place, char in enumerate(text):
        if char == "(":
            opened.append(place)
        elif char == ")":
            start = opened.pop()
            if text[start - 1] in "( -^{" and not text.startswith("(", place + 1):
                without = f"{text[:start]} {text[start + 1 : place]} {text[place + 1 :]}"
                assert parse(Source("less.mpt", without), Diagnostics()) != parse(Source("all.mpt", text), Diagnostics())


def check(text: str) -> None:
    """One of the two: a tree, or located errors that can be shown."""
    source, diagnostics = Source("fuzz.mpt", text), Diagnostics()
    file = parse(source, diagnostics)
    assert (file is None) == bool(diagnostics.found)
    assert all(one.code.startswith("E01") and 0 <= one.span.start <= one.span.end <= len(text) for one in diagnostics.found)
    places = [one.span.start for one in diagnostics.found]
    assert places == sorted(places)
    as_json(diagnostics)
    assert all(line.isprintable() for one in diagnostics.found for line in render(one).split("\n"))


@calm(300)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(text)


@calm(300)
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    check(content.decode("utf-8", errors="replace"))


PIECES = [*sorted(reserved()), *"()[]{}|,:=~^@*/+-<>.#\n\n\n\t", "<-", "->", "==", "a", "x", "30_000", "1e-6", '"p"', "\r\n", "é", "\x00", "_", '"']


@calm(500)
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_any_tokens(pieces: list[str]) -> None:
    check(" ".join(pieces))


SPEC = (Path(__file__).parent / "snippets.mpt").read_text(encoding="utf-8")


@calm(150)
@given(st.lists(st.tuples(st.integers(0, len(SPEC)), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=4))
def test_any_mutation(edits: list[tuple[int, int, str]]) -> None:
    text = SPEC
    for at, dropped, piece in edits:
        text = text[:at] + piece + text[at + dropped :]
    check(text)


LENGTH = MOST_CHARACTERS // 5


def repeated(piece: str) -> str:
    return piece * (LENGTH // len(piece))


SLOW = [
    *["(", "{", "[(", ")", "}", "([)]", "\n", "-", "x ", "x^", "1+", "= 3\n", "é ", "_ ", '"', "9", "9_", "9.", "#", "block f(){x=(\n", "a.", "as "],
    *["dim x=-1*(-1)\n", "use\n", "model m {\n", "each a {", "}{", "x=3\n", "dim é = (]\n", "~", "1e9"],
]


@pytest.mark.parametrize("piece", SLOW)
@pytest.mark.parametrize("frame", ["{}", "dim x = {}", "model m {{\n{}\n}}", "block f() {{ y = f({}) }}"])
def test_nothing_takes_long(piece: str, frame: str) -> None:
    text = frame.format(repeated(piece))
    gc.freeze()  # what other tests of this process have left behind takes its time to look through
    start = time.process_time()
    check(text)
    taken = time.process_time() - start
    gc.unfreeze()
    assert taken < 2 / 5 * 2  # at full length 2 s, on a machine half as fast


def test_time_is_linear() -> None:
    def seconds(blocks: int) -> float:
        text = "".join(f"block f{i}(x: [d]) {{\n  param W: [d, e] = 1\n  return W @ tanh(x + 1)\n}}\n\n" for i in range(blocks))
        start = time.process_time()
        assert parse(Source("long.mpt", text), Diagnostics()) is not None
        return time.process_time() - start

    seconds(50)
    short, long = min(seconds(200) for _ in range(3)), min(seconds(800) for _ in range(3))
    assert long < 8 * short
    assert short < 1
