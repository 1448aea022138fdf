"""`mptc verify`: what is right passes, and a fault in any part is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mptc.cli import main
from mptc.runtime import verify as room
from mptc.runtime.verify import verify

SPECS = Path(__file__).resolve().parent.parent.parent / "specs"
CEM = SPECS / "cem_small.mpt"


@pytest.mark.parametrize("spec", ["cem_small", "windowed_documents", "bert", "encoder_decoder"])
def test_what_is_right_passes(spec: str) -> None:
    checks = list(verify(SPECS / f"{spec}.mpt", variant="tiny"))
    assert all(check.passed for check in checks), checks
    assert len(checks) >= 5


def faulty(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> list[str]:
    """What fails where the generated module has one text in the place of another."""
    whole = room.instantiate

    def instantiate(name: str, text: str) -> object:
        assert old in text
        return whole(name, text.replace(old, new))

    monkeypatch.setattr(room, "instantiate", instantiate)
    return [check.what for check in verify(CEM, variant="tiny") if not check.passed]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("is_causal=True", "is_causal=False", "earlier outputs"),
        ("rope(o, rotation_32, -1)", "rope(o, rotation_32)", "the interpreter"),
        ("scale.square() * step", "scale.detach().square() * step", "training gradient"),
        (">= self.places()", "> self.places()", "decoding"),
        ('cache.keep("k", k, 2)', 'cache.keep("k", k * 1.01, 2)', "decoding"),
    ],
)
def test_a_fault_in_the_module_is_seen(monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str) -> None:
    assert any(said in what for what in faulty(monkeypatch, old, new))


def test_a_wrong_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = room.judge

    def judge(*given: object) -> object:
        verdict = whole(*given)  # type: ignore[arg-type]
        assert verdict is not None
        return replace(verdict, energies=[replace(one, error=0.1) for one in verdict.energies])

    monkeypatch.setattr(room, "judge", judge)
    result = CliRunner().invoke(main, ["verify", str(CEM), "--variant", "tiny", "--target", "torch"])
    assert result.exit_code == 1
    assert result.output.count("WRONG") == 2


def test_a_table_and_an_exit_code() -> None:
    result = CliRunner().invoke(main, ["verify", str(CEM), "--variant", "tiny", "--target", "torch"])
    assert result.exit_code == 0, result.output
    assert "step of layers[*].interaction against differences of its energy" in result.output
    assert "onnx" not in result.output


def test_a_mistake_in_the_spec_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text("model m {\n  output y = x\n}\n")
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "m.mpt")])
    assert result.exit_code == 1
    assert "error[E0" in result.output
