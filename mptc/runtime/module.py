"""From the text of a generated module to a module that Python treats as its own."""

from __future__ import annotations

import hashlib
import linecache
import sys
from types import ModuleType


def as_module(name: str, text: str) -> ModuleType:
    """Run `text` as a module, found in `sys.modules` and `linecache`: tracebacks show its lines, `inspect.getsource`, `pickle` and `deepcopy` work.

    The same text gives the same module object, so its classes are the same too.
    """
    unique = f"mptc_{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
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
