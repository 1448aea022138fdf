"""Texts to try: what the grammar makes, mutations of every spec in the repository, and bytes."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Lark

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("specs", "tests/energies", "tests/model/legal", "tests/model/malformed", "tests/syntax/malformed", "tests/syntax/fmt", "tests/fuzz/finds")
HERE = str(ROOT / "specs" / "fuzz.mpt")
_TOKENS = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|[0-9._]+|#[^\n]*|[ \t]+|\"[^\"\n]*\"|<-|->|<=|>=|==|.|\n", re.DOTALL)
# One name of each kind, so that a text from the grammar is about something; and what names the builtins.
_NAMES = [
    "d",
    "e",
    "head",
    "key",
    "vocab",
    "ctx",
    "mem",
    "seq",
    "c",
    "n",
    "x",
    "y",
    "t",
    "f",
    "g",
    "own",
    "m",
    "W",
    "layers",
    "position",
    "sum",
    "mean",
    "max",
    "logsumexp",
    "softmax",
    "rms",
    "rope",
    "past",
    "window",
    "all",
    "only",
    "distance",
    "index",
    "shift",
    "lookup",
    "next",
    "cross_entropy",
    "topk",
    "softtopk",
    "load_balance",
    "exp",
    "tanh",
    "silu",
    "where",
    "stop",
    "dropout",
    "min",
    "rmsnorm",
    "attention",
    "swiglu",
    "route_causal",
    "interaction",
    "gated",
    "here",
]
_HEAD = """use "lib/cem.mpt"
dim d = 4
dim e = 4
dim head = 2
dim key = 4
dim vocab = 8
dim kv = 2
dim group = 1
dim hidden = 4
dim rank = 2
const n = 2
context mem
block f(x: [d]) { return tanh(x) }
block g(x: [d]) {
  param gain: [d] = 1
  return gain * x
}
energy own(x: [d] | c: [ctx, d]) { minimize -logsumexp[ctx](sum[d](x * c)) }
"""


# -- from the grammar ------------------------------------------------------------------------------


def from_grammar(count: int, number: int) -> Iterator[str]:
    """By hypothesis, from the grammar file itself. Every second text is one statement or expression in a spec that declares what it names."""
    found: list[str] = []

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(_texts())
    def collect(text: str) -> None:
        found.append(text)

    collect()
    yield from found[:count]


@cache
def _texts() -> st.SearchStrategy[str]:
    starts = ["file", "expr", "bind", "stack", "energy", "block"]
    grammar = Lark((ROOT / "grammar" / "mpt.lark").read_text(), start=starts, parser="lalr")
    explicit = {
        "NAME": st.sampled_from(_NAMES),
        "NUMBER": st.sampled_from(["0", "1", "2", "3", "0.5", "1e-6", "100_000", "1e300", "9_999_999_999"]),
        "STRING": st.sampled_from(['"lib/std.mpt"', '"lib/cem.mpt"', '"../x.mpt"', '""']),
        "COMMENT": st.just("# a"),
        "BLANK": st.just(" "),
    }
    made = {}
    for start in starts:
        terminals = {terminal.name for terminal in grammar.grammar.compile([start], ())[0]}
        made[start] = from_lark(grammar, start=start, explicit={name: each for name, each in explicit.items() if name in terminals})
    body = "{}model m{} {{\n  input x: [d]\n  input t: id[vocab]\n  param W: [e, d]\n  {}\n  output y = x\n}}\n"
    kinds = st.sampled_from(["", " bidirectional"])
    statements = made["bind"] | made["stack"] | made["expr"].map(lambda text: f"v = {text}") | made["expr"].map(lambda text: f"x <- {text}")
    inside = st.builds(lambda text, kind: body.format(_HEAD, kind, text), statements, kinds)
    beside = st.builds(lambda text: body.format(f"{_HEAD}{text}\n", "", ""), made["energy"] | made["block"])
    return made["file"] | inside | inside | beside


# -- mutations -------------------------------------------------------------------------------------


@cache
def seeds() -> tuple[tuple[str, str], ...]:
    """Every spec in the repository: its path and text."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.mpt"))
    return tuple((str(path), path.read_text(encoding="utf-8", errors="replace")) for path in paths)


