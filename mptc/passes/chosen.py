"""`on`: what is asked of chosen tokens is computed for those alone, what they see of each other included."""

from __future__ import annotations

from collections.abc import Mapping

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Node, make
from mptc.ir.program import Program
from mptc.ops.chosen import On, SoftTopK
from mptc.ops.compare import Where
from mptc.ops.contract import Contract, is_scalar, renamed
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Mask, Position
from mptc.ops.onnx_routed import seen
from mptc.ops.region import everything
from mptc.ops.rotary import Rope
from mptc.ops.routed import Put, Take, Tokens, chosen_axis
from mptc.ops.stream import Stream
from mptc.passes.sparse import Found, Restriction, Rule, Shared, restricted


def chosen(program: Program) -> tuple[Program, Mapping[Node, Node]]:
    """The program in which every `on` that it pays for is computed for its tokens alone, and what its nodes have become."""
    conditions: dict[Node, Shared] = {}
    position = next((node for node in everything(program.roots) if isinstance(node.op, Position)), make(Position()))
    heads: dict[Node, Restriction] = {}
    for node in everything(program.roots):
        if isinstance(node.op, On) and {BATCH, SEQ} == set(node.args[0].axes):
            shared = conditions.setdefault(node.args[0], Shared(chosen_axis(len(conditions))))
            heads[node] = ChosenTokens(node, shared, position)
    return restricted(program, heads)


class ChosenTokens(Restriction):
    """One `on`."""

    replaced = frozenset({SEQ})

    def __init__(self, node: Node, shared: Shared, position: Node) -> None:
        super().__init__(shared)
        self.condition, self.root, _ = node.args
        self.position = position
        most = _most(self.condition)
        self.given = (self.condition, *(() if most is None else (most,)))

    def index(self, all_: Found) -> Node:
        return self.shared.once("tokens", lambda: make(Tokens(self.along), *map(all_, self.given)))

    def taken(self, whole: Node, all_: Found) -> Node:
        return self.shared.once(whole, lambda: make(Take(self.along), all_(whole), self.index(all_)))

    def result(self, made: Node, all_: Found) -> Node:
        return make(Put(self.along), made, self.index(all_), all_(self.condition))

    # -- rules ------------------------------------------------------------------------------------------

    def _rule(self, node: Node) -> Rule | None:
        """What belongs to pairs of tokens is made in attention alone, or else whole (`mptc.passes.rows`)."""
        pairs = any(axis.role is Role.CONTEXT for each in (node, *node.args) if SEQ in each.axes for axis in each.axes)
        return super()._rule(node) if not pairs else self.special(node) if isinstance(node.op, Stream) else None

    def contract(self, node: Node, op: Contract) -> Rule | None:
        """Each sequence has chosen tokens of its own."""
        labels = (zip(arg.axes, operand.labels, strict=True) for arg, operand in zip(node.args, op.operands, strict=True))
        return super().contract(node, op) if all(label == axis for each in labels for axis, label in each if axis == BATCH) else None

    def special(self, node: Node) -> Rule | None:
        op = node.op
        if isinstance(op, Rope):
            return self._turned(node, op)
        if isinstance(op, Stream) and op.asker == SEQ and op.token(node) == SEQ and SEQ in node.args[0].axes:
            return self._attended(node, op)
        return None

    def _turned(self, node: Node, op: Rope) -> Rule:
        value, place = node.args[0], node.args[1] if len(node.args) > 1 else self.position
        return Rule((value, place), (), lambda some, _: make(op, some(value), some(place), span=node.span))

    def _attended(self, node: Node, op: Stream) -> Rule | None:
        """Chosen tokens ask; those that they see are chosen too where the mask says so, else all.

        A mask or a bias of pairs would be as large as all of them: what needs one is made whole, in memory linear in length.
        """
        query, key, value, *extra = node.args
        mask = extra[-1] if op.masked else None
        known = [] if mask is None else [each for each in mask.args if _says(each, self.condition, op.over)]
        left = [] if mask is None else [each for each in mask.args if each not in known]
        past = op.causal or (mask is not None and isinstance(mask.op, Mask) and mask.op.past)
        windowed = mask is not None and (not isinstance(mask.op, Mask) or mask.op.window is not None)
        if op.biased or windowed or (past and (left or not known)) or any(SEQ in each.axes for each in left):
            return None
        over = seen(self.along) if known else op.over
        if known and left:  # what of all tokens is seen would have to be taken as it is seen
            return None

        def made(some: Found, all_: Found) -> Node:
            keys = [some(each) if known else all_(each) for each in (key, value)]
            conditions = list(map(all_, left))
            if known and not past:  # a sequence with fewer has others behind those chosen, which no chosen one sees in its past
                conditions.append(renamed(some(self.condition), {self.along: over}))
            masks = [make(Mask(over, itself=not left), *conditions)] if conditions else []
            new = Stream(over, op.inner, op.scale, past, biased=False, masked=bool(masks), asker=self.along)
            return make(new, some(query), *keys, *masks, span=node.span)

        parts = (query, *((key, value, self.condition) if known else ()))
        return Rule(parts, (*left, *(() if known else (key, value))), made, heavy=True)


def _says(condition: Node, chosen: Node, over: Axis) -> bool:
    """Whether a condition of a mask is that what is seen is chosen, at least where the one who looks is."""
    if isinstance(condition.op, Where) and condition.args[0] is chosen:
        condition = condition.args[1]
    op = condition.op
    return isinstance(op, Contract) and op.renames and condition.args[0] is chosen and over in condition.axes


def _most(condition: Node) -> Node | None:
    """A number that no sequence has more chosen tokens than."""
    if not isinstance(condition.op, SoftTopK):
        return None
    keep = condition.args[1]
    keep = keep.args[0] if isinstance(keep.op, Map) and keep.op.function == "ceil" else keep
    return keep if is_scalar(keep) else None

