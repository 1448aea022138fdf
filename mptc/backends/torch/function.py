"""One generated function: the forward of the model, or of a stack's copy. What it takes from further out becomes its arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from mptc.backends.layout import Layout
from mptc.backends.scopes import Scope
from mptc.backends.torch.lines import Comments, Plan, Writer, beside
from mptc.backends.torch.names import Names, camel
from mptc.backends.torch.site import cast, reordered
from mptc.ir.axis import BATCH, Axis, Role
from mptc.ir.node import Kind, Node
from mptc.ir.program import Parameter, Program
from mptc.ops.base import Order
from mptc.ops.leaf import Formal, Input, Param, length
from mptc.ops.region import Loop, Result

AMBIENT = ("batch", "seq", "length", "dtype", "wide", "device", "position", "behind", "rotation")


@dataclass
class Class:
    """One class of the generated module."""

    name: str
    scope: Scope
    path: str  # of its parameters: "" or "layers[*]."
    arguments: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    sites: dict[str, Site] = field(default_factory=dict)
    stacks: list[tuple[str, str, int]] = field(default_factory=list)  # attribute, class, copies
    states: int = 1  # values that forward returns
    names: Counter[str] = field(init=False)  # how many call sites have a parameter of a name
    captured: list[Node] = field(default_factory=list)
    ambient: list[str] = field(default_factory=list)

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

    # -- what comes from elsewhere ----------------------------------------------------------------------

    def provide(self, name: str) -> str:
        """A helper function by name; a value that depends on the sequence alone becomes an argument."""
        kind = name.partition("(")[0]
        if kind not in AMBIENT:
            self.module.helpers.add(name)
            return name
        name = self.module.measured(name)
        variable = ambient_name(name)
        if name not in self.made.ambient:
            self.made.ambient.append(name)
            self.names.held.add(variable)
        return variable

    def parameter_text(self, node: Node) -> str:
        assert isinstance(node.op, Param)
        owner = self.plan.scopes.home[node].function
        if owner is not self.made.scope:
            return self.capture(node)
        below = node.op.path[len(self.made.path) :]
        site_path, _, name = below.rpartition(".")
        if not site_path:
            return f"self.{name}"
        site = self.made.sites[site_path]
        if name not in site.variables:
            site.variables[name] = self.names.take(name if not self._clashes(name) else f"{site_path.replace('.', '_')}_{name}", fresh=True)
        return site.variables[name]

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
        if node not in self.text and elsewhere and (node in self.plan.assigned or isinstance(node.op, Formal | Result | Param | Input)):
            return self.capture(node)
        return super().code(node)

    # -- statements -----------------------------------------------------------------------------------

    def scope(self, scope: Scope, wanted: Container[Node] | None = None) -> list[str]:
        """The lines of a scope, or of those of its nodes that are wanted."""
        lines: list[str] = []
        for node in scope.nodes:
            if wanted is not None and node not in wanted:
                continue
            if isinstance(node.op, Loop):
                lines += self.loop(node)
            elif node in self.plan.assigned and node not in self.text:
                lines += [comment for part in self.plan.line_of(node) for comment in self.comments.before(part)]
                lines.append(self.line(node))
        return lines

    def line(self, node: Node) -> str:
        return beside(self.assign(node), self.layout.order(node), self.module.place(node))

    def loop(self, node: Node) -> list[str]:
        op = node.op
        assert isinstance(op, Loop)
        states = []
        lines: list[str] = []
        for formal, initial in zip(op.formals, node.args, strict=True):
            name, before = self.state(node, formal, initial)
            states.append(name)
            lines += before
        body = self.plan.scopes.bodies[node]
        inside = self.stacked(node, body, states) if op.label is not None else self.repeated(op, body, states)
        head = f"for {self.copies[node]} in self.{self.attribute(op)}:" if op.label is not None else f"for _ in range({op.count}):"
        for user, scope in [pair for formal in (node,) for pair in self.plan.uses.get(formal, [])]:
            assert isinstance(user.op, Result), scope
            self.text[user] = states[user.op.index]
        return [*lines, head, *("    " + line for line in inside)]

    def attribute(self, op: Loop) -> str:
        return op.path.removesuffix("[*]")[len(self.made.path) :]

    def state(self, loop: Node, formal: Node, initial: Node) -> tuple[str, list[str]]:
        """The variable that carries a state: the initial value's own, where nothing else will read it."""
        order = self.layout.order(formal)
        code = self.code(initial)
        self.spend_one(initial, loop)
        same = self.layout.grade(initial) is self.layout.grade(formal) and self.layout.order(initial) == order
        if same and initial in self.text and self.left.get(initial) == 0 and not self._lasting(initial):
            self.names.held.add(code)
            self.text[formal] = code
            return code, []
        name = self.names.take(self.hint(formal))
        self.text[formal] = name
        return name, [beside(f"{name} = {self.expanded(initial, formal)}", order)]

    def spend_one(self, node: Node, loop: Node) -> None:
        if node in self.text:
            self.left[node] = self.left.get(node, self._count(node)) - 1
            if self.left[node] == 0 and not self._lasting(node):
                self.names.release(self.text[node])

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
        return f"torch.broadcast_to({code}, ({', '.join(map(self.size, order))}))"

    def size(self, axis: Axis) -> str:
        if axis == BATCH:
            return self.provide("batch")
        return str(self.sizes[axis]) if axis.role is Role.DIM else self.provide(length(axis))

    def repeated(self, op: Loop, body: Scope, states: list[str]) -> list[str]:
        lines = self.scope(body)
        for formal in op.formals:
            self.text[formal] = states[op.formals.index(formal)]
        return [*lines, *self.carried(op, states)]

    def carried(self, op: Loop, states: list[str]) -> list[str]:
        """The state for the next pass."""
        pairs = [(name, self.expanded(result, formal)) for name, formal, result in zip(states, op.formals, op.results, strict=True)]
        moved = [(name, code) for name, code in pairs if name != code]
        if not moved:
            return []
        return [f"{', '.join(name for name, _ in moved)} = {', '.join(code for _, code in moved)}"]

    def stacked(self, node: Node, body: Scope, states: list[str]) -> list[str]:
        """The call of one copy. Its class is written first: that tells what it needs."""
        op = node.op
        assert isinstance(op, Loop)
        assert op.label is not None
        copy = self.copies[node] = self.names.take(camel(op.label).lower())
        made = self.module.stack_class(op, body)
        self.made.stacks.append((self.attribute(op), made.name, op.count))
        extra = [self.code(node) for node in made.captured] + [self.provide(name) for name in made.ambient]
        return [f"{', '.join(states)} = {copy}({', '.join([*states, *extra])})"]


