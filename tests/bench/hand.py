"""The layers written by hand, and the specs that stand against them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mptc.runtime.bench import Job
from mptc.runtime.bench.job import pairs

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
PLACES = [parent / "shared" / "baselines" / "handwritten.py" for parent in ROOT.parents]  # beside the checkout, or above it
BY_HAND = next((place for place in PLACES if place.is_file()), PLACES[0])
D, HEADS, HIDDEN = 256, 4, 704

# The spec of each class, and what it calls the heads.
SPECS = {"CemLayer": ("cem_layer", "head"), "CemAutograd": ("cem_layer", "head"), "LlamaLayer": ("llama_layer", "kv")}


def weights(name: str) -> dict[str, str]:
    """Their name of each of our weights."""
    return pairs([str(HERE / f"{SPECS[name][0]}.map")])


def job(name: str, d: int = D, heads: int = HEADS, hidden: int = HIDDEN, **asked: Any) -> Job:
    """A class by hand against its spec, at these sizes."""
    spec, axis = SPECS[name]
    sizes = {"d": str(d), axis: str(heads), "hidden": str(hidden)}
    args = f"d={d},heads={heads},hidden={hidden}"
    hand = {"against": f"{BY_HAND}:{name}", "args": args, "inputs": f"{HERE / 'rotary.py'}:tables", "map": weights(name)}
    return Job(str(HERE / f"{spec}.mpt"), sizes, **hand, **asked)


def missing() -> str | None:
    """Why there is nothing to measure against."""
    return None if BY_HAND.is_file() else f"skipped: the layers written by hand are not at {BY_HAND}"
