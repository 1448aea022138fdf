"""What torch does with memory in one training step: operators that make tensors, what autograd keeps of them, and the walk back.

A tensor's memory is freed when no variable holds it and autograd keeps it for nothing. Only sizes are computed here, exactly, as polynomials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mptc.cost.chunks import EACH, OTHERS
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
    `part`: it is a part of the result's gradient, in its memory.
    """

    to: Tensor
    passed: bool = False
    spread: bool = False
    whole: bool = True
    flops: Polynomial = ZERO
    beside: Polynomial = ZERO
    part: bool = False


@dataclass(eq=False)
class Record:
    """One operator that gradients flow back through."""

    result: Root
    flows: list[Flow]
    kept: list[Storage]
    row: str
    elements: Polynomial  # element-wise operations for each gradient
    frame: Frame | None = None
    again: Callable[[], None] | None = None  # makes once more what its stack's copy did not keep


@dataclass(eq=False)
class Frame:
    """What runs under `torch.utils.checkpoint`: nothing in it is kept, and `again` runs it once more where its gradients are made.

    `held`: what it is given, until then. `last`: of its `records`, the last that keeps anything; it runs as far as there.
    """

    again: Callable[[], None]
    held: list[Storage] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    last: Record | None = None
    ran: bool = False


class Recomputed(Exception):
    """All that was not kept is there again."""


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
    """A gradient on its way. `spread`: the same along some axes; it then takes no memory. `others`: what other chunks have made of it."""

    storage: Storage
    spread: bool = False
    others: bool = False


