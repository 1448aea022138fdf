"""What torch does with memory in one training step: operators that make tensors, what autograd keeps of them, and the walk back.

A tensor's memory is freed when no variable holds it and autograd keeps it for nothing. Only sizes are computed here, exactly, as polynomials.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mptc.cost.polynomial import ZERO, Polynomial, Powers, total
from mptc.ir.axis import Axis


@dataclass(eq=False)
class Storage:
    """`bytes` of memory that `holders` variables, tensors kept and gradients share. What is given from outside the step is `fixed`."""

    bytes: Polynomial
    holders: int = 0
    fixed: bool = False
    counted: bool = False  # among what autograd keeps


@dataclass(eq=False)
class Root:
    """What autograd gives a gradient: a parameter (`leaf`) or the result of an operator. All views of a tensor share it.

    `holders`: the variables that hold it and the operators whose gradients flow to it. With the last one goes what its own operator kept.
    """

    bytes: Polynomial
    leaf: bool = False
    holders: int = 0
    record: Record | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """`order`: its axes as they lie in memory, the last one varying fastest. `root` is None where no gradient flows to it."""

    order: tuple[Axis, ...]
    bytes: Polynomial
    storage: Storage
    root: Root | None = None
    width: int = 4

    @property
    def trained(self) -> bool:
        return self.root is not None


@dataclass(frozen=True)
class Flow:
    """How a gradient gets to an operand: `passed` on as it is (summed where the operand is smaller), or made anew.

    `spread`: it is the same along some axes, so it takes no memory until it is added to. `flops`: of the matrix product that makes it.
    `whole`: it is made for every element of the result before it is summed to the operand's size. `beside`: bytes that live while it is made.
    """

    to: Tensor
    passed: bool = False
    spread: bool = False
    whole: bool = True
    flops: Polynomial = ZERO
    beside: Polynomial = ZERO


@dataclass(eq=False)
class Record:
    """One operator that gradients flow back through."""

    result: Root
    flows: list[Flow]
    kept: list[Storage]
    row: str
    elements: Polynomial  # element-wise operations for each gradient


@dataclass
class Tally:
    """What one row of the table comes to: `flops` of matrix products, operations on `elements`, `bytes` read and written, bytes `kept`."""

    forward: dict[str, list[Polynomial]] = field(default_factory=dict)
    backward: dict[str, list[Polynomial]] = field(default_factory=dict)

    def of(self, what: str, back: bool = False) -> Polynomial:
        return total((self.backward if back else self.forward).get(what, ()))


def _hold(root: Root | None) -> None:
    if root is not None:
        root.holders += 1


@dataclass(eq=False)
class Gradient:
    """A gradient on its way. `spread`: the same along some axes; it then takes no memory."""

    storage: Storage
    spread: bool = False


class Tape:
    """One step being taken. `rows`: what each row of the table has come to, by name; `peaks`: how many bytes lived wherever that was a maximum."""

    def __init__(self) -> None:
        self.row = ""
        self.rows: dict[str, Tally] = {}
        self.records: list[Record] = []
        self.live: dict[Powers, int] = {}
        self.peaks: dict[tuple[tuple[Powers, int], ...], None] = {}
        self._rising = False

    # -- memory ---------------------------------------------------------------------------------------

    def allocate(self, bytes: Polynomial) -> Storage:
        """Memory with one holder."""
        for powers, factor in bytes.terms:
            self.live[powers] = self.live.get(powers, 0) + factor
        self._rising = True
        return Storage(bytes, 1)

    def release(self, storage: Storage) -> None:
        """One holder less; the last one frees it."""
        storage.holders -= 1
        if storage.holders == 0 and not storage.fixed:
            self._mark()
            for powers, factor in storage.bytes.terms:
                self.live[powers] -= factor

    def _mark(self) -> None:
        if self._rising:
            self.peaks[tuple(sorted(self.live.items()))] = None
            self._rising = False

    # -- forward --------------------------------------------------------------------------------------

    def given(self, order: tuple[Axis, ...], bytes: Polynomial, trained: bool = False, width: int = 4) -> Tensor:
        """A parameter or an input: memory that was there before."""
        return Tensor(order, bytes, Storage(bytes, 1, fixed=True), Root(bytes, leaf=True) if trained else None, width)

    def operator(
        self,
        order: tuple[Axis, ...],
        bytes: Polynomial,
        operands: Sequence[Tensor],
        flows: Iterable[Flow] = (),
        keeps: Iterable[Tensor] = (),
        keeps_result: bool = False,
        width: int = 4,
        elements: Polynomial = ZERO,
        flops: Polynomial = ZERO,
        kept_bytes: Polynomial = ZERO,
        within: Tensor | None = None,
    ) -> Tensor:
        """A new tensor, which one variable holds. `keeps` is what gradients are computed from, where any flows; `kept_bytes` more of its own.

        `within`: the tensor whose memory it shares, as a part of it or in its place.
        """
        storage = self.allocate(bytes) if within is None else within.storage
        storage.holders += within is not None
        flows = [flow for flow in flows if flow.to.trained]
        root = Root(bytes, holders=1) if flows else None
        if root is not None:
            kept = [tensor.storage for tensor in keeps] + ([storage] if keeps_result else [])
            for each in kept:
                each.holders += 1
            kept += [self.allocate(kept_bytes)] if kept_bytes.terms else []
            self._keep(kept)
            root.record = Record(root, flows, kept, self.row, elements)
            self.records.append(root.record)
            for flow in flows:
                _hold(flow.to.root)
        self.count(self.row, flops, elements, total([bytes, *(operand.bytes for operand in operands)]))
        return Tensor(order, bytes, storage, root, width)

    def _keep(self, kept: Iterable[Storage]) -> None:
        """What autograd keeps counts once, in the row that needs it first."""
        for storage in kept:
            if not storage.fixed and not storage.counted:
                storage.counted = True
                self.rows.setdefault(self.row, Tally()).forward.setdefault("kept", []).append(storage.bytes)

    def view(self, tensor: Tensor, order: tuple[Axis, ...]) -> Tensor:
        """The same memory and gradient under another order; one more variable holds it."""
        tensor.storage.holders += 1
        _hold(tensor.root)
        return Tensor(order, tensor.bytes, tensor.storage, tensor.root, tensor.width)

    def detached(self, tensor: Tensor) -> Tensor:
        """The same memory, and no gradient; one more variable holds it."""
        tensor.storage.holders += 1
        return Tensor(tensor.order, tensor.bytes, tensor.storage, None, tensor.width)

    def drop(self, tensor: Tensor | None) -> None:
        """A variable holds it no more."""
        if tensor is not None:
            self.release(tensor.storage)
            self._let_go([tensor.root])

    def _let_go(self, roots: list[Root | None]) -> None:
        """What nothing holds any more needs no gradient: its operator keeps nothing, and lets go of its operands."""
        while roots:
            root = roots.pop()
            if root is None:
                continue
            root.holders -= 1
            if root.holders == 0 and root.record is not None:
                record = root.record
                for storage in record.kept:
                    self.release(storage)
                roots += [flow.to.root for flow in record.flows]
                record.kept, record.flows = [], []

    def count(self, row: str, flops: Polynomial, elements: Polynomial, bytes: Polynomial, back: bool = False) -> None:
        tally = self.rows.setdefault(row, Tally())
        found = tally.backward if back else tally.forward
        for what, amount in (("flops", flops), ("elements", elements), ("bytes", bytes)):
            if amount.terms:
                found.setdefault(what, []).append(amount)

    # -- backward -------------------------------------------------------------------------------------

    def backward(self, roots: Iterable[Tensor]) -> None:
        """The gradients of the sum of all roots, to every parameter: from the last operator to the first, each freeing what it kept."""
        found: dict[Root, Gradient] = {}
        for tensor in roots:
            if tensor.root is not None:
                self._arrive(found, tensor.root, Gradient(self.allocate(ZERO), spread=True))
        while self.records:
            record = self.records.pop()
            gradient = found.pop(record.result, None)
            if gradient is not None:
                self._step(record, gradient, found)
            for storage in record.kept:
                self.release(storage)
            if gradient is not None:
                self.release(gradient.storage)
        self._mark()

    def _step(self, record: Record, gradient: Gradient, found: dict[Root, Gradient]) -> None:
        kept = total(storage.bytes for storage in record.kept)
        for flow in record.flows:
            assert flow.to.root is not None
            size, whole = flow.to.root.bytes, record.result.bytes
            if flow.passed and size == whole:
                gradient.storage.holders += 1
                arriving = Gradient(gradient.storage, gradient.spread)
            elif flow.spread:
                arriving = Gradient(self.allocate(ZERO), spread=True)
            else:
                beside = self.allocate(total([flow.beside, whole if flow.whole and size != whole and not flow.passed else ZERO]))
                arriving = Gradient(self.allocate(size))
                self.release(beside)
            idle = flow.passed and size == whole
            elements = ZERO if flow.flops.terms or idle else record.elements
            self.count(record.row, flow.flops, elements, ZERO if idle else total([whole, kept, size]), back=True)
            self._arrive(found, flow.to.root, arriving)
        if all(flow.flops.terms for flow in record.flows):  # beside products
            self.count(record.row, ZERO, record.elements, ZERO, back=True)

    def _arrive(self, found: dict[Root, Gradient], root: Root, arriving: Gradient) -> None:
        """A gradient where there is one already: their sum is a third, then both are gone. What stays with a parameter is its own."""
        known = found.get(root)
        if known is None and not (root.leaf and (arriving.spread or arriving.storage.holders > 1)):
            found[root] = arriving
            return
        found[root] = Gradient(self.allocate(root.bytes))
        self.release(arriving.storage)
        if known is not None:
            self.release(known.storage)
