"""`mptc fmt`"""

from __future__ import annotations

import click

from mptc.cli.options import tell
from mptc.runtime.layout import STDIN, lay_out, lay_out_input
from mptc.source.diagnostic import Diagnostics


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("--check", "only_check", is_flag=True, help="Write nothing; exit with 1 where a file is not laid out.")
@click.pass_context
def command(context: click.Context, files: tuple[str, ...], only_check: bool) -> None:
    """Lay out FILES in place, or standard input (`-`) to standard output.

    A file with syntax errors is reported and left as it is; the exit code is then 1.
    """
    diagnostics = Diagnostics()
    if STDIN in files and len(files) > 1:
        raise click.UsageError("`-` stands alone", context)
    changed = _stream(diagnostics, only_check) if STDIN in files else lay_out(files, diagnostics, write=not only_check)
    for path in changed:
        click.echo(f"would lay out {path}" if only_check else f"laid out {path}")
    tell(diagnostics)
    context.exit(1 if diagnostics.failed or (only_check and changed) else 0)


def _stream(diagnostics: Diagnostics, only_check: bool) -> list[str]:
    before, after = lay_out_input(diagnostics)
    if only_check:
        return ["<stdin>"] if after not in (None, before) else []
    click.echo(after or "", nl=False)
    return []
