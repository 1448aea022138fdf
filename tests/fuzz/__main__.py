"""`python -m tests.fuzz --count 100000 [--seed N] [--keep DIR]`: fuzz by hand. Finds are printed, and written to DIR one for each kind of failure."""

from __future__ import annotations

import argparse
import resource
import sys
import zlib
from collections import Counter
from pathlib import Path

from tests.fuzz.judge import judge
from tests.fuzz.texts import texts

MEMORY = 8 << 30  # a text that wants more is a find, and not the end of the machine
BATCH = 2000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    given.keep.mkdir(parents=True, exist_ok=True)
    counted: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    slowest, kept = (0.0, ""), Counter[str]()
    for number in range(given.seed, given.seed + max(1, given.count // BATCH)):
        for kind, path, text in texts(min(BATCH, given.count), number):
            verdict = judge(text, path)
            counted[kind] += 1
            counted["compiled"] += verdict.compiled
            codes.update(set(verdict.codes))
            slowest = max(slowest, (verdict.seconds, f"{kind} of {Path(path).name}, seed {number}"))
            if verdict.problem is not None:
                kept[verdict.problem] += 1
                if kept[verdict.problem] <= 3:
                    name = f"{zlib.crc32(verdict.problem.encode()) % 10**6}_{kept[verdict.problem]}.mpt"
                    (given.keep / name).write_text(text, encoding="utf-8", errors="surrogatepass")
                    print(f"{verdict.problem} ({verdict.seconds:.1f} s, {kind} of {path}): {given.keep / name}", flush=True)
        print(f"seed {number}: {dict(counted)}; slowest {slowest[0]:.2f} s, {slowest[1]}", flush=True)
    print(f"codes: {dict(sorted(codes.items()))}")
    print(f"finds: {dict(kept)}" if kept else "no finds")
    return int(bool(kept))


if __name__ == "__main__":
    sys.exit(main())
