"""What is printed about an energy is what was derived: names with their numbers, tokens with their letters, norms with what they add."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptc.compile import derived_from, torch_text
from mptc.derive import Derived
from mptc.derive.explain import derivation
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

ROOT = Path(__file__).resolve().parents[2]
FRAME = """
dim d = 8
dim head = 2
dim key = 4
dim hidden = 6
energy E(x: [d] | c: [ctx, d]) {{
  param W_q: [head, key, d]
  param W_k: [head, key, d]
  param W: [hidden, d]
  q = W_q @ x
  k = W_k @ c
  {energy}
}}
model m {kind} {{
  input x: [d]
  {body}
  output y = x
}}
"""
STEP = "x <- x - grad E(x | past(x))"
CASES = {  # the energy, the body, what is printed of both
    "a name is what was written, a number before it too": (
        "s = 30 * tanh(sum[key](q * k) / 30)\n  minimize -sum[head](logsumexp[ctx](s))",
        STEP,
        ["−∂E/∂x_i = −W_qᵀ Σ_j≤i softmax_j≤i(s_ij) ⊙ (s_ij² / 900 − 1) k_j"],
    ),
    "a number beside a name": (
        "t = tanh(sum[key](q * k) / 30)\n  minimize -sum[head](logsumexp[ctx](30 * t))",
        STEP,
        ["−∂E/∂x_i = −W_qᵀ Σ_j≤i softmax_j≤i(30 t_ij) ⊙ (t_ij² − 1) k_j"],
    ),
    "a mean divides by how many are seen": (
        "minimize -mean[ctx](sum[head, key](q * k))",
        STEP,
        ["E_i = −(Σ_j≤i 1)⁻¹ ⊙ Σ_j≤i Σ_head,key q_i ⊙ k_j", "−∂E/∂x_i = W_qᵀ ((Σ_j≤i 1)⁻¹ ⊙ Σ_j≤i k_j)"],
    ),
    "a mean over all": (
        "minimize -mean[ctx](sum[head, key](q * k))",
        "x <- x - grad E(x | all(x))",
        ["E_i = −Σ_j Σ_head,key q_i ⊙ k_j / n", "−∂E/∂x_i = W_qᵀ (n⁻¹ ⊙ Σ_j k_j)"],
    ),
    "what is hidden is not summed": (
        "minimize -sum[head](sum[ctx](exp(-sum[key]((q - k)^2))))",
        STEP,
        ["−∂E/∂x_i = 2 W_qᵀ Σ_j≤i exp(−Σ_key (k_j − q_i)²) (k_j − q_i)"],
    ),
    "a norm adds what it was told to": (
        "u = rms[hidden](W @ x, eps = 0.01)\n  minimize -sum[hidden](u * stop(W @ x))",
        STEP,
        ["u_i = rms(W x_i, eps=0.01)", "1/√(mean((W x_i)²) + 0.01)"],
    ),
    "a loop on one line": (
        "minimize -sum[head](logsumexp[ctx](sum[key](q * k)))",
        "repeat 2 { x <- x - 0.1 * grad E(x | past(x)) }",
        ["x_i ← x_i + (−∂E/∂x) / 10"],
    ),
    "a sign that went into the step": (
        "t = tanh(sum[key](q * k) / 30)\n  minimize -sum[head](logsumexp[ctx](30 * t))",
        "repeat 2 { x <- x - 0.1 * grad E(x | past(x)) }",
        ["x_i ← x_i − (∂E/∂x) / 10"],
    ),
    "both sides: the sum is over those that ask, of what they ask": (
        "minimize -sum[head](logsumexp[ctx](sum[key](q * all(W_k @ x))))",
        "x <- x - grad E(x | all(x))",
        ["W_kᵀ Σ_j softmax_i(Σ_key W_k x_i q_j) q_j"],
    ),
}


def derived(text: str, name: str = "spec.mpt", variant: str | None = None) -> Derived:
    found = derived_from(Source(name, text), diagnostics := Diagnostics(), {}, variant)
    assert found is not None, diagnostics.found
    return found


def written(name: str) -> Derived:
    energy, body, _ = CASES[name]
    return derived(FRAME.format(energy=energy, body=body, kind="bidirectional" if "all(" in body else ""))


@pytest.mark.parametrize("name", CASES)
def test_printed(name: str) -> None:
    text = derivation(written(name))
    for line in CASES[name][2]:
        assert line in text, text


@pytest.mark.parametrize("name", CASES)
def test_the_code_has_it_too(name: str) -> None:
    """Steps that are scaled, in loops, and of several terms included."""
    text = torch_text(written(name))
    assert text.count("# -∂E/∂x = ") == 1
    assert all(f"# -∂E/∂x = {line.partition(' = ')[2]}" in text for line in CASES[name][2] if line.startswith("−∂E"))


SPECS = [path for folder in ("specs", "tests/energies") for path in sorted((ROOT / folder).glob("*.mpt"))]


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_nothing_raw(path: Path) -> None:
    text = derivation(derived(path.read_text(), str(path), "tiny" if path.parent.name == "specs" else None))
    assert not [name for name in ("result(", "loop(", "mask(", "limit(", "hold(", "view(", "(1)⁻¹") if name in text], text


def test_a_gain_is_part_of_the_norm() -> None:
    energy = "param gain: [hidden]\n  minimize -sum[hidden]((gain * rms[hidden](W @ x)) * stop(W @ x))"
    assert "gain ⊙ rms(W x_i)" in derivation(derived(FRAME.format(energy=energy, body=STEP, kind="")))
