"""What was measured: as records, as JSON, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mptc.runtime.bench.rounds import FEW


@dataclass(frozen=True)
class Figures:
    """Of one side: median seconds of a call, with what `Report.interval` says, and bytes at its worst moment beyond weights and inputs."""

    seconds: float
    low: float
    high: float
    peak: int

    def speed(self, tokens: int) -> float:
        """Tokens a second."""
        return tokens / self.seconds


@dataclass(frozen=True)
class Row:
    """`ratio`: the median over rounds of theirs / ours, with its 95 % interval; None where the spec was timed alone."""

    direction: str
    batch: int
    seq: int
    ours: Figures
    theirs: Figures | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Report:
    """`compared`: the largest difference of outputs and of gradients, as parts of the largest magnitude; None where the answers were not compared.

    `rounding` is that of our outputs at the precision asked for from those at the highest; None where the highest is asked for.
    """

    model: str
    against: str | None
    machine: str
    device: str
    threads: int
    torch: str
    dtype: str
    precision: str
    compile: bool
    rounds: int
    seed: int
    compared: dict[str, float] | None
    rounding: float | None
    rows: tuple[Row, ...]

    @property
    def interval(self) -> str:
        """What `low` and `high` are."""
        return "lowest, highest: too few rounds for an interval" if self.rounds < FEW else "their 95 % interval"

    def as_json(self) -> dict[str, Any]:
        """With tokens a second, which are not stored."""
        record = {**asdict(self), "low_high": self.interval}
        for row, shown in zip(self.rows, record["rows"], strict=True):
            for side in ("ours", "theirs"):
                figures = getattr(row, side)
                if figures is not None:
                    shown[side]["tokens_per_second"] = figures.speed(row.batch * row.seq)
        return record


def read_report(record: Mapping[str, Any]) -> Report:
    """A report from what `asdict`, or `as_json`, made of one."""
    record = {each.name: record[each.name] for each in fields(Report)}
    rows = [{**row, **{side: row[side] and Figures(**row[side]) for side in ("ours", "theirs")}} for row in record["rows"]]
    return Report(**{**record, "rows": tuple(Row(**row) for row in rows)})


def table(report: Report) -> str:
    """What people read."""
    lines = [*_head(report), ""]
    both = report.against is not None
    lines.append(f"{'':17} {'batch × seq':>13} {'ours ms':>20}" + (f" {'theirs ms':>20} {'theirs/ours':>20}" if both else "") + _columns(both))
    return "\n".join(lines + [_line(row) for row in report.rows])


def _head(report: Report) -> list[str]:
    mode = "under torch.compile" if report.compile else "eager"
    lines = [
        f"{report.model}{f' against {report.against}' if report.against else ''}",
        f"{report.device}: {report.machine}; {report.threads} threads, {report.dtype}, {mode}, torch {report.torch}",
        f"{report.rounds} rounds{', interleaved' if report.against else ''}; medians [{report.interval}]"
        + ("; theirs/ours above 1: ours is the faster one" if report.against else ""),
        "peak MiB: at the worst moment of a call, beyond weights and inputs",
    ]
    if report.against and report.compared is None:
        lines.append("the answers were NOT compared: no weights are mapped (--map OURS=THEIRS)")
    elif report.compared is not None:
        found = ", ".join(f"{name} {value:.1e}" for name, value in report.compared.items())
        lines.append(f"answers compared in float32; largest difference, as a part of the largest magnitude: {found}")
    if report.rounding is not None:
        lines.append(f"precision {report.precision}: moves our outputs by {report.rounding:.1e} of the largest magnitude")
    return lines


def _columns(both: bool) -> str:
    names = ("ours tokens/s", "ours peak MiB", "theirs") if both else ("tokens/s", "peak MiB")
    return "".join(f" {name:>13}" for name in names)


def _line(row: Row) -> str:
    sides = [row.ours, *([row.theirs] if row.theirs else [])]
    text = f"{row.direction:17} {f'{row.batch} × {row.seq}':>13}"
    text += "".join(" " + _interval(1e3 * side.seconds, 1e3 * side.low, 1e3 * side.high, 3) for side in sides)
    if row.ratio is not None and row.low is not None and row.high is not None:
        text += " " + _interval(row.ratio, row.low, row.high, 2)
    return text + f" {row.ours.speed(row.batch * row.seq):13,.0f}" + "".join(f" {side.peak / 2**20:13.2f}" for side in sides)


def _interval(middle: float, low: float, high: float, places: int) -> str:
    """Fewer places for larger numbers."""
    places = max(0, places - (middle >= 10) - (middle >= 100) - (middle >= 1000))
    return f"{f'{middle:.{places}f} [{low:.{places}f}, {high:.{places}f}]':>20}"
