"""Parameter paths: the tree of parameters that the call sites make, and the paths of `tie` and `freeze` in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mptc.ir.axis import Axis
from mptc.ir.path import Path, Tie
from mptc.model import tree
from mptc.model.shapes import brackets, words
from mptc.model.ties import check_ties, written
from mptc.model.tree import Callable, Expr, Statement
from mptc.source.diagnostic import Diagnostics
from mptc.source.suggest import closest
from mptc.syntax import tree as syntax

MOST_LEAVES = 10_000  # how much of two subtrees is compared


@dataclass(frozen=True, eq=False)
class Leaf:
    """A tensor; `arrows` are the axes exchanged by the calls around its declaration."""

    axes: tuple[Axis, ...]
    declared: tree.Parameter
    arrows: tuple[tuple[Axis, Axis], ...]


@dataclass(frozen=True, eq=False)
class Branch:
    """Everything under one body. `gained` are the axes of the `each` around it, first in every tensor."""

    body: tuple[Statement, ...]
    result: Expr | None = None
    arrows: tuple[tuple[Axis, Axis], ...] = ()
    gained: tuple[Axis, ...] = ()

    def members(self) -> Mapping[str, Node]:
        """What is directly under this body, in the order of the text."""
        return self._members

    @cached_property
    def _members(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._collect(self.body, self.gained, found)
        if self.result is not None:
            self._within(self.result, self.gained, found)
        return found

    def _collect(self, body: tuple[Statement, ...], gained: tuple[Axis, ...], found: dict[str, Node]) -> None:
        for statement in body:
            match statement:
                case tree.Parameter(name=name, axes=axes):
                    found[name] = Leaf((*gained, *self._here(axes)), statement, self.arrows)
                case tree.Share(name=name, callee=callee, arrows=arrows):
                    if callee.parametric:
                        found[name] = self._under(callee, arrows, gained)
                case tree.Stack(label=label, count=count, body=inner):
                    found[label] = Copies(count, Branch(inner, None, self.arrows, gained))
                case tree.Repeat(body=inner):
                    self._collect(inner, gained, found)
                case _:
                    for expr in expressions(statement):
                        self._within(expr, gained, found)

    def _within(self, expr: Expr, gained: tuple[Axis, ...], found: dict[str, Node]) -> None:
        inner = gained
        if isinstance(expr, tree.Each):
            inner = (*gained, *self._here((expr.axis,)))
        for part in parts(expr):
            self._within(part, inner, found)
        if isinstance(expr, tree.Each | tree.On):
            self._collect(expr.body, inner, found)
            self._within(expr.value, inner, found)
        if isinstance(expr, tree.Invoke) and expr.share is None and expr.label is not None:
            found[expr.label] = self._under(expr.callee, expr.arrows, gained)

    def _under(self, callee: Callable, arrows: tuple[tuple[Axis, Axis], ...], gained: tuple[Axis, ...]) -> Branch:
        """The callee's tree, its axes exchanged by the call and then by the calls around it."""
        outer, inner = dict(self.arrows), dict(arrows)
        total = {axis: outer.get(new, new) for axis, new in inner.items()}
        total.update({axis: new for axis, new in outer.items() if axis not in inner})
        return Branch(callee.body, callee.result, tuple(total.items()), gained)

    def _here(self, axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        arrows = dict(self.arrows)
        return tuple(arrows.get(axis, axis) for axis in axes)


@dataclass(frozen=True, eq=False)
class Copies:
    count: int
    one: Branch


Node = Leaf | Branch | Copies


def expressions(statement: Statement) -> tuple[Expr, ...]:
    """The expressions of a statement, not those in its braces."""
    match statement:
        case tree.Bind(value=value) | tree.Update(value=value) | tree.Penalty(value=value) | tree.Probe(value=value):
            return (value,)
        case tree.Loss(value=value) | tree.Output(value=value):
            return (value,)
        case _:
            return ()


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The operands of an expression, not what is in its braces."""
    match expr:
        case tree.Apply(args=args) | tree.Invoke(args=args):
            return args
        case tree.Integral(operand=operand) | tree.Rename(operand=operand):
            return (operand,)
        case tree.On(condition=condition):
            return (condition,)
        case _:
            return ()


def parameters(body: tuple[Statement, ...], *, expand: bool = True) -> Iterator[tuple[str, tuple[Axis, ...]]]:
    """Every parameter's path and axes, in the order of the text. A stack's copies are numbered, or written `layers[*]` once."""
    for path, leaf in leaves(Branch(body), expand=expand):
        yield path, leaf.axes


def leaves(node: Node, *, expand: bool = False) -> Iterator[tuple[str, Leaf]]:
    """Every tensor under a node and its path from there."""
    yield from _leaves(node, "", expand)


def _leaves(node: Node, path: str, expand: bool) -> Iterator[tuple[str, Leaf]]:
    match node:
        case Leaf():
            yield path, node
        case Copies(count=count, one=one):
            for copy in range(count) if expand else ():
                yield from _leaves(one, f"{path}.{copy}", expand)
            if not expand:
                yield from _leaves(one, f"{path}[*]", expand)
        case Branch():
            for name, member in node.members().items():
                yield from _leaves(member, f"{path}.{name}" if path else name, expand)


# -- tie and freeze --------------------------------------------------------------------------------


def tied(root: Branch) -> Iterator[tuple[Tie, tree.Tie]]:
    """The ties of a body and of all bodies under it, tensor by tensor and from the outermost body in; the paths begin at `root`."""
    for before, branch in _branches(root, ""):
        for statement in _joins(branch.body, branch.result):
            if isinstance(statement, tree.Tie):
                ours, theirs = (dict(leaves(_at(branch, side))) for side in (statement.left, statement.right))
                for end in ours:
                    left, right = (Path.parse(f"{before}{side}{'.' if end else ''}{end}") for side in (statement.left, statement.right))
                    yield Tie(left, right, theirs[end].axes), statement


def frozen(root: Branch) -> Iterator[tuple[Path, tree.Freeze]]:
    """The tensors that the freezes of a body and of all bodies under it cover."""
    for before, branch in _branches(root, ""):
        for statement in _joins(branch.body, branch.result):
            if isinstance(statement, tree.Freeze):
                for end, _ in leaves(_at(branch, statement.path)):
                    yield Path.parse(f"{before}{statement.path}{'.' if end else ''}{end}"), statement


def _branches(node: Node, path: str) -> Iterator[tuple[str, Branch]]:
    """A body and those under it, each with the beginning of the paths in it."""
    match node:
        case Copies(one=one):
            yield from _branches(one, f"{path}[*]")
        case Branch():
            before = f"{path}." if path else ""
            yield before, node
            for name, member in node.members().items():
                yield from _branches(member, before + name)


def _joins(body: tuple[Statement, ...], result: Expr | None = None) -> Iterator[tree.Tie | tree.Freeze]:
    """The statements of one body that take paths: `repeat`, `each` and `on` belong to it."""
    for statement in body:
        match statement:
            case tree.Tie() | tree.Freeze():
                yield statement
            case tree.Repeat(body=inner):
                yield from _joins(inner)
            case _:
                for expr in expressions(statement):
                    yield from _joins_within(expr)
    if result is not None:
        yield from _joins_within(result)


def _joins_within(expr: Expr) -> Iterator[tree.Tie | tree.Freeze]:
    for part in parts(expr):
        yield from _joins_within(part)
    if isinstance(expr, tree.Each | tree.On):
        yield from _joins(expr.body, expr.value)


def _at(branch: Branch, path: str) -> Node:
    """What a path of a body that was checked leads to."""
    node: Node = branch
    for name in Path.parse(path).stem.replace("[*]", "").split("."):
        assert isinstance(node, Branch)
        member = node.members()[name]
        node = member.one if isinstance(member, Copies) else member
    return node


@dataclass(frozen=True)
class _Found:
    node: Node
    stars: tuple[int, ...]


def check_paths(
    statements: list[syntax.Tie | syntax.Freeze], body: tuple[Statement, ...], diagnostics: Diagnostics, result: Expr | None = None
) -> None:
    """Whether the paths of a body name something, and ties join what is alike."""
    if not statements:
        return
    root = Branch(body, result)
    ties: list[syntax.Tie] = []
    for statement in statements:
        if isinstance(statement, syntax.Freeze):
            _find(root, statement.path, diagnostics)
            continue
        left, right = _find(root, statement.left, diagnostics), _find(root, statement.right, diagnostics)
        if left is not None and right is not None and _stars(statement, left, right, diagnostics):
            _alike(statement, left.node, right.node, diagnostics)
            ties.append(statement)
    check_ties(ties, diagnostics)


def _find(root: Branch, path: syntax.Path, diagnostics: Diagnostics) -> _Found | None:
    node: Node = root
    stars: list[int] = []
    before = ""
    for step in path.steps:
        members = node.members() if isinstance(node, Branch) else {}
        if step.name.text not in members:
            _nothing(step, before, members, diagnostics)
            return None
        member = members[step.name.text]
        before = f"{before}.{step.name.text}" if before else step.name.text
        if isinstance(member, Copies):
            if not _indexed(step, member, before, diagnostics):
                return None
            stars.extend([member.count] if step.index == "*" else [])
            member = member.one
        elif step.index is not None:
            diagnostics.add("E0212", step.span, f"`{before}` is not a stack: it has no copies to count", f"write `{before}`")
            return None
        node = member
    return _Found(node, tuple(stars))


def _nothing(step: syntax.Step, before: str, members: Mapping[str, Node], diagnostics: Diagnostics) -> None:
    where = f"under `{before}`" if before else "in this body"
    near = closest(step.name.text, tuple(members))
    help = f"did you mean `{near}`?" if near else f"there are {words(members)}" if members else f"`{before}` is a tensor" if before else None
    diagnostics.add("E0212", step.span, f"there is no parameter or call `{step.name.text}` {where}", help)


def _indexed(step: syntax.Step, member: Copies, path: str, diagnostics: Diagnostics) -> bool:
    if step.index is None:
        diagnostics.add("E0212", step.span, f"`{path}` is a stack; say which of its copies", f"write `{path}[*]` for all of them, or `{path}[0]`")
    elif isinstance(step.index, int) and step.index >= member.count:
        diagnostics.add("E0212", step.span, f"`{path}` has {member.count} copies, counted from 0; there is no `{path}[{step.index}]`")
    else:
        return True
    return False


def _stars(statement: syntax.Tie, left: _Found, right: _Found, diagnostics: Diagnostics) -> bool:
    """Stars on both sides run together, so the right has none or the same."""
    if right.stars in ((), left.stars):
        return True
    message = f"the stars of a tie run together: left over {list(left.stars)} copies, right over {list(right.stars)}"
    diagnostics.add("E0213", statement.span, message, "write the same stars on both sides, or name one copy on the right")
    return False


def _alike(statement: syntax.Tie, left: Node, right: Node, diagnostics: Diagnostics) -> None:
    """Both sides hold the same tensors, with the same axes in any order."""
    ours, theirs = _some(left), _some(right)
    for path in ours:
        if path in theirs and set(ours[path]) != set(theirs[path]):
            a, b = written(statement.left) + path, written(statement.right) + path
            message = f"`{a}` is `{brackets(ours[path])}` and `{b}` is `{brackets(theirs[path])}`: tied tensors have the same axes"
            diagnostics.add("E0213", statement.span, message, "they may stand in any order; exchange axes at a call: `f[a -> b](…)`")
            return
    odd = [path for path in (*ours, *theirs) if (path in ours) != (path in theirs)]
    if odd:
        side = statement.left if odd[0] in ours else statement.right
        message = f"only one side of this tie has `{written(side)}{odd[0]}`"
        diagnostics.add("E0213", statement.span, message, "tie single tensors, or calls of one block")


def _some(node: Node) -> dict[str, tuple[Axis, ...]]:
    found: dict[str, tuple[Axis, ...]] = {}
    for path, leaf in leaves(node):
        found["." + path if path else ""] = leaf.axes
        if len(found) >= MOST_LEAVES:
            break
    return found
