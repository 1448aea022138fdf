"""Dependencies first: the order in which declarations that mention each other are looked at, without recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from mptc.syntax.tree import Syntax

Key = TypeVar("Key")


def dependencies_first(roots: Iterable[Key], needs: Callable[[Key], Iterable[Key]]) -> tuple[list[Key], list[list[Key]]]:
    """The keys, each after what it needs, and the circles found, each once."""
    order: list[Key] = []
    circles: list[list[Key]] = []
    done: set[Key] = set()
    for root in roots:
        if root in done:
            continue
        trail: dict[Key, Iterator[Key]] = {root: iter(tuple(needs(root)))}
        while trail:
            key, rest = next(reversed(trail.items()))
            following = next(rest, None)
            if following is None:
                del trail[key]
                done.add(key)
                order.append(key)
            elif following in trail:
                path = list(trail)
                circles.append(path[path.index(following) :])
            elif following not in done:
                trail[following] = iter(tuple(needs(following)))
    return order, circles


def nodes(root: Syntax) -> Iterator[Syntax]:
    """Every node of a syntax tree, in no order to rely on."""
    waiting: list[Syntax] = [root]
    while waiting:
        node = waiting.pop()
        yield node
        for name in node.__dataclass_fields__:
            part = getattr(node, name)
            if isinstance(part, Syntax):
                waiting.append(part)
            elif isinstance(part, tuple):
                waiting.extend(each for each in part if isinstance(each, Syntax))
