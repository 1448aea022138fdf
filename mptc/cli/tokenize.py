"""`mptc tokenize`"""

from __future__ import annotations

import click


@click.command("tokenize")
@click.argument("text")
@click.option("--vocab", type=int, metavar="N", help="Make a tokenizer of at most N tokens.")
@click.option("--tokenizer", metavar="FILE", help="Write the text's ids by this tokenizer.json, as .npy.")
@click.option("--field", default="text", show_default=True, help="Of the documents in a .jsonl file.")
@click.option("-o", "out", metavar="FILE", help="[default: tokenizer.json, or TEXT.npy]")
def command(text: str, vocab: int | None, tokenizer: str | None, field: str, out: str | None) -> None:
    """Make a tokenizer of TEXT, a text or a .jsonl file of documents: byte-level byte-pair encoding, which takes any text, as a tokenizer.json of the
    tokenizers library. Or, with --tokenizer, its ids, for training without the text: `mptc train --data TEXT.npy`.
    """
    from mptc.runtime.tokenize import make_tokenizer, write_ids

    if (vocab is None) == (tokenizer is None):
        raise click.UsageError("give either --vocab N, for a tokenizer, or --tokenizer FILE, for ids")
    if tokenizer is not None:
        out = out or f"{text}.npy"
        made = write_ids(text, tokenizer, out, field)
        click.echo(f"{out}: {made.tokens:,} ids of {made.characters:,} characters")
    elif vocab is not None:
        out = out or "tokenizer.json"
        made = make_tokenizer(text, vocab, out, field)
        fewer = "" if made.tokens == vocab else f", not {vocab:,}: the text has no more pairs"
        click.echo(f"{out}: {made.tokens:,} tokens{fewer}, of {made.characters:,} characters; for `dim vocab = {made.tokens}` or more")
