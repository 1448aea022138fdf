"""Tiles, by architecture: read from the lock files in `tiles/`, which `mptc tune` rewrites; never from timing at run time."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from mptc.resources import tiles_dir

DTYPES = {"float32": "float32", "float16": "half", "bfloat16": "half"}
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
PASSES = ("forward", "keys", "queries")
WIDTHS = (64, 128, 256)
OTHER = {"forward": (32, 32, 4, 1), "keys": (32, 32, 4, 1), "queries": (32, 32, 4, 1), "wins": False}  # where no lock file is for


@cache
def lock(architecture: str) -> dict[str, Any]:
    """The lock file of an architecture."""
    found: dict[str, Any] = json.loads((tiles_dir() / f"{architecture}.json").read_text(encoding="utf-8"))
    return found


def entry(architecture: str, dtype: str, width: int, tied: bool) -> dict[str, Any]:
    """The entry of a lock file for an attention whose heads are so wide."""
    by = lock(architecture)["attention"]["tied" if tied else "untied"][DTYPES[dtype]]
    found: dict[str, Any] = by[str(next(most for most in WIDTHS if width <= most))]
    return found


def tiles(width: int, tied: bool) -> list[tuple[str, str]]:
    """For each architecture and dtype the tiles of an attention whose heads are so wide, as they are printed."""
    printed = []
    for architecture in ARCHITECTURES:
        for dtype in DTYPES:
            found = entry(architecture, dtype, width, tied)
            values = {each: tuple(found[each]) for each in PASSES}
            printed.append((repr((architecture, dtype)), repr({**values, "wins": wins(found)})))
    return [*printed, *((repr(("other", dtype)), repr(OTHER)) for dtype in DTYPES)]


def row_tiles(width: int) -> list[tuple[str, str]]:
    """For each architecture and dtype how many rows of a width are a tile, and by how many warps."""
    rows, warps = max(1, 4096 // width), 4 if width < 4096 else 8
    printed = []
    for architecture in (*ARCHITECTURES, "other"):
        ratio = lock(architecture).get("rows") if architecture != "other" else None
        printed += [(repr((architecture, dtype)), repr({"rows": rows, "warps": warps, "wins": (ratio or 0) > 1})) for dtype in DTYPES]
    return printed


def gated_tiles() -> list[tuple[str, str]]:
    """For each architecture and dtype the tiles of a gated map: rows, columns, what is summed at a time, warps, stages."""
    printed = []
    for architecture in (*ARCHITECTURES, "other"):
        ratio = lock(architecture).get("gated") if architecture != "other" else None
        for dtype, group in DTYPES.items():
            tile = (32, 32, 32, 4, 1) if architecture == "other" else (128, 64, 64, 8, 3) if group == "half" else (64, 32, 32, 4, 2)
            if architecture == "gfx942" and group == "half":
                tile = (128, 64, 32, 8, 2)
            printed.append((repr((architecture, dtype)), repr({**dict.fromkeys(("forward", "inner", "weight"), tile), "wins": (ratio or 0) > 1})))
    return printed


def wins(found: dict[str, Any]) -> bool:
    """Whether it was measured to be faster than the best of torch, forward and backward together."""
    return (found.get("ratio") or 0) > 1
