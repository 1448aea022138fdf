"""Ids and the types that partition them: offsets of parts, the type of an id, whether it is of a type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mptc.ir.axis import Axis
from mptc.ir.node import Node, make
from mptc.ir.number import Monomial
from mptc.ops.choose import Lookup, TypeOf
from mptc.ops.compare import Compare
from mptc.ops.contract import number, product


@dataclass(frozen=True)
class Partitions:
    """The parts of each vocabulary that `types` declares, in the order of their ids."""

    parts: Mapping[Axis, tuple[Axis, ...]]
    sizes: Mapping[Axis, int]

    def begin(self, part: Axis) -> int:
        """The first id of a part; 0 for what is no part."""
        for parts in self.parts.values():
            if part in parts:
                return sum(self.sizes[other] for other in parts[: parts.index(part)])
        return 0

    def lookup(self, table: Node, ids: Node, axis: Axis) -> Node:
        return make(Lookup(axis, self.begin(axis)), table, ids)

    def types(self, ids: Node, vocabulary: Axis) -> Node:
        return make(TypeOf(tuple(self.begin(part) for part in self.parts[vocabulary])), ids)

    def of_type(self, ids: Node, part: Axis) -> Node:
        """1 where an id is of a type."""
        first = self.begin(part)
        ends = [number(Monomial.of(first)), number(Monomial.of(first + self.sizes[part]))]
        return product(make(Compare(">="), ids, ends[0]), make(Compare("<"), ids, ends[1]))
