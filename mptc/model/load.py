"""Files and what they declare: `use` followed, every file read once.

A file sees its own declarations and those of the files that it uses, in turn; its own hide theirs. Files are looked up beside the one that
uses them, then in the prelude.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from mptc.model.bearable import axis_objection, objection
from mptc.resources import prelude_dir
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.suggest import did_you_mean
from mptc.source.text import Source, Span
from mptc.syntax import tree as syntax
from mptc.syntax.parse import parse

MOST_OPEN = 50
MOST_BESIDE = 200  # files that are looked at for the one that was meant
_IMPLICIT = {"seq": "the sequence", "ctx": "the built-in context", "batch": "the batch"}


@dataclass(frozen=True, eq=False)
class Declared:
    """One declared name. `kind` is `dim`, `const`, `types`, `context`, `block` or `energy`."""

    kind: str
    name: str
    span: Span
    unit: Unit
    node: syntax.Declaration


@dataclass(eq=False)
class Unit:
    """One file. `visible` is what its text may say: its own names, then those of the files it uses."""

    source: Source
    file: syntax.File
    own: dict[str, Declared] = field(default_factory=dict)
    visible: dict[str, Declared] = field(default_factory=dict)
    uses: list[Unit] = field(default_factory=list)

    def models(self) -> list[syntax.Model]:
        return [node for node in self.file.declarations if isinstance(node, syntax.Model)]


@dataclass
class Loader:
    """Reads files, each once, and links what they see."""

    diagnostics: Diagnostics
    units: dict[str, Unit | None] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    tree: tuple[Path, ...] = ()  # the folder of the spec: nothing outside it is read

    def load(self, source: Source) -> Unit | None:
        """The unit of a source and, before it, those of all the files that it uses."""
        key = _key(Path(source.path))
        if not self.open:
            self.tree = (Path(_key(Path(source.path).parent)),)
        file = parse(source, self.diagnostics)
        if file is None:
            self.units[key] = None
            return None
        unit = Unit(source, file)
        self.open.append(key)
        for node in file.declarations:
            self._declare(unit, node)
        unit.visible.update(unit.own)
        self._follow(unit)
        self.open.pop()
        self.units[key] = unit
        return unit

    # -- use -----------------------------------------------------------------------------------

    def _follow(self, unit: Unit) -> None:
        for node in unit.file.declarations:
            if isinstance(node, syntax.Use):
                used = self._used(unit, node)
                if used is not None and used not in unit.uses:
                    unit.uses.append(used)
                    self._take_over(unit, used, node)

    def _used(self, unit: Unit, node: syntax.Use) -> Unit | None:
        path = self._find(unit, node)
        if path is None:
            return None
        key = _key(path)
        if len(self.open) > MOST_OPEN:
            self.diagnostics.add("E0206", node.span, f"more than {MOST_OPEN} files use one another in a row", "let one file use several")
            return None
        if key in self.open:
            chain = " → ".join(Path(name).name for name in (*self.open[self.open.index(key) :], key))
            self.diagnostics.add("E0206", node.span, f"files use each other in a circle: {chain}", "move what both need into a third file")
            return None
        if key in self.units:
            return self.units[key]
        try:
            source = Source.read(path, _displayed(path), strict=True)
        except (OSError, UnicodeDecodeError) as error:
            reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or "it cannot be opened")
            self.diagnostics.add("E0205", node.span, f"cannot read `{node.path}`: {reason}")
            self.units[key] = None
            return None
        return self.load(source)

    def _find(self, unit: Unit, node: syntax.Use) -> Path | None:
        written = PurePosixPath(node.path)
        if written.is_absolute() or written.suffix != ".mpt" or "\0" in node.path or "\\" in node.path:
            message = f"`{node.path}` is not a path that `use` takes"
            self.diagnostics.add("E0205", node.span, message, 'write a path relative to this file that ends in `.mpt`, as `use "lib/std.mpt"`')
            return None
        places = [Path(unit.source.path).parent / written]
        if ".." not in written.parts:
            inside = PurePosixPath(*written.parts[1:]) if written.parts[0] == "lib" and len(written.parts) > 1 else written
            places.append(prelude_dir() / inside)
        outside = False
        for place in places:
            if _is_file(place):
                if self._inside(place):
                    return place
                outside = True
        if outside:
            message = f"`{node.path}` lies outside the folder of the spec"
            self.diagnostics.add("E0205", node.span, message, "a spec uses files of its own folder, of folders in it, and of the prelude")
            return None
        self._no_file(unit, node)
        return None

    def _no_file(self, unit: Unit, node: syntax.Use) -> None:
        """Of files beside this one and in the prelude, the one that was meant."""
        prelude = [f"lib/{path.name}" for path in sorted(prelude_dir().glob("*.mpt"))]
        folder = PurePosixPath(node.path).parent
        place = Path(unit.source.path).parent / folder
        beside = [str(folder / path.name) for path in islice(place.glob("*.mpt"), MOST_BESIDE)] if self._inside(place) else []
        help = did_you_mean(node.path, (*prelude, *sorted(beside))) or f"the prelude has {', '.join(f'`{path}`' for path in prelude)}"
        self.diagnostics.add("E0205", node.span, f"no file `{node.path}` beside this file or in the prelude", help)

    def _inside(self, place: Path) -> bool:
        """Whether a file, links followed, is in the folder tree of the spec or in the prelude."""
        found = Path(_key(place))
        return any(found.is_relative_to(folder) for folder in (*self.tree, prelude_dir().resolve()))

    def _take_over(self, unit: Unit, used: Unit, node: syntax.Use) -> None:
        for name, declared in used.visible.items():
            present = unit.visible.get(name)
            if present is None:
                unit.visible[name] = declared
            elif present is not declared and name not in unit.own and {present.kind, declared.kind} != {"context"}:
                note = Note(present.span, "it is declared here")
                other = Note(declared.span, "and here")
                help = f"declare `{name}` in this file, which hides both, or use only one of the files"
                self.diagnostics.add("E0207", node.span, f"two used files declare `{name}`", help, (note, other))

    # -- declarations --------------------------------------------------------------------------

    def _declare(self, unit: Unit, node: syntax.Declaration) -> None:
        match node:
            case syntax.Dim(name=name):
                self._name(unit, "dim", name, node)
            case syntax.Const(name=name):
                self._name(unit, "const", name, node)
            case syntax.Context(name=name):
                self._name(unit, "context", name, node)
            case syntax.Energy(name=name):
                self._name(unit, "energy", name, node)
            case syntax.Block(name=name):
                self._name(unit, "block", name, node)
            case syntax.Types():
                self._name(unit, "types", node.name, node)
                for word in (node.vocabulary, *(setting.name for setting in node.settings)):
                    self._name(unit, "dim", word, node)
            case _:
                pass

    def _name(self, unit: Unit, kind: str, word: syntax.Word, node: syntax.Declaration) -> None:
        name = word.text
        if name in _IMPLICIT:
            self.diagnostics.add(
                "E0204", word.span, f"`{name}` is {_IMPLICIT[name]}, an axis everywhere; it cannot be declared", "choose another name"
            )
            return
        reason = objection(name) if kind in ("block", "energy") else axis_objection(name)
        if reason is not None:
            self.diagnostics.add("E0204", word.span, f"`{name}` cannot be a name here: {reason}", f"choose another name, as `{name}_`")
        if name in unit.own:
            again(self.diagnostics, word, unit.own[name].span)
            return
        unit.own[name] = Declared(kind, name, word.span, unit, node)


def again(diagnostics: Diagnostics, word: syntax.Word, first: Span) -> None:
    """A second declaration of a name."""
    message = f"`{word.text}` is declared a second time"
    diagnostics.add("E0203", word.span, message, "give one of the two another name", (Note(first, "it is first declared here"),))


def _key(path: Path) -> str:
    """What makes two spellings of one file the same."""
    try:
        return str(path.resolve())
    except (OSError, RuntimeError, ValueError):
        return str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _displayed(path: Path) -> str:
    """Short where the file is under the current directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
