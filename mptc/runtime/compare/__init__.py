"""`mptc compare`: several models on one budget and the same data, several seeds each; a table, and a page of curves.

Every run is one of `mptc train` in a directory of its own, so what has run is not run again and what was cut off goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mptc.runtime.asked import Asked
from mptc.runtime.checkpoint import newest_weights
from mptc.runtime.compare.matched import Size, matched, size_of
from mptc.runtime.compare.page import page
from mptc.runtime.compare.table import Entry, table
from mptc.runtime.errors import UserError
from mptc.runtime.files import write_all
from mptc.runtime.load import instantiate
from mptc.runtime.report import All, Report
from mptc.runtime.run import is_run, read_run
from mptc.runtime.session import open_data, train_spec
from mptc.runtime.settings import Value

BUDGETS = ("steps", "tokens", "flops")


@dataclass(frozen=True)
class Comparison:
    """`specs`: paths, each with `:variant` behind it where that is meant. `budget`: one of `BUDGETS`, and how much. `scale`: the dim that is changed
    where models shall have `parameters` in equal number: those of the first. `set` and `numbers` are those of every run."""

    specs: Sequence[str]
    data: str
    out: Path
    budget: tuple[str, float]
    equal: str = "width"
    scale: str = "hidden"
    seeds: int = 3
    set: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, Value] = field(default_factory=dict)


def compare(asked: Comparison, say: Callable[[str], object], report: Callable[[], Report]) -> str:
    """Run what has not run, write `table.md` and `page.html` into `out`, and return the table. Raises `UserError`; what has run stays."""
    if asked.seeds < 1:
        raise UserError(f"error: --seeds is {asked.seeds}; it must be at least 1")
    sizes = sizes_of(asked)
    entries = []
    for size in sizes:
        steps = steps_of(asked, size)
        entries.append(Entry(size, steps, tuple(_run(asked, size, seed, steps, say, report) for seed in range(asked.seeds))))
    text = table(entries, asked.budget)
    write_all({asked.out / "table.md": text, asked.out / "page.html": page(entries, text)})
    return text


def sizes_of(asked: Comparison) -> list[Size]:
    """The models, those behind the first made as large as it where that is asked for. Raises `UserError` where two would be in one directory."""
    found: list[Size] = []
    for spec in asked.specs:
        path, _, variant = spec.partition(":") if not Path(spec).is_file() else (spec, "", "")
        size = size_of(path, variant or None, dict(asked.set), asked.numbers)
        found.append(matched(size, found[0].parameters, asked.scale, asked.numbers) if found and asked.equal == "parameters" else size)
    names = [size.name for size in found]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise UserError(f"error: two of the models are called {double}, so their runs would be one; give one of the specs another model name")
    return found


def steps_of(asked: Comparison, size: Size) -> int:
    """How many steps the budget is worth."""
    kind, amount = asked.budget
    each = {"steps": 1.0, "tokens": float(size.tokens), "flops": float(size.flops)}[kind]
    steps = int(amount // each)
    if steps < 1:
        raise UserError(f"error: --{kind} {amount:g} is less than one step of {size.name}, which takes {each:,.0f}")
    return steps


def _run(asked: Comparison, size: Size, seed: int, steps: int, say: Callable[[str], object], report: Callable[[], Report]) -> Path:
    """One run, from where it stands. Raises `UserError` where another one is there: of other data, settings or another text of the spec."""
    path = asked.out / f"{size.name}-{seed}"
    there = is_run(path)
    whole = there and _done(path, steps)
    say(f"{path} has run" if whole else f"{path}: {steps:,} steps, seed {seed}")
    numbers = {**asked.numbers, "steps": steps, "seed": seed}
    # a whole run too: going on with it does nothing but tell whether it is the one that is asked for
    train_spec(Asked(size.spec, asked.data, dict(size.set), size.variant, str(path), there, numbers=numbers), All([]) if whole else report())
    if not (whole and (path / "probes.json").is_file()):
        write_all({path / "probes.json": json.dumps(watched(path, asked.data))})
    return path


def watched(path: Path, data: str) -> dict[str, list[float]]:
    """Of what a model's stacks probe, the mean over a held-out batch, layer by layer."""
    import torch

    run = read_run(path)
    model = instantiate(run.surface.name, run.text, 0, newest_weights(run)).eval()
    batch = next(iter(open_data(Asked(run.spec, data), run.surface, run.settings).held_out_batches(run.settings.seed)))
    with torch.no_grad():
        found = model(**batch, probe=True).probes
    layers: dict[str, list[float]] = {}
    for name, value in found.items():
        if re.search(r"\.\d+\.", name):
            layers.setdefault(re.sub(r"\.\d+\.", ".*.", name), []).append(float(value.to(torch.float64).mean()))
    return layers


def _done(path: Path, steps: int) -> bool:
    """Whether a run has come to its end. Raises `UserError` where it is one of another length."""
    run = read_run(path)
    if run.settings.steps != steps:
        raise UserError(f"error: {path} is a run of {run.settings.steps:,} steps, and this comparison is of {steps:,}; name another -o")
    return bool(run.checkpoints()) and newest_weights(run).parent.name == f"step-{steps:08d}"
