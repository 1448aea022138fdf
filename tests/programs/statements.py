"""Statements: bindings, updates, copies and passes, choices of tokens, what is watched and penalised."""

from __future__ import annotations

from dataclasses import replace

from tests.programs.calls import exchanged, stepped
from tests.programs.numbers import Want, combined, fitted, infix, number, picked, rule, tokenwise
from tests.programs.scope import LOOPED_PENALTIES, Body, Callee, Name, Scope
from tests.programs.term import NONE, TOKEN, Axes, Term, called, literal


def statements(scope: Scope, count: int) -> None:
    for _ in range(count):
        kinds = [(8, bound), (6, updated), (2, viewed_name), (2, shared), (2, ids_bound), (1, weights), (2, given)]
        if not scope.energy and scope.kind != "on":
            kinds += [(4, repeated), (4, stacked)] if _depth(scope) < 2 else []
        scope.draw.weighted(kinds)(scope)


def _depth(scope: Scope) -> int:
    return sum(each.kind in ("stack", "repeat") for each in scope.chain())


# -- names --------------------------------------------------------------------------------------------------


def bound(scope: Scope) -> None:
    axes = frozenset(scope.draw.some(sorted(scope.world.sizes), 0, 2))
    over = frozenset(scope.draw.some(scope.contexts(), 1, 1)) if scope.draw.chance(15) else NONE
    term = number(scope, Want(axes, over, scope.draw.integer(1, 3)))
    if not term.text.isidentifier():
        scope.bind(scope.draw.choice(["h", "u", "y", "t", "z"]), term)


def viewed_name(scope: Scope) -> None:
    """`c = past(x)`: a view that several use."""
    from tests.programs.views import viewed

    axes = frozenset(scope.draw.some(sorted(scope.world.sizes), 0, 1))
    term = viewed(scope, Want(axes, NONE, 1), scope.draw.choice(scope.world.views))
    if not term.text.isidentifier():
        scope.bind("c", term)


def ids_bound(scope: Scope) -> None:
    from tests.programs.ids import some_ids

    ids = some_ids(scope, Want(frozenset(scope.world.sizes), frozenset(scope.world.views[:1])))
    if ids is not None and not ids.text.isidentifier():
        scope.bind("ids", ids)


def weights(scope: Scope) -> None:
    """A parameter that several use."""
    scope.parameter(scope.draw.some(sorted(scope.world.sizes), 1, 2))


# -- updates ------------------------------------------------------------------------------------------------


def updated(scope: Scope) -> None:
    """`x <- …`, so that it stays about as large however often it runs."""
    entry = _updatable(scope)
    if entry is not None:
        _update(scope, entry)


def _updatable(scope: Scope) -> Name | None:
    reachable: dict[str, Name] = {}
    for each in scope.chain():
        reachable.update({name: entry for name, entry in each.names.items() if name not in reachable})
        if each.kind == "on":
            break
    names = [entry for entry in reachable.values() if entry.updatable and entry.term.vocabulary is None and entry.term.per == TOKEN]
    names = [entry for entry in names if not entry.term.infinite and not entry.term.contexts and (scope.ahead or not entry.term.late)]
    return scope.draw.choice(names) if names else None


def _update(scope: Scope, entry: Name) -> None:
    x = scope.use(entry)
    want = Want(x.axes, NONE, scope.draw.integer(1, 3))
    more = stepped(scope, want) if scope.draw.chance(30) else None
    more = fitted(scope, more, want) if more is not None else number(scope, want)
    more = absorbed(scope, more, x.axes) if scope.kind in ("stack", "repeat") and scope.draw.chance(40) else more
    kind = scope.draw.choice(["tanh", "minus", "damped", "rms", "narrow", "over"])
    if kind == "tanh":
        value = infix("+", x, called("tanh", more))
    elif kind == "minus":
        value = infix("-", x, infix("*", literal(0.1), more))
    elif kind == "rms" and x.axes:
        axes = scope.draw.some(sorted(x.axes), 1, 2)
        scope.naming(*axes)
        value = called("rms", infix("+", x, more), brackets=axes, options=", eps = 0.01")
    elif kind == "over" and not scope.looped:
        value = more
    else:
        value = infix("+", infix("*", literal(0.5), x), infix("*", literal(0.2), more))
    scope.lines.append(f"{x.text} <- {value.text}")
    late = x.late or value.late
    entry.term = replace(x, late=late, mine=x.mine or value.mine, on=x.on | value.on)
    entry.used = False