class Tape:
    """One step being taken. `rows`: what each row of the table has come to, by name; `peaks`: how many bytes lived wherever that was a maximum."""

    def __init__(self) -> None:
        self.row = ""
        self.rows: dict[str, Tally] = {}
        self.records: list[Record] = []
        self.live: dict[Powers, int] = {}
        self.peaks: dict[tuple[tuple[Powers, int], ...], None] = {}
        self._rising = False
        self._frame: Frame | None = None  # what is run for the first time
        self._left: list[Record] | None = None  # of what is run once more, the records whose operators are still to come
        self._own: Counter[Storage] = Counter()  # what the variables hold of what is run once more
        self.chunked = False  # what is counted is that of one chunk, of several

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
        late: Polynomial = ZERO,
    ) -> Tensor:
        """A new tensor, which one variable holds. `keeps` is what gradients are computed from, where any flows; `kept_bytes` more of its own.

        `late`: of its products, those that come after all that it keeps is there, though the tensor itself is among that.
        `within`: the tensor whose memory it shares, as a part of it or in its place.
        """
        flows = [flow for flow in flows if flow.to.trained]
        kept = [tensor.storage for tensor in keeps]
        after = keeps_result or bool(kept_bytes.terms)
        record = self._recorded(bytes, flows, elements, after or bool(kept)) if flows else None
        if record is not None:
            record.kept += self._kept(kept)
            if not after and self._completes(record):
                raise Recomputed
        storage = self.allocate(bytes) if within is None else within.storage
        storage.holders += within is not None
        self._owned(storage)
        root = record.result if record is not None else None
        if record is not None:
            record.kept += self._kept([storage] if keeps_result else [], kept_bytes)
        flops = flops + late.times(-1) if self._completes(record) else flops
        self.count(self.row, flops, elements, total([bytes, *(operand.bytes for operand in operands)]), back=self._left is not None)
        if self._completes(record):
            raise Recomputed
        return Tensor(order, bytes, storage, root, width)

    def _completes(self, record: Record | None) -> bool:
        """Whether nothing more is kept by what is run once more."""
        return self._left is not None and record is not None and record.frame is not None and record is record.frame.last

    def _recorded(self, bytes: Polynomial, flows: list[Flow], elements: Polynomial, keeps: bool) -> Record:
        """That of a new operator; or of one that is run once more."""
        if self._left is not None:
            return self._left.pop(0)
        record = Record(Root(bytes, holders=1), flows, [], self.row, elements, self._frame)
        record.result.record = record
        self.records.append(record)
        if self._frame is not None:
            self._frame.records.append(record)
            self._frame.last = record if keeps else self._frame.last
        for flow in flows:
            _hold(flow.to.root)
        return record

    def _kept(self, storages: Iterable[Storage], bytes: Polynomial = ZERO) -> list[Storage]:
        """What autograd keeps, of which `bytes` are made for it: nothing of what will be run once more."""
        if self._frame is not None:
            return []
        kept = list(storages)
        for storage in kept:
            storage.holders += 1
        kept += [self.allocate(bytes)] if bytes.terms else []
        if self._left is None:
            self._keep(kept)
        return kept

    def _keep(self, kept: Iterable[Storage]) -> None:
        """What autograd keeps counts once, in the row that needs it first."""
        for storage in kept:
            if not storage.fixed and not storage.counted:
                storage.counted = True
                self.rows.setdefault(self.row, Tally()).forward.setdefault("kept", []).append(storage.bytes)

    def view(self, tensor: Tensor, order: tuple[Axis, ...]) -> Tensor:
        """The same memory and gradient under another order; one more variable holds it."""
        self._another(tensor)
        return Tensor(order, tensor.bytes, tensor.storage, tensor.root, tensor.width)

    def detached(self, tensor: Tensor) -> Tensor:
        """The same memory, and no gradient; one more variable holds it."""
        self._another(tensor, rooted=False)
        return Tensor(tensor.order, tensor.bytes, tensor.storage, None, tensor.width)

    def _another(self, tensor: Tensor, rooted: bool = True) -> None:
        """One more variable holds it."""
        tensor.storage.holders += 1
        self._owned(tensor.storage)
        if self._left is None and rooted:
            _hold(tensor.root)

    def _owned(self, storage: Storage, more: int = 1) -> None:
        if self._left is not None:
            self._own[storage] += more

    def drop(self, tensor: Tensor | None) -> None:
        """A variable holds it no more."""
        if tensor is not None:
            self.release(tensor.storage)
            self._owned(tensor.storage, -1)
            if self._left is None:
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
                record.kept, record.flows, record.again = [], [], None

    def count(self, row: str, flops: Polynomial, elements: Polynomial, bytes: Polynomial, back: bool = False) -> None:
        tally = self.rows.setdefault(row, Tally())
        found = tally.backward if back else tally.forward
        for what, amount in (("flops", flops), ("elements", elements), ("bytes", bytes)):
            if amount.terms:
                found.setdefault(what, []).append(amount * Polynomial.symbol(EACH) if self.chunked else amount)

    # -- chunks ---------------------------------------------------------------------------------------

    @contextmanager
    def chunk(self, again: Callable[[], None], given: Iterable[Tensor]) -> Iterator[Frame]:
        """What is run here is one of several chunks, each run once more on the way back; what they are `given` is kept for that."""
        frame = Frame(again)
        self._frame, self.chunked = frame, True
        yield frame
        self._frame, self.chunked = None, False
        if frame.records:
            frame.held = self._kept(tensor.storage for tensor in given)

    def part(self, tensor: Tensor, order: tuple[Axis, ...], bytes: Polynomial) -> Tensor:
        """A part of a tensor, in its memory. Its gradient is as large as the whole, zeros but for the part."""
        flows = [Flow(tensor, whole=False)] if tensor.trained else []
        root = self._recorded(bytes, flows, ZERO, keeps=False).result if flows else None
        self._another(tensor, rooted=False)
        return Tensor(order, bytes, tensor.storage, root, tensor.width)

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
            self.chunked = record.frame is not None
            if gradient is not None:
                _ = record.again and record.again()
                self._again(record.frame, found)
                self._step(record, gradient, found)
            for storage in record.kept:
                self.release(storage)
            if gradient is not None:
                self.release(gradient.storage)
            if record.frame is not None and record is record.frame.records[0]:
                for storage in record.frame.held:
                    self.release(storage)
        self._mark()

    def _again(self, frame: Frame | None, found: dict[Root, Gradient]) -> None:
        """What a chunk did not keep, once more, beside the gradients that other chunks have made before of what they are all given."""
        if frame is None or frame.ran:
            return
        frame.ran = True
        inner = {record.result for record in frame.records}
        for root in dict.fromkeys(flow.to.root for record in frame.records for flow in record.flows):
            if root is not None and root not in inner and root not in found:
                found[root] = Gradient(self.allocate(root.bytes * OTHERS), others=True)
        self._left = list(frame.records)
        with suppress(Recomputed):
            frame.again()
        self._left = None
        for storage in self._own.elements():
            self.release(storage)
        self._own.clear()

    def _step(self, record: Record, gradient: Gradient, found: dict[Root, Gradient]) -> None:
        kept = total(storage.bytes for storage in record.kept)
        for flow in record.flows:
            assert flow.to.root is not None
            size, whole = flow.to.root.bytes, record.result.bytes
            chunk = flow.to.root.record.frame if flow.to.root.record is not None else None
            if chunk is not None and chunk is not record.frame:  # the other chunks need it too
                gradient.storage.holders += 1
                chunk.held.append(gradient.storage)
            if flow.part or (flow.passed and size == whole):
                gradient.storage.holders += 1
                arriving = Gradient(gradient.storage, gradient.spread)
            elif flow.spread:
                arriving = Gradient(self.allocate(ZERO), spread=True)
            else:
                beside = self.allocate(total([flow.beside, whole if flow.whole and size != whole and not flow.passed else ZERO]))
                arriving = Gradient(self.allocate(size))
                self.release(beside)
            idle = flow.part or (flow.passed and size == whole)
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
        if known is not None and known.others:
            self.release(self.allocate(root.bytes * OTHERS))
            self.release(known.storage)
            found[root] = arriving
            return
        found[root] = Gradient(self.allocate(root.bytes))
        self.release(arriving.storage)
        if known is not None:
            self.release(known.storage)
