"""Generated layers against layers written by hand: forward and backward on CPU, against bars.

    python tests/bench/layers.py [ROUNDS]

The layers do the same arithmetic with the same weights, which is checked before anything is timed; how is said by `mptc bench --help`.
"""

from __future__ import annotations

import sys

from mptc.runtime.bench import Row, bench
from tests.bench.hand import job, missing

# The ratio asked for, by class and tokens.
BARS = {
    "CemAutograd": {256: 1.3, 1024: 2.5},
    "CemLayer": {256: 0.95, 1024: 0.95},
    "LlamaLayer": {256: 0.95, 1024: 0.95},
}


def line(name: str, row: Row, bar: float) -> str:
    assert row.theirs is not None
    assert row.ratio is not None
    mark = "" if row.ratio >= bar else "   below the bar"
    times = f"{1e3 * row.ours.seconds:9.1f} {1e3 * row.theirs.seconds:10.1f}"
    return f"{name:12} {row.seq:7} {times} {row.ratio:7.2f}   {row.low:.2f} to {row.high:.2f}   {bar:.2f}{mark}"


def main() -> int:
    if missing():
        print(missing())
        return 0
    rounds, below = int(sys.argv[1]) if len(sys.argv) > 1 else 20, 0
    print("against       tokens   ours ms  theirs ms   ratio   95 %           bar")
    for name, bars in BARS.items():
        for row in bench(job(name, seqs=tuple(bars), rounds=rounds)).rows:
            if row.direction == "forward+backward":
                print(line(name, row, bars[row.seq]), flush=True)
                below += (row.ratio or 0) < bars[row.seq]
    return int(below > 0)


if __name__ == "__main__":
    sys.exit(main())