@cache
def sound() -> tuple[tuple[str, str], ...]:
    """Those that are not malformed to begin with."""
    return tuple((path, text) for path, text in seeds() if "malformed" not in path)


@cache
def _pool() -> dict[str, list[str]]:
    """All tokens by their kind, so that most mutations still parse."""
    pool: dict[str, list[str]] = {}
    for _, text in seeds():
        for token in _TOKENS.findall(text):
            if token.strip() and not token.startswith("#"):
                pool.setdefault(_kind(token), []).append(token)
    return pool


def mutated(count: int, number: int) -> Iterator[tuple[str, str]]:
    """Specs with a few tokens, lines or characters exchanged, dropped, doubled or brought in from another."""
    chance = random.Random(number)
    for _ in range(count):
        path, text = chance.choice(seeds() if chance.random() < 0.3 else sound())
        for _ in range(chance.choice([1, 1, 1, 2, 3, 6])):
            text = chance.choice([*[_token] * 8, _line, _line, _character])(text, chance)
        yield path, text


def _token(text: str, chance: random.Random) -> str:
    tokens = _TOKENS.findall(text)
    places = [place for place, token in enumerate(tokens) if token.strip() and not token.startswith("#")]
    if not places:
        return text
    place = chance.choice(places)
    if chance.random() < 0.9:
        tokens[place] = chance.choice(_pool().get(_kind(tokens[place]), ["x"]) if chance.random() < 0.6 else tokens_alike(tokens, place))
    else:
        tokens[place : place + 1] = chance.choice([[], [tokens[place], " "] * 2, [chance.choice(tokens)]])
    return "".join(tokens)


def tokens_alike(tokens: list[str], place: int) -> list[str]:
    """Of the text itself: names that it knows."""
    return [token for token in tokens if token.strip() and not token.startswith("#") and _kind(token) == _kind(tokens[place])]


def _kind(token: str) -> str:
    return "name" if token[0].isalpha() else "number" if token[0].isdigit() else "operator" if token in "+-*/^@<=>===" else token[0]


def _line(text: str, chance: random.Random) -> str:
    lines = text.splitlines()
    other = chance.choice(seeds())[1].splitlines() or [""]
    place = chance.randrange(len(lines) + 1)
    end = min(len(lines), place + chance.choice([0, 1, 1, 2, 5]))
    lines[place:end] = chance.choice([[], [chance.choice(other)], lines[place:end] * 2, other[: chance.randrange(10)]])
    return "\n".join(lines) + "\n"


def _character(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    made = chance.choice(["", "{", "}", "(", "]", "|", "\x00", "\x85", "\u2028", "\ud800", "é", '"', "-", "^", "\r\n", "\t", "1" * 40, "x" * 120])
    return text[:place] + made + text[place + chance.choice([0, 1]) :]


# -- bytes -----------------------------------------------------------------------------------------


def raw(count: int, number: int) -> Iterator[str]:
    """Bytes, read as a file's are: what is not UTF-8 becomes U+FFFD."""
    chance = random.Random(number)
    for _ in range(count):
        if chance.random() < 0.5:
            content = chance.randbytes(chance.choice([1, 10, 100, 1000]))
        else:
            content = bytearray(chance.choice(seeds())[1].encode("utf-8", errors="replace"))
            for _ in range(chance.choice([1, 3, 10])):
                content[chance.randrange(len(content) + 1) : chance.randrange(len(content) + 1)] = chance.randbytes(chance.choice([0, 1, 4]))
        yield bytes(content).decode("utf-8", errors="replace")


def texts(count: int, number: int = 0) -> Iterator[tuple[str, str, str]]:
    """Kind, path and text: of every ten two from the grammar, seven mutations, one of bytes."""
    for text in from_grammar(count // 5, number):
        yield "grammar", HERE, text
    for path, text in mutated(count - count // 5 - count // 10, number):
        yield "mutation", path, text
    for text in raw(count // 10, number):
        yield "bytes", HERE, text
