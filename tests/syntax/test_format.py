"""The layout of specs: a fixed point, the same tree, every comment, and the layout of the language's own page."""

from __future__ import annotations

import random
import re
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given

from mptc.resources import prelude_dir
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from mptc.syntax import tree
from mptc.syntax.brackets import CLOSER, OPENER
from mptc.syntax.format import format
from mptc.syntax.lexer import NEWLINE, Token, comments, tokenize
from mptc.syntax.parse import parse
from mptc.syntax.problems import Problems
from mptc.syntax.unparse import unparse
from tests.syntax.test_generated import FILE, calm

HERE = Path(__file__).parent
SPECS = sorted(prelude_dir().parent.rglob("*.mpt"))
TEXTS = [path.read_text() for path in [*SPECS, *sorted((HERE.parent / "model" / "legal").glob("*.mpt"))]]
TEXTS += re.split(r"(?m)^# -{10,}\n", (HERE / "snippets.mpt").read_text(encoding="utf-8"))


def laid_out(text: str) -> str:
    diagnostics = Diagnostics()
    done = format(Source("spec.mpt", text), diagnostics)
    assert done is not None, (diagnostics.found, text)
    return done


def said(text: str) -> list[str]:
    return [comment.text for comment in comments(text)]


def dedented(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_laid_out(path: Path) -> None:
    assert laid_out(path.read_text()) == path.read_text()


def test_there_are_specs() -> None:
    assert {"cem_small", "cem", "std"} <= {path.stem for path in SPECS}


@pytest.mark.parametrize("text", TEXTS)
def test_any_spacing_gives_one_text(text: str) -> None:
    """Spaces, empty lines in brackets, indentation: none of it is left."""
    wanted = laid_out(text)
    wider = re.sub(r"(?m)^[^#\n]*", lambda code: "     " + re.sub(r"(?<=[(,\[])", "\n\n   ", code.group()), wanted)
    assert wider != wanted
    assert laid_out(wider) == wanted
    assert laid_out(wanted.replace("\n", " \t\r\n")) == wanted


@calm(150)
@given(FILE)
def test_generated_trees(file: tree.File) -> None:
    once = laid_out(unparse(file))
    assert parse(Source("spec.mpt", once), Diagnostics()) == file
    assert laid_out(once) == once


# -- comments --


def strewn(text: str, rate: float, dice: random.Random) -> str:
    """The text with comments wherever one may stand: in brackets between any two tokens, elsewhere where a line ends."""
    tokens = tokenize(text, Problems(Source("spec.mpt", text)))
    pieces: list[str] = []
    opened: list[str] = []
    for token, after in pairwise(tokens):
        _track(opened, token)
        pieces += [token.text, _between(opened, token, after, dice) if dice.random() < rate else text[token.end : after.start]]
        if pieces[-1].startswith(" #") and "#" in text[token.end : after.start]:
            pieces[-1] = text[token.end : after.start]
    return "".join(pieces)


def _track(opened: list[str], token: Token) -> None:
    if token.kind in CLOSER:
        opened.append(token.kind)
    elif token.kind in OPENER:
        opened.pop()


def _between(opened: list[str], token: Token, after: Token, dice: random.Random) -> str:
    word = f"# {dice.randrange(1000)}"
    if opened and opened[-1] != "{":
        return dice.choice([f" {word}\n", f"\n{word}\n", f" {word}\n\n {word}\n", f"\n\n{word}\n"])
    if token.kind == NEWLINE:
        return f" {word}\n" + "\n" * dice.randrange(3)
    return f" {word}" if after.kind == NEWLINE else f" {word}\n" if token.kind == "{" else " "


@pytest.mark.parametrize("seed", range(60))
def test_comments_are_kept_wherever_they_stand(seed: int) -> None:
    dice = random.Random(seed)
    text = strewn(dice.choice(TEXTS), dice.choice([0.02, 0.1, 0.5]), dice)
    once = laid_out(text)
    assert said(once) == said(text)
    assert laid_out(once) == once


def test_strewing_strews() -> None:
    assert len(said(strewn(TEXTS[0], 0.5, random.Random(0)))) > 50


def test_comments_stay_with_what_they_stand_on_or_behind() -> None:
    text = dedented("""
        # the file


        dim d = 8 # width
        # tall
        dim hidden = 32   # inside
        block f(x: [d]) { # head
           # first

           # second

           y = tanh(   # of x
              x)
           return y # value
        # last
        } # end
        # of f
        """)
    assert laid_out(text) == dedented("""
        # the file

        dim d = 8         # width
        # tall
        dim hidden = 32   # inside

        block f(x: [d]) {                 # head
          # first

          # second

          y = tanh(                       # of x
            x
          )
          return y                        # value
          # last
        }                                 # end

        # of f
        """)


# -- the layout --


def test_columns() -> None:
    assert laid_out(
        dedented("""
        dim d=8
        dim hidden = 4_0
        const n = 3
        dim e = 1
        model m {
        param W: [d]
        param scale: [e]
        param gamma: []
        input x: [d]
        param U: [d]
        param scale_of_all: [d]
        }
        """)
    ) == dedented("""
        dim d      = 8
        dim hidden = 40
        const n = 3
        dim e = 1

        model m {
          param W: [d]
          param scale: [e]
          param gamma: []
          input x: [d]
          param U: [d]
          param scale_of_all: [d]
        }
        """)


def test_a_broken_dim_stays_in_its_group() -> None:
    text = "dim d      = 8\ndim hidden = ceil(\n  d  # of d\n)\ndim e      = 4\n"
    assert laid_out(text) == text.replace("d  #", "d               #")


def test_braces() -> None:
    assert laid_out(
        dedented("""
        variant a {
          d = 8
          e = 30000,
        }
        block f(x: [d]) {
          return x
        }
        block g(x: [d]) { return on x > 0 { y = x
          y } }
        model m { repeat 2 { repeat 3 { x <- f(x) } } }
        model n {}
        """)
    ) == dedented("""
        variant a { d = 8, e = 30_000 }
        block f(x: [d]) { return x }

        block g(x: [d]) {
          return on x > 0 {
            y = x
            y
          }
        }

        model m {
          repeat 2 {
            repeat 3 { x <- f(x) }
          }
        }

        model n {}
        """)


def test_long_lines_break_inside_brackets() -> None:
    name = "n" * 30
    head = f"block f({name}_1: [a], {name}_2: [a], {name}_3: [a, b]) {{}}"
    assert laid_out(head) == dedented(f"""
        block f(
          {name}_1: [a],
          {name}_2: [a],
          {name}_3: [a, b]
        ) {{}}
        """)
    last = f"const c = g({name}_1 - {name}_2) * h({name}_3 / {name}_4)"
    assert laid_out(last) == dedented(f"""
        const c = g({name}_1 - {name}_2) * h(
          {name}_3 / {name}_4
        )
        """)
    value = " + ".join(f"g({name}_{i})" for i in range(4))
    assert laid_out(f"block f() {{ return where({value}, x, sum[a](x)) }}") == dedented(f"""
        block f() {{
          return where(
            g({name}_0)
              + g({name}_1)
              + g({name}_2)
              + g({name}_3),
            x,
            sum[a](x)
          )
        }}
        """)
    assert max(map(len, laid_out(f"dim d = ceil(({value}) / 2)").splitlines())) <= 120


def test_braces_hug_the_brackets_around_them() -> None:
    text = dedented("""
        block f(x: []) {
          y = softmax[e](on x > 0 {
            h = x
            h^2
          })
          return y
        }
        """)
    assert laid_out(text) == text


def test_parentheses_are_the_writer_s() -> None:
    text = "const a = (b * c) + -(d)^-2\n"
    assert laid_out(text) == text


USUAL = [("30000", "30_000"), ("1E-6", "1e-6"), ("0.50", "0.5"), ("1234567", "1_234_567"), ("9" * 60, "9" * 60)]


@pytest.mark.parametrize(("written", "usual"), USUAL)
def test_numbers(written: str, usual: str) -> None:
    assert laid_out(f"const a = {written}") == f"const a = {usual}\n"


def test_empty() -> None:
    assert laid_out("") == laid_out("\n \n") == ""
    assert laid_out("\n\n# only this\n\n\n") == "# only this\n"


def test_wrong_texts_are_refused() -> None:
    diagnostics = Diagnostics()
    assert format(Source("spec.mpt", "dim d = (8\n"), diagnostics) is None
    assert [one.code for one in diagnostics.found] == ["E0105"]


def test_a_text_that_grows_too_long_is_refused() -> None:
    diagnostics = Diagnostics()
    assert format(Source("spec.mpt", "dim d = 1#\n" * 18_000), diagnostics) is None
    assert [one.code for one in diagnostics.found] == ["E0111"]


def test_a_long_file_takes_no_long_time() -> None:
    import gc
    import time

    def seconds(count: int) -> float:
        text = "".join(f"block f{i}(x: [d]) {{\n  param W: [d, e] = 1 # {i}\n  return W @ tanh(x + 1)\n}}\n" for i in range(count))
        gc.disable()  # what a collection costs depends on what else the process holds
        start = time.process_time()
        laid_out(text)
        took = time.process_time() - start
        gc.enable()
        return took

    seconds(50)
    assert min(seconds(800) for _ in range(3)) < 8 * min(seconds(200) for _ in range(3))
