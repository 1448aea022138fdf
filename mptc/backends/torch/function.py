"""One generated function: the forward of the model, or of a stack's copy. What it takes from further out becomes its arguments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from mptc.backends.torch.lines import Writer, beside
from mptc.backends.torch.names import Names, ambient_name, camel
from mptc.backends.torch.rowwise import call_of_rows
from mptc.backends.torch.site import cast, reordered
from mptc.backends.torch.together import lines_together
from mptc.ir.axis import BATCH, Axis, Role
from mptc.ir.node import Kind, Node
from mptc.ir.program import Parameter, Program
from mptc.ops.base import Order
from mptc.ops.leaf import Formal, Input, Param, length
from mptc.ops.region import Gathered, Loop, Result, Rows, Some
from mptc.passes.asked import Asked
from mptc.passes.scopes import Scope

if TYPE_CHECKING:
    from mptc.backends.torch.modules import Module

GIVEN = (Formal, Some, Result, Gathered, Param, Input)
IDLE = 3  # values that nothing reads any more, which one line lets go of
AMBIENT = ("batch", "seq", "length", "dtype", "wide", "device", "position", "rotation", "seen", "cache")


@dataclass
class Class:
    """One class of the generated module. `others`: what its copies do when a loop goes through them that is not the first (a shared stack)."""

    name: str
    scope: Scope
    path: str  # of its parameters: "" or "layers[*]."
    arguments: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    sites: dict[str, Site] = field(default_factory=dict)
    returns: list[str] = field(default_factory=list)  # the types of what forward returns
    flags: set[str] = field(default_factory=set)  # `loss`, `probe`: what it must know to have been asked for
    names: Counter[str] = field(init=False)  # how many call sites have a parameter of a name
    captured: list[Node] = field(default_factory=list)
    ambient: list[str] = field(default_factory=list)
    tied: dict[str, str] = field(default_factory=dict)  # its own parameters that ties of single copies join, and what they are called
    stacks: dict[str, str] = field(default_factory=dict)  # from further out, by path, and what they are called
    others: list[Class] = field(default_factory=list)
    methods: list[Class] = field(default_factory=list)  # what is computed by rows

    def __post_init__(self) -> None:
        self.names = Counter(parameter.path.rpartition(".")[2] for site in self.sites.values() for parameter in site.parameters)


@dataclass
class Site:
    """A call site's parameters below a class: its path there, and the parameters it holds."""

    path: str
    parameters: list[Parameter]
    variables: dict[str, str] = field(default_factory=dict)


