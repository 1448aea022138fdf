"""What a comparison found, as a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mptc.runtime.compare.matched import Size

SKIPPED = 3  # steps whose speed does not count: the first ones warm up


@dataclass(frozen=True)
class Entry:
    """One model and its runs, one for each seed."""

    size: Size
    steps: int
    runs: tuple[Path, ...]


@dataclass(frozen=True)
class Curve:
    """Of one run: the loss of each step, what was found on the held-out part, and tokens per second."""

    losses: tuple[tuple[int, float], ...]
    held_out: tuple[tuple[int, float], ...]
    speed: float


def curve(run: Path) -> Curve:
    """Read off a run's log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    speeds = [line["tokens"] / line["seconds"] for line in steps[SKIPPED:] or steps]
    held_out = tuple((line["step"], line["held_out_loss"]) for line in lines if "held_out_loss" in line)
    return Curve(tuple((line["step"], line["loss"]) for line in steps), held_out, statistics.median(speeds) if speeds else 0.0)


def table(entries: Sequence[Entry], budget: tuple[str, float]) -> str:
    """Markdown. Loss: the mean of the last held-out losses, ± half of what the seeds spread."""
    kind, amount = budget
    seeds = len(entries[0].runs)
    told = "FLOPs of products, forward and backward, and the peak of activations and gradients are those of `mptc cost`, for one training step."
    loss = "Loss is that of the held-out part at the end, ± half of what the seeds spread."
    lines = [
        f"Each {amount:,.0f} {kind}; {seeds} seed{'s' if seeds > 1 else ''}. {told} {loss}",
        "",
        "| model | parameters | steps | tokens | FLOPs a token | peak MiB | tokens/s | held-out loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        curves = [curve(run) for run in entry.runs]
        last = [each.held_out[-1][1] for each in curves]
        spread = f" ± {(max(last) - min(last)) / 2:.4f}" if len(last) > 1 else ""
        size = entry.size
        name = f"{size.name} ({size.scaled})" if size.scaled else size.name
        speed = statistics.median(each.speed for each in curves)
        lines.append(
            f"| {name} | {size.parameters:,} | {entry.steps:,} | {entry.steps * size.tokens:,} | {size.flops / size.tokens:,.0f} "
            f"| {size.peak / 2**20:,.1f} | {speed:,.0f} | {statistics.mean(last):.4f}{spread} |"
        )
    return "\n".join(lines) + "\n"
