"""What the compiler says about the example of a diagnostic code: said now, not written down."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

from mptc.compile import check, compile
from mptc.source.catalogue.entry import Entry
from mptc.source.catalogue.example import SPEC, Example, example_of
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

_WIDEST = 100


def explained(entry: Entry) -> str:
    """Title, explanation, example and diagnostics."""
    command, said = _said(entry.code, example_of(entry))
    shown = [line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…" for line in entry.example.strip("\n").split("\n")]
    head = (f"{entry.code}: {entry.title}", fill(entry.explanation, _WIDEST, break_on_hyphens=False))
    return "\n\n".join((*head, "For example:", _indented(shown), f"`{command}` says:", _indented(said)))


def _said(code: str, example: Example) -> tuple[str, list[str]]:
    """The command that finds what the code stands for, `check` before `compile`, that before other targets, and its lines."""
    with TemporaryDirectory() as folder, chdir(folder):
        for name, text in example.files.items():
            Path(name).write_text(text, encoding="utf-8")
        source, diagnostics, command = Source.read(Path(SPEC)), Diagnostics(), "check"
        check(source, diagnostics, example.settings, example.variant)
        for command_, emit in (("compile", ["torch"]), ("compile --emit onnx", ["onnx"]), ("compile --emit triton --strict", ["triton"])):
            if not any(one.code == code for one in diagnostics.found):
                command, diagnostics = command_, Diagnostics()
                compile(source, diagnostics, example.settings, example.variant, emit, strict=emit == ["triton"])
    lines = "\n".join(map(render, diagnostics.found)).split("\n")
    return f"mptc {command} {SPEC}{example.options}", lines


def _indented(lines: list[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines)