class Function(Writer):
    """Writes one class's forward. `outer` is the function that calls it."""

    def __init__(self, module: Module, made: Class, names: Names) -> None:
        super().__init__(module.plan, module.layout, module.program.sizes, names, module.comments)
        self.module, self.made = module, made
        self.copies: dict[Node, str] = {}  # what a copy of each stack is called
        self.lists: dict[Node, str] = {}  # where what a loop watches is gathered
        self.kernels = module.kernels
        self.always = True  # whether what is being written is run in every call

    def inputs(self, program: Program) -> list[str]:
        """The model's inputs have the names of arguments."""
        labels = []
        for node in program.inputs:
            assert isinstance(node.op, Input)
            self.text[node] = self.names.take(node.op.label)
            labels.append(node.op.label)
        return labels

    # -- what comes from elsewhere ----------------------------------------------------------------------

    def provide(self, name: str) -> str:
        """A helper function by name; a value that depends on the sequence alone becomes an argument."""
        kind = name.partition("(")[0]
        if kind not in AMBIENT:
            return self.module.helper(name)
        name = self.module.measured(name)
        variable = ambient_name(name)
        if name not in self.made.ambient:
            self.made.ambient.append(name)
            self.names.hold(variable)
        return variable

    def parameter_text(self, node: Node) -> str:
        assert isinstance(node.op, Param)
        owner = self.plan.scopes.home[node].function
        if owner is not self.made.scope:
            return self.capture(node)
        below = node.op.path[len(self.made.path) :]
        site_path, _, name = below.rpartition(".")
        if not site_path:
            return self.tied(name) if node.op.path in self.module.tied else f"self.{name}"
        site = self.made.sites[site_path]
        if name not in site.variables:
            site.variables[name] = self.names.take(name if not self._clashes(name) else f"{site_path.replace('.', '_')}_{name}", fresh=True)
        return site.variables[name]

    def tied(self, name: str) -> str:
        if name not in self.made.tied:
            self.made.tied[name] = self.names.take(name, fresh=True)
        return self.made.tied[name]

    def _clashes(self, name: str) -> bool:
        return self.made.names[name] > 1

    def capture(self, node: Node) -> str:
        if node not in self.text:
            self.made.captured.append(node)
            hint = node.op.path.rpartition(".")[2] if isinstance(node.op, Param) else self.hint(node)
            self.text[node] = self.names.take(hint, fresh=True)
        return self.text[node]

    def code(self, node: Node) -> str:
        home = self.plan.scopes.home.get(node)
        elsewhere = home is not None and home.function is not self.made.scope
        if node not in self.text and elsewhere and (node in self.plan.assigned or isinstance(node.op, GIVEN)):
            return self.capture(node)
        return super().code(node)

    # -- statements -----------------------------------------------------------------------------------

    def scope(self, scope: Scope, around: Asked) -> list[str]:
        """The lines of a scope, which is run for `around`."""
        return joined(self.parts(scope, around))

    def parts(self, scope: Scope, around: Asked) -> list[Part]:
        """The lines of a scope, each part with what it is computed for where that is less than the scope."""
        found: list[Part] = []
        always = self.always
        for node in self.kernels.arranged(self, scope) if self.kernels else scope.nodes:
            lines: list[str] = []
            if not isinstance(node, Node):
                lines = lines_together(self, node)
                found.append(("", lines))
                continue
            condition = self.condition(node, around)
            self.always = always and not condition
            if isinstance(node.op, Loop):
                lines += self.loop(node)
                self.outlived(node)
            elif isinstance(node.op, Rows):
                lines += self.chosen(node)
            elif node in self.plan.assigned and node not in self.text:
                lines += [comment for part in self.plan.line_of(node) for comment in self.comments.before(part)]
                lines += self.chosen(node)
            if lines and self.always:
                self.there.update(filter(is_large, self.made_by(node)))
                lines += self.names.let_go(IDLE) if scope is self.made.scope else []  # in a repeat, the next pass takes the names again
            found += [(condition, lines)] if lines else []
        self.always = always
        if found and found[-1][1][-1].startswith("del "):  # what it holds is gone when the function returns
            found[-1][1].pop()
        return found

    def chosen(self, node: Node) -> list[str]:
        """The lines of a value: a kernel's where there is one and it pays, or else torch's."""
        call = self.kernels.call(self, node) if self.kernels else None
        lines = call_of_rows(self, node) if isinstance(node.op, Rows) else [self.line(node)]
        if call is None:
            return lines
        (name,) = (self.text[made] for made in self.made_by(node))
        return [f"if {call[0]}:", f"    {name} = {call[1]}", "else:", *("    " + line for line in lines)]

    def made_by(self, node: Node) -> list[Node]:
        """The values that the lines of a node name."""
        return [user for user, _ in self.plan.uses.get(node, []) if isinstance(user.op, Result)] if isinstance(node.op, Rows) else [node]

    def outlived(self, loop: Node) -> None:
        """What a loop alone reads of what stands before it is idle when it is over."""
        body, home = self.plan.scopes.bodies[loop], self.plan.scopes.home[loop]
        for node in (node for node in home.nodes if node in self.there):
            users = [scope for _, scope in self.plan.uses.get(node, [])]
            if self._lasting(node) and all(within(scope, body) for scope in users) and node not in self.plan.roots | self.plan.results:
                self.names.release(self.text[node], large=True)

    def condition(self, node: Node, around: Asked) -> str:
        """`loss`, `probe` or `loss or probe` for what is not always computed."""
        asked = self.module.needs.of(node)
        if asked >= around or "output" in asked:
            return ""
        self.made.flags |= asked
        return " or ".join(sorted(asked))

    def line(self, node: Node) -> str:
        return beside(self.assign(node), self.layout.order(node), self.module.place(node))

    def loop(self, node: Node) -> list[str]:
        op = node.op
        assert isinstance(op, Loop)
        states = []
        lines: list[str] = []
        users = [user for user, _ in self.plan.uses.get(node, [])]
        watched = [user for user in users if isinstance(user.op, Gathered)]
        for user in watched:
            self.lists[user] = self.names.take(plural(label_of(user)), fresh=True)
        if watched:
            lines.append(f"{', '.join(self.lists[user] for user in watched)} = {', '.join(['[]'] * len(watched))}")
        for formal, initial in zip(op.formals, node.args, strict=True):
            name, before = self.state(node, formal, initial)
            states.append(name)
            lines += before
        body = self.plan.scopes.bodies[node]
        around = self.module.needs.of(node)
        inside = self.stacked(node, body, states, watched) if op.label is not None else self.repeated(op, body, states, watched, around)
        head = self.head(node, op)
        for user in users:  # a pass let go of what it read last
            if isinstance(user.op, Result):
                self.names.hold(states[user.op.index])
        for user in users:
            self.text[user] = states[user.op.index] if isinstance(user.op, Result) else f"torch.stack({self.lists[user]})"
        return [*lines, head, *("    " + line for line in inside)] if inside else lines

    def head(self, node: Node, op: Loop) -> str:
        return f"for {self.copies[node]} in {self.stack(op.path)}:" if op.label is not None else f"for _ in range({op.count}):"

    def stack(self, path: str) -> str:
        """The copies of a stack: an attribute or, where the stack is another module's, an argument."""
        if holder(path) == self.made.path:
            return f"self.{path.removesuffix('[*]')[len(self.made.path) :]}"
        if path not in self.made.stacks:
            self.made.stacks[path] = self.names.take(path.removesuffix("[*]").rpartition(".")[2], fresh=True)
        return self.made.stacks[path]

    def state(self, loop: Node, formal: Node, initial: Node) -> tuple[str, list[str]]:
        """The variable that carries a state: the initial value's own, where nothing else will read it."""
        order = self.layout.order(formal)
        code = self.code(initial)
        self.spend_one(initial, loop)
        same = self.layout.grade(initial) is self.layout.grade(formal) and self.layout.order(initial) == order
        if same and initial in self.text and self.left.get(initial) == 0 and not self._lasting(initial):
            self.names.hold(code)
            self.text[formal] = code
            return code, []
        name = self.names.take(self.hint(formal))
        self.text[formal] = name
        return name, [beside(f"{name} = {self.expanded(initial, formal)}", order)]

    def spend_one(self, node: Node, loop: Node) -> None:
        if node in self.text:
            self.left[node] = self.left.get(node, self._count(node)) - 1
            if self.left[node] == 0 and not self._lasting(node):
                self.names.release(self.text[node], node in self.there)

    def expanded(self, node: Node, like: Node) -> str:
        """A value in the order of a state, with every axis of it."""
        return self.expanded_to(node, self.layout.order(like))

    def expanded_to(self, node: Node, order: Order) -> str:
        """A value that leaves the graph, as a number of the parameters' dtype."""
        own, code = self.layout.order(node), self.code(node)
        if node.type.kind is Kind.NUMBER:
            code = cast(code, self.layout.grade(node), self.provide)
        code = reordered(code, own, tuple(axis if axis in own else None for axis in order))
        if set(self.layout.order(node)) == set(order):
            return code
        return f"torch.broadcast_to({code}, ({', '.join(map(self.size, order))}{',' * (len(order) == 1)}))"

    def size(self, axis: Axis) -> str:
        if axis == BATCH:
            return self.provide("batch")
        return str(self.sizes[axis]) if axis.role is Role.DIM else self.provide(length(axis))

    def repeated(self, op: Loop, body: Scope, states: list[str], watched: list[Node], around: Asked) -> list[str]:
        parts = self.parts(body, around)
        for user in watched:
            parts.append((self.condition(user, around), [f"{self.lists[user]}.append({self.watched(user)})"]))
        for formal in op.formals:
            self.text[formal] = states[op.formals.index(formal)]
        return [*joined(parts), *self.carried(op, states)]

    def watched(self, user: Node) -> str:
        """What a loop watches, in the order in which its passes are gathered."""
        return self.expanded_to(_watched(user), self.layout.order(user)[1:])

    def carried(self, op: Loop, states: list[str]) -> list[str]:
        """The state for the next pass."""
        pairs = [(name, self.expanded(result, formal)) for name, formal, result in zip(states, op.formals, op.results, strict=True)]
        moved = [(name, code) for name, code in pairs if name != code]
        if not moved:
            return []
        return [f"{', '.join(name for name, _ in moved)} = {', '.join(code for _, code in moved)}"]

    def stacked(self, node: Node, body: Scope, states: list[str], watched: list[Node]) -> list[str]:
        """The call of one copy. Its class is written first: that tells what it needs."""
        op = node.op
        assert isinstance(op, Loop)
        assert op.label is not None
        copy = self.copies[node] = self.names.take(camel(op.label).lower())
        around = self.module.needs.of(node)
        made, call = self.module.stack_class(op, body, watched, around)
        flags = sorted(made.flags)
        self.made.flags |= made.flags
        extra = [*(self.passed(node, around) for node in made.captured), *(self.given(name, node) for name in made.ambient)]
        given = [*states, *extra, *map(self.stack, made.stacks), *flags, *([f"call={call}"] if call else [])]
        seen = [self.names.take(label_of(user), fresh=True) for user in watched]
        line = f"{', '.join([*states, *seen])} = {copy}{self.module.method}({', '.join(given)})"
        return [line, *(f"{self.lists[user]}.append({name})" for user, name in zip(watched, seen, strict=True))]

    def given(self, name: str, loop: Node) -> str:
        """What of a function's surroundings a copy of a stack is given."""
        return self.provide(name)

    def passed(self, node: Node, around: Asked) -> str:
        """A value given to a copy of a stack; None where it has not been computed."""
        condition = self.condition(node, around)
        return f"{self.code(node)} if {condition} else None" if condition else self.code(node)


