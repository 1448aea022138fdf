"""What a name means where it stands: owners (a model, a block, an energy), bodies (which hold parameters) and scopes (braces)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from mptc.ir.axis import CTX, SEQ, Axis, context, dim
from mptc.model import tree
from mptc.model.load import Declared, Unit
from mptc.model.numbers import Numbers, article, unknown
from mptc.model.shapes import words
from mptc.model.tree import Binding, Parameter, Share
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.text import Span
from mptc.syntax import tree as syntax

Loose = frozenset[tuple[int, Axis]]  # arguments by their place, and a context of theirs that no view limits
MOST_RESIZED = 200  # ways to put axes of other sizes into blocks: each is a check of its own


@dataclass(eq=False)
class Checked:
    """A block or energy after its check: the typed callable and the names that its text leans on."""

    callable: tree.Callable
    owner: Owner
    loosened: dict[Loose, Checked | Diagnostics] = field(default_factory=dict)  # with arguments that no view limits, or why that cannot be


@dataclass(eq=False)
class World:
    """What all files of one spec share."""

    root: Unit
    closed: bool  # the root has a model: in its text every name must have a meaning
    numbers: Numbers
    diagnostics: Diagnostics
    checked: dict[Declared, Checked | None] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    recheck: Callable[[World, Declared, Loose], Checked | None] | None = None
    original: World | None = None  # of a world where some dims have other sizes: the one that they were declared in
    resized: dict[frozenset[tuple[Axis, int]], World] = field(default_factory=dict)

    def called(self, declared: Declared) -> Checked | None:
        """A block or energy after its check; under other sizes it is checked when it is first called."""
        if self.original is not None and declared not in self.checked:
            assert self.recheck is not None
            self.checked[declared] = None
            self.checked[declared] = self.recheck(self, declared, frozenset())
        return self.checked.get(declared)

    def loosened(self, checked: Checked, loose: Loose) -> Checked | Diagnostics:
        """A block or energy whose arguments are not all limited by a view; what is wrong with it where it reduces one that nothing else limits."""
        found = checked.loosened.get(loose)
        if found is None:
            assert self.recheck is not None
            apart = replace(checked.owner.world, diagnostics=Diagnostics())
            declared = checked.owner.unit.own[checked.callable.name]
            made = self.recheck(apart, declared, loose)
            found = checked.loosened[loose] = made if made is not None and not apart.diagnostics.failed else apart.diagnostics
        return found

    def under(self, sizes: dict[Axis, int]) -> World | None:
        """This world where dims have these sizes, as a call sees it that puts other axes in their place; None where there are too many of them."""
        origin = self.original or self
        total = {**self.numbers.sizes, **sizes}
        key = frozenset(item for item in total.items() if origin.numbers.sizes.get(item[0]) != item[1])
        if key not in origin.resized and len(origin.resized) < MOST_RESIZED:
            numbers = replace(self.numbers, sizes=total)
            origin.resized[key] = World(self.root, self.closed, numbers, Diagnostics(), missing=self.missing, recheck=self.recheck, original=origin)
        return origin.resized.get(key)


@dataclass(eq=False)
class Owner:
    """The declaration being checked. `axes` and `sizes` are those that it, or what it calls, names; `free` those that no file declares."""

    world: World
    kind: str  # `model`, `block` or `energy`
    name: str
    unit: Unit
    axes: dict[Axis, Span] = field(default_factory=dict)
    sizes: dict[Axis, Span] = field(default_factory=dict)
    free: dict[str, Span] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)  # axes that were reported as such

    @property
    def closed(self) -> bool:
        return self.world.closed and self.unit is self.world.root

    def declared(self, name: str) -> Declared | None:
        return self.unit.visible.get(name)


@dataclass(frozen=True)
class Label:
    kind: str
    span: Span


@dataclass(eq=False)
class Body:
    """What parameters and call sites belong to. A stack's body lies in another."""

    owner: Owner
    parent: Body | None = None
    labels: dict[str, Label] = field(default_factory=dict)
    probes: dict[str, Span] = field(default_factory=dict)
    outputs: dict[str, Span] = field(default_factory=dict)
    paths: list[syntax.Tie | syntax.Freeze] = field(default_factory=list)

    def claim(self, name: str, kind: str, span: Span) -> bool:
        """Takes a segment of the parameter paths; False where it is taken, which is then reported."""
        present = self.labels.get(name)
        if present is None:
            self.labels[name] = Label(kind, span)
            return True
        note = (Note(present.span, f"this {present.kind} has it"),)
        if kind == present.kind == "call":
            message = f"two calls are named `{name}` in one body, and each would have parameters of its own"
            help = f"name one of them, `{name}(…) as NAME`, or give both the same parameters, `share NAME: {name}`"
            self.owner.world.diagnostics.add("E0210", span, message, help, note)
        else:
            message = f"the parameter path `{name}` is taken in this body"
            self.owner.world.diagnostics.add("E0211", span, message, "give one of the two another name, a call with `as NAME`", note)
        return False


@dataclass(frozen=True, eq=False)
class Shared:
    """`share NAME: CALLEE`; `checked` is None where the callee had an error."""

    name: str
    span: Span
    checked: Checked | None
    share: Share | None


@dataclass(frozen=True, eq=False)
class Broken:
    """A name whose declaration had an error, or that an error was about: known, without a value."""

    span: Span
    unknown: bool = False


Entry = Binding | Parameter | Shared | Broken


