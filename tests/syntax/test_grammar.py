"""The grammar has no conflicts, its tables are fresh, and its rules are the classes of the tree."""

from __future__ import annotations

import inspect
import re

import pytest
from lark.exceptions import GrammarError

from mptc.resources import grammar_path
from mptc.syntax import tables, tree
from mptc.syntax.construct import MAKE
from mptc.syntax.lexer import reserved

GRAMMAR = grammar_path().read_text(encoding="utf-8")
RESERVED = """use dim const types of context variant energy block model bidirectional input id per sequence output loss minimize return param stack as
repeat share tie freeze penalty probe each on in grad integral"""


def test_strict() -> None:
    tables.lark(GRAMMAR, strict=True)


def test_strict_finds_a_conflict() -> None:
    """Without the rules of their own for counts, the `as` of a stack would be the label of a call."""
    with pytest.raises(GrammarError, match="conflict for terminal AS"):
        tables.lark(GRAMMAR.replace('"stack" count "as"', '"stack" expr "as"'), strict=True)


def test_strict_finds_a_collision_of_terminals() -> None:
    with pytest.raises(Exception, match="Collision"):
        tables.lark(GRAMMAR.replace("NUMBER: /[0-9]+", "NUMBER: /[0-9a-z]+"), strict=True)


def test_tables_are_those_of_the_grammar() -> None:
    """If this fails: python -m mptc.syntax.tables"""
    assert tables.KEPT.read_text(encoding="utf-8") == tables.text(tables.build(GRAMMAR))


def test_tables_of_another_grammar_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    changed = tmp_path / "mpt.lark"
    changed.write_text(GRAMMAR.replace('"freeze" path', '"hold" path').replace('| "freeze" |', '| "hold" |'), encoding="utf-8")
    monkeypatch.setattr(tables, "grammar_path", lambda: changed)
    assert "hold" in tables.load.__wrapped__().literals


def test_reserved_words() -> None:
    assert reserved() == set(RESERVED.split())


def test_any_reserved_word_is_a_label() -> None:
    alternatives = GRAMMAR.partition("!any_word:")[2].partition("\n\n")[0]
    assert set(re.findall(r'"(\w+)"', alternatives)) == reserved()


def test_every_class_has_its_rule() -> None:
    classes = [one for _, one in inspect.getmembers(tree, inspect.isclass) if issubclass(one, tree.Syntax)]
    made = {re.sub(r"(?<!^)(?=[A-Z])", "_", one.__name__).lower() for one in classes if not one.__subclasses__()}
    assert made <= set(MAKE)
    assert set(MAKE) - made == {"any_word", "axes", "ids"}


def test_every_rule_makes_something() -> None:
    made = {rule.name for rule in tables.load().rules if not rule.inner and not rule.single}
    assert made == set(MAKE)
