"""From the text of a generated module to a module that Python treats as its own."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType
from typing import Any

from torch import nn


def as_module(name: str, text: str, kernels: str | None = None) -> ModuleType:
    """Run `text` as a module, found in `sys.modules` and `linecache`: tracebacks show its lines, `inspect.getsource`, `pickle` and `deepcopy` work.

    The same text gives the same module object, so its classes are the same too. `kernels`: the text of the module that it looks for beside it.
    """
    if kernels is not None:
        _run(f"kernels_{hashlib.sha256(kernels.encode()).hexdigest()[:12]}", kernels)
    unique = f"mptc_{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if unique in sys.modules:
        return sys.modules[unique]
    module = _run(unique, text)
    for made in vars(module).values():
        if isinstance(made, type) and issubclass(made, nn.Module) and made.__module__ == unique:
            _carry(made, name, text, kernels)
    return module


def _run(unique: str, text: str) -> ModuleType:
    if unique in sys.modules:
        return sys.modules[unique]
    module = ModuleType(unique)
    module.__file__ = f"<{unique}>"
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    sys.modules[unique] = module  # before it runs: a NamedTuple or a dataclass looks its module up
    try:
        exec(compile(text, module.__file__, "exec"), module.__dict__)  # noqa: S102 -- the text is this compiler's own
    except BaseException:
        del sys.modules[unique]
        raise
    return module


# A pickle names classes by their module, and another process has none of that name. So what is pickled carries the module's text: once, however many
# parts of a model it has, because pickle writes an object that it has met as a reference.


def _carry(made: type[nn.Module], name: str, text: str, kernels: str | None) -> None:
    def reduce(self: nn.Module, _protocol: int) -> tuple[object, ...]:
        return bare, (name, text, made.__name__, kernels), self.__dict__

    made.__reduce_ex__ = reduce  # type: ignore[assignment, method-assign]


def bare(name: str, text: str, of: str, kernels: str | None = None) -> Any:
    """An instance of a generated module's class, without its state: what a pickle begins with."""
    made = getattr(as_module(name, text, kernels), of)
    return made.__new__(made)
