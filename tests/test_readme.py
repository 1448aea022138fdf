"""What the README shows is what the compiler writes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from mptc.runtime.report import Lines
from mptc.runtime.session import Asked, train_spec
from mptc.show import show
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def listing(mark: str) -> list[str]:
    """The lines of the block after a mark."""
    block = README.partition(f"<!-- {mark} -->")[2].split("```")[1]
    return block.splitlines()[1:]


def written(stage: str) -> str:
    diagnostics = Diagnostics()
    text = show(Source.read(ROOT / "specs" / "cem_small.mpt"), diagnostics, stage)
    assert text is not None, diagnostics.found
    return text


def follows(text: str, lines: list[str]) -> bool:
    """Whether the lines stand in the text one after another."""
    return "\n".join(lines) in text


def test_derivation() -> None:
    assert follows(written("derivation"), listing("derivation"))


def test_generated_code() -> None:
    code = re.sub(r"(?m) +# \[.*$", "", written("torch"))
    assert follows(code, listing("generated"))


def test_a_function_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "readme_tasks.py").write_text("\n".join(listing("cloze")))
    monkeypatch.chdir(tmp_path)
    numbers = {"steps": 2, "batch": 4, "length": 64}
    loss = train_spec(Asked(str(ROOT / "specs/bert.mpt"), "readme_tasks:cloze", variant="tiny", numbers=numbers), Lines(io.StringIO()))
    assert 5 < loss < 6  # log 256


def test_energy_is_the_prelude_s() -> None:
    energy = README.split("```")[1].partition("\n\n")[0].strip()
    assert energy in (ROOT / "specs" / "lib" / "cem.mpt").read_text()
