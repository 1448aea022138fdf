"""All functions of a generated module of one kind, and the classes that they stand in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from mptc.backends.layout import Layout
from mptc.backends.torch.function import Class, Function, Site, label_of
from mptc.backends.torch.lines import Comments, Plan, seen_through
from mptc.backends.torch.names import Names, ambient_name, called, camel
from mptc.ir.node import Node
from mptc.ir.program import Parameter, Program
from mptc.ops.region import Loop, Rows, everything
from mptc.passes.asked import Asked, Needs
from mptc.passes.scopes import Scope, Scopes

PASSES = 6  # of writing a module again, each breaking the lines that the one before found too long
Written = TypeVar("Written")


def plan_of(program: Program) -> Plan:
    """What gets a line: among others, what is put out and what a loop hands on."""
    states: set[Node] = set()
    for node in everything(program.roots):
        if isinstance(node.op, Loop | Rows):
            states.update(node.op.results)
        if isinstance(node.op, Rows):
            states.update(map(seen_through, node.args))
    return Plan(Scopes(program.roots), program.names, {output.node for output in program.outputs} | states, set(program.roots))


def passes(plan: Plan, write: Callable[[Plan], Written]) -> Written:
    """Writes until no line is too long, or often enough."""
    written = write(plan)
    for _ in range(PASSES):
        if plan.crowded <= plan.assigned:
            break
        plan.assigned |= plan.crowded
        written = write(plan)
    return written


class Together(Protocol):
    """Steps that one kernel may take. `nodes`: arguments first. `outputs`: those that others read."""

    @property
    def nodes(self) -> Sequence[Node]: ...

    @property
    def outputs(self) -> Sequence[Node]: ...

    def call(self, function: Function) -> tuple[str, str]:
        """When the kernel computes them, and the call that does."""


class Kernels(Protocol):
    """What writes kernels beside a module. `begin`: a module is written, perhaps again."""

    def begin(self, program: Program) -> None: ...

    def arranged(self, function: Function, scope: Scope) -> Sequence[Node | Together]:
        """The steps of a scope, those that one kernel takes side by side."""

    def call(self, function: Function, node: Node) -> tuple[str, str] | None:
        """When a kernel computes a node, and the call that does; None where there is no kernel."""

    def imported(self, name: str, source: str) -> str:
        """Under which name the module has its kernels; empty where it has none."""


class Module:
    """All functions of a generated module of one kind."""

    method = ""  # of a copy of a stack: it is called
    written_by: type[Function] = Function

    def __init__(self, program: Program, plan: Plan, layout: Layout, comments: Comments, kernels: Kernels | None = None) -> None:
        self.program, self.plan, self.layout, self.comments, self.kernels = program, plan, layout, comments, kernels
        self.needs = Needs(program)
        self.helpers: set[str] = set()
        self.classes: list[Class] = []
        self.stacks: dict[str, Class] = {}  # by path
        self.tied = {path.stem for tie in program.ties for path in (tie.path, tie.home)}
        self._methods: Counter[str] = Counter()
        self._below: dict[str, list[Parameter]] = {}
        for parameter in program.parameters:
            owner = parameter.path.rpartition("[*].")
            self._below.setdefault(owner[0] + owner[1], []).append(parameter)
        self._names = {"Model", "Output", "Evaluation", "Parameters", "TiedParameters", "Cache", "Tensor", "NamedTuple", "Callable", "F"}

    def helper(self, name: str) -> str:
        """Asks for a function, and tells what it is called."""
        self.helpers.add(name)
        return called(self.program, name)

    def method_name(self, path: str) -> str:
        """Of what is computed by rows in the class at a path."""
        self._methods[path] += 1
        return f"rows{self._methods[path] if self._methods[path] > 1 else ''}"

    def place(self, node: Node) -> str:
        """Where the spec says a value: `file.mpt:line`."""
        span = self.program.spans.get(node)
        return "" if span is None else str(span).rpartition("/")[2]

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

    def stack_class(self, op: Loop, body: Scope, watched: list[Node], around: Asked) -> tuple[Class, int]:
        """The class of a stack's copies as one loop needs it, and the number of that loop among those that need it otherwise."""
        first = self.stacks.get(op.path)
        made = self._class(op.path, body) if first is None else Class(first.name, body, first.path, sites=self.sites(first.path)[0])
        function = self.written_by(self, made, Names())
        states = []
        for formal in op.formals:
            function.text[formal] = function.names.take(function.hint(formal))
            states.append(function.text[formal])
        lines = function.scope(body, around)
        results = [function.expanded(result, formal) for formal, result in zip(op.formals, op.results, strict=True)]
        made.returns = ["Tensor"] * len(results)
        for user in watched:
            condition, code = function.condition(user, around), function.watched(user)
            results.append(function.names.take(label_of(user), fresh=True))
            lines.append(f"{results[-1]} = {code}{f' if {condition} else None' if condition else ''}")
            made.returns.append("Tensor | None" if condition else "Tensor")
        made.lines = [*self.unpacked(made), *lines, f"return {', '.join(results)}"]
        made.arguments = [*states, *(function.text[node] for node in made.captured), *map(ambient_name, made.ambient), *made.stacks.values()]
        made.arguments += sorted(made.flags)
        if first is None:
            self.classes.append(made)
            return made, 0
        calls = [first, *first.others]
        same = [number for number, other in enumerate(calls) if (other.arguments, other.lines) == (made.arguments, made.lines)]
        first.others += [] if same else [made]
        return made, same[0] if same else len(calls)

    def _class(self, path: str, body: Scope) -> Class:
        name = camel(path.removesuffix("[*]").rpartition(".")[2])
        while name in self._names:
            name += "_"
        self._names.add(name)
        self.stacks[path] = Class(name, body, f"{path}.", sites=self.sites(f"{path}.")[0])
        return self.stacks[path]

    def complete(self) -> None:
        """Stacks that no loop goes through have parameters all the same."""
        for stack in self.program.copies:
            if f"{stack}[*]" not in self.stacks and any(path.startswith(f"{stack}[*].") for path in self._below):
                self.classes.append(self._class(f"{stack}[*]", Scope(None, None, 0)))

    def unpacked(self, made: Class) -> list[str]:
        """Each call site's parameters, read once."""
        lines = [f'{variable} = {called(self.program, "stored")}(self, "{name}")' for name, variable in made.tied.items()]
        for site in made.sites.values():
            if site.variables:
                names = [site.variables.get(parameter.path.rpartition(".")[2], "_") for parameter in site.parameters]
                lines.append(f"{', '.join(names)} = self.{site.path}()")
        return lines
