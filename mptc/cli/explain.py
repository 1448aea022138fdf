"""`mptc explain`"""

from __future__ import annotations

import click

from mptc.runtime.errors import UserError
from mptc.runtime.example import explained
from mptc.source.catalogue import CATALOGUE


@click.command("explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Explain a diagnostic CODE, with a spec that triggers it and what is said of that; without CODE, list all."""
    if code is None:
        for entry in CATALOGUE.values():
            click.echo(f"{entry.code}  {entry.title}")
        return
    found = CATALOGUE.get(code.upper())
    if found is None:
        raise UserError(f"error: there is no diagnostic {code}; `mptc explain` lists them")
    click.echo(explained(found))
