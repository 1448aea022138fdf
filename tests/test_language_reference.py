"""The language's reference: every example of it runs, every listing is what the compiler writes, nothing of the language is left out.

python -m tests.test_language_reference            # writes into the page anew which constructs compile
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from mptc.compile import check, compile, formatted
from mptc.model.functions import FUNCTIONS
from mptc.show import show
from mptc.source.catalogue import CATALOGUE
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import MOST_CHARACTERS, Source
from mptc.syntax.brackets import DEEPEST
from mptc.syntax.lexer import LARGEST_EXPONENT, LONGEST_NAME, LONGEST_NUMBER, reserved
from mptc.syntax.tables import load

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "grammar" / "language.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- (?P<key>[a-z ]+): (?P<name>\w+) -->\n)?```(?P<kind>\w+)(?: error\[(?P<code>E\d{4})\])?\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: what is said before it, of what kind it is, the line of the page that it begins on."""

    key: str
    name: str
    kind: str
    code: str
    text: str
    line: int


BLOCKS = [
    Block(found["key"] or "", found["name"] or "", found["kind"], found["code"] or "", found["text"], PAGE[: found.start()].count("\n") + 2)
    for found in BLOCK.finditer(PAGE)
]
FRAMES = {block.name: block.text for block in BLOCKS if block.key == "frame"}
EXAMPLES = [block for block in BLOCKS if block.kind == "mpt"]
RIGHT = [block for block in EXAMPLES if not block.code]
WRONG = [block for block in EXAMPLES if block.code]


def framed(text: str, frame: str) -> str:
    """A fragment in the place of the dots of its frame, as far in as these."""
    before, dots, after = re.split(r"(?m)^( *)\.\.\.\n", FRAMES[frame])
    return before + re.sub(r"(?m)^(?=.)", dots, text) + after


def spec(block: Block) -> str:
    return framed(block.text, block.name) if block.key == "in" else block.text


def source(text: str, name: str = "example") -> Source:
    return Source(str(ROOT / "grammar" / f"{name}.mpt"), text)


def found(text: str) -> list[tuple[str, int, str]]:
    diagnostics = Diagnostics()
    check(source(text), diagnostics)
    return [(one.code, one.span.line, render(one)) for one in diagnostics.found]


def test_the_page_is_read() -> None:
    assert PAGE.count("```") == 2 * len(BLOCKS)
    assert len(RIGHT) >= 22
    assert len(WRONG) >= 12
    assert set(FRAMES) == {block.name for block in EXAMPLES if block.key == "in"}


@pytest.mark.parametrize("block", RIGHT, ids=lambda block: f"line{block.line}")
def test_what_is_right_is_accepted(block: Block) -> None:
    assert [text for code, _, text in found(spec(block)) if code.startswith("E")] == []


@pytest.mark.parametrize("block", RIGHT, ids=lambda block: f"line{block.line}")
def test_examples_are_laid_out(block: Block) -> None:
    """A framed one is compared line by line: the comments of its frame have columns of their own."""
    text = formatted(source(spec(block)), Diagnostics())
    assert text is not None
    if block.key != "in":
        assert text == block.text
    else:
        assert [re.sub(r" +#", " #", line) for line in text.splitlines()] == [re.sub(r" +#", " #", line) for line in spec(block).splitlines()]


@pytest.mark.parametrize("block", WRONG, ids=lambda block: f"line{block.line}-{block.code}")
def test_what_is_wrong_is_refused_where_it_says(block: Block) -> None:
    text = spec(block)
    (line,) = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# here")]
    problems = found(text)
    assert [(code, place) for code, place, _ in problems] == [(block.code, line)], "\n".join(one[2] for one in problems)


# -- listings --


@pytest.mark.parametrize("stage", ["derivation", "torch"])
def test_listings_are_what_is_written(stage: str) -> None:
    (listing,) = [block for block in BLOCKS if block.key == f"{stage} of"]
    (named,) = [block for block in BLOCKS if block.key == "name" and block.name == listing.name]
    written = show(source(named.text, named.name), Diagnostics(), stage)
    assert written is not None
    assert listing.text in written


# -- what is lowered --

ROW = re.compile(r"(?m)^\| (?P<construct>.*?) \| (?P<code>`.*`) \| (?P<compiles>[^|`]*) \|$")
ABOVE, TITLE, TABLE = PAGE.partition("## What is lowered")
TABLE, BELOW = TABLE[: TABLE.index("\n## ")], TABLE[TABLE.index("\n## ") :]
ROWS = [(row["construct"], re.findall(r"`([^`]*)`", row["code"].replace("\\|", "|")), row["compiles"]) for row in ROW.finditer(TABLE)]


def test_rows_are_read() -> None:
    assert len(ROWS) == TABLE.count("\n| ") - 1 >= 30
    assert {outcome for _, _, outcome in ROWS} <= {"yes", "not yet"}


def outcome(lines: list[str]) -> str:
    """What the compiler makes of a row in its frame: `yes`, `not yet`, or the codes of what else is wrong with it."""
    diagnostics = Diagnostics()
    done = compile(source(framed("".join(f"{line}\n" for line in lines), "model")), diagnostics)
    codes = " ".join(one.code for one in diagnostics.found if one.severity == "error")
    return "yes" if done is not None and not codes else {"E0901": "not yet"}.get(codes, codes)