# -- copies and passes --------------------------------------------------------------------------------------


def repeated(scope: Scope) -> None:
    count = scope.draw.choice(["2", "3", "1", *(["times"] if scope.world.consts else [])])
    _loop(scope, scope.inner("repeat"), f"repeat {count} {{")


def stacked(scope: Scope) -> None:
    label = next(name for name in ("layers", "outer", "deep", *(f"more{i}" for i in range(99))) if name not in scope.body.claimed)
    scope.body.claimed.add(label)
    body = Body("stack", scope.body)
    count = scope.draw.choice(["2", "3", "1"])
    _loop(scope, scope.inner("stack", body), f"stack {count} as {label} {{")
    scope.body.parameters += [(f"{label}[*].{path}", axes) for path, axes in body.parameters]


def _loop(scope: Scope, inner: Scope, opening: str) -> None:
    """A loop updates something, or it would do nothing; what it bound and nothing read is in the last update."""
    if _updatable(inner) is None:
        return
    _circled(scope)
    statements(inner, scope.draw.integer(0, 2))
    entry = _updatable(inner)
    assert entry is not None
    _update(inner, entry)
    left = [each for each in inner.names.values() if not each.used]
    if left:
        x = scope.use(entry)
        value = infix("+", infix("*", literal(0.7), x), infix("*", literal(0.3), absorbed(inner, x, x.axes)))
        inner.lines.append(f"{x.text} <- {value.text}")
    if inner.kind == "stack":
        ties(inner)
    scope.lines += [opening, *inner.lines, "}"]


def _circled(scope: Scope) -> None:
    """What a pass updates, the next one sees: it may depend on every argument."""
    owner = scope.owner()
    names = frozenset(arg.name for arg in owner.args) if owner else NONE
    for entry in scope.visible().values():
        if entry.updatable:
            entry.term = replace(entry.term, on=names)


def shared(scope: Scope) -> None:
    """`share NAME: CALLEE`"""
    found = [callee for callee in scope.world.callees if not callee.hands and (callee.plain or not scope.energy)]
    if not found or scope.kind not in ("body", "stack"):
        return
    callee = scope.draw.choice(found)
    arrows = exchanged(scope, Want(), callee) if scope.draw.chance(50) else {}
    name = scope.fresh("both")
    scope.body.claimed.add(name)
    brackets = f"[{', '.join(f'{old} -> {new}' for old, new in arrows.items())}]" if arrows else ""
    scope.lines.append(f"share {name}: {callee.name}{brackets}")
    scope.shares.append(_exchanged(callee, name, arrows))
    scope.naming(*scope.shares[-1].named)
    scope.body.parameters += [(f"{name}.{path}", tuple(arrows.get(axis, axis) for axis in axes)) for path, axes in callee.parameters]


def _exchanged(callee: Callee, name: str, arrows: dict[str, str]) -> Callee:
    def exchange(axes: Axes) -> Axes:
        return frozenset(arrows.get(axis, axis) for axis in axes)

    args = [replace(arg, axes=exchange(arg.axes), seen=exchange(arg.seen)) for arg in callee.args]
    equal = {exchange(pair) for pair in callee.equal}
    named, even = set(exchange(frozenset(callee.named))), set(exchange(frozenset(callee.even)))
    callee.used = True
    return replace(callee, name=name, args=args, axes=exchange(callee.axes), named=named, even=even, equal=equal, shared=True, used=False)


def ties(scope: Scope) -> None:
    """`tie PATH = PATH` of two parameters of one body that have the same axes, the later one to the earlier one; or of two call sites."""
    body = scope.body
    sites = [(later[0], earlier[0]) for place, later in enumerate(body.sites) for earlier in body.sites[:place] if later[1:] == earlier[1:]]
    if sites and scope.draw.chance(50):
        _tied(scope, *scope.draw.choice(sites))
    found = body.parameters
    pairs = [(later[0], earlier[0]) for place, later in enumerate(found) for earlier in found[:place] if set(later[1]) == set(earlier[1])]
    pairs = [(later, earlier) for later, earlier in pairs if _fits(later, earlier)]
    if pairs and scope.draw.chance(35):
        _tied(scope, *scope.draw.choice(pairs))