def is_large(node: Node) -> bool:
    """Whether a value has several numbers for each token, or some for each pair of tokens."""
    tokens = sum(axis.role in (Role.TOKEN, Role.CONTEXT) for axis in node.axes)
    return tokens > 1 or (tokens == 1 and any(axis.role is Role.DIM for axis in node.axes))


def within(scope: Scope | None, outer: Scope) -> bool:
    """Whether a scope is another one or inside it."""
    return scope is not None and (scope is outer or within(scope.parent, outer))


def holder(path: str) -> str:
    """Where the module begins that has a stack's copies (`outer[*].layers[*]`) as an attribute: `outer[*].`"""
    around, star, _ = path.removesuffix("[*]").rpartition("[*].")
    return around + star


Part = tuple[str, list[str]]  # what some lines are computed for ("": always), and the lines


def joined(parts: list[Part]) -> list[str]:
    """Lines, those that are not always computed below what they are computed for."""
    lines: list[str] = []
    for condition, group in groupby(parts, key=lambda part: part[0]):
        inner = [line for _, own in group for line in own]
        lines += [f"if {condition}:", *("    " + line for line in inner)] if condition else inner
    return lines


def _watched(user: Node) -> Node:
    """The value of one pass, of what is gathered from all."""
    loop = user.args[0].op
    assert isinstance(user.op, Gathered)
    assert isinstance(loop, Loop)
    return loop.watched[user.op.index]


def label_of(user: Node) -> str:
    assert isinstance(user.op, Gathered)
    return user.op.label


def plural(name: str) -> str:
    return f"{name[:-1]}ies" if name.endswith("y") else name if name.endswith("s") else f"{name}s"
