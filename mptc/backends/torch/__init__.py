"""IR → a self-contained torch module, as an expert would have written it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib import resources as package

from mptc.backends.layout import Layout
from mptc.backends.templates import render
from mptc.backends.torch.decode import Decoder, decoder
from mptc.backends.torch.function import Class, Function, Module, Part, ambient_name, any_parameter, joined, passes, plan_of
from mptc.backends.torch.lines import Comments, Plan, aligned
from mptc.backends.torch.names import Names
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node
from mptc.ir.program import Parameter, Program
from mptc.ops.leaf import Input


def module(program: Program, layers: Mapping[Node, list[str]], steps: set[Node], decoding: Program | str) -> str:
    """The text of `<model>.py`. `layers`: comments for where the step of an energy begins; `steps`: where it ends.

    `decoding`: the program of the next tokens, or why there is none.
    """
    written, model = passes(plan_of(program), lambda plan: _written(program, plan, layers, steps))
    return render("module.py.j2", **_page(program, written, model, decoding))


def _written(program: Program, plan: Plan, layers: Mapping[Node, list[str]], steps: set[Node]) -> tuple[Module, Class]:
    written = Module(program, plan, Layout(), Comments(layers, steps, program.spans))
    return written, _model(program, written)


# -- the model's forward -------------------------------------------------------------------------------


def _model(program: Program, written: Module) -> Class:
    made = Class("Model", written.plan.scopes.root, "", sites=written.sites("")[0])
    function = Function(written, made, Names())
    made.arguments += function.inputs(program)
    parts = function.parts(made.scope, frozenset({"output"}))
    results = [function.expanded_to(output.node, output.order) for output in program.outputs]
    first = next((place for place, (condition, _) in enumerate(parts) if condition), len(parts))
    parts.insert(first, ("", ["evaluated, probes = None, {}"]))
    lines = [*joined([*parts, *_evaluation(program, function)]), "if loss or probe:"]
    lines.append(f"    return Evaluation({', '.join(results)}, loss=evaluated, probes=probes)")
    made.lines = [*_ambient(program, function), *written.unpacked(made), *lines, f"return Output({', '.join(results)})"]
    return made


def _evaluation(program: Program, function: Function) -> list[Part]:
    """What is computed only when it is asked for."""
    absent = f'raise ValueError("{program.name} declares no loss")'
    parts: list[Part] = [("loss", [absent if program.loss is None else f"evaluated = {function.code(program.loss)}"])]
    for probe in program.probes:
        code = function.expanded_to(probe.node, probe.order)
        name = f'"{_pattern(probe.name)}"'
        starred = "[*]" in probe.name
        parts.append(("probe", [f"probes.update({function.provide('copies')}({name}, {code}))" if starred else f"probes[{name}] = {code}"]))
    return parts


def _ambient(program: Program, function: Function) -> list[str]:
    """What depends on the length of the sequence alone, computed once."""
    asked = function.made.ambient
    first = next(node for node in program.inputs if SEQ in node.axes)
    assert isinstance(first.op, Input)
    like = any_parameter(program)
    lines = []
    text = "\n".join([*function.made.lines, *asked])
    if asked or "seq" in text:
        lines.append(f"batch, seq = {first.op.label}.shape[:2]")
    lines += [f"dtype = {like}.dtype"] if "dtype" in asked else []
    lines += [f"device = {first.op.label}.device"] if "device" in asked else []
    if "position" in asked:
        lines.append(f"position = torch.arange(seq, device={first.op.label}.device)")
    for name in asked:
        if name.startswith("rotation"):
            function.module.helpers.add("rotation")
            lines.append(f"{ambient_name(name)} = {name.replace('(', '(seq, ')[:-1]}, {like})")
    return lines


# -- the page ------------------------------------------------------------------------------------------


def _page(program: Program, written: Module, model: Class, decoding: Program | str) -> dict[str, object]:
    classes = [*written.classes, model]
    next_ = None if isinstance(decoding, str) else decoder(decoding)
    helpers = [_helpers()[name] for name in _closure(written.helpers | {"empty", "begin", "Parameters"} | (next_.helpers if next_ else set()))]
    return {
        "calls": any("Callable" in helper for helper in helpers),
        "name": program.name,
        "source": program.span.source.name,
        "undecodable": decoding if isinstance(decoding, str) else "",
        "kept": _kept(next_) if next_ else {},
        "copies": any("copy(" in helper for helper in helpers),
        "inputs": [(node.op.label, _type_text(node)) for node in program.inputs if isinstance(node.op, Input)],
        "outputs": [(output.name, _axes_text(output.order)) for output in program.outputs],
        "helpers": helpers,
        "classes": [
            {
                "name": made.name,
                "init": _init(program, made, written),
                "arguments": [_typed(argument) for argument in made.arguments],
                "returns": made.returns[0] if len(made.returns) == 1 else f"tuple[{', '.join(made.returns)}]",
                "lines": aligned(made.lines),
                "doc": _doc(program, made, written),
                "decode": _decode(next_.classes.get(made.path)) if next_ else None,
            }
            for made in classes
        ],
        "initial": [(_pattern(parameter.path), parameter.init, parameter.value) for parameter in program.parameters],
        "frozen": [_pattern(parameter.path) for parameter in program.parameters if parameter.frozen],
    }


def _typed(argument: str) -> str:
    flags = dict.fromkeys(("loss", "probe"), "bool")
    others = {"cache": "Cache", "seen": "Tensor | None"}
    kinds = {"rotation": "tuple[Tensor, Tensor]", "batch": "int", "seq": "int", "dtype": "torch.dtype", "device": "torch.device", **flags, **others}
    return f"{argument}: {kinds.get(argument.partition('_')[0] if argument.startswith('rotation_') else argument, 'Tensor')}"


def _pattern(path: str) -> str:
    return path.replace("[*]", ".*")


def _type_text(node: Node) -> str:
    assert isinstance(node.op, Input)
    kind = "int64" if node.op.kind is Kind.ID else "float"
    return f"{kind} {_axes_text((BATCH, SEQ, *node.op.order))}"


def _axes_text(axes: tuple[Axis, ...]) -> str:
    return "[" + ", ".join(map(str, axes)) + "]"


def _decode(made: Class | None) -> dict[str, object] | None:
    """The method beside `forward` that computes the next tokens."""
    if made is None:
        return None
    returns = made.returns[0] if len(made.returns) == 1 else f"tuple[{', '.join(made.returns)}]"
    return {"arguments": [_typed(argument) for argument in made.arguments], "returns": returns, "lines": aligned(made.lines)}


def _kept(decoder: Decoder) -> dict[str, object]:
    """What the cache holds, for people and for the cache itself."""
    entries = [(entry.path, entry.times, entry.numbers, entry.window, f"{entry.axes} of {entry.what}") for entry in decoder.entries]
    return {"kind": decoder.kind, "entries": entries, "numbers": sum(entry.times * entry.numbers for entry in decoder.entries)}


def _doc(program: Program, made: Class, written: Module) -> str:
    if made.name == "Model":
        return f"{program.name}. Parameters begin as a function of `seed` and their own names alone."
    loop = made.scope.loop
    assert loop is not None
    where = f", {written.place(loop)}" if loop in program.spans else ""
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
    found = {}
    for file in ("helpers.py", "cache.py"):
        text = package.files("mptc.backends.torch").joinpath(file).read_text()
        lines = text.splitlines()
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
