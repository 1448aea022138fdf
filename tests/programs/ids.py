"""Rules for ids: what is looked up by them, what is counted of them, and their types."""

from __future__ import annotations

from dataclasses import replace

from tests.programs.numbers import Want, called, infix, number, picked, rule, shuffled
from tests.programs.scope import Name, Scope
from tests.programs.term import NONE, Term, literal


def some_ids(scope: Scope, want: Want) -> Term | None:
    """Ids in view, or made of those: shifted, viewed, or their types."""
    near = [entry for entry in scope.ids() if entry.term.axes <= want.axes and entry.term.contexts <= want.over]
    if not near:
        return None
    ids = scope.use(picked(scope, near))
    whole = not ids.contexts and ids.per == 2
    options = ["plain", "plain"]
    options += ["types"] * 2 if ids.vocabulary in scope.world.kinds else []
    options += ["shifted"] if whole else []
    contexts = [context for context in sorted(want.over) if context in scope.world.views]
    options += ["viewed"] * 3 if whole and contexts else []
    kind = scope.draw.choice(options)
    if kind == "types":
        return typed(scope, ids)
    if kind == "shifted":
        by = scope.draw.choice([1, 2, *([-1] if scope.ahead else [])])
        return called("shift", ids, options=f", {by}", vocabulary=ids.vocabulary, late=ids.late or by < 0)
    if kind == "viewed":
        return seen_ids(scope, ids, scope.draw.choice(contexts))
    return ids


def typed(scope: Scope, ids: Term) -> Term:
    kind = scope.world.kinds[ids.vocabulary or ""]
    return called(kind, ids, vocabulary=kind)


def seen_ids(scope: Scope, ids: Term, context: str) -> Term:
    scope.looking(context)
    scope.views(ids)
    function = scope.draw.choice(["past", "past", *(["all"] if scope.ahead else [])])
    brackets = () if context == "ctx" else (context,)
    made = called(function, ids, brackets=brackets, vocabulary=ids.vocabulary, late=ids.late or function == "all")
    return replace(made, seen=ids.seen | {context})


def table(scope: Scope, vocabulary: str, axes: list[str]) -> Term:
    """A table for these ids: one that is there, or a new one."""
    near = [entry for entry in scope.numbers() if vocabulary in entry.term.axes and entry.term.text.isidentifier() and _is_table(entry, vocabulary)]
    near = [entry for entry in near if entry.term.axes - {vocabulary} <= set(axes)]
    if near and scope.draw.chance(40):
        return scope.use(picked(scope, near))
    return scope.parameter(shuffled(scope, [vocabulary, *axes]), base="table")


def _is_table(entry: Name, vocabulary: str) -> bool:
    return entry.term.per == 0 and not entry.term.contexts and not entry.term.mine


@rule(9)
def looked_up(scope: Scope, want: Want) -> Term | None:
    if want.mine:
        return None
    ids = some_ids(scope, want)
    if ids is None or ids.vocabulary is None or ids.vocabulary in want.axes:
        return None
    vocabulary = scope.narrowed.get(ids.text, ids.vocabulary) if scope.draw.chance(70) else ids.vocabulary
    rows = table(scope, vocabulary, sorted(want.axes - ids.axes))
    scope.naming(vocabulary)
    made = called("lookup", rows, ids, vocabulary=None, size=1.0)
    return replace(made, axes=(rows.axes - {vocabulary}) | ids.axes)


@rule(3)
def mixture(scope: Scope, want: Want) -> Term | None:
    """A mixture of tables, or a conditional one: the weights depend on something else."""
    if want.mine or want.over:
        return None
    ids = some_ids(scope, replace(want, over=NONE))
    free = sorted(scope.dims(1, 1) - want.axes)
    if ids is None or not free or ids.vocabulary in want.axes:
        return None
    rows = table(scope, ids.vocabulary or "", [*sorted(want.axes - ids.axes), *free])
    weights = number(scope, Want(frozenset(free), NONE, 1))
    weights = called(scope.draw.choice(["softmax"]), weights, brackets=free) if scope.draw.chance(60) else called("relu", weights)
    scope.naming(*free, ids.vocabulary or "")
    found = replace(called("lookup", rows, ids), axes=(rows.axes - {ids.vocabulary or ""}) | ids.axes, vocabulary=None)
    both = infix("*", weights, found, size=1.0)
    return called("sum", both, brackets=free, axes=both.axes - set(free), size=1.0)


@rule(3)
def adaptive(scope: Scope, want: Want) -> Term | None:
    """A looked up value, scaled and moved by something else."""
    made = looked_up(scope, want)
    if made is None:
        return None
    scale = number(scope, Want(want.axes, NONE, 1))
    return infix("*", made, infix("+", literal(1), scale), size=1.5)


@rule(4)
def compared(scope: Scope, want: Want) -> Term | None:
    """1 where two ids are equal, or an id is of a type."""
    if want.mine:
        return None
    ids = some_ids(scope, want)
    if ids is None or ids.vocabulary is None:
        return None
    others = [entry for entry in scope.ids() if entry.term.vocabulary == ids.vocabulary and entry.term.axes <= want.axes]
    others = [entry for entry in others if entry.term.contexts <= want.over]
    parts = scope.world.vocabularies.get(ids.vocabulary, [])
    kind = scope.draw.choice(["number", *(["ids"] * 2 if others else []), *(["part"] * 2 if parts else [])])
    if kind == "part":
        part = scope.draw.choice(parts)
        scope.naming(part, ids.vocabulary)
        return infix("in", ids, Term(part), vocabulary=None, size=1.0)
    other = scope.use(scope.draw.choice(others)) if kind == "ids" else literal(scope.draw.choice([1, 0, 2]))
    return infix("==", ids, other, vocabulary=None, size=1.0)


@rule(3)
def counted(scope: Scope, want: Want) -> Term | None:
    """How often the id was there: a sum over a context of equal ids."""
    whole = [entry for entry in scope.ids() if entry.term.per == 2 and not entry.term.contexts and entry.term.axes <= want.axes]
    if not whole or want.mine or want.over:
        return None
    context = scope.draw.choice(scope.world.views)
    ids = scope.use(scope.draw.choice(whole))
    same = infix("==", seen_ids(scope, ids, context), ids, vocabulary=None)
    if scope.draw.chance(40):
        same = infix("*", same, number(scope, Want(NONE, frozenset([context]), 1)))
    made = called("sum", same, brackets=[context], seen=same.seen - {context}, thin=same.thin - {context}, size=2.0)
    return infix("*", literal(0.5), made)
