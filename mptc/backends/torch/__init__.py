"""IR → a self-contained torch module, as an expert would have written it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib import resources as package

from mptc.backends.layout import Layout
from mptc.backends.scopes import Scopes
from mptc.backends.templates import render
from mptc.backends.torch.function import Class, Function, Module, ambient_name
from mptc.backends.torch.lines import Comments, Plan, aligned
from mptc.backends.torch.names import Names
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node
from mptc.ir.program import Parameter, Program
from mptc.ops.leaf import Input
from mptc.ops.region import Loop, everything
from mptc.source.text import Span

KINDS = {
    "rotation": "tuple[Tensor, Tensor]",
    **dict.fromkeys(("batch", "seq", "length"), "int"),
    **dict.fromkeys(("dtype", "wide"), "torch.dtype"),
    "device": "torch.device",
}
PASSES = 6  # of writing a module again, each breaking the lines that the one before found too long


def module(program: Program, layers: Mapping[Node, list[str]], steps: set[Node]) -> str:
    """The text of `<model>.py`. `layers`: comments for where the step of an energy begins; `steps`: where it ends."""
    outputs = {output.node for output in program.outputs}
    plan = Plan(Scopes(program.roots), program.names, outputs | _states(program.roots))
    source = program.span.source.name
    written, model = _written(program, plan, layers, steps)
    for _ in range(PASSES):
        if plan.crowded <= plan.assigned:
            break
        plan.assigned |= plan.crowded
        written, model = _written(program, plan, layers, steps)
    return render("module.py.j2", **_page(program, written, model, source))


def _written(program: Program, plan: Plan, layers: Mapping[Node, list[str]], steps: set[Node]) -> tuple[Module, Class]:
    written = Module(program, plan, Layout(), Comments(layers, steps, program.spans), lambda node: _place(program, node))
    return written, _model(program, written)


def _states(roots: list[Node]) -> set[Node]:
    """What a loop hands on needs a name."""
    return {result for node in everything(roots) if isinstance(node.op, Loop) for result in node.op.results}


def _place(program: Program, node: Node) -> str:
    span = program.spans.get(node)
    return "" if span is None else _short(span)


def _short(span: Span) -> str:
    return str(span).rpartition("/")[2]


# -- the model's forward -------------------------------------------------------------------------------


def _model(program: Program, written: Module) -> Class:
    made = Class("Model", written.plan.scopes.root, "", sites=written.sites("")[0])
    function = Function(written, made, Names())
    for node in program.inputs:
        assert isinstance(node.op, Input)
        function.text[node] = function.names.take(node.op.label)
        made.arguments.append(node.op.label)
    needed = set(everything([output.node for output in program.outputs]))
    lines = function.scope(made.scope, needed)
    results = [function.expanded_to(output.node, output.order) for output in program.outputs]
    lines += _evaluation(program, function, needed, results)
    renamed = [f"{function.text[node]} = {label}" for node, label in zip(program.inputs, made.arguments, strict=True) if function.text[node] != label]
    begin = [*_refusal(program, made.arguments), *renamed, *_padding(program, function), *_ambient(program, function)]
    made.lines = [*begin, *written.unpacked(made), *lines, f"return Output({', '.join(results)})"]
    return made


def _evaluation(program: Program, function: Function, needed: set[Node], results: list[str]) -> list[str]:
    """What is computed only when it is asked for."""
    lines: list[str] = ["evaluated, probes = None, {}"]
    done = set(needed)
    if program.loss is not None:
        wanted = set(everything([program.loss])) - done
        inner = function.scope(function.made.scope, wanted)
        done |= wanted
        lines += ["if loss:", *("    " + line for line in inner), f"    evaluated = {function.code(program.loss)}"]
    else:
        lines += ["if loss:", f'    raise ValueError("{program.name} declares no loss")']
    if program.probes:
        inner = []
        for name, node in program.probes:
            wanted = set(everything([node])) - done
            done |= wanted
            inner += function.scope(function.made.scope, wanted)
            inner.append(f'probes["{name}"] = {function.code(node)}')
        lines += ["if probe:", *("    " + line for line in inner)]
    return [*lines, "if loss or probe:", f"    return Evaluation({', '.join(results)}, loss=evaluated, probes=probes)"]


def _refusal(program: Program, arguments: list[str]) -> list[str]:
    """What an argument that the model does not have is told."""
    message = f"{program.name} takes {', '.join(arguments)}, loss and probe; not {{', '.join(_others)}}"
    return ["if _others:", f'    raise TypeError(f"{message}")']


def _padding(program: Program, function: Function) -> list[str]:
    """What is told of padding that tokens would take for tokens."""
    lines = []
    for node in program.inputs:
        assert isinstance(node.op, Input)
        label, per_token = node.op.label, node.op.per_token
        if label in program.unmasked:
            function.module.helpers.add("refuse_padding")
            past = program.causal and per_token
            view = f"only({'past' if past else 'all'}(h), {'past' if past else 'all'}(mask))" if per_token else "only(h, mask)"
            mask = "input mask: []" if per_token else f"input mask: [{node.op.order[0]}] per sequence"
            where = " before others" if past else ""
            message = f"{label} holds ids below 0{where}: {program.name} would see this padding as tokens; declare `{mask}` and view `{view}`"
            lines.append(f'refuse_padding({function.text[node]}, {past}, "{message}")')
    return lines


def _ambient(program: Program, function: Function) -> list[str]:
    """What depends on the length of the sequence alone, computed once."""
    asked = function.made.ambient
    first = function.text[next(node for node in program.inputs if SEQ in node.axes)]
    like = _any_parameter(program, function)
    lines = []
    text = "\n".join([*function.made.lines, *asked])
    if asked or "seq" in text:
        lines.append(f"batch, seq = {first}.shape[:2]")
    lines += [f"dtype = {like}.dtype"] if "dtype" in asked else []
    lines += [f"wide = torch.float64 if {like}.dtype == torch.float64 else torch.float32"] if "wide" in asked else []
    lines += [f"device = {first}.device"] if "device" in asked else []
    if any(name in ("position", "behind") for name in asked):
        lines.append(f"position = torch.arange(seq, device={first}.device)")
    if "behind" in asked:
        lines.append("behind = position[:, None] - position")
    for name in asked:
        kind, _, rest = name.partition("(")
        if kind == "length":
            lines.append(f"{ambient_name(name)} = {_length(program, function, rest[:-1])}")
        if kind == "rotation":
            function.module.helpers.add("rotation")
            size, base, *memory = rest[:-1].split(", ")
            lines.append(f"{ambient_name(name)} = rotation({_length(program, function, memory[0]) if memory else 'seq'}, {size}, {base}, {like})")
    return lines


def _length(program: Program, function: Function, memory: str) -> str:
    """How many tokens a memory has, read off the first input that is one."""
    for node in program.inputs:
        assert isinstance(node.op, Input)
        names = [str(axis) for axis in node.op.order]
        if memory in names:
            return f"{function.text[node]}.shape[{1 + names.index(memory) + node.op.per_token}]"
    raise AssertionError(f"no input is along {memory}")


def _any_parameter(program: Program, function: Function) -> str:
    """Something that has the dtype of the model."""
    numbers = [function.text[node] for node in program.inputs if node.type.kind is Kind.NUMBER]
    return "next(self.parameters())" if program.parameters else (numbers or ["torch.empty(0)"])[0]


# -- the page ------------------------------------------------------------------------------------------


def _page(program: Program, written: Module, model: Class, source: str) -> dict[str, object]:
    classes = [*written.classes, model]
    helpers = [_helpers()[name] for name in _closure(written.helpers | {"empty", "begin", "Parameters"})]
    return {
        "calls": any("Callable" in helper for helper in helpers),
        "name": program.name,
        "source": source,
        "inputs": [(node.op.label, _type_text(node)) for node in program.inputs if isinstance(node.op, Input)],
        "outputs": [(output.name, _axes_text(output.order)) for output in program.outputs],
        "helpers": helpers,
        "classes": [
            {
                "name": made.name,
                "init": _init(program, made, written),
                "arguments": [f"{argument}: Tensor" if made is model else _typed(argument) for argument in made.arguments],
                "returns": "Tensor" if made.states == 1 else f"tuple[{', '.join(['Tensor'] * made.states)}]",
                "lines": aligned(made.lines),
                "doc": _doc(program, made),
            }
            for made in classes
        ],
        "initial": [(_pattern(parameter.path), parameter.init, parameter.value) for parameter in program.parameters],
        "frozen": [_pattern(parameter.path) for parameter in program.parameters if parameter.frozen],
    }


def _typed(argument: str) -> str:
    kind = argument.partition("_")[0] if argument.startswith(("rotation_", "length_")) else argument
    return f"{argument}: {KINDS.get(kind, 'Tensor')}"


def _pattern(path: str) -> str:
    return path.replace("[*]", ".*")


def _type_text(node: Node) -> str:
    assert isinstance(node.op, Input)
    kind = "int64" if node.op.kind is Kind.ID else "float"
    return f"{kind} {_axes_text((BATCH, *((SEQ,) if node.op.per_token else ()), *node.op.order))}"


def _axes_text(axes: tuple[Axis, ...]) -> str:
    return "[" + ", ".join(map(str, axes)) + "]"


def _doc(program: Program, made: Class) -> str:
    if made.name == "Model":
        return f"{program.name}. Parameters begin as a function of `seed` and their own names alone."
    loop = made.scope.loop
    assert loop is not None
    where = f", {_place(program, loop)}" if loop in program.spans else ""
    return f"One copy of `stack … as {made.path[:-4].rpartition('.')[2]}`{where}."


def _init(program: Program, made: Class, written: Module) -> list[str]:
    sites, own = written.sites(made.path)
    lines = [f"self.{_last(parameter)} = empty({_sizes(program, parameter)})  # {_axes_text(parameter.axes)}" for parameter in own]
    for site in sorted(sites.values(), key=lambda site: site.path.count(".")):
        values = ", ".join(f"{_last(parameter)}=empty({_sizes(program, parameter)})" for parameter in site.parameters)
        axes = ", ".join(_axes_text(parameter.axes) for parameter in site.parameters)
        lines += [f"self.{outer} = Parameters()" for outer in _outer(site.path, set(sites), lines)]
        lines.append(f"self.{site.path} = Parameters({values})  # {axes}")
    for attribute, name, count in made.stacks:
        lines += [f"self.{outer} = Parameters()" for outer in _outer(attribute, set(sites), lines)]
        lines.append(f"self.{attribute} = nn.ModuleList({name}() for _ in range({count}))")
    return lines


def _outer(path: str, sites: set[str], lines: list[str]) -> list[str]:
    """The call sites around a path that hold no parameters of their own and have not been made."""
    steps = path.split(".")
    around = [".".join(steps[:count]) for count in range(1, len(steps))]
    return [site for site in around if site not in sites and not any(line.startswith(f"self.{site} = ") for line in lines)]


def _last(parameter: Parameter) -> str:
    return parameter.path.rpartition(".")[2]


def _sizes(program: Program, parameter: Parameter) -> str:
    return ", ".join(str(program.sizes[axis]) for axis in parameter.axes)


# -- helper functions ----------------------------------------------------------------------------------


@cache
def _helpers() -> dict[str, str]:
    """The source of each helper, by name, in the order of the file."""
    text = package.files("mptc.backends.torch").joinpath("helpers.py").read_text()
    lines = text.splitlines()
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[start - 1 : node.end_lineno])
    return found


def _closure(names: set[str]) -> list[str]:
    """The helpers asked for and those that they use, in the order of the file."""
    helpers = _helpers()
    wanted: set[str] = set()
    pending = sorted(names)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            tree = ast.parse(helpers[name])
            pending += [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in helpers]
    return [name for name in helpers if name in wanted]