def _tied(scope: Scope, left: str, right: str) -> None:
    scope.lines.append(f"tie {left} = {right}")
    scope.body.parameters = [each for each in scope.body.parameters if each[0] != left and not each[0].startswith(f"{left}.")]


def _fits(left: str, right: str) -> bool:
    """Stars on both sides run together, so they are of the same stacks."""
    return "*" not in right or left.rpartition("[*]")[0] == right.rpartition("[*]")[0]


# -- what is handed out -------------------------------------------------------------------------------------


def given(scope: Scope) -> None:
    """A probe or a penalty. These may see later tokens."""
    if scope.energy or (scope.looped and not LOOPED_PENALTIES) or scope.kind == "on":
        return
    inner = scope.inner(scope.kind)
    inner.ahead = scope.ahead or scope.body.kind == "model"
    owner = scope.owner()
    if owner is not None:
        owner.hands = True
    if scope.draw.chance(50) or scope.body.kind != "model":
        term = number(inner, Want(NONE, NONE, 2))
        scope.lines += [*inner.lines, f"penalty 0.1 * {term.at(3)}"]
    else:
        term = number(inner, Want(scope.dims(0, 1), NONE, 2))
        name = next(name for name in (f"watched{number}" for number in range(99)) if name not in scope.body.claimed)
        scope.body.claimed.add(name)
        scope.lines += [*inner.lines, f"probe {name} = {term.text}"]
    _kept(scope, inner)


def _kept(scope: Scope, inner: Scope) -> None:
    """What was declared on the way is in view from now on."""
    for name, entry in inner.names.items():
        scope.names[name] = entry if entry.term.per == 0 else Name(replace(entry.term, late=True), used=True)


def absorbed(scope: Scope, value: Term, axes: Axes) -> Term:
    """The value, and whatever these braces bound and nothing has read."""
    for entry in list(scope.names.values()):
        if not entry.used and entry.term.vocabulary is None and not entry.term.infinite and (scope.ahead or not entry.term.late):
            value = combined(scope, value, fitted(scope, scope.use(entry), Want(axes)))
            value = called("tanh", value) if value.size > 4 and axes else infix("*", literal(0.4), value, size=1.0) if value.size > 4 else value
    return value


# -- chosen tokens ------------------------------------------------------------------------------------------


@rule(5)
def chosen(scope: Scope, want: Want) -> Term | None:
    """`on condition { … }`"""
    if scope.energy or want.over or want.mine:
        return None
    inner = scope.inner("on")
    condition = _condition(scope, inner)
    if scope.draw.chance(50):
        statements(inner, 1)
    value = absorbed(inner, number(inner, Want(want.axes, NONE, want.depth - 1)), want.axes)
    if value.vocabulary is None and scope.draw.chance(20):
        value = called("here", value)
    text = "\n".join([f"on {condition.text} {{", *inner.lines, value.text, "}"])
    return value.but(text, per=TOKEN, size=value.size, late=value.late or condition.late)


def _condition(scope: Scope, inner: Scope) -> Term:
    """One number for each token. Ids that are known to be of a type can index its tables inside."""
    from tests.programs.arithmetic import truth

    typed = [entry for entry in scope.ids() if scope.world.vocabularies.get(entry.term.vocabulary or "")]
    typed = [entry for entry in typed if entry.term.per == TOKEN and not entry.term.axes and not entry.term.contexts]
    if typed and scope.draw.chance(50):
        ids = scope.use(picked(scope, typed))
        part = scope.draw.choice(scope.world.vocabularies[ids.vocabulary or ""])
        scope.naming(part, ids.vocabulary or "")
        inner.narrowed[ids.text] = part
        return infix("in", ids, Term(part), vocabulary=None)
    if scope.ahead and scope.draw.chance(30):
        from tests.programs.routing import soft

        return soft(scope, 1)
    if scope.draw.chance(30):
        return infix(">", Term("position", per=TOKEN), literal(scope.draw.choice([1, 3, 2])))
    return tokenwise(scope, truth(scope, Want(NONE, NONE, 2)))

