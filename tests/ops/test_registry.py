"""What every op must have, and the table that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mptc.ir.node import FACETS, AbsentFacet, Op, absent
from mptc.ops.table import absences, every_op, table

GIVEN: dict[str, Any] = dict.fromkeys(FACETS, lambda *_: None)


@pytest.mark.parametrize("facet", FACETS)
def test_a_class_without_a_facet_fails(facet: str) -> None:
    body = {name: value for name, value in GIVEN.items() if name != facet}
    known = len(Op.registry)
    with pytest.raises(TypeError, match=facet):
        type(Op)("Incomplete", (Op,), body)
    assert len(Op.registry) == known


def test_an_absent_facet_says_why_when_it_is_asked() -> None:
    with pytest.raises(AbsentFacet, match="because"):
        absent("because")(1, two=2)


@pytest.mark.parametrize("op", every_op(), ids=lambda op: op.__name__)
def test_absences_have_reasons(op: type[Op]) -> None:
    for facet, reason in absences(op).items():
        assert len(reason) > 5, (facet, reason)
        assert "backend" not in reason, f"{facet}: that it is not written is no reason"
    assert not (op.__doc__ or "(").startswith((op.__name__ + "(", "(")), "the table shows what an op means"
    assert "samples" in absences(op) or op.samples()


def test_the_table_is_current(root: Path) -> None:
    assert (root / "grammar" / "ops.md").read_text() == table(), "run `python -m mptc.ops.table > grammar/ops.md`"
