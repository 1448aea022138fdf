"""A training run's directory: what was asked for, the generated module, and checkpoints that are either whole or not there.

run.json           spec, variant, overrides, surface, settings, where the data came from and their fingerprint
<model>.py         the generated module: a run needs neither its spec nor the compiler to go on
tokenizer.json     of what the data were read with, if it was one
settings.toml      the settings, as --settings takes them
log.jsonl          a line for each step and each evaluation
step-00000250/     model.safetensors, optimizer.safetensors, state.json
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from mptc.runtime.asked import as_toml
from mptc.runtime.errors import RunError
from mptc.runtime.files import write_all
from mptc.runtime.settings import Settings
from mptc.runtime.surface import Surface, read_surface


@dataclass(frozen=True)
class Run:
    """What `run.json` records, and the text of the module beside it."""

    path: Path
    spec: str
    variant: str | None
    set: dict[str, str]
    surface: Surface
    settings: Settings
    origin: str
    data: dict[str, str | int]
    text: str

    def create(self) -> None:
        """Write `run.json` last: a directory that has one is a whole run. Raises `RunError` where a run is there already."""
        if (self.path / "run.json").exists():
            raise RunError(f"error: {self.path} already holds a run; go on with --resume, or choose another --out")
        settings = as_toml(self.spec, self.variant, self.set, self.origin, self.settings)
        files: dict[Path, str | bytes] = {self.path / f"{self.surface.name}.py": self.text, self.path / "settings.toml": settings}
        if self.settings.tokenizer:
            files[self.tokenizer] = Path(self.settings.tokenizer).read_bytes()
        write_all(files)
        record = asdict(self)
        del record["path"], record["text"]
        write_all({self.path / "run.json": json.dumps(record, indent=2) + "\n"})

    @property
    def tokenizer(self) -> Path:
        """Its own copy, if it has one."""
        return self.path / "tokenizer.json"

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(path for path in self.path.glob("step-*") if path.is_dir())

    def prune(self) -> None:
        """Delete what is older than the newest checkpoints that are kept, and what a killed process left half-written."""
        for old in self.checkpoints()[: -self.settings.keep]:
            doomed = old.rename(old.with_name(f".{old.name}.old.tmp"))
            shutil.rmtree(doomed, ignore_errors=True)
        for left in self.path.glob(".step-*.tmp"):
            shutil.rmtree(left, ignore_errors=True)


def read_run(path: str | Path) -> Run:
    """The run in a directory. Raises `RunError`."""
    path = Path(path)
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        surface = read_surface(record.pop("surface"))
        settings = Settings(**record.pop("settings"))
        text = (path / f"{surface.name}.py").read_text(encoding="utf-8")
        return Run(path=path, surface=surface, settings=settings, text=text, **record)
    except OSError as error:
        raise RunError(f"error: {path} is not a run directory: {error.strerror}: {error.filename}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"error: {path / 'run.json'} is not what `mptc train` writes: {error}") from error


def is_run(path: str | Path) -> bool:
    return (Path(path) / "run.json").is_file()


def same_run(old: Run, new: Run) -> None:
    """Raise `RunError` unless resuming `old` with what `new` asks for is the same training. What differs is named."""
    differing = [
        f"  {name}: the run has {was!r}, now {now!r}" for name, was, now in (*_facts(old, new), *old.settings.differences(new.settings)) if was != now
    ]
    if old.text != new.text and not differing:
        differing = ["  the spec (or what it uses) compiles to another module than it did"]
    if differing:
        raise RunError(f"error: {old.path} cannot be resumed with these settings\n" + "\n".join(differing))


def _facts(old: Run, new: Run) -> list[tuple[str, object, object]]:
    return [
        ("model", old.surface.name, new.surface.name),
        ("variant", old.variant, new.variant),
        ("set", old.set, new.set),
        ("data", old.data, new.data),
    ]
