"""A failing spec made small: whatever can be left out while it goes on failing in the same way is.

By hand: `python -m tests.programs.reduce SPEC.mpt [--deploy]`, the spec as `python -m tests.programs` keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from mptc.syntax import tree
from mptc.syntax.parse import parse
from mptc.syntax.unparse import unparse
from tests.programs.deploy import deploy
from tests.programs.judge import fault, judge
from tests.programs.models import Spec


def reduced(spec: Spec, fails: Callable[[Spec], bool]) -> Spec:
    """The smallest of what is like it and fails."""
    file = parse(Source("m.mpt", spec.text), Diagnostics())
    assert file is not None
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(file):
            text = unparse(smaller)
            if sound(text) and fails(replace(spec, text=text)):
                file, changed = smaller, True
                break
    return replace(spec, text=unparse(file))


def sound(text: str) -> bool:
    try:
        return resolve(Source("m.mpt", text), {}, None, Diagnostics()) is not None
    except Exception:  # noqa: BLE001 -- a fault of its own
        return False


def _smaller(file: tree.File) -> Iterator[tree.File]:
    """Everything with one thing less, the largest things first."""
    yield from _without_arguments(file)
    places = sorted((place for place in _places(file, ()) if place[-1:] != ("call",)), key=lambda place: -_weight(_at(file, place)))
    for place in places:
        for other in _instead(_at(file, place)):
            yield _put(file, place, other)


Place = tuple[Any, ...]


def _places(node: Any, place: Place) -> Iterator[Place]:
    if isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from _places(item, (*place, index))
    elif is_dataclass(node):
        yield place
        for item in fields(node):
            if item.name != "span":
                yield from _places(getattr(node, item.name), (*place, item.name))


def _at(node: Any, place: Place) -> Any:
    for step in place:
        node = node[step] if isinstance(step, int) else getattr(node, step)
    return node


def _put(node: Any, place: Place, other: Any) -> Any:
    """With something else in a place; in a tuple, any number of things."""
    if not place:
        return other
    step, rest = place[0], place[1:]
    if isinstance(step, int):
        several = [_put(node[step], rest, other)] if rest else other if isinstance(other, tuple) else (other,)
        return (*node[:step], *several, *node[step + 1 :])
    return replace(node, **{step: _put(getattr(node, step), rest, other)})


def _weight(node: Any) -> int:
    return 1 + sum(1 for _ in _places(node, ()))


def _instead(node: Any) -> Iterator[Any]:
    match node:
        case tree.Stack(body=body) | tree.Repeat(body=body):
            yield ()
            yield body
            if node.count != tree.Number(Fraction(1), span=node.span):
                yield replace(node, count=tree.Number(Fraction(1), span=node.span))
        case tree.Declaration() | tree.Statement():
            yield ()
        case tree.Expr():
            yield from (part for part in _parts(node))
            if not isinstance(node, tree.Number):
                yield tree.Number(Fraction(1), span=node.span)
        case tree.Init():
            yield None
        case _:
            return


def _parts(node: tree.Expr) -> Iterator[tree.Expr]:
    """The expressions inside, the outermost first."""
    waiting = [getattr(node, item.name) for item in fields(node) if item.name != "span"]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, tuple):
            waiting.extend(each)
        elif isinstance(each, tree.Expr):
            yield each
            waiting.extend(getattr(each, item.name) for item in fields(each) if item.name != "span")
        elif is_dataclass(each):
            waiting.extend(getattr(each, item.name) for item in fields(each) if item.name != "span")


def _without_arguments(file: tree.File) -> Iterator[tree.File]:
    """A block or energy without one of its arguments but the first, where it is declared and where it is called."""
    for index, declaration in enumerate(file.declarations):
        if not isinstance(declaration, tree.Block | tree.Energy):
            continue
        field = "args" if isinstance(declaration, tree.Block) else "conditions"
        several = getattr(declaration, field)
        for place in range(1 if field == "args" else 0, len(several)):
            kept = (*several[:place], *several[place + 1 :])
            yield _uncalled(_put(file, ("declarations", index), replace(declaration, **{field: kept})), declaration.name.text, field, place)


def _uncalled(file: tree.File, name: str, field: str, argument: int) -> tree.File:
    shares = [each for place in _places(file, ()) if isinstance(each := _at(file, place), tree.Share)]
    names = {name, *(share.name.text for share in shares if share.callee.name.text == name)}
    for place in sorted(_places(file, ()), key=lambda each: -len(each)):
        node = _at(file, place)
        if isinstance(node, tree.Call) and node.callee.name.text in names and len(getattr(node, field)) > argument:
            several = getattr(node, field)
            file = _put(file, place, replace(node, **{field: (*several[:argument], *several[argument + 1 :])}))
    return file


def main() -> None:
    spec = Spec.read(Path(sys.argv[1]).read_text(encoding="utf-8"))
    judged = (lambda spec: list(deploy(spec))) if "--deploy" in sys.argv else judge
    kind = fault(spec, judged)
    print(kind)
    print(repr(reduced(spec, lambda smaller: fault(smaller, judged) == kind)))


if __name__ == "__main__":
    main()
