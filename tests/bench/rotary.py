"""What the layers written by hand take beside `x`: their rotary tables, made once, outside what is timed (`mptc bench --inputs`)."""

from __future__ import annotations

import sys
from typing import Any


def tables(theirs: Any, given: dict[str, Any]) -> dict[str, Any]:
    x = given["x"]
    cos, sin = sys.modules[type(theirs).__module__].tables(x.shape[1], theirs.k, dtype=x.dtype, device=x.device)
    return {"x": x, "cos": cos, "sin": sin}
