"""Names of the generated code: the spec's where they can be had, each used once in a function (or again when its value is no longer needed)."""

from __future__ import annotations

import builtins
import keyword

from mptc.backends.torch.provided import provided
from mptc.ir.program import Program
from mptc.ops.leaf import Input

IMPORTED = ("F", "torch", "nn", "Tensor", "NamedTuple", "Callable", "hashlib", "re", "copy")
LOCAL = ("self", "batch", "seq", "device", "dtype", "wide", "position", "seen", "cache", "loss", "probe", "probes", "evaluated", "kernels")
TAKEN = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *IMPORTED, *LOCAL})


class Names:
    """The names of one function. Those of the functions that the module is given are not for variables, whether it needs them or not."""

    def __init__(self) -> None:
        self.taken = TAKEN | provided().keys()
        self.held: set[str] = set()
        self.ever: set[str] = set()
        self.idle: dict[str, None] = {}  # what these name is in memory, and nothing reads it any more

    def take(self, hint: str, fresh: bool = False) -> str:
        """A name like the hint that nothing holds; `fresh`: that nothing ever held, for what is there when the function begins."""
        candidate, number = hint, 1
        if candidate in self.taken or candidate.startswith(("rotation_", "length_")):
            candidate = hint = f"{hint}_"
        while candidate in (self.ever if fresh else self.held) or candidate in self.taken:
            number += 1
            candidate = f"{hint}{'_' if hint[-1].isdigit() else ''}{number}"
        self.hold(candidate)
        self.ever.add(candidate)
        return candidate

    def hold(self, name: str) -> None:
        self.held.add(name)
        self.idle.pop(name, None)

    def release(self, name: str, large: bool = False) -> None:
        """The name may be taken again; a `large` value stays in memory until it is, or is let go of."""
        self.held.discard(name)
        if large:
            self.idle[name] = None

    def let_go(self, least: int) -> list[str]:
        """A line that lets go of what is idle, where it is so much at least."""
        if len(self.idle) < least:
            return []
        line = f"del {', '.join(self.idle)}"
        self.idle.clear()
        return [line]


def called(program: Program, helper: str) -> str:
    """What a helper is called where an input may have its name."""
    return f"_{helper}" if any(isinstance(node.op, Input) and node.op.label == helper for node in program.inputs) else helper


def camel(label: str) -> str:
    """A class name for a stack's copies: `layers` are made of `Layer`."""
    one = label[:-1] if len(label) > 2 and label.endswith("s") and not label.endswith("ss") else label
    return "".join(part[:1].upper() + part[1:] for part in one.split("_")) or "Copy"


def ambient_name(request: str) -> str:
    """`rotation(64, 10000.0)` is called `rotation_64`, `length(mem)` `length_mem`."""
    kind, _, rest = request.partition("(")
    parts = [part for part in rest.rstrip(")").split(", ") if part and part != "10000.0"]
    return "_".join([kind, *(part.replace(".", "_").replace("-", "_").replace("+", "") for part in parts)])
