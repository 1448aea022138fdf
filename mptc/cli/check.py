"""`mptc check`"""

from __future__ import annotations

import click

from mptc.cli.options import overrides, tell
from mptc.compile import check
from mptc.runtime.spec import read
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import as_json


@click.command("check")
@click.argument("spec")
@overrides
@click.option("--json", "machine", is_flag=True, help="Print the diagnostics as JSON on stdout.")
@click.pass_context
def command(context: click.Context, spec: str, set: dict[str, str], variant: str | None, machine: bool) -> None:
    """Report what is wrong with SPEC, on stderr.

    Exits with 0 where nothing is, with 1 where there is an error. A file without a model is checked as a library.
    """
    diagnostics = Diagnostics()
    source = read(spec, diagnostics)
    if source:
        check(source, diagnostics, set, variant)
    if machine:
        click.echo(as_json(diagnostics))
    else:
        tell(diagnostics)
    context.exit(1 if diagnostics.failed else 0)
