"""`mptc`: thin shells over the compiler and the runtime. A command is imported when it is called, so that `check` never pays for torch."""

from __future__ import annotations

from importlib import import_module

import click

from mptc import __version__

COMMANDS = {
    "check": "Report what is wrong with a spec.",
    "compile": "Write a spec's module, or print a stage.",
    "cost": "Count a model's parameters, operations, bytes and memory.",
    "graph": "Draw a model: statements, call sites, ties.",
    "fmt": "Lay out specs in the one canonical way.",
    "explain": "Explain a diagnostic code, or how a spec or a line of it becomes code.",
    "train": "Train a model on a text, arrays or a function.",
    "compare": "Train several models on one budget, and tell them apart.",
    "tokenize": "Make a tokenizer of a text, or ids.",
    "generate": "Continue a prompt.",
    "run": "Continue a prompt with a deployed graph, on onnxruntime.",
    "tune": "Time kernels on this machine's GPU, and write down which win.",
    "bench": "Time a spec, alone or against a module by hand.",
    "verify": "Hold what a spec compiles to against what it means.",
}


class Shell(click.Group):
    """Finds the command NAME as `mptc.cli.NAME.command`; prints a user's mistake and exits with 1."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = import_module(f"mptc.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, context: click.Context) -> object:
        from mptc.runtime.errors import UserError

        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(str(error), err=True)
            context.exit(error.code)


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mptc")
def main() -> None:
    """A compiler for Transformer specs: write the energy, get the layer."""
