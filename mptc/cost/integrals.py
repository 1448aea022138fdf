"""Integrals of functions as the generated module's helpers compute them: some in a few operators, some by quadrature, every node of it kept."""

from __future__ import annotations

from collections.abc import Callable

from mptc.cost.operators import TRUTH, Operators
from mptc.cost.tape import Tensor

NODES = 64  # of the quadrature in the helper `tail`


def _gelu(run: Operators, z: Tensor) -> Tensor:
    normal = run.scaled(run.scaled(run.pointwise([run.pointwise([z])], keeps=[0])))
    density = run.scaled(run.pointwise([run.scaled(run.scaled(run.pointwise([z], keeps=[0])))], keeps_result=True))
    left = run.times(run.scaled(run.pointwise([z], keeps=[0])), normal)
    found = run.scaled(run.pointwise([left, run.times(z, density)], passed=[0, 1]))
    assert found is not None
    return run.pointwise([found], passed=[0])


def _silu(run: Operators, z: Tensor) -> Tensor:
    def under(t: Tensor) -> Tensor | None:
        return run.times(t, run.pointwise([run.pointwise([t])], keeps_result=True))

    return _tail(run, z, under)


def _softplus(run: Operators, z: Tensor) -> Tensor:
    return _tail(run, z, lambda t: run.pointwise([run.pointwise([t])], keeps=[0]))


def _tail(run: Operators, z: Tensor, under: Callable[[Tensor], Tensor | None]) -> Tensor:
    """∫ from 0 to |z| at most 40, and the square of z beside it."""
    reach = run.pointwise([run.pointwise([z], keeps=[0])], keeps=[0])
    total: Tensor | None = None
    for _ in range(NODES):
        before, count = total, len(run.made)
        total = run.pointwise([total, run.scaled(under(run.pointwise([reach])))], passed=[0, 1])
        for each in [before, *run.made[count:-1]]:
            run.spent(each)
    rest = run.times(total, reach)
    square = run.pointwise([run.scaled(run.pointwise([z], keeps=[0])), rest], passed=[0, 1])
    above = run.pointwise([z], through=[], width=TRUTH)
    return run.pointwise([above, square, rest], keeps=[0], through=[1, 2])


INTEGRALS: dict[str, Callable[[Operators, Tensor], Tensor]] = {"gelu": _gelu, "silu": _silu, "softplus": _softplus}
