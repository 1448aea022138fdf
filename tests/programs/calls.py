"""Rules for calls: of blocks, of energies, of shares, and the derivatives of energies; with axes exchanged, and with arguments of more axes."""

from __future__ import annotations

from dataclasses import replace

from tests.programs.numbers import Want, closest, combined, fitted, number, over_context, rule, tamed, tokenwise
from tests.programs.scope import LOOPED_PENALTIES, Arg, Callee, Scope
from tests.programs.term import NONE, TOKEN, Axes, Term

Arrows = dict[str, str]


@rule(9)
def block_called(scope: Scope, want: Want) -> Term | None:
    return _any(scope, want, [callee for callee in _callable(scope) if callee.kind == "block"], grad=False)


@rule(4)
def energy_called(scope: Scope, want: Want) -> Term | None:
    energies = [callee for callee in _callable(scope) if callee.kind == "energy" and not callee.infinite]
    return _any(scope, want, energies, grad=False)


@rule(9)
def stepped(scope: Scope, want: Want) -> Term | None:
    """`grad E(x | c)`"""
    if scope.energy:
        return None
    return _any(scope, want, [callee for callee in _callable(scope) if differentiable(scope, callee)], grad=True)


def differentiable(scope: Scope, callee: Callee) -> bool:
    return callee.kind == "energy" and (not callee.own or scope.ahead)


def _callable(scope: Scope) -> list[Callee]:
    found = [*scope.world.callees, *scope.shares]
    found = [callee for callee in found if callee.plain or not scope.energy]
    return [callee for callee in found if LOOPED_PENALTIES or not (callee.hands and scope.looped)]


def _any(scope: Scope, want: Want, callees: list[Callee], grad: bool) -> Term | None:
    if not callees:
        return None
    unused = [callee for callee in callees if not callee.used]
    callee = scope.draw.choice(unused if unused and scope.draw.chance(60) else callees)
    return call(scope, want, callee, grad)


def call(scope: Scope, want: Want, callee: Callee, grad: bool = False) -> Term | None:
    """A call whose result is near to what is wanted; None where its arguments cannot be made here."""
    arrows = exchanged(scope, want, callee)
    named = {arrows.get(axis, axis) for axis in callee.named}
    lifts, over = _lifts(scope, want, callee, named)
    if grad and over:
        over = NONE
    if not all(_there(scope, arg, arrows) for arg in callee.args):
        return None
    terms = []
    for place, arg in enumerate(callee.args):
        first = place == 0
        term = argument(scope, arg, arrows, lifts if first or (not grad and scope.draw.chance(25)) else NONE, over if first else NONE, want)
        terms.append(term)
    callee.used = True
    return _written(scope, callee, arrows, terms, grad)


def _lifts(scope: Scope, want: Want, callee: Callee, named: set[str]) -> tuple[Axes, Axes]:
    """Axes that the first argument has beyond its type."""
    if callee.args[0].vocabulary is not None:
        return NONE, NONE
    free = want.axes - named
    lifts = free if scope.draw.chance(60) else NONE
    over = want.over - named if scope.draw.chance(60) and not callee.args[0].viewed else NONE
    return lifts, over


def exchanged(scope: Scope, want: Want, callee: Callee) -> Arrows:
    """`[d -> e, ctx -> mem]`: other axes in the place of those that the callee names."""
    arrows: Arrows = {}
    if callee.shared:
        return arrows
    sizes = scope.world.sizes
    named = sorted(callee.named)
    for old in named:
        if old in sizes and scope.draw.chance(22):
            free = [new for new in sorted(sizes) if new not in named and new not in arrows.values()]
            free = [new for new in free if old not in callee.even or sizes[new] % 2 == 0]
            if any(old in pair for pair in callee.equal):
                free = [new for new in free if sizes[new] == sizes[old]]
            wanted = [new for new in free if new in want.axes]
            if wanted or free:
                arrows[old] = scope.draw.choice(wanted or free)
    contexts = [old for old in named if old in (*scope.world.views, *scope.world.memories)]
    for old in contexts:
        others = [new for new in scope.contexts() if new not in named and new not in arrows.values()]
        if old in callee.looks:
            others = [new for new in others if new in scope.world.views]
        if old not in scope.world.memories and others and scope.draw.chance(30):
            arrows[old] = scope.draw.choice(others)
    return arrows


def argument(scope: Scope, arg: Arg, arrows: Arrows, lifts: Axes, over: Axes, want: Want) -> Term:
    axes = frozenset(arrows.get(axis, axis) for axis in arg.axes)
    seen = frozenset(arrows.get(context, context) for context in arg.seen)
    if arg.vocabulary is not None:
        return _id_argument(scope, arg, seen)
    depth = min(want.depth - 1, scope.draw.choice([0, 1, 1]))
    if seen and not arg.thin:
        term = _full(scope, Want(axes | lifts, seen | over, depth))
    else:
        term = number(scope, Want(axes | lifts, seen | over, depth, want.mine and not seen))
    if arg.viewed or not (seen or over):
        term = tokenwise(scope, term)
    if arg.viewed and term.mine:
        from tests.programs.views import viewing

        if not viewing(scope, term):
            term = replace(term, text=f"stop({term.text})", mine=False)
    return term


