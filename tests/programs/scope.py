"""Where an expression stands: the declarations of its spec, the body it is in, the braces around it, and the names in view."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.programs.draw import Draw
from tests.programs.term import NONE, TOKEN, Axes, Term

OPERATIONS = 90  # of one spec, about
LOOPED_PENALTIES = True  # whether penalties and probes stand in `stack` and `repeat` too
MEMORIES = True  # whether inputs per sequence have tokens of their own
SIZES = ("d", "e", "head", "key", "hidden", "twin")
TAKEN = frozenset({"position", "seq", "ctx", "batch"})


@dataclass
class Arg:
    """What a block or energy takes: `vocabulary` for ids. `viewed`: it is viewed there, so every token must have one."""

    name: str
    axes: Axes = NONE
    seen: Axes = NONE
    vocabulary: str | None = None
    thin: bool = False
    viewed: bool = False


@dataclass
class Callee:
    """A block, energy or share. `named`: every axis that it or what it calls names; `even` and `equal`: what must hold of their sizes."""

    kind: str
    name: str
    args: list[Arg]
    axes: Axes = NONE  # of the result
    named: set[str] = field(default_factory=set)
    even: set[str] = field(default_factory=set)
    equal: set[frozenset[str]] = field(default_factory=set)
    plain: bool = False  # energies may call it
    may_own: bool = False
    own: bool = False  # an energy that views its variable, past any `stop`
    infinite: bool = False
    hands: bool = False  # it has a penalty or a probe
    looks: set[str] = field(default_factory=set)  # the contexts along which it views values of tokens itself: these are no memory's
    per: int = TOKEN
    parameters: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    used: bool = False
    shared: bool = False


@dataclass
class Name:
    term: Term
    updatable: bool = False
    used: bool = False


@dataclass
class Body:
    """What parameters and call sites belong to: a model, a block, an energy, or a copy of a stack. `claimed`: their names."""

    kind: str
    outer: Body | None = None
    claimed: set[str] = field(default_factory=set)
    parameters: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    sites: list[tuple[object, ...]] = field(default_factory=list)
    callee: Callee | None = None


@dataclass
class World:
    """One spec. `views` are contexts to view tokens along, `memories` those of memories."""

    draw: Draw
    causal: bool
    sizes: dict[str, int]
    views: list[str]
    memories: list[str]
    vocabularies: dict[str, list[str]]  # with their parts
    kinds: dict[str, str]  # of a vocabulary: what its `types` are called
    consts: list[str] = field(default_factory=list)
    callees: list[Callee] = field(default_factory=list)
    spent: int = 0

    @property
    def declared(self) -> set[str]:
        parts = {part for parts in self.vocabularies.values() for part in parts}
        called = {callee.name for callee in self.callees if not callee.shared}
        return {*self.sizes, *self.views, *self.memories, *self.vocabularies, *parts, *self.kinds.values(), *self.consts, *called, *TAKEN}


@dataclass
class Scope:
    """One pair of braces. `ahead`: what is made here may see later tokens."""

    world: World
    body: Body
    outer: Scope | None = None
    kind: str = "body"
    ahead: bool = False
    looped: bool = False
    lines: list[str] = field(default_factory=list)
    names: dict[str, Name] = field(default_factory=dict)
    narrowed: dict[str, str] = field(default_factory=dict)  # ids, and the part that they are known to be of
    shares: list[Callee] = field(default_factory=list)
    inside: set[str] = field(default_factory=set)  # names of braces inside, which may yet stand after what is bound here

    @property
    def draw(self) -> Draw:
        return self.world.draw

    @property
    def energy(self) -> bool:
        """Whether this is an energy, or a block that energies may call: no `grad`, `on`, loops, nor reductions over the sequence."""
        callee = self.owner()
        return callee is not None and callee.plain

    def inner(self, kind: str, body: Body | None = None) -> Scope:
        looped = self.looped or kind in ("stack", "repeat")
        return Scope(self.world, body or self.body, self, kind, self.ahead, looped, narrowed=dict(self.narrowed), shares=list(self.shares))

    def chain(self) -> list[Scope]:
        return [self, *(self.outer.chain() if self.outer else [])]

    # -- names ----------------------------------------------------------------------------------------

    def visible(self) -> dict[str, Name]:
        """Innermost first. What sees later tokens is in view only where that is allowed."""
        found: dict[str, Name] = {}
        for scope in self.chain():
            for name, entry in scope.names.items():
                if self.ahead or not entry.term.late:
                    found.setdefault(name, entry)
        return found

    def numbers(self) -> list[Name]:
        return [entry for entry in self.visible().values() if entry.term.vocabulary is None]

    def ids(self) -> list[Name]:
        return [entry for entry in self.visible().values() if entry.term.vocabulary is not None]

    def fresh(self, base: str) -> str:
        """A name that nothing in view has."""
        taken = {name for scope in self.chain() for name in scope.names} | self.world.declared | self.body.claimed
        taken |= {share.name for scope in self.chain() for share in scope.shares} | self.inside
        candidates = (base, *(f"{base}{number}" for number in range(1, 1000)))
        return next(name for name in candidates if name not in taken)

    def bind(self, base: str, term: Term, updatable: bool = True) -> Term:
        """`base = term` as a line of its own; the name."""
        name = self.fresh(base)
        self.lines.append(f"{name} = {term.text}")
        return self.enter(name, term, updatable)

    def enter(self, name: str, term: Term, updatable: bool = False) -> Term:
        made = term.but(name, least=term.least)
        self.names[name] = Name(made, updatable)
        for scope in self.chain()[1:]:
            scope.inside.add(name)
        return made

    def use(self, entry: Name) -> Term:
        entry.used = True
        return entry.term

    # -- parameters -----------------------------------------------------------------------------------

    def parameter(self, axes: list[str], base: str = "W", init: str = "") -> Term:
        """A new parameter of the body around, declared here."""
        draw = self.draw
        name = self.fresh(base)
        self.body.claimed.add(name)
        if not init:
            init = draw.choice(["", " ~ normal(0.5)", " ~ uniform(0.4)", " = 1", " = 1 / 3"])
        self.lines.append(f"param {name}: [{', '.join(axes)}]{init}")
        self.body.parameters.append((name, tuple(axes)))
        self.naming(*axes)
        size = 1.0 if "=" in init else 0.8
        made = self.enter(name, Term(name, axes=frozenset(axes), size=size))
        self.names[name].used = True
        return made

    # -- axes -----------------------------------------------------------------------------------------

    def naming(self, *axes: str) -> None:
        """The callable around names these axes."""
        callee = self.owner()
        if callee is not None:
            callee.named.update(axes)

    def looking(self, context: str) -> None:
        """The callable around views along a context."""
        self.naming(context)
        callee = self.owner()
        if callee is not None:
            callee.looks.add(context)

    def views(self, term: Term) -> None:
        """The callable around views a value, and so the arguments that it depends on."""
        callee = self.owner()
        for arg in callee.args if callee else []:
            arg.viewed |= arg.name in term.on

    def owner(self) -> Callee | None:
        body: Body | None = self.body
        while body is not None and body.callee is None:
            body = body.outer
        return body.callee if body else None

    def contexts(self) -> list[str]:
        """Those that a value can be seen along here: a memory's only where there is one."""
        seen = {context for entry in self.numbers() for context in entry.term.seen}
        return [*self.world.views, *(memory for memory in self.world.memories if memory in seen)]

    def dims(self, least: int = 0, most: int = 2) -> Axes:
        return frozenset(self.draw.some(sorted(self.world.sizes), least, most))