@dataclass(eq=False)
class Scope:
    """Braces. `kind` is `body`, `stack`, `repeat`, `each` or `on`; `<-` does not leave the last two."""

    body: Body
    parent: Scope | None = None
    kind: str = "body"
    names: dict[str, Entry] = field(default_factory=dict)
    carried: dict[Binding, None] = field(default_factory=dict)
    gone: frozenset[Axis] = frozenset()  # axes of the `each` around
    narrowed: dict[Binding, Axis] = field(default_factory=dict)  # ids that are known to be of one type here
    chosen: bool = False  # inside `on`
    losing: bool = False  # inside a loss

    @property
    def owner(self) -> Owner:
        return self.body.owner

    @property
    def world(self) -> World:
        return self.body.owner.world

    @property
    def diagnostics(self) -> Diagnostics:
        return self.body.owner.world.diagnostics

    def inner(self, kind: str, body: Body | None = None) -> Scope:
        return Scope(body or self.body, self, kind, gone=self.gone, narrowed=dict(self.narrowed), chosen=self.chosen)

    def chain(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def find(self, name: str) -> Entry | None:
        for scope in self.chain():
            if name in scope.names:
                return scope.names[name]
        return None

    def visible(self) -> list[str]:
        """Every value that an expression here can name."""
        return [*(name for scope in self.chain() for name in scope.names), *self.owner.unit.visible]

    def loss(self) -> Scope:
        scope = self.inner(self.kind)
        scope.losing = True
        return scope

    # -- declaring -----------------------------------------------------------------------------

    def enter(self, word: syntax.Word, entry: Entry) -> None:
        """Makes a name mean something from here to the end of the braces; a second meaning is an error."""
        present = self.find(word.text)
        if isinstance(present, Broken) and present.unknown:
            present = None  # an error before this made the name known; now it has a meaning
        declared = self.owner.declared(word.text)
        if present is None and declared is not None and (declared.unit is self.owner.unit or declared.kind not in ("block", "energy")):
            note = Note(declared.span, f"it is {article(declared.kind)} here")
        elif present is not None:
            note = Note(present.span, "it is first declared here")
        else:
            self.names[word.text] = entry
            return
        help = (
            f"to change its value write `{word.text} <- …`; for a new value take another name"
            if isinstance(present, Binding)
            else "take another name"
        )
        self.diagnostics.add("E0203", word.span, f"`{word.text}` is declared a second time", help, (note,))

    # -- axes ----------------------------------------------------------------------------------

    def axis(self, word: syntax.Word) -> Axis | None:
        """The axis that a word names; None where there is none, which is then reported."""
        found = self._axis(word)
        if found is not None:
            self.owner.axes.setdefault(found, word.span)
        return found

    def _axis(self, word: syntax.Word) -> Axis | None:
        name, numbers, owner = word.text, self.world.numbers, self.owner
        if name == "seq":
            return SEQ
        if name == "ctx":
            return CTX
        declared = owner.declared(name)
        if declared is not None and declared.kind in ("const", "block", "energy"):
            self.diagnostics.add("E0220", word.span, f"`{name}` is {article(declared.kind)}, not an axis", f"axes are declared: `dim {name} = …`")
            return None
        if name in numbers.contexts and (declared is None or declared.kind == "context"):
            return context(name)
        if name in numbers.cells and numbers.cells[name].kind == "dim":
            return dim(name)
        return self._free_axis(word)

    def _free_axis(self, word: syntax.Word) -> Axis | None:
        name, numbers, owner = word.text, self.world.numbers, self.owner
        if self.find(name) is not None:
            self.diagnostics.add("E0220", word.span, f"`{name}` is a value, not an axis", "an axis is declared outside the bodies: `dim NAME = …`")
            return None
        if not owner.closed:
            owner.free.setdefault(name, word.span)
            return dim(name)
        if name in owner.unknown:  # its first mention was reported
            return None
        owner.unknown.add(name)
        candidates = [*(each for each, cell in numbers.cells.items() if cell.kind == "dim"), *numbers.contexts, "seq", "ctx"]
        unknown(self.diagnostics, "axis", name, word.span, candidates, f"declare it: `dim {name} = …`", "E0209")
        return None

    def all_axes(self, several: tuple[syntax.Word, ...]) -> tuple[Axis, ...] | None:
        """The axes of a list in brackets, each once; None after an error."""
        found = [self.axis(word) for word in several]
        for index, word in enumerate(several):
            if found[index] is not None and found[index] in found[:index]:
                self.diagnostics.add(
                    "E0315", word.span, f"axis `{word.text}` stands here twice", "name each axis once; two axes of one size need two dims"
                )
                return None
        return None if None in found else tuple(axis for axis in found if axis is not None)

    def demand(self, span: Span, checked: Checked, needs: dict[str, Span]) -> None:
        """A call leans on names that its callee left free: they are free here too, or must have a meaning."""
        if not self.owner.closed:
            for name in needs:
                self.owner.free.setdefault(name, span)
            return
        lacking = [name for name in needs if name not in self.world.missing]
        self.world.missing.update(lacking)
        if lacking:
            notes = tuple(Note(needs[name], f"`{name}` is needed here") for name in lacking)
            declared = ", ".join(f"`dim {name} = …`" for name in lacking)
            message = f"`{checked.callable.name}` needs {words(lacking)}, which no file declares"
            self.diagnostics.add(
                "E0209",
                span,
                message,
                f"declare in this file {declared}, or put other axes in their place: `{checked.callable.name}[{lacking[0]} -> …](…)`",
                notes,
            )
