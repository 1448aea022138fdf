"""The proof of causality against experiment, on specs drawn at random: it refuses exactly those whose compiled module looks ahead.

By hand, with a count: `python -m tests.model.test_causality_generated 2000`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.model.perturb import STILL, leak, refused
from tests.model.programs import Draw

COUNT = 150
HEAD = "dim d = 4\nenergy slope(x: [d]) { minimize sum[d](3 * x) + sum[d](shift(x, -1)) }\n"

# What is refused although no output changes: each is a reason that `mptc/model/causality.py` documents.
CONSERVATIVE = [
    ("ZERO", "x + 0 * mean[seq](x)"),
    ("ZERO", "x + all_x - all_x"),
    ("FLAT", "x * (mean[seq](x)^2 >= 0)"),
    ("THINNED", "sum[ctx](only(all(x), distance(ctx) >= 0))"),
    ("THINNED", "sum[ctx](past(x) * all(z))"),
    ("LINEAR", "x + grad slope(x)"),
    ("LOOPED", "shift(looped, 2)"),
    ("SIZED", "shift(shift(x, -d), d)"),
    ("CHOSEN", "on sum[d](x) > 0 { shift(shift(z, -1), 1) }"),
]


def model(value: str, kind: str = "") -> str:
    lines = ["  all_x = sum[ctx](all(x))", "  looped = x", "  repeat 2 { looped <- shift(looped, -1) }"]
    return f"{HEAD}model m {kind} {{\n  input x: [d]\n  input z: [d]\n  param w: [d] = 1\n" + "\n".join(
        [*lines, f"  output y = w * ({value})", "}", ""]
    )


def outcomes(seeds: Iterable[int]) -> Counter[tuple[str, str]]:
    """How often proof and experiment said what. A disagreement is printed whole."""
    counted: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        drawn = Draw(seed)
        proof = "refused" if refused(drawn.text()) else "legal"
        text = drawn.text("bidirectional" if proof == "refused" else "")
        try:
            found = leak(text, tries=1 if proof == "legal" else 20)
            experiment = "skipped" if found is None else "moves" if found > STILL else "stays"
        except (RuntimeError, NameError, SyntaxError) as error:  # of the generated module
            found, experiment = None, f"broken: {type(error).__name__}"
        if (proof, experiment) == ("refused", "stays") and "(on " in text:
            experiment = "FLAT"  # a choice that the draws did not turn over
        if (proof, experiment) in (("legal", "moves"), ("refused", "stays")) or experiment.startswith("broken"):
            print(f"seed {seed}: {proof}, {experiment} ({found})\n{text}")
        counted[proof, experiment] += 1
    return counted


def test_proof_and_experiment_agree() -> None:
    counted = outcomes(range(COUNT))
    skipped = sum(count for (_, experiment), count in counted.items() if experiment == "skipped")
    print(f"{COUNT} specs, {skipped} of them not lowered yet: {dict(counted)}")
    assert set(counted) <= {("legal", "stays"), ("refused", "moves"), ("refused", "FLAT"), ("legal", "skipped"), ("refused", "skipped")}, counted
    assert counted["refused", "FLAT"] <= COUNT / 25
    assert counted["legal", "stays"] >= COUNT / 5
    assert counted["refused", "moves"] >= COUNT / 5


@pytest.mark.parametrize(("reason", "value"), CONSERVATIVE)
def test_conservative_for_a_documented_reason(reason: str, value: str) -> None:
    from mptc.model import causality

    assert causality.__doc__ is not None
    assert f"`{reason}`" in causality.__doc__
    assert refused(model(value))
    found = leak(model(value, "bidirectional"), tries=5)
    assert found is None or found <= STILL


@pytest.mark.parametrize("value", ["shift(shift(x, -1), 1)", "shift(shift(x, 2), -1)", "shift(shift(x, 1), -1)", "shift(all_x, 1)"])
def test_counted_in_places(value: str) -> None:
    """`shift` back and forth is followed token by token: the first is legal. The second is not: it tells whether there is a later token."""
    codes = refused(model(value))
    found = leak(model(value, "bidirectional"), tries=5)
    assert found is None or bool(codes) == (found > STILL)


if __name__ == "__main__":
    print(outcomes(range(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