def _full(scope: Scope, want: Want) -> Term:
    """A value with contexts of which at least one token is seen."""
    from tests.programs.views import see

    names = [entry for entry in scope.numbers() if entry.term.seen and entry.term.seen <= want.over and not entry.term.thin]
    made = scope.use(closest(scope, names, want)) if names and scope.draw.chance(60) else None
    for context in sorted(want.over - (made.seen if made else NONE)):
        if context in scope.world.memories:
            more = next(entry for entry in scope.numbers() if context in entry.term.seen and not entry.term.thin)
            view = scope.use(more)
        else:
            view = see(scope, tokenwise(scope, number(scope, Want(want.axes, NONE, want.depth))), context, full=True)
        made = view if made is None else combined(scope, made, view)
    assert made is not None
    return tamed(scope, fitted(scope, made, want))


def _there(scope: Scope, arg: Arg, arrows: Arrows) -> bool:
    """Whether there is something here that can be passed."""
    seen = [arrows.get(context, context) for context in arg.seen]
    if arg.vocabulary is not None:
        return bool(_ids(scope, arg)) and not any(context in scope.world.memories for context in seen)
    return all(context in scope.contexts() for context in seen)


def _ids(scope: Scope, arg: Arg) -> list[Term]:
    """Ids of a vocabulary, one for each token; where they are known to be of a part, those of the part too."""
    whole = [entry.term for entry in scope.ids() if entry.term.per == TOKEN and not entry.term.axes and not entry.term.contexts]
    return [term for term in whole if term.vocabulary == arg.vocabulary or (scope.narrowed.get(term.text) == arg.vocabulary and not arg.seen)]


def _id_argument(scope: Scope, arg: Arg, seen: Axes) -> Term:
    from tests.programs.ids import seen_ids

    ids = scope.draw.choice(_ids(scope, arg))
    scope.use(scope.visible()[ids.text])
    return seen_ids(scope, ids, *seen) if seen else ids


def _written(scope: Scope, callee: Callee, arrows: Arrows, terms: list[Term], grad: bool) -> Term:
    """The text of a call, with a label where it needs one; and what its result is."""
    inside = ", ".join(term.text for term in terms)
    if callee.kind == "energy" and len(terms) > 1:
        inside = f"{terms[0].text} | {', '.join(term.text for term in terms[1:])}"
    brackets = f"[{', '.join(f'{old} -> {new}' for old, new in arrows.items())}]" if arrows else ""
    text = f"{'grad ' if grad else ''}{callee.name}{brackets}({inside}){_label(scope, callee, arrows)}"
    exchange = lambda axes: frozenset(arrows.get(axis, axis) for axis in axes)  # noqa: E731
    scope.naming(*(exchange(callee.named)))
    _inherit(scope, callee, arrows, terms)
    own = [exchange(arg.axes) | exchange(arg.seen) for arg in callee.args]
    extra = NONE.union(*((term.axes | term.contexts) - mine for term, mine in zip(terms, own, strict=True)))
    dims = frozenset(axis for axis in extra if axis in {axis for term in terms for axis in term.axes})
    contexts = extra - dims
    thin = NONE.union(*(term.thin for term in terms)) & contexts
    mine = any(term.mine for term in terms)
    per = min(callee.per, max(term.per for term in terms))
    late = any(term.late for term in terms)
    on = NONE.union(*(term.on for term in terms))
    if grad:
        return Term(text, axes=terms[0].axes, per=TOKEN, size=2.0, late=late, on=on)
    axes = dims | exchange(callee.axes)
    return Term(text, axes=axes, seen=contexts, per=per, size=1.5, mine=mine, thin=thin, infinite=callee.infinite, late=late, on=on)


def _inherit(scope: Scope, callee: Callee, arrows: Arrows, terms: list[Term]) -> None:
    """What holds of the callee's axes holds of the caller's."""
    owner = scope.owner()
    if owner is not None:
        owner.even |= {arrows.get(axis, axis) for axis in callee.even}
        owner.equal |= {frozenset(arrows.get(axis, axis) for axis in pair) for pair in callee.equal}
        owner.hands |= callee.hands
        owner.looks |= {arrows.get(context, context) for context in callee.looks}
        for arg, term in zip(callee.args, terms, strict=True):
            if arg.viewed:
                scope.views(term)


def _label(scope: Scope, callee: Callee, arrows: Arrows) -> str:
    """` as name` where the callee has parameters and its own name is taken, or for the sake of it."""
    if callee.shared or not callee.parameters:
        return ""
    body = scope.body
    if callee.name not in body.claimed and scope.draw.chance(50) and callee.name not in scope.visible():
        label, text = callee.name, ""
    else:
        base = scope.draw.choice(["step", "site", "part"])
        label = next(name for name in (f"{base}{number}" for number in range(1000)) if name not in body.claimed)
        text = f" as {label}"
    body.claimed.add(label)
    body.sites.append((label, callee.name, *sorted(arrows.items())))
    for path, axes in callee.parameters:
        body.parameters.append((f"{label}.{path}", tuple(arrows.get(axis, axis) for axis in axes)))
    return text


@rule(2)
def lifted_over_context(scope: Scope, want: Want) -> Term | None:
    """A block of everything that is seen, reduced after."""
    contexts = [context for context in scope.contexts() if context not in want.over]
    blocks = [callee for callee in _callable(scope) if callee.kind == "block" and not callee.args[0].seen and not callee.args[0].viewed]
    if not contexts or not blocks or want.mine:
        return None
    context = scope.draw.choice(contexts)
    blocks = [callee for callee in blocks if context not in callee.named]
    if not blocks:
        return None
    made = call(scope, want.deeper(over=want.over | {context}), scope.draw.choice(blocks))
    return over_context(scope, made, context) if made is not None and context in made.seen else made
