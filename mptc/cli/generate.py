"""`mptc generate`"""

from __future__ import annotations

from typing import Any

import click

from mptc.cli.options import begun, overrides


@click.command("generate")
@click.argument("spec_or_run")
@overrides
@click.option("--weights", metavar="FILE", help="A safetensors file.")
@click.option("--run", metavar="DIR", help="A run of `mptc train`, for its newest weights.")
@click.option("--prompt", "prompts", required=True, multiple=True, metavar="TEXT", help="Several are continued as one batch.")
@click.option("--tokens", type=int, default=256, show_default=True, help="Bytes, or tokens of the run's tokenizer, to add.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest.")
@click.option("--top-k", type=int, default=0, metavar="K", help="Draw from the K likeliest.  [default: all]")
@click.option("--top-p", type=float, default=1.0, metavar="P", help="Draw from the likeliest that have probability P together.  [default: all]")
@click.option("--stop", type=int, multiple=True, metavar="ID", help="A byte, or id, that ends the text: 10 is the end of a line.")
@click.option("--tokenizer", metavar="FILE", help="A tokenizer.json.  [default: that of the run, or bytes]")
@click.option("--window", type=int, help="Bytes or tokens that each sees.  [default: as trained]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--cache/--no-cache", default=True, help="Keep what later bytes will see, or compute it again for each.  [default: keep]")
def command(
    spec_or_run: str,
    prompts: tuple[str, ...],
    tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    stop: tuple[int, ...],
    tokenizer: str | None,
    window: int | None,
    seed: int,
    cache: bool,
    **origin: Any,
) -> None:
    """Continue a prompt byte by byte, or token by token, with the weights of a run directory or of a file.

    Prompt and continuation go to stdout as they come.
    """
    from mptc.runtime.generate import generate, generate_all
    from mptc.runtime.sampling import Draw
    from mptc.runtime.session import open_codec, open_model

    model, surface, trained = open_model(spec_or_run, **origin)
    draw = Draw(temperature, top_k, top_p, seed, trained if window is None else window, stop)
    codec = open_codec(spec_or_run, origin["run"], tokenizer)
    encoded = [codec.prompt(prompt) for prompt in prompts]
    decode = [codec.decoder(ids) for ids in encoded]
    if len(prompts) > 1:
        texts = list(prompts)
        for step in generate_all(model, surface, encoded, tokens, draw, cache, codec):
            texts = [text + ("" if id is None else decode[row](id)) for row, (text, id) in enumerate(zip(texts, step, strict=True))]
        for row, text in enumerate(texts):
            click.echo(text + decode[row](-1))
        return
    following = begun(generate(model, surface, encoded[0], tokens, draw, cache, codec))
    click.echo(prompts[0], nl=False)
    for id in following:
        click.echo(decode[0](id), nl=False)
    click.echo(decode[0](-1))
