"""What the model's own functions begin with: what is refused, and what depends on the lengths alone, computed once."""

from __future__ import annotations

from mptc.backends.torch.function import Function
from mptc.backends.torch.names import ambient_name, called
from mptc.ir.axis import SEQ
from mptc.ir.node import Kind
from mptc.ir.program import Program
from mptc.ops.leaf import Input


def refusal(program: Program, arguments: list[str], decodes: bool) -> list[str]:
    """What an argument that the model does not have is told, and one that is not what the spec says."""
    options = "loss, probe and cache" if decodes else "loss and probe"
    message = f"{program.name} takes {', '.join(arguments)}, {options}; not {{', '.join(_others)}}"
    lines = ["if _others:", f'    raise TypeError(f"{message}")']
    known: dict[str, str] = {}  # lengths that an input has told: those after it are as long
    for node in program.inputs:
        assert isinstance(node.op, Input)
        sizes = ["batch", *(["seq"] if node.op.per_token else ()), *(program.sizes.get(axis, str(axis)) for axis in node.op.order)]
        label = node.op.label
        given = ", ".join(known.get(size, f'"{size}"') if isinstance(size, str) else str(size) for size in sizes)
        known = {size: f"{label}.shape[{place}]" for place, size in enumerate(sizes) if isinstance(size, str)} | known
        kind = "ids" if node.op.kind is Kind.ID else "numbers"
        lines.append(f'{called(program, "expect")}("{label}", {label}, "{kind}", {given})')
    return lines


def renamed(program: Program, function: Function) -> list[str]:
    """Inputs whose names the function needs for something else."""
    labels = [node.op.label for node in program.inputs if isinstance(node.op, Input)]
    pairs = zip(labels, (function.text[node] for node in program.inputs), strict=True)
    return [f"{name} = {label}" for label, name in pairs if name != label]


def padding(program: Program, function: Function) -> list[str]:
    """What is told of padding that tokens would take for tokens."""
    lines = []
    for node in program.inputs:
        assert isinstance(node.op, Input)
        label, per_token = node.op.label, node.op.per_token
        if label in program.unmasked:
            past = program.causal and per_token
            view = f"only({'past' if past else 'all'}(h), {'past' if past else 'all'}(mask))" if per_token else "only(h, mask)"
            mask = "input mask: []" if per_token else f"input mask: [{node.op.order[0]}] per sequence"
            where = " before others" if past else ""
            message = f"{label} holds ids below 0{where}: {program.name} would see this padding as tokens; declare `{mask}` and view `{view}`"
            lines.append(f'{function.module.helper("refuse_padding")}({function.text[node]}, {past}, "{message}")')
    return lines


def ambient(program: Program, function: Function) -> list[str]:
    """What depends on the length of the sequence alone, computed once."""
    asked = function.made.ambient
    first = first_of(program, function)
    like = any_parameter(program, function)
    text = "\n".join([*function.made.lines, *asked])
    lines = lengths(program, function, bool(asked) or "seq" in text)
    if "position" in asked:
        lines.append(f"position = torch.arange(seq, device={first}.device)")
    for name in asked:
        kind, _, rest = name.partition("(")
        if kind == "rotation":
            size, base, *memory = rest[:-1].split(", ")
            made = function.module.helper("rotation")
            lines.append(f"{ambient_name(name)} = {made}({_length(program, function, memory[0]) if memory else 'seq'}, {size}, {base}, {like})")
    return lines


def lengths(program: Program, function: Function, tokens: bool) -> list[str]:
    """How long things are, the batch and the `tokens` where they are asked for, and what numbers are of."""
    asked = function.made.ambient
    first, like = first_of(program, function), any_parameter(program, function)
    lines = [f"batch, seq = {first}.shape[:2]"] if tokens else []
    lines += [f"dtype = {like}.dtype"] if "dtype" in asked else []
    lines += [f"wide = torch.float64 if {like}.dtype == torch.float64 else torch.float32"] if "wide" in asked else []
    lines += [f"device = {first}.device"] if "device" in asked else []
    measured = [name for name in asked if name.startswith("length(")]
    return [*lines, *(f"{ambient_name(name)} = {_length(program, function, name[7:-1])}" for name in measured)]


def first_of(program: Program, function: Function) -> str:
    """The first input that has a value for each token."""
    return function.text[next(node for node in program.inputs if SEQ in node.axes)]


def _length(program: Program, function: Function, memory: str) -> str:
    """How many tokens a memory has, read off the first input that is one."""
    for node in program.inputs:
        assert isinstance(node.op, Input)
        names = [str(axis) for axis in node.op.order]
        if memory in names:
            return f"{function.text[node]}.shape[{1 + names.index(memory) + node.op.per_token}]"
    raise AssertionError(f"no input is along {memory}")


def any_parameter(program: Program, function: Function) -> str:
    """Something that has the dtype of the model."""
    numbers = [function.text[node] for node in program.inputs if node.type.kind is Kind.NUMBER]
    return "next(self.parameters())" if program.parameters else (numbers or ["torch.empty(0)"])[0]
