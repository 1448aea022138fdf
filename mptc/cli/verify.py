"""`mptc verify`"""

from __future__ import annotations

import click

from mptc.cli.options import overrides

WIDE = 84


@click.command("verify")
@click.argument("spec")
@overrides
@click.option("--target", "targets", type=click.Choice(["torch", "onnx"]), multiple=True, help="Only that one.  [default: both]")
@click.pass_context
def command(context: click.Context, spec: str, set: dict[str, str], variant: str | None, targets: tuple[str, ...]) -> None:
    """Hold what SPEC compiles to against what it means: a table on stdout; exit 0 where all agrees, else 1."""
    from mptc.runtime.verify import TARGETS, verify

    failed = 0
    for check in verify(spec, set, variant, targets or TARGETS):
        failed += not check.passed
        if check.figure is None:
            click.echo(f"{check.what:{WIDE}}     –")
        else:
            verdict = "ok" if check.passed else "WRONG"
            click.echo(f"{check.what:{WIDE}} {check.figure:8.1e}  of at most {check.most:.0e}  {verdict}")
    context.exit(1 if failed else 0)
