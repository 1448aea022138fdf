"""The LALR tables of `grammar/mpt.lark`.

Lark builds them in about 0.2 s, a third of what a whole `mptc check` may take. So they are kept beside this file, under the hash of the grammar
that they were built from; where the grammar has changed since, lark builds them anew in memory. After editing the grammar:

    python -m mptc.syntax.tables
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mptc.resources import grammar_path

if TYPE_CHECKING:
    from lark import Lark

KEPT = Path(__file__).with_name("tables.json")
START = "file"
END = "$END"


@dataclass(frozen=True)
class Rule:
    """`origin` is the nonterminal; `name` says which tree class is made; `kept` are the places of the symbols that are parts of it."""

    origin: str
    name: str
    size: int
    kept: tuple[int, ...]
    inner: bool  # its parts become parts of the rule around it
    single: bool  # a single part is given on as it is
    passes: bool  # nothing is made: the one symbol stands for itself


@dataclass(frozen=True)
class Tables:
    """A literal's terminal is its own text. Each state has its actions, on a terminal: to go to a state, or as -n - 1 to reduce rule n."""

    literals: tuple[str, ...]
    patterns: dict[str, str]
    ignored: tuple[str, ...]
    rules: tuple[Rule, ...]
    actions: tuple[dict[str, int], ...]
    gotos: tuple[dict[str, int], ...]


@cache
def load() -> Tables:
    text = grammar_path().read_text(encoding="utf-8")
    try:
        kept: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = {}
    return _tables(kept if kept.get("grammar") == _hash(text) else build(text))


def _tables(kept: dict[str, Any]) -> Tables:
    rules = tuple(_made_rule(*rule) for rule in kept["rules"])
    return Tables(tuple(kept["literals"]), kept["patterns"], tuple(kept["ignored"]), rules, tuple(kept["actions"]), tuple(kept["gotos"]))


def _made_rule(origin: str, name: str, size: int, kept: list[int], inner: bool, single: bool) -> Rule:
    return Rule(origin, name, size, tuple(kept), inner, single, passes=size == 1 and (inner or single) and kept == [0])


def _hash(grammar: str) -> str:
    return hashlib.sha256(grammar.encode()).hexdigest()


def lark(grammar: str, strict: bool = False) -> Lark:
    """Lark's own parser for the grammar. `strict` asks it to refuse any conflict and any two terminals that match one text."""
    from lark import Lark

    return Lark(grammar, start=START, parser="lalr", lexer="basic", strict=strict)


def build(grammar: str) -> dict[str, Any]:
    """The tables as plain data. States are numbered in the order in which they are reached, so that one grammar has one text of tables."""
    from lark.lexer import PatternStr

    made: Any = lark(grammar)
    literals = {terminal.name: terminal.pattern.value for terminal in made.terminals if isinstance(terminal.pattern, PatternStr)}
    patterns = {terminal.name: terminal.pattern.value for terminal in made.terminals if terminal.name not in literals}
    is_rule = {rule.origin.name for rule in made.rules}.__contains__
    rows = _rows(
        made.parser.parser._parse_table,  # noqa: SLF001 - lark shows its tables nowhere else
        {rule: number for number, rule in enumerate(made.rules)},
    )
    return {
        "grammar": _hash(grammar),
        "literals": sorted(literals.values()),
        "patterns": patterns,
        "ignored": sorted(made.ignore_tokens),
        "rules": [_rule(rule) for rule in made.rules],
        "actions": [{literals.get(name, name): target for name, target in row.items() if not is_rule(name)} for row in rows],
        "gotos": [{name: target for name, target in row.items() if is_rule(name)} for row in rows],
    }


def _rule(rule: Any) -> list[Any]:
    keeps_all = rule.options.keep_all_tokens
    kept = [place for place, symbol in enumerate(rule.expansion) if keeps_all or not getattr(symbol, "filter_out", False)]
    origin = rule.origin.name
    return [origin, rule.alias or origin, len(rule.expansion), kept, origin.startswith("_"), bool(rule.options.expand1 and not rule.alias)]


def _rows(table: Any, rules: dict[Any, int]) -> list[dict[str, int]]:
    """Every state's symbols, by name, with what to do on each."""
    from lark.parsers.lalr_analysis import Shift

    reached = [table.start_states[START]]
    numbers: dict[Any, int] = {reached[0]: 0}
    rows = []
    for state in reached:
        row = {}
        for symbol, (action, target) in sorted(table.states[state].items()):
            if action is Shift and target not in numbers:
                numbers[target] = len(reached)
                reached.append(target)
            row[symbol] = numbers[target] if action is Shift else -rules[target] - 1
        rows.append(row)
    return rows


def text(data: dict[str, Any]) -> str:
    """JSON, with one rule or state on a line."""
    parts = []
    for key, value in data.items():
        lines = ",\n  ".join(json.dumps(item) for item in value) if key in ("rules", "actions", "gotos") else None
        parts.append(f' "{key}": ' + (f"[\n  {lines}\n ]" if lines else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    KEPT.write_text(text(build(grammar_path().read_text(encoding="utf-8"))), encoding="utf-8")
