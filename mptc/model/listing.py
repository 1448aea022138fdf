"""The typed model as text, for `--emit model`: close to the language, with the axes of every value in a trailing comment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mptc.ir.axis import Axis
from mptc.ir.number import Monomial
from mptc.model import tree
from mptc.model.order import dependencies_first
from mptc.model.paths import expressions, parameters, parts
from mptc.model.shapes import brackets, shown
from mptc.model.tree import Callable, Expr, Per, Shape, Statement

_COMMENT_COLUMN = 72
_INFIX = frozenset({"+", "-", "*", "/", "^", "@", "<", "<=", ">", ">=", "=="})
_EVERY = {Per.CONSTANT: " once", Per.SEQUENCE: " per sequence", Per.TOKEN: ""}


def listing(model: tree.Model) -> str:
    """Dims, the blocks and energies that the model reaches, its body, and every parameter with its shape."""
    lines = [f"dim {axis} = {size}" for axis, size in model.sizes.items()]
    for vocabulary, several in model.partitions.items():
        lines.append(f"types of {vocabulary} {{ {', '.join(str(part) for part in several)} }}")
    for callable in reached(model.body):
        lines += ["", *_callable(callable)]
    lines += ["", f"model {model.name}{'' if model.causal else ' bidirectional'} {{", *_body(model.body), "}", "", "# parameters"]
    for path, axes in parameters(model.body, expand=False):
        lines.append(_commented(f"# {path}", f"{brackets(axes)} = {_sizes(axes, model)}"))
    return "\n".join(lines) + "\n"


def reached(body: tuple[Statement, ...], result: Expr | None = None) -> list[Callable]:
    """The blocks and energies that statements call, each once and after what it calls itself."""
    return dependencies_first(_calls(body, result), lambda called: _calls(called.body, called.result))[0]


def _calls(body: tuple[Statement, ...], result: Expr | None = None) -> Iterator[Callable]:
    waiting: list[Statement | Expr] = [*([result] if result is not None else []), *reversed(body)]
    while waiting:
        node = waiting.pop()
        inside: list[Statement | Expr] = []
        match node:
            case tree.Stack(body=inner) | tree.Repeat(body=inner):
                inside.extend(inner)
            case tree.Share(callee=callee):
                yield callee
            case Statement():
                inside.extend(expressions(node))
            case Expr():
                inside.extend(parts(node))
        if isinstance(node, tree.Each | tree.On):
            inside.extend((*node.body, node.value))
        if isinstance(node, tree.Invoke):
            yield node.callee
        waiting.extend(reversed(inside))


def _sizes(axes: tuple[Axis, ...], model: tree.Model) -> str:
    return " × ".join(str(model.sizes.get(axis, axis)) for axis in axes) or "1"


# -- declarations and statements -------------------------------------------------------------------


def _callable(callable: Callable) -> list[str]:
    signature = ", ".join(f"{each.name}: {bare(each.shape)}" for each in callable.args)
    if callable.conditions:
        signature += " | " + ", ".join(f"{each.name}: {bare(each.shape)}" for each in callable.conditions)
    word = "minimize" if callable.kind == "energy" else "return"
    last = _commented(f"  {word} {_expr(callable.result)}", _axes(callable.result.shape))
    return [f"{callable.kind} {callable.name}({signature}) {{", *_body(callable.body), last, "}"]


def _body(body: tuple[Statement, ...], depth: int = 1) -> list[str]:
    return [line for statement in body for line in _statement(statement, depth)]


def _statement(statement: Statement, depth: int) -> list[str]:
    indent = "  " * depth
    match statement:
        case tree.Stack(label=label, count=count, body=body, carried=carried):
            return [_commented(f"{indent}stack {count} as {label} {{", _carries(carried)), *_body(body, depth + 1), indent + "}"]
        case tree.Repeat(count=count, body=body, carried=carried):
            return [_commented(f"{indent}repeat {count} {{", _carries(carried)), *_body(body, depth + 1), indent + "}"]
        case _:
            text, comment = line(statement)
            return [_commented(indent + text, comment)]


def line(statement: Statement) -> tuple[str, str]:
    """A statement without braces, and what its comment says."""
    match statement:
        case tree.Parameter(name=name, axes=axes, init=init):
            start = f"= {_expr(init.value)}" if init.kind == "fill" else f"~ {init.kind}({_expr(init.value)})"
            return f"param {name}: {brackets(axes)} {start}", ""
        case tree.Input(binding=binding):
            return f"input {binding.name}: {bare(binding.shape)}{_EVERY[binding.shape.per]}", ""
        case tree.Bind(binding=binding, value=value):
            return f"{binding.name} = {_expr(value)}", _axes(value.shape)
        case tree.Update(binding=binding, value=value):
            return f"{binding.name} <- {_expr(value)}", _axes(binding.shape)
        case tree.Share(name=name, callee=callee, arrows=arrows):
            return f"share {name}: {callee.name}{_arrows(arrows)}", ""
        case tree.Tie(left=left, right=right):
            return f"tie {left} = {right}", ""
        case tree.Freeze(path=path):
            return f"freeze {path}", ""
        case _:
            return _given(statement)


def _given(statement: Statement) -> tuple[str, str]:
    match statement:
        case tree.Penalty(value=value):
            return f"penalty {_expr(value)}", _axes(value.shape)
        case tree.Loss(value=value):
            return f"loss {_expr(value)}", _axes(value.shape)
        case tree.Probe(name=name, value=value):
            return f"probe {name} = {_expr(value)}", _axes(value.shape)
        case tree.Output(name=name, axes=axes, value=value):
            return f"output {name}: {brackets(axes)} = {_expr(value)}", _axes(value.shape)
    raise AssertionError(statement)


def _carries(carried: Iterable[tree.Binding]) -> str:
    names = ", ".join(binding.name for binding in carried)
    return f"carries {names}" if names else ""


def _commented(text: str, comment: str) -> str:
    return f"{text:<{_COMMENT_COLUMN}}  # {comment}" if comment else text


def bare(shape: Shape) -> str:
    return shown(shape).strip("`")


def _axes(shape: Shape) -> str:
    few = sorted(str(axis) for axis in shape.chosen | shape.sparse)
    return bare(shape) + _EVERY[shape.per] + (f", sparse in {', '.join(few)}" if few else "")


# -- expressions -----------------------------------------------------------------------------------


def _expr(expr: Expr) -> str:
    match expr:
        case tree.Number(value=value):
            return _number(value)
        case tree.Load(of=of):
            return of.name
        case tree.Apply():
            return _apply(expr)
        case tree.Integral(function=function, operand=operand):
            return f"integral({function})({_expr(operand)})"
        case tree.Rename(operand=operand, arrows=arrows):
            return f"({_expr(operand)}){_arrows(arrows)}"
        case tree.Invoke():
            return _invoke(expr)
        case tree.Each(axis=axis, body=body, value=value):
            return f"each {axis} {{ {_inside(body, value)} }}"
        case tree.On(condition=condition, body=body, value=value):
            return f"on {_expr(condition)} {{ {_inside(body, value)} }}"
    raise AssertionError(expr)


def _apply(expr: tree.Apply) -> str:
    args = [_expr(arg) for arg in expr.args]
    if expr.function == "neg":
        return f"(-{args[0]})"
    if expr.function == "in":
        return f"({args[0]} in {expr.axes[0]})"
    if expr.function in _INFIX:
        return f"({args[0]} {expr.function}{brackets(expr.axes) if expr.axes else ''} {args[1]})"
    args += [f"{name} = {_number(value)}" for name, value in expr.options.items()]
    return f"{expr.function}{brackets(expr.axes) if expr.axes else ''}({', '.join(args)})"


def _invoke(expr: tree.Invoke) -> str:
    count = len(expr.callee.args)
    args = [_expr(arg) for arg in expr.args]
    inside = ", ".join(args[:count]) + (" | " + ", ".join(args[count:]) if args[count:] else "")
    name = expr.share.name if expr.share is not None else f"{expr.callee.name}{_arrows(expr.arrows)}"
    label = f" as {expr.label}" if expr.share is None and expr.label not in (None, expr.callee.name) else ""
    return f"{'grad ' if expr.grad else ''}{name}({inside}){label}"


def _inside(body: tuple[Statement, ...], value: Expr) -> str:
    """The braces of a region on one line, with `;` between statements."""
    return "; ".join([*(line(statement)[0] if not _braced(statement) else "…" for statement in body), _expr(value)])


def _braced(statement: Statement) -> bool:
    return isinstance(statement, tree.Stack | tree.Repeat)


def _arrows(arrows: tuple[tuple[Axis, Axis], ...]) -> str:
    return "[" + ", ".join(f"{old} -> {new}" for old, new in arrows) + "]" if arrows else ""


def _number(value: Monomial) -> str:
    text = str(value)
    return f"({text})" if " " in text else text
