"""`mptc run`"""

from __future__ import annotations

import codecs
import sys
import time

import click

from mptc.cli.options import begun


@click.command("run")
@click.argument("model")
@click.option("--prompt", required=True, metavar="TEXT")
@click.option("--tokens", type=int, default=256, show_default=True, help="Bytes to add.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest byte.")
@click.option("--top-k", type=int, default=0, metavar="K", help="Draw from the K likeliest.  [default: all]")
@click.option("--top-p", type=float, default=1.0, metavar="P", help="Draw from the likeliest that have probability P together.  [default: all]")
@click.option("--stop", type=int, multiple=True, metavar="ID", help="A byte that ends the text: 10 is the end of a line.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, help="Of onnxruntime.  [default: its own choice]")
def command(
    model: str,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    stop: tuple[int, ...],
    seed: int,
    threads: int | None,
) -> None:
    """Continue a prompt byte by byte with onnxruntime: MODEL is a MODEL.onnx, with its MODEL.decode.onnx and weights beside it."""
    from mptc.runtime.behind import open_decoder, run
    from mptc.runtime.sampling import Draw

    decoder = open_decoder(model, threads)
    start = time.perf_counter()
    following = begun(run(decoder, prompt.encode(), tokens, Draw(temperature, top_k, top_p, seed, stop=stop)))
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    click.echo(prompt, nl=False)
    sys.stdout.flush()
    count = 0
    for byte in following:
        count += 1
        click.echo(decode(bytes([byte])), nl=False)
        sys.stdout.flush()
    click.echo(decode(b"", final=True))
    click.echo(f"{count} bytes, {count / max(time.perf_counter() - start, 1e-9):.1f} a second; {decoder.bytes:,} bytes kept", err=True)
