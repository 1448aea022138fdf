"""What the prelude declares, asked only when a name is not known: the likeliest reason is a `use` line that is not there."""

from __future__ import annotations

from functools import cache

from mptc.resources import prelude_dir
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from mptc.syntax import tree as syntax
from mptc.syntax.parse import parse


def use_for(name: str) -> str | None:
    """The `use` line that would bring a block or energy of the prelude in."""
    file = _homes().get(name)
    return None if file is None else f'use "lib/{file}"'


@cache
def _homes() -> dict[str, str]:
    """The file of each block and energy of the prelude."""
    homes: dict[str, str] = {}
    for path in sorted(prelude_dir().glob("*.mpt")):
        file = parse(Source.read(path), Diagnostics())
        for node in file.declarations if file is not None else ():
            if isinstance(node, syntax.Block | syntax.Energy):
                homes.setdefault(node.name.text, path.name)
    return homes
