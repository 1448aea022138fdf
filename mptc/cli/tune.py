"""`mptc tune`"""

from __future__ import annotations

from pathlib import Path

import click


@click.command("tune")
@click.option("-o", "out", metavar="DIR", help="Write the lock file there.  [default: where the compiler reads it]")
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--heads", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--seq", type=click.IntRange(min=1), default=4096, show_default=True)
def command(out: str | None, batch: int, heads: int, seq: int) -> None:
    """Time the tiles of attention kernels on this machine's GPU, beside torch's own attention, and write the lock file of its architecture.

    Models compiled after that use a kernel where it was faster.
    """
    from mptc.resources import tiles_dir
    from mptc.runtime.tune import Size, tune

    click.echo(f"wrote {tune(Path(out) if out else tiles_dir(), Size(batch, heads, seq), click.echo)}")
