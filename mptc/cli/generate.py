"""`mptc generate`"""

from __future__ import annotations

import codecs
from typing import Any

import click

from mptc.cli.options import overrides


@click.command("generate")
@click.argument("spec_or_run")
@overrides
@click.option("--weights", metavar="FILE", help="A safetensors file.")
@click.option("--run", metavar="DIR", help="A run of `mptc train`, for its newest weights.")
@click.option("--prompt", required=True, metavar="TEXT")
@click.option("--tokens", type=int, default=256, show_default=True, help="Bytes to add.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest byte.")
@click.option("--top-k", type=int, default=0, metavar="K", help="Draw from the K likeliest.  [default: all]")
@click.option("--window", type=int, help="Bytes that each byte sees.  [default: as trained]")
@click.option("--seed", type=int, default=0, show_default=True)
def command(spec_or_run: str, prompt: str, tokens: int, temperature: float, top_k: int, window: int | None, seed: int, **origin: Any) -> None:
    """Continue a prompt byte by byte, with the weights of a run directory or of a file; prompt and continuation go to stdout as they come."""
    from mptc.runtime.generate import Draw, generate
    from mptc.runtime.session import open_model

    model, surface, trained = open_model(spec_or_run, **origin)
    draw = Draw(temperature, top_k, seed, trained if window is None else window)
    following = generate(model, surface, prompt.encode(), tokens, draw)
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    click.echo(prompt, nl=False)
    for byte in following:
        click.echo(decode(bytes([byte])), nl=False)
    click.echo(decode(b"", final=True))
