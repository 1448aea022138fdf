"""One training step of the generated module, statement by statement, stacks and repeats written out: what its tape then has is the cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from mptc.backends.deployment import MOST, TooLarge
from mptc.backends.grades import Grade
from mptc.backends.layout import Layout
from mptc.backends.torch.lines import is_leaf, is_rename, seen_through
from mptc.backends.torch.modules import plan_of
from mptc.cost.again import computed_again
from mptc.cost.chunks import OTHERS, ROWS, Sight
from mptc.cost.operators import ID, NUMBER, Operators
from mptc.cost.polynomial import Polynomial, product
from mptc.cost.rows import REST, Rows
from mptc.cost.sizes import Sizes
from mptc.cost.tape import Flow, Tape, Tensor
from mptc.cost.values import ran
from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Kind, Node
from mptc.ir.path import Path, stored
from mptc.ir.program import Program
from mptc.ops.base import Operation
from mptc.ops.kept import after_parameter
from mptc.ops.leaf import Formal, Input, Length, Param
from mptc.ops.region import Gathered, Loop, Result, Some
from mptc.ops.region import Rows as ByRows
from mptc.ops.rotary import Rope, token_axis
from mptc.passes.asked import needed
from mptc.passes.scopes import Scope


@dataclass(eq=False)
class Step:
    """Outputs and the loss are computed and held, probes are not; then gradients flow from the loss or, without one, the sum of all outputs.

    Raises `TooLarge` where more than `MOST` values are computed, all copies and passes counted.
    """

    program: Program
    sizes: Sizes
    rows: Rows
    whole: bool = False  # no length above `SIZE`: what is computed by rows has all of them at once
    again: Mapping[str, int] = field(default_factory=dict)  # by stack, how many of its copies, from the first on, are computed again
    tape: Tape = field(default_factory=Tape)

    def __post_init__(self) -> None:
        self.plan = plan_of(self.program)
        self.layout = Layout()
        self.run = Operators(self.tape, self.sizes, self.layout)
        loss = [] if self.program.loss is None else [self.program.loss]
        outputs = [output.node for output in self.program.outputs]
        self.needed = needed([*outputs, *loss])
        self.roots = loss or outputs
        self.held = {*outputs, *loss}
        self.found: dict[Node, Tensor | None] = {}
        self.copies: dict[str, int] = {}
        self.variables: dict[tuple[Scope, str, int], Node] = {}
        self.left: dict[Node, int] = {}
        self.parameters: dict[str, Tensor] = {}
        self.frozen = {parameter.path: parameter.frozen for parameter in self.program.parameters}
        self.uses: dict[str, int] = {}  # numbers of parameters that operators read, by row
        self.read: dict[str, set[str]] = {}  # and their paths
        self.readers = self._readers()

    @property
    def by_rows(self) -> bool:
        """Whether anything is computed for some of the tokens at a time."""
        return not self.whole and any(isinstance(node.op, ByRows) for node in self.needed)

    def take(self) -> Tape:
        """The whole step."""
        if self._steps(self.plan.scopes.root) > MOST:
            raise TooLarge
        self._tables()
        self._body(self.plan.scopes.root)
        for node in [*self.found]:
            if node not in self.held:
                self._forget(node)
        uses = dict(self.uses)  # what is run once more reads no more of them
        self.tape.backward([tensor for node in self.roots if (tensor := self._value(node)) is not None])
        self.uses = uses
        return self.tape

    def _steps(self, scope: Scope) -> int:
        """How many values are computed in a scope, all passes of the loops in it counted."""
        regions = [node for node in scope.nodes if node in self.needed and isinstance(node.op, Loop | ByRows)]
        inner = [(node.op.count if isinstance(node.op, Loop) else 1, self.plan.scopes.bodies[node]) for node in regions]
        return len(scope.nodes) + sum(count * self._steps(body) for count, body in inner)

    def _readers(self) -> dict[Node, list[tuple[Node, Scope]]]:
        """Who reads each value, and where."""
        readers: dict[Node, list[tuple[Node, Scope]]] = {}
        for node, scope in self.plan.scopes.home.items():
            for arg in node.args if node in self.needed else ():
                readers.setdefault(arg, []).append((node, scope))
        for region, body in self.plan.scopes.bodies.items():
            assert isinstance(region.op, Loop | ByRows)
            for result in (*region.op.results, *(region.op.watched if isinstance(region.op, Loop) else ())):
                readers.setdefault(result, []).append((region, body))
        return readers

    def _tables(self) -> None:
        """Cosines and sines of rotary position, once for each size and context."""
        wanted = {
            (node.op.axis, node.op.base, token_axis(node.axes))
            for node in self.plan.scopes.home
            if node in self.needed and isinstance(node.op, Rope)
        }
        self.tape.row = REST
        for axis, _, token in sorted(wanted, key=str):
            for _ in range(2):
                self.tape.operator((token, axis), self.run.bytes((token, axis)), [])

    # -- one function -----------------------------------------------------------------------------------

    def _body(self, scope: Scope) -> None:
        """Every value of a scope, in order."""
        for node in scope.nodes:
            if node in self.needed and not isinstance(node.op, Param | Formal | Some | Length | Result | Gathered):
                self._compute(node)

    def _compute(self, node: Node) -> None:
        self.tape.row = self.rows.of(node)
        if isinstance(node.op, Loop):
            self._loop(node, node.op)
        elif isinstance(node.op, ByRows):
            self._by_rows(node, node.op)
        elif isinstance(node.op, Input):
            width = ID if node.op.kind is Kind.ID else NUMBER
            order = self.layout.order(node)
            self._bind(node, self.tape.given(order, self.run.bytes(order, width), width=width))
        else:
            value = self._evaluated(node)
            for arg in dict.fromkeys(node.args):
                self._read(arg)
            self._bind(node, value)
        for path, axes in self._reads(node):
            row = self.rows.reading(node, path)
            self.uses[row] = self.uses.get(row, 0) + (self.sizes.of(axes).value or 0)
            self.read.setdefault(row, set()).add(path)

    @staticmethod
    def _reads(node: Node) -> set[tuple[str, tuple[Axis, ...]]]:
        """The parameters that a node's operator reads."""
        return {(arg.op.path, arg.op.order) for arg in map(seen_through, node.args) if isinstance(arg.op, Param) and not is_rename(node)}

    def _evaluated(self, node: Node) -> Tensor | None:
        """The value of a node; what its expression had beside it is dropped."""
        values = [self._operand(node, place) for place in range(len(node.args))]
        result = None if self.layout.grade(node) is Grade.SCALAR else ran(self.run, node, values)
        made, self.run.made = self.run.made, []
        if result is not None and all(result is not each for each in made):
            result = self.tape.view(result, result.order)
        for each in made:
            if each is not result:
                self.tape.drop(each)
        return result

    def _operand(self, node: Node, place: int) -> Tensor | None:
        """A value as a node takes it: whole numbers and booleans become numbers where it computes with those."""
        arg, op = node.args[place], node.op
        value = self._value(arg)
        assert isinstance(op, Operation)
        exact = self.layout.grade(arg) is Grade.EXACT and self.layout.grade(node) > Grade.EXACT
        if value is None or not exact or op.takes_exact(node, place):
            return value
        return self.run.pointwise([value], through=[])

    # -- variables --------------------------------------------------------------------------------------

    def _value(self, node: Node) -> Tensor | None:
        if isinstance(node.op, Param):
            return self._parameter(node.op)
        return self.found.get(node)

    def _bind(self, node: Node, value: Tensor | None) -> None:
        """A variable gets a value; the one that it had goes when that is there."""
        before, self.found[node] = self.found.get(node), value
        self.tape.drop(before)
        self.left[node] = len({reader for reader, _ in self.readers.get(node, ())})
        if node in self.plan.assigned:
            self._name(node)

    def _name(self, node: Node) -> None:
        """A variable takes the first name of its kind that nothing will be read by any more; what had that name is gone."""
        scope = self.plan.scopes.home[node].function
        hint, number = self.plan.names.get(node) or after_parameter(node) or "value", 1
        while (other := self.variables.get((scope, hint, number))) is not None and other is not node and self._lasts(other):
            number += 1
        if other is not None and other is not node:
            self._forget(other)
        self.variables[scope, hint, number] = node

    def _lasts(self, node: Node) -> bool:
        """Whether a variable is still to be read, or in a loop further in, which comes round again."""
        home = self.plan.scopes.home[node]
        further = any(scope.depth > home.depth for _, scope in self.readers.get(node, ()))
        return node in self.found and (self.left[node] > 0 or node in self.held or further)

    def _read(self, node: Node) -> None:
        """What has no line of its own is gone when it has been read; variables stay as long as their function."""
        if node not in self.left:
            return
        self.left[node] -= 1
        if node in self.plan.assigned or node in self.held or is_leaf(node):
            return
        home = self.plan.scopes.home[node]
        if self.left[node] == 0 and all(scope is home for _, scope in self.readers[node]):
            self._forget(node)

    def _forget(self, node: Node) -> None:
        self.tape.drop(self.found.pop(node, None))

    def _parameter(self, op: Param) -> Tensor:
        """The tensor of a parameter in the copy at work, ties followed."""
        copies = []
        for place in range(op.path.count("[*]")):
            before = "[*]".join(op.path.split("[*]")[: place + 1])
            copies.append(self.copies[before])
        path, order = stored(Path(op.path, tuple(copies)), op.order, self.program.ties)
        if str(path) not in self.parameters:
            bytes = self.run.bytes(order)
            trained = not any(frozen.covers(path) for frozen in self.frozen.get(path.stem, ()))
            self.parameters[str(path)] = self.tape.given(order, bytes, trained)
        there = self.parameters[str(path)]
        return Tensor(order, there.bytes, there.storage, there.root)

    # -- loops ------------------------------------------------------------------------------------------

    def _loop(self, node: Node, op: Loop) -> None:
        """Every pass, or copy, on the state that the one before left."""
        body = self.plan.scopes.bodies[node]
        for formal, initial in zip(op.formals, node.args, strict=True):
            self._bind_view(formal, initial)
            if [reader for reader, _ in self.readers[initial]] == [node] and initial not in self.held and initial in self.found:
                self._forget(initial)  # its variable carries the state
        users = [user for user, _ in self.readers.get(node, ()) if user in self.needed]
        seen: dict[Node, list[Tensor]] = {user: [] for user in users if isinstance(user.op, Gathered)}
        for count in range(op.count):
            if op.label is not None:
                self.copies[op.path.removesuffix("[*]")] = count
            with computed_again(self.tape, self._read_by(node, op)) if count < self.again.get(_stack(op), 0) else nullcontext():
                self._body(body)
            for user, values in seen.items():
                assert isinstance(user.op, Gathered)
                value = self._viewed(op.watched[user.op.index])
                values += [] if value is None else [value]
            after = [self._viewed(result) for result in op.results]
            if op.label is not None:
                self._leave(body)
            for formal, value in zip(op.formals, after, strict=True):
                self._bind(formal, value)
        for user in users:
            if isinstance(user.op, Result):
                self._bind_view(user, op.formals[user.op.index])
        for user, values in seen.items():
            self._stacked(user, values)
        for formal in op.formals:
            self._forget(formal)

    def _read_by(self, node: Node, op: Loop) -> list[Tensor]:
        """What a copy of a stack is given: its state, and what it reads beside that."""
        body = self.plan.scopes.bodies[node]
        read = dict.fromkeys([*op.formals, *(arg for each in body.nodes for arg in each.args if self.plan.scopes.home[arg] is not body)])
        return [value for each in read if not isinstance(each.op, Param) and (value := self._value(each)) is not None]

    # -- by rows ----------------------------------------------------------------------------------------

    def _by_rows(self, node: Node, op: ByRows) -> None:
        """One chunk, for all of them. What results of chunks are put together from, or added to, is there beside it, as large as it is in the end."""
        if self.whole:
            made = self._rows(node, op, [self._viewed(arg) for arg in node.args])
        else:
            sizes = [self.run.bytes(self.layout.order(result), self.run.width(result)) for result in op.results]
            before = [self.tape.allocate(self._others(*each)) for each in zip(op.results, sizes, op.added, strict=True)]
            parts = self._chunk(node, op)
            made = [None if part is None else self._put(part, size, added) for part, size, added in zip(parts, sizes, op.added, strict=True)]
            for storage in before:
                self.tape.release(storage)
        for arg in dict.fromkeys(node.args):
            self._read(arg)
        users = {user.op.index: user for user, _ in self.readers.get(node, ()) if user in self.needed and isinstance(user.op, Result)}
        for place, value in enumerate(made):
            if place in users:
                self._bind(users[place], value)
            else:
                self.tape.drop(value)

    def _others(self, result: Node, size: Polynomial, added: bool) -> Polynomial:
        """Bytes of what the chunks before have made of a result."""
        own = self.sizes.within({SEQ: ROWS}).of(self.layout.order(result)).times(-self.run.width(result))
        return size * OTHERS if added else size + own

    def _rows(self, node: Node, op: ByRows, given: Iterable[Tensor | None]) -> list[Tensor | None]:
        """The results, of what tokens have. All else that is made is gone when they are there."""
        for formal, value in zip(op.formals, given, strict=True):
            self._bind(formal, value)
        body = self.plan.scopes.bodies[node]
        self._body(body)
        made = [self._viewed(result) for result in op.results]
        self._leave(body)
        for formal in op.formals:
            self._forget(formal)
        return made

    def _chunk(self, node: Node, op: ByRows) -> list[Tensor | None]:
        """The results of some rows. Run once more, it finds what it was given, and the parameters of the same copy."""
        given, copies = self._given(node), dict(self.copies)
        seen = Polynomial.symbol(Sight(op.window).symbol)
        body = self.plan.scopes.bodies[node]
        contexts = {axis for each in body.nodes for axis in each.axes if axis != SEQ and axis.role in (Role.TOKEN, Role.CONTEXT)}
        narrowed = any(isinstance(formal.op, Some) and formal.op.seen for formal in op.formals)
        sizes = self.sizes.within({SEQ: ROWS, **dict.fromkeys(contexts if narrowed else (), seen)})

        def run() -> list[Tensor | None]:
            parts = [self._part(formal, given[arg], seen) if arg in given else None for formal, arg in zip(op.formals, node.args, strict=True)]
            self.run.sizes = sizes
            made = self._rows(node, op, parts)
            self.run.sizes = self.sizes
            return made

        def again() -> None:
            self.copies, self.found, self.uses, self.run.made = copies, dict(given), {}, []
            run()

        with self.tape.chunk(again, given.values()):
            return run()

    def _given(self, node: Node) -> dict[Node, Tensor]:
        """What a region is given: its arguments, and what it reads beside them."""
        body = self.plan.scopes.bodies[node]
        read = [*node.args, *(arg for each in body.nodes for arg in each.args if self.plan.scopes.home[arg] is not body)]
        return {each: value for each in read if not isinstance(each.op, Param) and (value := self._value(each)) is not None}

    def _part(self, formal: Node, whole: Tensor, seen: Polynomial) -> Tensor:
        assert isinstance(formal.op, Some)
        along, some = formal.op.along, seen if formal.op.seen else ROWS
        sizes = (some if axis == along else self.sizes.axis(axis) for axis in whole.order)
        return self.tape.part(whole, whole.order, product(sizes).times(whole.width))

    def _put(self, part: Tensor, size: Polynomial, added: bool) -> Tensor:
        """What a chunk made among what the others did."""
        if added:
            self.tape.chunked = True
            found = self.tape.operator(part.order, size, [part, part], [Flow(part, passed=True)], elements=self.sizes.of(part.order))
            self.tape.chunked = False
        else:
            found = self.tape.operator(part.order, size, [], [Flow(part, part=True)], width=part.width)
        self.tape.drop(part)
        return found

    def _stacked(self, user: Node, values: list[Tensor]) -> None:
        """What a loop watched, all passes in one tensor."""
        flows = [Flow(value, whole=False) for value in values]
        self._bind(user, self.tape.operator(self.layout.order(user), self.run.bytes(user.axes), values, flows))
        for value in values:
            self.tape.drop(value)

    def _viewed(self, node: Node) -> Tensor | None:
        """A value, for another variable to hold too."""
        value = self._value(node)
        return None if value is None else self.tape.view(value, value.order)

    def _bind_view(self, node: Node, of: Node) -> None:
        self._bind(node, self._viewed(of))

    def _leave(self, scope: Scope) -> None:
        """A copy returns: its variables are gone, those of the repeats inside too."""
        for inner in self._inside(scope):
            for node in inner.nodes:
                self._forget(node)

    def _inside(self, scope: Scope) -> Iterable[Scope]:
        yield scope
        for loop, body in self.plan.scopes.bodies.items():
            if body.parent is scope:
                for node in loop.op.formals if isinstance(loop.op, Loop) else ():
                    self._forget(node)
                yield from self._inside(body)



def _stack(op: Loop) -> str:
    """The path of a stack that stands in the model itself."""
    return "" if op.label is None or op.path.count("[*]") != 1 else op.path.removesuffix("[*]")
