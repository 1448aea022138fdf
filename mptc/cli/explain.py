"""`mptc explain`"""

from __future__ import annotations

import click

from mptc.runtime.errors import UserError
from mptc.source.catalogue import CATALOGUE


@click.command("explain")
@click.argument("code")
def command(code: str) -> None:
    """Explain a diagnostic CODE, with a spec that triggers it."""
    entry = CATALOGUE.get(code.upper())
    if entry is None:
        raise UserError(f"error: there is no diagnostic {code}; codes run from {min(CATALOGUE, default='-')} to {max(CATALOGUE, default='-')}")
    click.echo(f"{entry.code}: {entry.title}\n\n{entry.explanation.strip()}")
    if entry.example.strip():
        click.echo("\nFor example:\n\n" + "\n".join(f"    {line}".rstrip() for line in entry.example.strip("\n").splitlines()))