@pytest.mark.parametrize(("construct", "lines", "compiles"), ROWS, ids=[row[0] for row in ROWS])
def test_the_table_of_what_is_lowered(construct: str, lines: list[str], compiles: str) -> None:
    assert outcome(lines) == compiles


def test_every_row_is_accepted() -> None:
    for _, lines, _ in ROWS:
        assert [problem for problem in found(framed("".join(f"{line}\n" for line in lines), "model")) if problem[0].startswith("E")] == []


# -- nothing is left out --


def spans() -> set[str]:
    return {name for span in re.findall(r"`([^`\n]+)`", PAGE) for name in re.findall(r"[A-Za-z_]\w*", span)}


def test_every_function_stands_in_a_table() -> None:
    tables = "\n".join(line for line in PAGE.partition("## Functions")[2].partition("## What is lowered")[0].splitlines() if line.startswith("|"))
    told = {name for cell in re.findall(r"(?m)^\| (.*?) \|", tables) for span in re.findall(r"`([^`]+)`", cell) for name in re.findall(r"^\w+", span)}
    assert set(FUNCTIONS) - told == set()
    assert told - set(FUNCTIONS) == {"integral"}


def test_every_reserved_word_is_listed() -> None:
    listed = PAGE.partition("These words name nothing")[2].partition("\nAfter `as` a label")[0].partition(": ")[2]
    assert set(re.findall(r"`(\w+)`", listed)) == reserved()


def test_every_form_has_an_example() -> None:
    """Each word of the grammar stands in an example that is accepted."""
    shown = {word for block in RIGHT for word in re.findall(r"[a-z]+", re.sub(r"#.*", "", spec(block)))}
    rows = {word for _, lines, _ in ROWS for line in lines for word in re.findall(r"[a-z]+", line)}
    assert reserved() - shown - rows == set()


def test_codes_exist() -> None:
    assert set(re.findall(r"\b[EW]0\d{3}\b", PAGE)) <= set(CATALOGUE)


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("characters in a file", f"{MOST_CHARACTERS:,}"),
        ("characters in a name", str(LONGEST_NAME)),
        ("characters in a number", f"{LONGEST_NUMBER}, with an exponent up to {LARGEST_EXPONENT}"),
        ("brackets, braces and operators inside each other", str(DEEPEST)),
    ],
)
def test_limits_are_those_of_the_compiler(what: str, limit: str) -> None:
    assert f"| {what} | {limit} |" in PAGE


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ("dim d = 2^40", "dim d = 2^40 + 1"),
        ("block f(x: []) {\n  repeat 100_000 { x <- tanh(x) }\n  return x\n}", "block f(x: []) {\n  repeat 100_001 { x <- tanh(x) }\n  return x\n}"),
        ("variant v {\n  d = 2,\n}\ndim d = 1", "block f(x: []) { return tanh(x,) }"),
        ("const a = sqrt(2)", "const a = exp(2)"),
    ],
)
def test_choices_that_the_page_states(within: str, beyond: str) -> None:
    assert found(within) == []
    assert len(found(beyond)) == 1


# -- the editor's grammar --

EDITOR = json.loads((ROOT / "grammar" / "mpt.tmLanguage.json").read_text(encoding="utf-8"))


def rules(scope: str) -> list[str]:
    everything = [*EDITOR["patterns"], *(rule for group in EDITOR["repository"].values() for rule in group["patterns"])]
    scopes = [(rule.get("name", ""), rule) for rule in everything if "match" in rule]
    scopes += [(capture["name"], rule) for _, rule in scopes for capture in rule.get("captures", {}).values()]
    return [rule["match"] for name, rule in scopes if name.startswith(scope)]


def words(scope: str) -> set[str]:
    return {word for match in rules(scope) for group in re.findall(r"\\b\(?(?:\?:)?([a-z|]+)\)?\\b", match) for word in group.split("|")}


def test_the_editor_knows_the_reserved_words() -> None:
    assert words("keyword") | words("storage") == reserved()


def test_the_editor_knows_the_functions() -> None:
    (match,) = rules("support.function")
    assert set(re.findall(r"\b[a-z_0-9]{2,}\b", match.partition("(?:")[2].partition(")")[0])) == set(FUNCTIONS)


def test_the_editor_reads_tokens_as_the_compiler_does() -> None:
    patterns = load().patterns
    (number,) = rules("constant.numeric")
    assert number.endswith(patterns["NUMBER"])
    assert patterns["STRING"] in rules("string.quoted")
    assert patterns["COMMENT"] in rules("comment.line")
    signs = {text for text in load().literals if not text.isalpha()} - set("()[]{},.:|")
    operators = "|".join(rules("keyword.operator"))
    assert all(re.fullmatch(operators, sign) for sign in signs)


@pytest.mark.parametrize("scope", ["comment", "string", "constant", "keyword", "storage", "support", "entity"])
def test_every_pattern_of_the_editor_is_a_pattern(scope: str) -> None:
    assert rules(scope)
    for match in rules(scope):
        re.compile(match)


if __name__ == "__main__":
    outcomes = iter([outcome(lines) for _, lines, _ in ROWS])
    table = ROW.sub(lambda row: f"| {row['construct']} | {row['code']} | {next(outcomes)} |", TABLE)
    (ROOT / "grammar" / "language.md").write_text(ABOVE + TITLE + table + BELOW, encoding="utf-8")
