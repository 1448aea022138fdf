"""`mptc graph`"""

from __future__ import annotations

from pathlib import Path

import click

from mptc.cli.options import overrides, tell
from mptc.runtime.draw import svg
from mptc.runtime.errors import UserError
from mptc.runtime.spec import read
from mptc.show import DRAWN, drawing
from mptc.source.diagnostic import Diagnostics


@click.command("graph")
@click.argument("spec")
@overrides
@click.option("--format", type=click.Choice(DRAWN), default="text", show_default=True, help="svg is drawn by graphviz's `dot`.")
@click.option("-o", "out", metavar="FILE", help="Write FILE instead of stdout.")
@click.pass_context
def command(context: click.Context, spec: str, set: dict[str, str], variant: str | None, format: str, out: str | None) -> None:
    """Draw the model of SPEC: its statements and call sites, and what flows between them.

    A stack or a repeat is one box around its body, however many copies or passes it has. Ties are dashed. What is held fixed (the conditions of an
    energy's gradient, `stop`) is dotted. An edge names the context that a value is seen through: past, window, all, only.
    """
    diagnostics = Diagnostics()
    source = read(spec, diagnostics)
    text = drawing(source, diagnostics, set, variant, format) if source else None
    tell(diagnostics)
    if diagnostics.failed:
        context.exit(1)
    if text is None:
        raise UserError(f"{spec}: error: there is no model in this file")
    text = svg(text) if format == "svg" else text
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: error: cannot write this file: {getattr(error, 'strerror', None) or error}") from None
