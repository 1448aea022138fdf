"""`mptc explain`"""

from __future__ import annotations

import re
from pathlib import Path

import click

from mptc.cli.options import overrides, tell
from mptc.runtime.errors import UserError
from mptc.runtime.example import explained as example
from mptc.runtime.files import write_all
from mptc.runtime.spec import read
from mptc.source.catalogue import CATALOGUE
from mptc.source.diagnostic import Diagnostics
from mptc.trace import explained, page, trace


@click.command("explain")
@click.argument("what", required=False, metavar="[CODE|SPEC[:LINE]]")
@overrides
@click.option("--html", "out", metavar="FILE", help="Write what each stage did to SPEC as one page, with the differences.")
@click.pass_context
def command(context: click.Context, what: str | None, set: dict[str, str], variant: str | None, out: str | None) -> None:
    """Explain a diagnostic CODE, with a spec that triggers it; or how SPEC becomes code: equations, what each stage made of a LINE, which scores are
    fused and why others are not, the generated lines. Alone, list all codes."""
    if what is None:
        for entry in CATALOGUE.values():
            click.echo(f"{entry.code}  {entry.title}")
    elif re.fullmatch(r"[A-Za-z]\d{4}", what):
        found = CATALOGUE.get(what.upper())
        if found is None:
            raise UserError(f"error: there is no diagnostic {what}; `mptc explain` lists them")
        click.echo(example(found))
    else:
        _spec(context, what, set, variant, out)


def _spec(context: click.Context, what: str, set: dict[str, str], variant: str | None, out: str | None) -> None:
    named = re.fullmatch(r"(.+):(\d+)", what)
    path, line = (named[1], int(named[2])) if named else (what, None)
    if not Path(path).suffix and not Path(path).exists():
        raise UserError(f"error: {what} is neither a diagnostic (`mptc explain` lists them) nor a spec, FILE.mpt or FILE.mpt:LINE")
    diagnostics = Diagnostics()
    source = read(path, diagnostics)
    found = trace(source, diagnostics, set, variant) if source else None
    tell(diagnostics)
    if diagnostics.failed:
        context.exit(1)
    if found is None:
        raise UserError(f"{path}: error: there is no model in this file")
    if line is not None and source is not None and not 1 <= line <= source.text.count("\n") + 1:
        raise UserError(f"{path}: error: it has no line {line}")
    if out is not None:
        write_all({Path(out): page(found)})
        click.echo(f"wrote {out}")
    else:
        click.echo(explained(found, line), nl=False)
