"""What else meets a GPU, on the pretended one: ``python pretend_gpu_flows.py FOLDER FLOW ...``.

Every flow is gone through on the device and on the host, and what comes out has to be the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
import pretend_gpu
import tiny_models
import tiny_trainer
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from tiny_models import SETTINGS, World
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Trainer, TrainingArguments

from constraintc.main import main as constraintc
from constraintlang_runtime import Policy, output_head
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.data import collate, encode_rows, load_rows
from constraintlang_runtime.loading import load_model, load_tokenizer

Place = Callable[[], contextlib.AbstractContextManager[None]]
POLICY = (
    tiny_models.POLICY
    + """\
attribute silly: flag { backend = regex(re"\\bsilly\\b") }
calm: always not silly for domain=chat
"""
)
PRESERVING = (
    POLICY
    + """\
same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen
"""
)
MEASURED = """\
edition 1
attribute fluency: real in [0, inf] lower_is_better { backend = perplexity("lm") }
attribute rude: score in [0, 1] lower_is_better { backend = classifier("classifier", label="rude") }
attribute advice: score in [0, 1] lower_is_better { backend = nli("nli", hypothesis="anna asks") }
attribute near: real in [-1, 1] higher_is_better { backend = similarity("encoder", to="prompt") }
attribute good: real in [-inf, inf] higher_is_better { backend = reward("reward") }
P(fluency > 100) <= 0.5
P(rude > 0.5) <= 0.5
P(advice > 0.5) <= 0.5
P(near < 0) <= 0.5
P(good < 0) <= 0.5
same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen
right: preserve mean(accuracy) >= 0.9 * base for domain=kitchen
"""
GUIDE = {
    "guide_rounds": 1, "anchor_samples": 48, "control_samples": 12, "auxiliary_steps": 2, "auxiliary_rank": 4,
    "auxiliary_width": 8,
}  # fmt: skip
SHORT: dict[str, Any] = {
    "max_steps": 4, "rounds": 2, "save_steps": 2, "anchor_samples": 16, "control_samples": 8, "auxiliary_steps": 2,
    "save_total_limit": 9, "optim": "sgd", "learning_rate": 0.1,
}  # fmt: skip
OWN = ("rounds", "max_length", "max_new_tokens", "anchor_samples", "control_samples", "auxiliary_steps",
       "auxiliary_rank", "auxiliary_width", "set_point_share")  # fmt: skip


@contextlib.contextmanager
def on_device() -> Iterator[None]:
    """Within the block models, scorers and trainers are on the pretended GPU."""
    there = property(lambda self: pretend_gpu.DEVICE)
    trained_there = property(lambda self: (self._setup_devices, pretend_gpu.DEVICE)[1])
    with (
        patch.object(output_head, "Tensor", pretend_gpu.OnDevice),  # what it takes for a plain tensor
        patch.object(TrainingArguments, "device", trained_there),
        patch.object(Accelerator, "device", there),
        pretend_gpu.pretended(),
    ):
        yield


def on_host() -> contextlib.AbstractContextManager[None]:
    """Within the block attention is computed in the order of the pretended GPU's."""
    return sdpa_kernel(SDPBackend.MATH)


def command(*words: Any, **flags: Any) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = constraintc(
            [*map(str, words), *(str(w) for name, value in flags.items() for w in (f"--{name}", value))]
        )
    assert code in (0, 1), (words, code)
    return out.getvalue()


def close(found: Any, expected: Any) -> bool:
    """Equal, numbers up to their rounding."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[k], expected[k]) for k in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, float):
        return abs(found - expected) <= 1e-3 * max(1.0, abs(expected))
    return bool(found == expected)


def weights(model: Any) -> torch.Tensor:
    """All weights in one row, on the host."""
    return torch.cat([p.detach().cpu().flatten() for p in model.parameters()])


# ---------------------------------------------------------------------- decoding
def decoding(world: World, folder: Path) -> None:
    """Every decoding of the command, by a guide of its own place and by one that the other place wrote."""
    policy = written(POLICY, folder)
    few = tiny_models.write_jsonl(folder / "few.jsonl", chat_prompts(world)[:4])

    def replies(guide: Path, wanted: dict[str, Any]) -> list[Any]:
        found = []
        for name, flags in wanted.items():
            if name in ("guided", "rejection", "best_first"):
                flags = {"guide": guide} | flags
            said = command(
                "generate", model=world.model, policy=policy, prompts=few, decoding=name, format="json",
                max_new_tokens=5, **flags,
            )  # fmt: skip
            found.append([json.loads(line) for line in said.splitlines()])
        return found

    every = {
        "guided": GUIDE, "plain": {}, "masked": {"clause": "calm"}, "rejection": {"max_draws": 2},
        "best_first": {"search_budget": 20},
    }  # fmt: skip
    with on_device():
        there = replies(folder / "there", every)
    with on_host():
        here = replies(folder / "here", every)
        assert close(there, here)
        assert close(replies(folder / "there", {"guided": {}}), here[:1])
    with on_device():
        assert close(replies(folder / "here", {"guided": {}}), here[:1])


def written(policy: str, folder: Path) -> Path:
    """The file of a policy, beside its word list."""
    tiny_models.write_lexicon(folder / "words.tsv")
    (folder / "some.policy").write_text(policy)
    return folder / "some.policy"


def chat_prompts(world: World) -> list[dict[str, Any]]:
    """The prompts of the domain that the policies speak of."""
    return [row for row in load_rows([str(world.prompts)], role="prompts") if row["domain"] == "chat"]


def library(world: World, folder: Path) -> None:
    """A policy in the hands of transformers' own ``generate``: guide, masks and stopping together."""
    policy = Policy.load(written(POLICY, folder))

    def replies() -> Any:
        model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
        prompts = chat_prompts(world)[:4]
        guide = policy.guidance(
            model, tokenizer, prompts, rounds=0, **{k: v for k, v in GUIDE.items() if k != "guide_rounds"}
        )
        tokenizer.padding_side = "left"
        asked = tokenizer([row["prompt"] for row in prompts], return_tensors="pt", padding=True).to(
            model.device
        )
        stop = policy.stopping_criteria(tokenizer, tags=[{"domain": "chat"}] * 4)
        with guide.attached(model):
            out = model.generate(
                **{k: asked[k] for k in ("input_ids", "attention_mask")}, do_sample=False, max_new_tokens=5,
                logits_processor=[guide, policy.logits_processor(tokenizer, clauses=["calm"])],
                stopping_criteria=[stop],
            )  # fmt: skip
        return out.tolist(), stop.violated

    with on_device():
        there = replies()
    with on_host():
        assert there == replies()


