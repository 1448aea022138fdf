"""A generated torch module as a model of `transformers`: one modelling file and its config. The weights and the tokenizer are the runtime's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from mptc.backends.deployment import Facts, File, placed
from mptc.backends.templates import render

PREFIX = "net."  # of parameters, below the classes that transformers loads


def hosted(text: str, facts: Facts) -> dict[str, str]:
    """The files of `hf/` by name, all but the weights and a tokenizer."""
    name = camel(facts.name)
    blocks = sorted(set(re.findall(r"^class (\w+)\(nn\.Module\)", text, re.MULTILINE)) - {"Model", "Parameters"})
    causal = facts.logits is not None
    arguments = [_argument(label) for label in facts.inputs]
    page = {
        "module": _module(text),
        "name": name,
        "source": facts.source,
        "model_type": f"mptc_{facts.name}",
        "main": "input_ids" if causal else arguments[0],
        "blocks": blocks,
        "outputs": [output for output in facts.outputs if output != "loss"],
        "arguments": ", ".join(f"{argument}: Tensor" for argument in arguments),
        "passed": ", ".join(f"{label}={argument}" for label, argument in zip(facts.inputs, arguments, strict=True)),
        "returned": ", ".join(f"{output}=found.{output}" for output in facts.outputs if output != "loss"),
        "causal": causal,
        "logits": facts.logits,
        "own_loss": facts.loss,
    }
    file = f"modeling_{facts.name}"
    files = {f"{file}.py": render("modeling.py.j2", **page), "config.json": _json(_config(name, file, facts))}
    return files | ({"generation_config.json": _json({"_from_model_config": True})} if causal else {})


def _argument(label: str) -> str:
    """What an input is called there; some names are taken by what `forward` takes beside."""
    return f"{label}_" if label in ("loss", "return_dict", "self", "_others") else label


def _module(text: str) -> str:
    """The module, with what the classes behind it need imported at its head. What `peft` puts in the place of a call site takes an argument."""
    text = re.sub(r"^( +[\w, ]+ = self(?:\.\w+)+)\(\)$", r"\1(None)", text, flags=re.MULTILINE)
    first = "from typing import NamedTuple\n"
    return text.replace(first, f"from dataclasses import dataclass\n{first}", 1).rstrip("\n") + "\n"


def _config(name: str, file: str, facts: Facts) -> Mapping[str, object]:
    causal = facts.logits is not None
    auto = {"AutoConfig": f"{file}.{name}Config", "AutoModel": f"{file}.{name}Model"}
    auto |= {"AutoModelForCausalLM": f"{file}.{name}ForCausalLM"} if causal else {}
    found: dict[str, object] = {
        "architectures": [f"{name}{'ForCausalLM' if causal else 'Model'}"],
        "auto_map": auto,
        "model_type": f"mptc_{facts.name}",
        "dtype": "float32",
        "torch_dtype": "float32",
        "tie_word_embeddings": False,
        "is_decoder": causal,
    }
    return {**found, **({"vocab_size": facts.vocab} if facts.vocab is not None else {})}


def _json(record: Mapping[str, object]) -> str:
    return json.dumps(record, indent=2) + "\n"


def camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def weights(file: File) -> File:
    """The file of the weights, with the names that transformers asks for."""
    return placed("model.safetensors", [replace(tensor, name=f"{PREFIX}{tensor.name}") for tensor in file.tensors])


# -- bytes as a tokenizer ----------------------------------------------------------------------------------


def byte_tokenizer() -> dict[str, str]:
    """Files of a tokenizer whose ids are the bytes of a text in UTF-8, in the form of the library `tokenizers`."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # these stand for themselves; the others follow
    others = sorted(set(range(256)) - set(shown))
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    model = {"type": "BPE", "vocab": {letters[byte]: byte for byte in range(256)}, "merges": [], "byte_fallback": False}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": level, "decoder": level, "model": model}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "model_max_length": 1 << 30}
    return {"tokenizer.json": _json(tokenizer), "tokenizer_config.json": _json(config)}
