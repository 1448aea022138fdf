"""Whole specs: declarations, a model, what comes in and what goes out. `specs()` is the strategy."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hypothesis import strategies as st

import tests.programs.arithmetic
import tests.programs.ids
import tests.programs.routing  # noqa: F401 -- these add their rules
from tests.programs.callees import block, energy
from tests.programs.calls import call, differentiable
from tests.programs.draw import Draw
from tests.programs.numbers import Want, called, fitted, infix, number, shuffled, tokenwise
from tests.programs.scope import MEMORIES, OPERATIONS, Body, Callee, Name, Scope, World
from tests.programs.statements import absorbed, statements, ties
from tests.programs.term import NONE, SEQUENCE, TOKEN, Term


@dataclass(frozen=True)
class Input:
    """Of a model: its dims, `vocabulary` for ids, `memory` where it is one of tokens of its own."""

    name: str
    axes: tuple[str, ...] = ()
    per: int = TOKEN
    vocabulary: str | None = None
    memory: str | None = None

    @property
    def declared(self) -> str:
        axes = ", ".join([*([self.memory] if self.memory else []), *self.axes])
        type_ = f"[{axes}]" if self.vocabulary is None else f"{f'[{axes}] ' if axes else ''}id[{self.vocabulary}]"
        return f"input {self.name}: {type_}{' per sequence' if self.per == SEQUENCE else ''}"


@dataclass(frozen=True)
class Spec:
    """A generated spec, how many tokens go in, and the seed of the numbers that do: see `tests/programs/values.py`."""

    text: str
    tokens: int = 6
    seed: int = 0

    def __repr__(self) -> str:
        return f"# tokens {self.tokens}, seed {self.seed}\n{self.text}"

    @staticmethod
    def read(text: str) -> Spec:
        """Of its `repr`; of a text alone, with six tokens and seed 0."""
        head = re.match(r"# tokens (\d+), seed (\d+)\n", text)
        return Spec(text[head.end() :], int(head[1]), int(head[2])) if head else Spec(text)


def specs() -> st.SearchStrategy[Spec]:
    """Well-typed specs over everything that is lowered."""

    @st.composite
    def made(draw: st.DrawFn) -> Spec:
        return spec(Draw(lambda low, high: draw(st.integers(low, high))))

    return made()


def seeded(seed: int) -> Spec:
    """The spec of a seed, without hypothesis."""
    return spec(Draw.seeded(seed))


def spec(draw: Draw) -> Spec:
    world = _world(draw)
    head = _declarations(world)
    callees = []
    for place in range(draw.integer(0, 3)):
        name = f"{draw.choice(['E', 'F', 'G'])}{place}" if draw.chance(60) else ""
        callees.append(energy(world, name) if name else block(world, f"f{place}"))
        world.spent = world.spent * 2 // 3
    world.spent = min(world.spent, OPERATIONS // 2)
    scope = Scope(world, Body("model"), ahead=not world.causal)
    inputs = _inputs(world)
    for each in inputs:
        _entered(scope, each)
    statements(scope, draw.integer(1, 4))
    for callee in list(world.callees):
        if not callee.used:
            _called(scope, callee)
    _outputs(scope)
    _losses(scope, inputs)
    ties(scope)
    if scope.body.parameters and draw.chance(15):
        scope.lines.append(f"freeze {draw.choice(scope.body.parameters)[0]}")
    lines = [*(each.declared for each in inputs), *scope.lines]
    model = "\n".join([f"model m{'' if world.causal else ' bidirectional'} {{", *lines, "}"])
    return Spec("\n".join([*head, *callees, model, ""]), draw.choice([5, 6, 7]), draw.integer(0, 999))


# -- declarations -------------------------------------------------------------------------------------------


def _world(draw: Draw) -> World:
    sizes = {"d": draw.choice([4, 3, 2]), "e": draw.choice([3, 2, 5]), "key": draw.choice([2, 4]), "hidden": draw.choice([3, 4])}
    sizes |= {"head": 2} if draw.chance(60) else {}
    sizes |= {"twin": sizes["d"]} if draw.chance(60) else {}
    vocabularies, kinds = {"vocab": list[str]()}, dict[str, str]()
    if draw.chance(50):
        vocabularies["vocab"], kinds["vocab"] = ["low", "high"] if draw.chance(70) else ["low", "mid", "high"], "kind"
    if draw.chance(25):
        vocabularies["label"] = []
    views = ["ctx", *(["other"] if draw.chance(40) else [])]
    memories = ["mem"] if draw.chance(35) and MEMORIES else []
    consts = ["half", "times"] if draw.chance(30) else []
    return World(draw, draw.chance(62), sizes, views, memories, vocabularies, kinds, consts)


PARTS = {"low": 3, "mid": 1, "high": 2}
CLASSES = {"label": 3, "vocab": 5}


def _declarations(world: World) -> list[str]:
    lines = [f"dim {name} = {'d' if name == 'twin' else size}" for name, size in world.sizes.items()]
    for vocabulary, parts in world.vocabularies.items():
        inside = ", ".join(f"{part} = {PARTS[part]}" for part in parts)
        lines.append(f"types {world.kinds[vocabulary]} of {vocabulary} {{ {inside} }}" if parts else f"dim {vocabulary} = {CLASSES[vocabulary]}")
    lines += [f"context {name}" for name in (*world.views, *world.memories) if name != "ctx"]
    return [*lines, *(f"const {name} = {'1 / 2' if name == 'half' else 2}" for name in world.consts)]


# -- what comes in ------------------------------------------------------------------------------------------


def _inputs(world: World) -> list[Input]:
    draw = world.draw
    dims = sorted(world.sizes)
    found = [draw.choice([Input("x", ("d",)), Input("tokens", vocabulary="vocab")])]
    kinds = ["numbers", "wide", "scalar", "tokens", "ids along", "sequence", "sequence ids", "padding", "labels"]
    for kind in draw.some(kinds, 1, 4):
        if kind == "numbers":
            found.append(Input("z", tuple(shuffled(Scope(world, Body("model")), draw.some(dims, 1, 1)))))
        elif kind == "wide":
            found.append(Input("wide", tuple(draw.some(dims, 2, 2))))
        elif kind == "scalar":
            found.append(Input("score"))
        elif kind == "tokens" and found[0].vocabulary is None:
            found.append(Input("tokens", vocabulary="vocab"))
        elif kind == "ids along":
            found.append(Input("several", (draw.choice(dims),), vocabulary="vocab"))
        elif kind == "sequence":
            found.append(Input("mood", tuple(draw.some(dims, 0, 2)), SEQUENCE))
        elif kind == "sequence ids":
            found.append(Input("topic", (), SEQUENCE, draw.choice(sorted(world.vocabularies))))
        elif kind == "padding":
            found.append(Input("real"))
        elif kind == "labels":
            found.append(Input("labels", vocabulary=draw.choice(sorted(world.vocabularies))))
    for memory in world.memories:
        found.append(Input("memory", tuple(draw.some(dims, 1, 1)), SEQUENCE, memory=memory))
        if draw.chance(30):
            found.append(Input("filled", (), SEQUENCE, memory=memory))
    return found


def _entered(scope: Scope, each: Input) -> None:
    seen = frozenset([each.memory]) if each.memory else NONE
    term = Term(each.name, axes=frozenset(each.axes), seen=seen, per=each.per, vocabulary=each.vocabulary)
    scope.enter(each.name, term, updatable=each.per == TOKEN and each.vocabulary is None)


# -- what goes out ------------------------------------------------------------------------------------------


def _called(scope: Scope, callee: Callee) -> None:
    """A callable that nothing has called is called here."""

    want = Want(callee.axes, NONE, 2)
    grads = [True, False] if differentiable(scope, callee) and not callee.infinite else [True] if callee.infinite else [False]
    grad = callee.kind == "energy" and scope.draw.choice(grads)
    if grad and not differentiable(scope, callee):
        return
    made = call(scope, want, callee, grad)
    if made is not None:
        scope.bind("h", fitted(scope, made, Want(made.axes)))


def _outputs(scope: Scope) -> None:
    """One of everything, and one for each value that nothing has read."""
    draw = scope.draw
    axes = draw.choice([NONE, frozenset({"d"}), frozenset({"vocab"}), frozenset({"d", "key"})])
    value = number(scope, Want(axes, NONE, draw.integer(1, 3)))
    entries = [entry for entry in scope.names.values() if not entry.used and entry.term.vocabulary is None and not entry.term.infinite]
    for entry in entries:
        if draw.chance(50) and not entry.term.contexts and (scope.ahead or not entry.term.late):
            _output(scope, scope.use(entry))
    _output(scope, absorbed(scope, value, axes))


def _output(scope: Scope, value: Term) -> None:
    name = next(name for name in ("out", *(f"out{number}" for number in range(99))) if name not in scope.visible())
    scope.names[name] = scope.names.pop(name, None) or _bound(value, name)
    order = f": [{', '.join(shuffled(scope, sorted(value.axes)))}]" if value.axes and scope.draw.chance(40) else ""
    scope.lines.append(f"output {name}{order} = {value.text}")


def _bound(value: Term, name: str) -> Name:

    return Name(replace(value, text=name, level=6), used=True)


def _losses(scope: Scope, inputs: list[Input]) -> None:
    draw = scope.draw
    for _ in range(draw.weighted([(4, 1), (3, 2), (3, 0)])):
        _loss(scope, inputs)


def _loss(scope: Scope, inputs: list[Input]) -> None:
    """A cross-entropy of ids, or a distance."""
    draw = scope.draw
    targets = [each for each in inputs if each.vocabulary is not None]
    if not targets or draw.chance(25):
        value = number(scope, Want(NONE, NONE, 2))
        scope.lines.append(f"loss {infix('^', value, Term('2')).text}")
    else:
        target = draw.choice(targets)
        per = target.per
        want = Want(frozenset([target.vocabulary or "", *target.axes]), NONE, 2)
        logits = number(scope, want)
        if per == TOKEN:
            logits = tokenwise(scope, logits)
        ids = target.name if per == SEQUENCE or draw.chance(40) else f"next({target.name})"
        text = f"cross_entropy[{target.vocabulary}]({logits.text}, {ids})"
        if target.axes:
            text = f"mean[{', '.join(target.axes)}]({text})"
        kind = draw.choice(["plain", "plain", "weighted", "scaled"])
        if kind == "weighted":
            weight = called("sigmoid", number(scope, Want(NONE, NONE, 1)))
            text = f"{weight.text} * {text}"
        scope.lines.append(f"loss 0.5 * {text}" if kind == "scaled" else f"loss {text}")
