"""A model's directory in a process that cannot import mptc: loaded, continued, trained, adapted, saved and loaded again.

    python alone.py DIRECTORY WORK

Prints JSON: what each step found. Run by tests/hosted/test_hosted.py.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
import warnings
from pathlib import Path
from typing import Any


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "mptc":
            raise ImportError("mptc is not here")


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

PROMPTS = ("To be, or not", "O Romeo", "x")


def continued(model: Any, tokenizer: Any, prompt: str, **options: Any) -> str:
    given = tokenizer(prompt, return_tensors="pt")
    found = model.generate(input_ids=given["input_ids"], max_new_tokens=12, do_sample=False, pad_token_id=0, **options)
    return str(tokenizer.decode(found[0]))


def together(model: Any, tokenizer: Any, side: str) -> list[str]:
    """All prompts as one batch, padded on one side; without padding in what is returned."""
    ids = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    most = max(map(len, ids))
    rows, mask = [], []
    for each in ids:
        blank = [0] * (most - len(each))
        rows.append(blank + each if side == "left" else each + blank)
        mask.append([0] * len(blank) + [1] * len(each) if side == "left" else [1] * len(each) + [0] * len(blank))
    given = {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}
    if side == "right":
        logits = model(**given).logits
        return [str(int(logits[row, len(each) - 1].argmax())) for row, each in enumerate(ids)]
    found = model.generate(**given, max_new_tokens=12, do_sample=False, pad_token_id=0)
    return [tokenizer.decode(row[most - len(each) :]) for row, each in zip(found, ids, strict=True)]


def fitted(model: Any, folder: Path) -> tuple[float, float]:
    """One epoch of a Trainer: the loss before and after."""
    from transformers import Trainer, TrainingArguments

    data = [{"input_ids": torch.arange(place, place + 24) % 200, "labels": torch.arange(place, place + 24) % 200} for place in range(32)]
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments = TrainingArguments(str(folder), num_train_epochs=1, per_device_train_batch_size=4, learning_rate=3e-3, **quiet)
    trainer = Trainer(model=model, args=arguments, train_dataset=data)
    batch = {name: torch.stack([each[name] for each in data]) for name in ("input_ids", "labels")}
    with torch.no_grad():
        before = float(model(**batch).loss)
    trainer.train()
    with torch.no_grad():
        return before, float(model(**batch).loss)


def adapted(model: Any, parameter: str) -> dict[str, object]:
    """One step of LoRA on one parameter: what moves, and that the output does."""
    import peft

    config = peft.LoraConfig(r=2, target_parameters=[parameter], target_modules=[])
    found = peft.get_peft_model(model, config)
    ids = torch.arange(48).view(2, 24)
    with torch.no_grad():
        before = found(input_ids=ids).logits
    trained = {name: value.detach().clone() for name, value in found.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD([value for value in found.parameters() if value.requires_grad], lr=1.0)
    for _ in range(2):  # B begins at 0, and A moves once B is not
        optimizer.zero_grad()
        found(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    moved = [name for name, value in found.named_parameters() if name in trained and not torch.equal(value, trained[name])]
    with torch.no_grad():
        after = found(input_ids=ids).logits
    return {"trained": len(trained), "moved": len(moved), "difference": float((after - before).abs().max())}


def main() -> None:
    warnings.simplefilter("ignore")
    folder, work, parameter = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: dict[str, object] = {"bytes": tokenizer("aé\n")["input_ids"], "text": tokenizer.decode(list("né\n".encode()))}
    found["alone"] = [continued(model, tokenizer, prompt) for prompt in PROMPTS]
    found["without cache"] = [continued(model, tokenizer, prompt, use_cache=False) for prompt in PROMPTS]
    found["beams"] = continued(model, tokenizer, PROMPTS[0], num_beams=3)
    found["beams without cache"] = continued(model, tokenizer, PROMPTS[0], num_beams=3, use_cache=False)
    found["left"], found["right"] = together(model, tokenizer, "left"), together(model, tokenizer, "right")
    with torch.no_grad():
        found["last"] = [str(int(model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].argmax())) for prompt in PROMPTS]
    found["half"] = str(model.to(torch.bfloat16)(input_ids=torch.arange(5)[None]).logits.dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, device_map="cpu")
    found["loss"] = fitted(model, work / "trainer")
    model.save_pretrained(work / "saved")
    tokenizer.save_pretrained(work / "saved")
    again = AutoModelForCausalLM.from_pretrained(work / "saved", trust_remote_code=True)
    found["again"] = all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    found["lora"] = adapted(again, parameter)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