def ambient_name(request: str) -> str:
    """`rotation(64, 10000.0)` is called `rotation_64`, `length(mem)` `length_mem`."""
    kind, _, rest = request.partition("(")
    parts = [part for part in rest.rstrip(")").split(", ") if part and part != "10000.0"]
    return "_".join([kind, *(part.replace(".", "_").replace("-", "_").replace("+", "") for part in parts)])


class Module:
    """All functions of a generated module."""

    def __init__(self, program: Program, plan: Plan, layout: Layout, comments: Comments, place: Callable[[Node], str]) -> None:
        self.program, self.plan, self.layout, self.comments, self.place = program, plan, layout, comments, place
        self.helpers: set[str] = set()
        self.classes: list[Class] = []
        self._below: dict[str, list[Parameter]] = {}
        for parameter in program.parameters:
            owner = parameter.path.rpartition("[*].")
            self._below.setdefault(owner[0] + owner[1], []).append(parameter)
        self._names: set[str] = {"Model", "Output", "Evaluation", "Parameters"}

    def measured(self, request: str) -> str:
        """What is asked of a context, asked of what is as long: a memory that came in, or else the sequence."""
        kind, _, rest = request.partition("(")
        *parts, axis = rest.rstrip(")").split(", ")
        if kind != "length" and len(parts) != 2:
            return request
        memory = next((str(memory) for context, memory in self.program.memories.items() if str(context) == axis), None)
        parts += [] if memory is None else [memory]
        return f"{kind}({', '.join(parts)})" if parts else "seq"

    def sites(self, path: str) -> tuple[dict[str, Site], list[Parameter]]:
        """Call sites and parameters of a class: those whose path is below its own, not in a stack inside it."""
        sites: dict[str, Site] = {}
        own: list[Parameter] = []
        for parameter in self._below.get(path, ()):
            site, _, _ = parameter.path[len(path) :].rpartition(".")
            if site:
                sites.setdefault(site, Site(site, [])).parameters.append(parameter)
            else:
                own.append(parameter)
        return sites, own

    def stack_class(self, op: Loop, body: Scope) -> Class:
        assert op.label is not None
        name = camel(op.label)
        while name in self._names:
            name += "_"
        self._names.add(name)
        made = Class(name, body, op.path + ".", sites=self.sites(op.path + ".")[0], states=len(op.formals))
        function = Function(self, made, Names())
        states = []
        for formal in op.formals:
            function.text[formal] = function.names.take(function.hint(formal))
            states.append(function.text[formal])
        lines = function.scope(body)
        results = [function.expanded(result, formal) for formal, result in zip(op.formals, op.results, strict=True)]
        made.lines = [*self.unpacked(made), *lines, f"return {', '.join(results)}"]
        made.arguments = [*states, *(function.text[node] for node in made.captured), *(ambient_name(name) for name in made.ambient)]
        self.classes.append(made)
        return made

    def unpacked(self, made: Class) -> list[str]:
        """Each call site's parameters, read once."""
        lines = []
        for site in made.sites.values():
            if site.variables:
                names = [site.variables.get(parameter.path.rpartition(".")[2], "_") for parameter in site.parameters]
                lines.append(f"{', '.join(names)} = self.{site.path}()")
        return lines
