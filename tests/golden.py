"""The texts that the specs compile to, kept as files: what a change of the compiler does to them is seen in review.

python -m tests.golden            # writes tests/golden/*.py anew
"""

from __future__ import annotations

from pathlib import Path

from mptc.runtime.spec import compile_spec

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").glob("*.mpt"))
GOLDEN = ROOT / "tests" / "golden"
VARIANT = "tiny"


def text(spec: Path, variant: str | None = VARIANT) -> str:
    compiled = compile_spec(spec, variant=variant)
    return compiled.files[f"{compiled.name}.py"]


def write() -> list[Path]:
    GOLDEN.mkdir(exist_ok=True)
    written = []
    for spec in SPECS:
        written.append(GOLDEN / f"{spec.stem}.py")
        written[-1].write_text(text(spec), encoding="utf-8")
    return written


if __name__ == "__main__":
    for path in write():
        print(path.relative_to(ROOT))
