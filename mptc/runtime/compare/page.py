"""One page of a comparison, whole in itself: the table, and curves drawn as SVG. Nothing from a spec stands in it unescaped."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path

from mptc.runtime.compare.table import Entry, curve

Points = Sequence[tuple[float, float]]

COLOURS = ("#1b6ca8", "#c8553d", "#2e7d32", "#7b4fa3", "#b8860b", "#00838f", "#ad1457", "#5d4037")
WIDTH, HEIGHT, LEFT, BELOW = 760, 340, 60, 40
SMOOTH = 40  # points of a smoothed curve
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; }}
table {{ border-collapse: collapse; }} td, th {{ padding: 0.25em 0.8em; border-bottom: 1px solid #ddd; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }} svg text {{ font-size: 12px; fill: #444; }} p {{ max-width: 50rem; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def page(entries: Sequence[Entry], text: str) -> str:
    """The page; `text` is the table."""
    title = " and ".join(entry.size.name for entry in entries) if len(entries) < 3 else f"{len(entries)} models"
    curves = {entry.size.name: [curve(run) for run in entry.runs] for entry in entries}
    held_out = [(name, each.held_out) for name, several in curves.items() for each in several]
    training = [(name, smoothed(each.losses)) for name, several in curves.items() for each in several]
    parts = [_table(text), "<h2>Held-out loss</h2>", plot(held_out, "step"), "<h2>Training loss, smoothed</h2>", plot(training, "step")]
    parts += ["<h2>Held-out loss by FLOPs</h2>", plot(_by_flops(entries), "FLOPs of products")]
    for entry in entries:
        watched = probes(entry.runs[0])
        for name, points in watched.items():
            parts += [f"<h2>{html.escape(f'{entry.size.name}: {name}')}, by layer, at the end</h2>", plot([(entry.size.name, points)], "layer")]
    return PAGE.format(title=html.escape(title), body="\n".join(parts))


def _by_flops(entries: Sequence[Entry]) -> list[tuple[str, Points]]:
    found: list[tuple[str, Points]] = []
    for entry in entries:
        found += [(entry.size.name, [(step * entry.size.flops, loss) for step, loss in curve(run).held_out]) for run in entry.runs]
    return found


def probes(run: Path) -> dict[str, Points]:
    """Means of what a model's stacks probe, by layer, on a held-out batch: energies, the load of a router. Written by the run's comparison."""
    path = run / "probes.json"
    if not path.is_file():
        return {}
    return {name: [(float(place), float(value)) for place, value in enumerate(values)] for name, values in json.loads(path.read_text()).items()}


def smoothed(points: Points) -> Points:
    """Means over neighbours."""
    size = max(1, len(points) // SMOOTH)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(step for step, _ in group) / len(group), sum(loss for _, loss in group) / len(group)) for group in groups]


def plot(series: Sequence[tuple[str, Points]], below: str) -> str:
    """Lines, those of one name in one colour."""
    points = [point for _, each in series for point in each if all(map(math.isfinite, point))]
    if not points:
        return "<p>nothing to draw</p>"
    names = list(dict.fromkeys(name for name, _ in series))
    across, up = _scale([x for x, _ in points], LEFT, WIDTH - 10), _scale([y for _, y in points], HEIGHT - BELOW, 10)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 18 * len(names)}" width="{WIDTH}" role="img">']
    for value in up.ticks:
        y = up(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    parts += [f'<text x="{across(value):.1f}" y="{HEIGHT - BELOW + 18}" text-anchor="middle">{value:.4g}</text>' for value in across.ticks]
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{html.escape(below)}</text>')
    for name, each in series:
        colour = COLOURS[names.index(name) % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in each if math.isfinite(x) and math.isfinite(y))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.85"/>')
    for place, name in enumerate(names):
        y = HEIGHT + 12 + 18 * place
        parts.append(f'<rect x="{LEFT}" y="{y - 9}" width="14" height="9" fill="{COLOURS[place % len(COLOURS)]}"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{y}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])


class _Scale:
    """A number's place on the page."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        self.low, self.high, self.first, self.last = low, high, first, last
        self.ticks = [low + (high - low) * place / 4 for place in range(5)]

    def __call__(self, value: float) -> float:
        return self.first + (self.last - self.first) * (value - self.low) / (self.high - self.low)


def _scale(values: Sequence[float], first: float, last: float) -> _Scale:
    low, high = min(values), max(values)
    return _Scale(low, high if high > low else low + 1, first, last)


def _table(text: str) -> str:
    """Markdown's table as HTML, with what stands before it."""
    before, *lines = text.splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|") and not line.startswith("|---")]
    made = []
    for place, row in enumerate(rows):
        cell = "th" if place == 0 else "td"
        made.append("<tr>" + "".join(f"<{cell}>{html.escape(each.strip())}</{cell}>" for each in row) + "</tr>")
    return f"<p>{html.escape(before)}</p>\n<table>\n" + "\n".join(made) + "\n</table>"
