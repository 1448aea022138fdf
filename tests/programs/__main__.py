"""Many random programs, by hand: `python -m tests.programs --count 3000`, which goes on after a failure, prints it, and keeps the spec that fails.

Each is the spec of a seed. With `--deploy`, also what onnxruntime makes of them, and decoding by chunks: see `tests/programs/deploy.py`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from tests.programs.deploy import deploy
from tests.programs.judge import fault, judge
from tests.programs.models import seeded


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.programs", description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--deploy", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path("fails"), help="where specs that fail are written")
    options = parser.parse_args()
    began, faults, kinds = time.perf_counter(), 0, Counter[str]()
    for seed in range(options.first, options.first + options.count):
        spec = seeded(seed)
        found = fault(spec, lambda spec: kinds.update(deploy(spec))) if options.deploy else fault(spec, judge)
        if found is None:
            continue
        if found.startswith("Wild"):
            kinds["too wild to tell"] += 1
            continue
        faults += 1
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / f"{seed}.mpt").write_text(repr(spec), encoding="utf-8")
        print(f"{seed}: {found}", flush=True)
    counted = "".join(f", {count} {kind}" for kind, count in kinds.items())
    print(f"{options.count} programs in {time.perf_counter() - began:.0f} s, {faults} fail{counted}")


if __name__ == "__main__":
    main()
