"""`mptc train`"""

from __future__ import annotations

import sys

import click

from mptc.cli.options import overrides

Value = str | int | float | bool | None


@click.command("train")
@click.argument("spec")
@overrides
@click.option("--data", metavar="FILE|MODULE:FUNCTION", help="A text, documents, ids, arrays or a function; see above.")
@click.option("--tokenizer", metavar="FILE", help="A tokenizer.json, for texts and documents; mptc tokenize makes one.  [default: their bytes]")
@click.option("--field", metavar="NAME", help="Of each document in a .jsonl file.  [default: text]")
@click.option("--ids", metavar="DTYPE", help="Of a .bin file: uint8, uint16, uint32, int32 or int64.  [default: uint16]")
@click.option("--settings", metavar="FILE", help="TOML: data, out, variant, [set], and every option below by its name. Options go over it.")
@click.option("--out", metavar="DIR", help="The run's directory.  [default: runs/MODEL[-VARIANT]]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, from its newest checkpoint.")
@click.option("--weights", metavar="FILE|DIR", help="Begin with those of another model, wherever both have a tensor of one name; see below.")
@click.option("--map", multiple=True, metavar="OLD=NEW", help="Their name of a tensor, and ours. May be repeated.")
@click.option("--steps", type=int, help="[default: 1500]")
@click.option("--batch", type=int, help="Examples in a step.  [default: 32]")
@click.option("--accumulate", type=int, metavar="PARTS", help="In which a step's examples go through the model.  [default: 1]")
@click.option("--length", type=int, help="Bytes, or tokens, in a window of a text; what a function is asked for.  [default: 128]")
@click.option("--lr", type=float, help="AdamW's peak rate.  [default: 0.01, less from 100,000 parameters on]")
@click.option("--warmup", type=int, metavar="STEPS", help="Until the peak rate.  [default: a tenth of the steps, at most 100]")
@click.option("--final", type=float, metavar="PART", help="Of the peak rate, left at the last step.  [default: 0.1]")
@click.option("--decay", type=float, help="AdamW's weight decay, of matrices.  [default: 0.1]")
@click.option("--clip", type=float, metavar="NORM", help="Of the gradient, at most.  [default: 1]")
@click.option("--seed", type=int, help="Of initial values and the order of data.  [default: 0]")
@click.option("--dtype", metavar="float32|bfloat16", help="Of products; bfloat16 by autocast, weights stay float32.  [default: float32]")
@click.option("--compile/--no-compile", default=None, help="Under torch.compile.  [default: no]")
@click.option("--device", metavar="cpu|cuda", help="[default: cpu]")
@click.option("--threads", type=int, help="CPU threads.  [default: torch's choice]")
@click.option("--memory", metavar="AMOUNT", help="That a step may take, as 8GB: copies of stacks are computed again on the way back.  [default: any]")
@click.option("--eval-every", type=int, metavar="STEPS", help="[default: 250]")
@click.option("--save-every", type=int, metavar="STEPS", help="[default: 250]")
@click.option("--keep", type=int, metavar="N", help="Checkpoints that stay, the newest.  [default: 2]")
@click.option("--tensorboard/--no-tensorboard", default=None, help="Write TensorBoard's events too, into DIR/tensorboard.  [default: no]")
def command(
    spec: str, set: dict[str, str], variant: str | None, data: str | None, settings: str | None, out: str | None, resume: bool, weights: str | None,
    map: tuple[str, ...], **given: Value
) -> None:
    """Train the model of SPEC, with AdamW, warm-up and a cosine.

    --data is one of four. A text, or the documents in a .jsonl file, for a model of one id input: their bytes are the ids, or what --tokenizer
    makes of them. Ids: a .npy file of one row, or a .bin file of nothing else. A .safetensors or .npz file with an array for each input, named after
    it: [examples, seq, *axes], or [examples, *axes] for an input per sequence; ids are integers, below 0 where a loss shall not count them, numbers
    are floats. Of all these the last tenth is held out. Or MODULE:FUNCTION, imported from the current directory and called with (seed, step, batch,
    length): it returns a dict of such arrays, `batch` examples each, the same for the same numbers. Held out are then the batches of steps from 2^31
    on.

    The run's directory gets the generated module, the settings (settings.toml), a line for each step (log.jsonl) and whole checkpoints only. A run
    that was killed goes on with --resume and ends with the same weights, bit for bit. Ctrl-C and SIGTERM save the step they fall into first. A loss
    that is not finite ends the run; its checkpoints stay as they are.

    With --memory, as few copies of stacks as it takes keep no activations and are computed once more on the way back, chosen from what `mptc cost`
    knows: the same numbers in more time. Weights, gradients, AdamW's moments and activations are counted, in float32.

    --weights is a safetensors file, a .pt, .pth or .bin file of tensors, a Hugging Face directory or a run of this command. What it fills, what it
    leaves as it begins and what of it is not used is said. In --map a star stands for one part of a name:
    --map "model.layers.*.mlp.gate.weight=layers.*.experts.router".

    MFU is the share of the time that the model's products, forward and backward, would take at the speed of one large product here.
    """
    from mptc.runtime.asked import Asked, over_file
    from mptc.runtime.report import report_to
    from mptc.runtime.session import train_spec

    train_spec(over_file(Asked(spec, data, set, variant, out, resume, weights, map, given), settings), report_to(sys.stdout))
