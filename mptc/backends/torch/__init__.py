"""IR → a self-contained torch module, as an expert would have written it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mptc.backends.layout import Layout
from mptc.backends.templates import render
from mptc.backends.torch.decode import Decoder, decoder
from mptc.backends.torch.function import Class, Function, Part, holder, joined
from mptc.backends.torch.lines import Comments, Plan, aligned
from mptc.backends.torch.modules import Kernels, Module, passes, plan_of
from mptc.backends.torch.names import Names, called
from mptc.backends.torch.opening import ambient, padding, refusal, renamed
from mptc.backends.torch.provided import closure, provided
from mptc.backends.torch.ties import tie_lines
from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node
from mptc.ir.path import Path
from mptc.ir.program import Parameter, Program
from mptc.ops.leaf import Input

KINDS = {
    "rotation": "tuple[Tensor, Tensor]",
    **dict.fromkeys(("batch", "seq", "length"), "int"),
    **dict.fromkeys(("dtype", "wide"), "torch.dtype"),
    **dict.fromkeys(("loss", "probe"), "bool"),
    "device": "torch.device",
    "cache": "Cache",
    "seen": "Tensor | None",
}


def module(
    program: Program, layers: Mapping[Node, list[str]], steps: set[Node], decoding: Program | str, kernels: Kernels | None = None
) -> str:
    """The text of `<model>.py`. `layers`: comments for where the step of an energy begins; `steps`: where it ends.

    `decoding`: the program of the next tokens, or why there is none. `kernels`: what writes the kernels beside it.
    """
    written, model = passes(plan_of(program), lambda plan: _written(program, plan, layers, steps, kernels))
    return render("module.py.j2", **_page(program, written, model, decoding))


def _written(
    program: Program, plan: Plan, layers: Mapping[Node, list[str]], steps: set[Node], kernels: Kernels | None
) -> tuple[Module, Class]:
    if kernels:
        kernels.begin(program)
    written = Module(program, plan, Layout(), Comments(layers, steps, program.spans), kernels)
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
    lines.append(f"    return Evaluation({', '.join([*results, 'loss=evaluated', 'probes=probes'])})")
    begin = [*renamed(program, function), *padding(program, function), *ambient(program, function)]
    made.lines = [*begin, *written.unpacked(made), *lines, f"return Output({', '.join(results)})"]
    written.complete()
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


# -- the page ------------------------------------------------------------------------------------------


def _page(program: Program, written: Module, model: Class, decoding: Program | str) -> dict[str, object]:
    classes = [*written.classes, model]
    next_ = None if isinstance(decoding, str) else decoder(decoding)
    away = {tie.path.stem for tie in program.ties if tie.path == Path.parse(tie.path.stem) and tie.home.stem != tie.path.stem}  # in every copy
    asked = written.helpers | {"empty", "begin", "expect", "Parameters"} | ({"tie", "TiedParameters"} if program.ties else set())
    asked |= next_.helpers if next_ else set()
    frozen = [path.name for parameter in program.parameters for path in parameter.frozen]
    wanted = closure(asked | ({"freeze"} if frozen else set()))
    helpers = [provided()[name] for name in wanted]
    helpers += [f"{called(program, name)} = {name}  # an input is called so too" for name in wanted if called(program, name) != name]
    return {
        "calls": any("Callable" in helper for helper in helpers),
        "name": program.name,
        "source": program.span.source.name,
        "refusal": refusal(program, model.arguments, next_ is not None),
        "undecodable": decoding if isinstance(decoding, str) else "",
        "kept": _kept(next_) if next_ else {},
        "copies": any(re.search(r"\bcopy\(", helper) for helper in helpers),
        "mathematics": any("math." in helper for helper in helpers),
        "checkpoints": any("checkpoint(" in helper for helper in helpers),
        "inputs": [(node.op.label, _type_text(node)) for node in program.inputs if isinstance(node.op, Input)],
        "outputs": [(output.name, _axes_text(output.order)) for output in program.outputs],
        "helpers": helpers,
        "kernels": written.kernels.imported(program.name, program.span.source.name) if written.kernels else "",
        "kernels_called": called(program, "kernels"),
        "classes": [
            {
                "name": made.name,
                "init": _init(program, made, written),
                "doc": _doc(program, made, written),
                "calls": [_call(call, made is model) for call in (made, *made.others) if call.lines],
                "methods": [{"name": each.name, **_call(each, False)} for call in (made, *made.others) for each in call.methods],
                "decodes": _decodes(next_, made, made is model) if next_ else [],
            }
            for made in classes
        ],
        "initial": [(_pattern(parameter.path), parameter.init, parameter.value) for parameter in program.parameters if parameter.path not in away],
        "ties": tie_lines(program),
        "frozen": frozen,
    }


def _call(made: Class, model: bool) -> dict[str, object]:
    return {
        "arguments": [f"{argument}: Tensor" if model else _typed(argument, made) for argument in made.arguments],
        "returns": made.returns[0] if len(made.returns) == 1 else f"tuple[{', '.join(made.returns)}]",
        "lines": aligned(made.lines),
    }


def _typed(argument: str, made: Class) -> str:
    kind = argument.partition("_")[0] if argument.startswith(("rotation_", "length_")) else argument
    return f"{argument}: {'nn.ModuleList' if argument in made.stacks.values() else KINDS.get(kind, 'Tensor')}"


def _pattern(path: str) -> str:
    return path.replace("[*]", ".*")


def _type_text(node: Node) -> str:
    assert isinstance(node.op, Input)
    kind = "int64" if node.op.kind is Kind.ID else "float"
    return f"{kind} {_axes_text((BATCH, *((SEQ,) if node.op.per_token else ()), *node.op.order))}"


def _axes_text(axes: tuple[Axis, ...]) -> str:
    return "[" + ", ".join(map(str, axes)) + "]"


def _decodes(decoder: Decoder, made: Class, model: bool) -> list[dict[str, object]]:
    """The methods beside `forward` that compute the next tokens."""
    own = decoder.classes.get(made.path)
    return [_call(call, model) for call in (own, *own.others) if call.lines] if own else []


def _kept(decoder: Decoder) -> dict[str, object]:
    """What the cache holds, for people and for the cache itself."""
    entries = [(entry.path, entry.times, entry.numbers, entry.window, f"{entry.axes} of {entry.what}") for entry in decoder.entries]
    return {"kind": decoder.kind, "entries": entries, "numbers": sum(entry.times * entry.numbers for entry in decoder.entries)}


def _doc(program: Program, made: Class, written: Module) -> str:
    if made.name == "Model":
        return f"{program.name}. Parameters begin as a function of `seed` and their own names alone."
    where = "" if (loop := made.scope.loop) is None or loop not in program.spans else f", {written.place(loop)}"
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
