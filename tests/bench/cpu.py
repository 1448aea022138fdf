"""Generated layers against layers written by hand on the CPU: widths, lengths, dtypes, directions, eager and under torch.compile.

    python tests/bench/cpu.py [--quick] [--csv FILE] [--rounds N] [--batch N] [--threads N]

20 rounds, interleaved; each line is a ratio theirs / ours with its 95 % interval, and one whose lower end is below 0.97 is marked. Exits with 1 where
one is. It takes about 20 minutes on two quiet cores, a third of them for torch.compile; `--quick` one minute, of few rounds of the smallest.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mptc.runtime.bench import Job, Report, Row, bench
from tests.bench.hand import job, missing

LEAST = 0.97  # of an interval's lower end
SIZES = ((256, 4, 704), (768, 12, 2048))  # d, heads, hidden
TOKENS, LONG = (128, 1024), (256, 1024, 2048)  # of layers; of the one that stores all pairs
COLUMNS = (
    *("machine", "torch", "threads", "layer", "d", "dtype", "mode", "direction", "batch", "tokens", "rounds"),
    *("ratio", "low", "high", "ours_ms", "theirs_ms", "ours_peak_bytes", "theirs_peak_bytes", "outputs_differ", "gradients_differ"),
)


@dataclass(frozen=True)
class Line:
    """One comparison of the table."""

    layer: str
    d: int
    job: Job


def plan(quick: bool, batch: int, rounds: int, threads: int | None) -> Iterator[Line]:
    """What is measured, in order. `quick` takes the smallest of each."""
    common: dict[str, Any] = {"batch": batch, "rounds": 5 if quick else rounds, "threads": threads}
    sizes, tokens, long = (SIZES[:1], TOKENS[:1], LONG[:1]) if quick else (SIZES, TOKENS, LONG)
    dtypes = ("float32", "bfloat16")
    for compiled, dtype, size, layer in product((False,) if quick else (False, True), dtypes, sizes, ("CemLayer", "LlamaLayer")):
        yield Line(layer, size[0], job(layer, *size, seqs=tokens, dtype=dtype, compile=compiled, **common))
    yield Line("CemAutograd", sizes[0][0], job("CemAutograd", *sizes[0], seqs=long, **common))


def record(line: Line, report: Report, row: Row) -> dict[str, Any]:
    """A line of the CSV file."""
    assert row.theirs is not None
    compared = report.compared or {}
    values = (
        *(report.machine, report.torch, report.threads, line.layer, line.d, report.dtype, "compiled" if report.compile else "eager", row.direction),
        *(row.batch, row.seq, report.rounds, row.ratio, row.low, row.high, 1e3 * row.ours.seconds, 1e3 * row.theirs.seconds),
        *(row.ours.peak, row.theirs.peak, compared.get("outputs"), compared.get("gradients")),
    )
    return dict(zip(COLUMNS, values, strict=True))


def shown(found: dict[str, Any]) -> str:
    """A line of the table."""
    mark = f"   below {LEAST}" if found["low"] < LEAST else ""
    what = f"{found['layer']:12} {found['d']:4} {found['dtype']:9} {found['mode']:9} {found['direction']:17} {found['batch']:5} {found['tokens']:7}"
    times = f"{found['ours_ms']:10.2f} {found['theirs_ms']:10.2f} {found['ratio']:7.3f}"
    return f"{what} {times}   {found['low']:.3f} to {found['high']:.3f}{mark}"


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """All that there is so far."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(records)


def main() -> int:
    if missing():
        print(missing())
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest sizes, eager, 5 rounds")
    parser.add_argument("--csv", metavar="FILE", help="write the lines there too, as they come")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    records: list[dict[str, Any]] = []
    began = time.monotonic()
    print(f"{'against':12} {'d':>4} {'dtype':9} {'mode':9} {'direction':17} batch  tokens    ours ms  theirs ms   ratio   95 %")
    for line in plan(given.quick, given.batch, given.rounds, given.threads):
        report = bench(line.job)
        for row in report.rows:
            records.append(record(line, report, row))
            print(shown(records[-1]), flush=True)
        if given.csv:
            write(Path(given.csv), records)
    below = sum(found["low"] < LEAST for found in records)
    print(f"{below} of {len(records)} intervals begin below {LEAST}; {(time.monotonic() - began) / 60:.1f} minutes")
    return int(below > 0)


if __name__ == "__main__":
    sys.exit(main())
