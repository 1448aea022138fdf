"""IR → a self-contained torch module, as an expert would have written it."""

from __future__ import annotations

from collections.abc import Mapping

from mptc.backends.layout import Layout
from mptc.backends.scopes import Scopes
from mptc.backends.templates import render
from mptc.backends.torch.function import Class, Function, Module, ambient_name, holder
from mptc.backends.torch.lines import Comments, Plan, aligned
from mptc.backends.torch.names import Names
from mptc.backends.torch.provided import closure, provided
from mptc.backends.torch.ties import tie_lines
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node
from mptc.ir.path import Path
from mptc.ir.program import Parameter, Program
from mptc.ops.leaf import Input
from mptc.ops.region import Loop, everything
from mptc.source.text import Span

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
        function.text[node] = node.op.label
        function.names.held.add(node.op.label)
        made.arguments.append(node.op.label)
    needed = set(everything([output.node for output in program.outputs]))
    lines = function.scope(made.scope, needed)
    results = [function.expanded_to(output.node, output.order) for output in program.outputs]
    lines += _evaluation(program, function, needed, results)
    made.lines = [*_ambient(program, function), *written.unpacked(made), *lines, f"return Output({', '.join(results)})"]
    written.complete()
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


def _ambient(program: Program, function: Function) -> list[str]:
    """What depends on the length of the sequence alone, computed once."""
    asked = function.made.ambient
    first = next(node for node in program.inputs if SEQ in node.axes)
    assert isinstance(first.op, Input)
    like = _any_parameter(program)
    lines = []
    text = "\n".join([*function.made.lines, *asked])
    if asked or "seq" in text:
        lines.append(f"batch, seq = {first.op.label}.shape[:2]")
    lines += [f"dtype = {like}.dtype"] if "dtype" in asked else []
    lines += [f"device = {first.op.label}.device"] if "device" in asked else []
    if any(name in ("position", "behind") for name in asked):
        lines.append(f"position = torch.arange(seq, device={first.op.label}.device)")
    if "behind" in asked:
        lines.append("behind = position[:, None] - position")
    for name in asked:
        if name.startswith("rotation"):
            function.module.helpers.add("rotation")
            lines.append(f"{ambient_name(name)} = {name.replace('(', '(seq, ')[:-1]}, {like})")
    return lines


def _any_parameter(program: Program) -> str:
    """Something that has the dtype of the model."""
    numbers = [node.op.label for node in program.inputs if isinstance(node.op, Input) and node.type.kind is Kind.NUMBER]
    return "next(self.parameters())" if program.parameters else (numbers or ["torch.empty(0)"])[0]


# -- the page ------------------------------------------------------------------------------------------


def _page(program: Program, written: Module, model: Class, source: str) -> dict[str, object]:
    classes = [*written.classes, model]
    away = {tie.path.stem for tie in program.ties if tie.path == Path.parse(tie.path.stem) and tie.home.stem != tie.path.stem}  # in every copy
    asked = written.helpers | {"empty", "begin", "Parameters"} | ({"tie", "TiedParameters"} if program.ties else set())
    frozen = [path.name for parameter in program.parameters for path in parameter.frozen]
    helpers = [provided()[name] for name in closure(asked | ({"freeze"} if frozen else set()))]
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
                "doc": _doc(program, made),
                "calls": [_call(call) for call in (made, *made.others) if call.lines],
            }
            for made in classes
        ],
        "initial": [(_pattern(parameter.path), parameter.init, parameter.value) for parameter in program.parameters if parameter.path not in away],
        "ties": tie_lines(program),
        "frozen": frozen,
    }


def _call(made: Class) -> dict[str, object]:
    return {
        "arguments": [_typed(argument, made) for argument in made.arguments],
        "returns": "Tensor" if made.states == 1 else f"tuple[{', '.join(['Tensor'] * made.states)}]",
        "lines": aligned(made.lines),
    }


def _typed(argument: str, made: Class) -> str:
    kinds = {"rotation": "tuple[Tensor, Tensor]", "batch": "int", "seq": "int", "dtype": "torch.dtype", "device": "torch.device"}
    kinds.update(dict.fromkeys(made.stacks.values(), "nn.ModuleList"))
    return f"{argument}: {kinds.get(argument.partition('_')[0] if argument.startswith('rotation_') else argument, 'Tensor')}"


def _pattern(path: str) -> str:
    return path.replace("[*]", ".*")


def _type_text(node: Node) -> str:
    assert isinstance(node.op, Input)
    kind = "int64" if node.op.kind is Kind.ID else "float"
    return f"{kind} {_axes_text((BATCH, SEQ, *node.op.order))}"


def _axes_text(axes: tuple[Axis, ...]) -> str:
    return "[" + ", ".join(map(str, axes)) + "]"


def _doc(program: Program, made: Class) -> str:
    if made.name == "Model":
        return f"{program.name}. Parameters begin as a function of `seed` and their own names alone."
    where = "" if (loop := made.scope.loop) is None or loop not in program.spans else f", {_place(program, loop)}"
    return f"One copy of `stack … as {made.path[:-4].rpartition('.')[2]}`{where}."


def _init(program: Program, made: Class, written: Module) -> list[str]:
    sites, own = written.sites(made.path)
    lines = [f"self.{_last(parameter)} = empty({_sizes(program, parameter)})  # {_axes_text(parameter.axes)}" for parameter in own]
    for site in sorted(sites.values(), key=lambda site: site.path.count(".")):
        values = ", ".join(f"{_last(parameter)}=empty({_sizes(program, parameter)})" for parameter in site.parameters)
        axes = ", ".join(_axes_text(parameter.axes) for parameter in site.parameters)
        lines += [f"self.{outer} = Parameters()" for outer in _outer(site.path, set(sites), lines)]
        kind = "TiedParameters" if any(parameter.path in written.tied for parameter in site.parameters) else "Parameters"
        lines.append(f"self.{site.path} = {kind}({values})  # {axes}")
    for path, copy in written.stacks.items():
        if holder(path) == made.path:
            stack = path.removesuffix("[*]")
            attribute = stack[len(made.path) :]
            lines += [f"self.{outer} = Parameters()" for outer in _outer(attribute, set(sites), lines)]
            lines.append(f"self.{attribute} = nn.ModuleList({copy.name}() for _ in range({program.copies[stack]}))")
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
