"""An entry's example as files, and what is passed beside them.

A line `# file: NAME.mpt` begins another file beside the first; `# --set NAME=VALUE` and `# --variant NAME` are passed on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mptc.source.catalogue.entry import Entry

SPEC = "spec.mpt"


@dataclass
class Example:
    """The files' texts, the spec's first."""

    files: dict[str, str] = field(default_factory=lambda: {SPEC: ""})
    settings: dict[str, str] = field(default_factory=dict)
    variant: str | None = None

    @property
    def options(self) -> str:
        return "".join(f" --set {name}={value}" for name, value in self.settings.items()) + (f" --variant {self.variant}" if self.variant else "")


def example_of(entry: Entry) -> Example:
    example = Example()
    name = SPEC
    for line in entry.example.splitlines(keepends=True):
        word, _, rest = line.removeprefix("# ").strip().partition(" ")
        if word == "file:":
            name = rest
            example.files[name] = ""
        elif word == "--set":
            setting, _, value = rest.partition("=")
            example.settings[setting] = value
        elif word == "--variant":
            example.variant = rest
        else:
            example.files[name] += line
    return example
