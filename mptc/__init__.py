"""mptc: a compiler from energies to layers. `mptc.load(path)` is the one thing that a program needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptc.runtime.errors import SpecError, UserError, WeightsError
    from mptc.runtime.fill import fill
    from mptc.runtime.load import load

__version__ = "0.1.0"
__all__ = ["SpecError", "UserError", "WeightsError", "__version__", "fill", "load"]


def __getattr__(name: str) -> object:
    """Import on first use: `import mptc` and the compiler itself never pay for torch."""
    if name == "fill":
        from mptc.runtime.fill import fill

        return fill
    if name == "load":
        from mptc.runtime.load import load

        return load
    if name in __all__:
        from mptc.runtime import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'mptc' has no attribute '{name}'")