# ---------------------------------------------------------------------- evaluation
def evaluation(world: World, folder: Path) -> None:
    """``constraintc eval`` with every scorer that is a model, the base model, and rows under `preserve`."""
    (folder / "measured.policy").write_text(MEASURED)
    tiny_models.write_scoring_language_model(folder / "lm")
    tiny_models.write_classifier(folder / "classifier", ("rude", "calm", "odd"))
    tiny_models.write_classifier(folder / "nli", ("CONTRADICTION", "ENTAILMENT"), pairs=True)
    tiny_models.write_sentence_encoder(folder / "encoder")
    tiny_models.write_reward_model(folder / "reward", load_tokenizer(str(world.model)))
    few = tiny_models.write_jsonl(folder / "few.jsonl", load_rows([str(world.data)], role="rows")[:12])

    def verdicts(output: Path) -> Any:
        command(
            "eval", folder / "measured.policy", model=world.model, base=world.model, prompts=world.prompts,
            num_prompts=8, rows=few, max_new_tokens=5, output=output, score_cache="off",
        )  # fmt: skip
        return json.loads((output / "verdict.json").read_text())["clauses"]

    with on_device():
        there = verdicts(folder / "there")
    with on_host():
        assert close(there, verdicts(folder / "here"))


# ---------------------------------------------------------------------- training and its checkpoints
def resumed(folder: Path, make: Callable[[Path], Any], *, from_device: bool = False) -> None:
    """A run on each place, and one from the other place's checkpoint: all end in the same weights."""
    ends = []
    for name, place in (("there", on_device), ("here", on_host)):
        with place():
            run = make(folder / name)
            run.train()
            assert isinstance(next(run.model.parameters()), pretend_gpu.OnDevice) == (place is on_device)
            ends.append(weights(run.model))
    name, place = ("there", on_host) if from_device else ("here", on_device)
    with place():
        run = make(folder / name)
        run.train(resume_from_checkpoint=str(folder / name / "checkpoint-2"))
        ends.append(weights(run.model))
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-3, atol=3e-5)
    for file in folder.rglob("*.safetensors"):
        assert all(tensor.device.type == "cpu" for tensor in load_file(file).values())


def of_trainer(*, from_device: bool = False, **changes: Any) -> Callable[[World, Path], None]:
    """The flow of a trainer with these settings."""

    def flow(world: World, folder: Path) -> None:
        def make(output: Path) -> Any:
            return tiny_trainer.make(
                world, output, use_cpu=True, save_strategy="steps", report_to="none",
                dataloader_pin_memory=False, **SHORT | changes,
            )  # fmt: skip

        resumed(folder, make, from_device=from_device)

    return flow


def callback(world: World, folder: Path) -> None:
    """The callback in transformers' own trainer."""
    tokenizer = load_tokenizer(str(world.model))
    rows = load_rows([str(world.data)], role="data")
    encoded = encode_rows(rows, tokenizer, max_length=64)

    def joined(chosen: list[Any]) -> dict[str, torch.Tensor]:
        batch = collate([encoded[row["number"]] for row in chosen], pad_token(tokenizer))
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}

    def make(output: Path) -> Trainer:
        settings = {name: (SETTINGS | SHORT)[name] for name in OWN} | {"anchor": "start"}
        args = TrainingArguments(
            output_dir=str(output), max_steps=4, save_steps=2, save_strategy="steps", learning_rate=0.1, seed=3,
            optim="sgd", report_to="none", disable_tqdm=True,
            per_device_train_batch_size=4, use_cpu=True,
            remove_unused_columns=False, dataloader_pin_memory=False,
        )  # fmt: skip
        return Trainer(
            model=load_model(str(world.model)), args=args, data_collator=joined, processing_class=tokenizer,
            train_dataset=datasets.Dataset.from_list([{"number": i} for i in range(len(encoded))]),
            callbacks=[Policy.load(written(POLICY, folder)).callback(chat_prompts(world), rows=rows, **settings)],
        )  # fmt: skip

    resumed(folder, make)


FLOWS: dict[str, Callable[[World, Path], None]] = {
    "decoding": decoding, "library": library, "evaluation": evaluation, "callback": callback,
    "lanes": of_trainer(schedule="parallel", anchor="previous"),
    "preserving": of_trainer(policy=PRESERVING, keep="best", prefixes="mixed", anchor="start", from_device=True),
}  # fmt: skip


def main() -> None:
    """Go through the flows that are named, each in a folder of its own."""
    folder = Path(sys.argv[1])
    world = tiny_models.write_world(folder / "world")
    for name in sys.argv[2:]:
        (folder / name).mkdir()
        FLOWS[name](world, folder / name)
        print(f"done {name}", flush=True)


if __name__ == "__main__":
    main()
