"""`--emit hf`: each directory in a process that cannot import mptc (tests/hosted/alone.py), its text that of `mptc generate`; what is refused.

`HOSTED_PYTHON` names another interpreter for that process, as one with an older transformers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import mptc
from tests.conftest import ROOT, Shell
from tests.hosted.alone import PROMPTS

pytest.importorskip("transformers")

# A spec, its variant, and a parameter that LoRA adapts: of cem_small one that is both key and value.
MODELS = {
    "cem_small": ("tiny", "net.layers.0.interaction.W_k"),
    "llama_small": ("tiny", "net.layers.1.attention.W_k"),
    "mixtral": ("tiny", "net.layers.0.experts.swiglu.W_down"),
    "mixture_of_depths": ("tiny", "net.layers.0.whole.attention.W_v"),
}


@pytest.fixture(scope="module", params=list(MODELS))
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """The name of a spec, its folder, and what was found alone."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    variant, parameter = MODELS[name]
    command = [sys.executable, "-m", "mptc", "compile", str(ROOT / "specs" / f"{name}.mpt"), "--variant", variant, "--emit", "hf", "--seed", "3"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "-o", str(folder)], check=True, capture_output=True, env={**environment, "PYTHONPATH": str(ROOT)})
    hosted = folder / name / "hf"
    alone = [os.environ.get("HOSTED_PYTHON", sys.executable), str(ROOT / "tests" / "hosted" / "alone.py"), str(hosted), str(folder), parameter]
    run = subprocess.run(alone, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return name, hosted, json.loads(run.stdout.splitlines()[-1])


def test_it_goes_on_as_mptc_does(found: tuple[str, Path, dict[str, Any]]) -> None:
    """Greedily, with the cache and without it; the text is that of the module that `mptc generate` runs."""
    name, _, values = found
    model = mptc.load(ROOT / "specs" / f"{name}.mpt", variant="tiny", seed=3)
    for prompt, text in zip(PROMPTS, values["alone"], strict=True):
        ids = torch.tensor([list(prompt.encode())])
        with torch.no_grad():
            for _ in range(12):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
        assert bytes(ids[0].tolist()).decode(errors="replace") == text
    assert values["without cache"] == values["alone"]
    assert values["beams"] == values["beams without cache"]


def test_a_padded_batch_is_its_rows(found: tuple[str, Path, dict[str, Any]]) -> None:
    _, _, values = found
    assert values["left"] == values["alone"]
    assert values["right"] == values["last"]


def test_it_is_trained_saved_and_adapted(found: tuple[str, Path, dict[str, Any]]) -> None:
    _, _, values = found
    before, after = values["loss"]
    assert after < before
    assert values["again"]
    assert values["lora"]["trained"] == values["lora"]["moved"] == 2
    assert values["lora"]["difference"] > 1e-6
    assert values["half"] == "torch.bfloat16"


def test_bytes_are_its_tokens(found: tuple[str, Path, dict[str, Any]]) -> None:
    _, hosted, values = found
    assert values["bytes"] == list("aé\n".encode())
    assert values["text"] == "né\n"
    assert "mptc." not in (hosted / next(path.name for path in hosted.glob("modeling_*.py"))).read_text().replace("by mptc", "").replace("mptc::", "")


def test_one_parameter_of_a_tie_is_adapted_in_both_uses(mptc: Shell, tmp_path: Path) -> None:
    """CEM's key is its value too: both products are of the adapted one."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    assert mptc("compile", ROOT / "specs/cem_small.mpt", "--variant", "tiny", "--emit", "hf", "-o", "out").returncode == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/cem_small/hf", trust_remote_code=True)
    parameter = "net.layers.0.interaction.W_k"
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_parameters=[parameter], target_modules=[], init_lora_weights=False))
    ids = torch.arange(20)[None]
    with torch.no_grad():
        found = adapted(input_ids=ids).logits
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(merged(input_ids=ids).logits, found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "vit", "mpt_multimodal", "encoder_decoder", "energy_transformer"])
def test_what_is_no_model_of_text_has_its_own_inputs_and_outputs(name: str, mptc: Shell, tmp_path: Path) -> None:
    from transformers import AutoModel

    import mptc as compiler
    from tests.gallery.drawn import drawn, typed

    assert mptc("compile", ROOT / "specs" / f"{name}.mpt", "--variant", "tiny", "--emit", "hf", "-o", "out").returncode == 0
    hosted = tmp_path / "out" / name / "hf"
    model = AutoModel.from_pretrained(hosted, trust_remote_code=True)
    ours = compiler.load(ROOT / "specs" / f"{name}.mpt", variant="tiny")
    given = {key: value.float() if value.is_floating_point() else value for key, value in drawn(typed(name, {}), 9, 7).items()}
    with torch.no_grad():
        theirs = model(**given)
        for output, value in ours(**given)._asdict().items():
            assert torch.equal(getattr(theirs, output), value)
    assert "AutoModelForCausalLM" not in json.loads((hosted / "config.json").read_text())["auto_map"]


def test_weights_of_a_file_and_mistakes(mptc: Shell, tmp_path: Path) -> None:
    import mptc as compiler
    from mptc.runtime.weights import save_weights

    model = compiler.load(ROOT / "specs/llama_small.mpt", variant="tiny", seed=9)
    save_weights(model, tmp_path / "own.safetensors")
    command = ["compile", ROOT / "specs/llama_small.mpt", "--variant", "tiny", "--emit", "hf,torch", "-o", "out"]
    assert mptc(*command, "--weights", "own.safetensors").returncode == 0
    from safetensors.torch import load_file

    there = load_file(tmp_path / "out/llama_small/hf/model.safetensors")
    assert all(torch.equal(there[f"net.{name}"], value) for name, value in model.state_dict().items())
    assert (tmp_path / "out/llama_small/llama_small.py").is_file()
    assert mptc(*command[:-1], "other", "--weights", "absent.safetensors").returncode == 1
    assert not (tmp_path / "other").exists()
