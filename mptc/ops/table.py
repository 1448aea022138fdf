"""The table of ops: which facets each has, and why one is absent. `python -m mptc.ops.table` prints `grammar/ops.md`."""

from __future__ import annotations

import importlib
import pkgutil

import mptc.ops
from mptc.ir.node import FACETS, Absent, Op

HEAD = """# Ops

Every op of the IR, with its facets; a number is the reason, below, why that facet does not apply. Written by `python -m mptc.ops.table`.
"""


def every_op() -> list[type[Op]]:
    """All classes of this room, in the order of their names."""
    for module in pkgutil.iter_modules(mptc.ops.__path__, "mptc.ops."):
        importlib.import_module(module.name)
    return sorted((op for op in Op.registry if op.__module__.startswith("mptc.ops.")), key=lambda op: op.__name__)


def absences(op: type[Op]) -> dict[str, str]:
    """The facets that do not apply, and why."""
    facets = {facet: getattr(op, facet) for facet in FACETS}
    return {facet: value.reason for facet, value in facets.items() if isinstance(value, Absent)}


def table() -> str:
    """The page, in Markdown."""
    reasons: dict[str, int] = {}
    rows = [_row(("op", "meaning", *FACETS)), _row(["---"] * (len(FACETS) + 2))]
    for op in every_op():
        missing = absences(op)
        marks = [str(reasons.setdefault(missing[facet], len(reasons) + 1)) if facet in missing else "✓" for facet in FACETS]
        rows.append(_row((f"`{op.__name__}`", _meaning(op), *marks)))
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([HEAD, *rows, "", *notes]) + "\n"


def _meaning(op: type[Op]) -> str:
    """The first line of its docstring; a pipe would end the cell."""
    return (op.__doc__ or "").strip().partition("\n")[0].replace("|", "\\|")


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(table(), end="")
