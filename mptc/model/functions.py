"""The table of builtin functions."""

from __future__ import annotations

from mptc.model.choices import CHOICES
from mptc.model.ids import IDS, LOOKUP_BY_NUMBER
from mptc.model.plain import PLAIN, REDUCED_MAX, UNARY
from mptc.model.site import Function
from mptc.model.views import VIEWS

FUNCTIONS: dict[str, Function] = {function.name: function for function in (*PLAIN, *VIEWS, *IDS, *CHOICES)}
WITH_AXES: dict[str, Function] = {"max": REDUCED_MAX, "lookup": LOOKUP_BY_NUMBER}  # those that brackets make another function
INTEGRABLE = frozenset(UNARY)


def function_named(name: str, brackets: bool) -> Function | None:
    """The function that a call means: `max(a, b)` and `max[d](e)` are two."""
    return WITH_AXES[name] if brackets and name in WITH_AXES else FUNCTIONS.get(name)
