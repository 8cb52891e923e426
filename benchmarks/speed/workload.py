"""The rows, policy, settings and scorer of a workload, and trainers over one model in the state that follows a fit."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from shapes import make_model, make_tokenizer

HERE = Path(__file__).parent
POLICY = "edition 1\nattribute toxicity: score in [0, 1] lower_is_better\ntoxicity < 0.5 for domain=toxigen under tolerance=10%\n"
CHEAP = {"anchor": "current", "prefixes": "corpus", "training_rows": "given"}
COMMON: dict[str, Any] = {  # what the workload is; all else stands at the defaults of `constraintc train`
    "rounds": 8, "learning_rate": 5e-4, "lr_scheduler_type": "cosine", "warmup_steps": 10,
    "verify_prompts": 896, "save_strategy": "no",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {"default": {}, "cheap": {**CHEAP, "anchor_samples": 512}}


def setting_hash(setting: dict[str, Any]) -> str:
    """A short name of settings, the defaults of what they do not say included."""
    from constraintlang_runtime.settings import ConstraintSettings

    whole = asdict(ConstraintSettings()) | setting
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Workload:
    """One shape, its rows and how it is trained. ``share`` of the rows lies under the policy."""

    shape: str
    vocab: int
    length: int
    batch: int
    device: str
    bf16: bool
    half: bool
    lora_r: int
    new_tokens: int
    share: float
    seed: int
    shared: str

    def to_json(self) -> dict[str, Any]:
        """What has to stand beside a result; the folder of the testbed does not."""
        return {key: value for key, value in asdict(self).items() if key != "shared"}


def testbed_rows(shared: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows that the testbed benchmark trains on: ToxiGen statements and WikiText windows in equal parts."""
    place = HERE.parent / "testbed" / "run.py"
    spec = importlib.util.spec_from_file_location("testbed_run", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder.mkdir(parents=True, exist_ok=True)
    module.prepare(shared, folder)
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def random_rows(work: Workload, count: int) -> list[dict[str, Any]]:
    """Rows of ``length`` tokens (the end token included), ``share`` of them under the policy."""
    draw = random.Random(work.seed)
    return [
        {
            "text": " ".join(f"w{draw.randrange(3, work.vocab)}" for _ in range(work.length - 1)),
            "domain": "toxigen" if int((number + 1) * work.share) > int(number * work.share) else "other",
        }
        for number in range(count)
    ]


def by_hash(*, prompts: Any, completions: Any, **_: Any) -> list[float]:
    """A scorer that costs nothing: by a hash of the completion 22% violate, as of the ToxiGen statements of the testbed.

    How many do decides how many rows a step leaves out, and so what it costs.
    """
    return [float(hashlib.sha256(text.encode()).digest()[0] < 56) for text in completions]


def control_samples_of(device: str) -> dict[str, int]:
    """Samples of a round of the fixed workload, as a setting."""
    return {"control_samples": 512 if device == "cpu" else 1024}


def sampled_rows(work: Workload) -> int:
    """Sampled rows beside the rows of a step, by the default's rule, in a run of the fixed workload."""
    from constraintlang_runtime.settings import ConstraintSettings

    on_cpu = work.device == "cpu"
    tokens, row = (
        (2_000_000, 30) if on_cpu else (3_000_000, work.length)
    )  # rows of the testbed have 30 on average
    run = ConstraintSettings(rounds=8, **control_samples_of(work.device))
    return run.rows_beside(work.batch / 2, steps=max(1, tokens // (row * work.batch)), parts=1)


class Bench:
    """One model, its optimizer and its batches, shared by trainers of several settings.

    A trainer is brought into the state that follows the first fit by its own round: sampled, scored, fitted, duals
    started; smaller than in a real run, which does not change what a step costs. Frozen anchors, which are all of the
    same model here, are the same tensors.
    """

    def __init__(self, work: Workload) -> None:
        from accelerate import Accelerator

        from constraintlang import SourceFile
        from constraintlang_compiler.pipeline import compile_with_diagnostics
        from constraintlang_runtime.adapters import with_adapter

        logging.getLogger("constraintlang_runtime").setLevel(logging.ERROR)
        num_batches = max(4, 16 // work.batch)  # enough rows that some violate, and are left out
        self.work, self.device, self._made = work, torch.device(work.device), 0
        shared = Path(work.shared)
        self._scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self._scratch.name)
        self.tokenizer = make_tokenizer(work.shape, work.vocab, shared)
        if work.shape == "testbed":
            self.rows = testbed_rows(shared, self.folder / "testbed")[: num_batches * work.batch]
        else:
            self.rows = random_rows(work, num_batches * work.batch)
        outcome = compile_with_diagnostics(SourceFile(POLICY, "speed.policy"))
        assert outcome.policy is not None, outcome.diagnostics
        self.policy = outcome.policy
        model = make_model(
            work.shape, work.vocab, work.length, device=self.device, half=work.half, shared=shared
        )
        model = with_adapter(model, self.config({}), work.seed)
        accelerator = Accelerator(mixed_precision="bf16" if work.bf16 else "no", cpu=work.device == "cpu")
        self.model = accelerator.prepare_model(model)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6, fused=True)
        self._frozen: Any = None

    def config(self, changes: dict[str, Any]) -> Any:
        """The configuration of a trainer whose rounds are small."""
        from constraintlang_runtime.config import ConstraintConfig

        work = self.work
        own = {
            "max_steps": 1000, "rounds": 2, "anchor_samples": 4 * max(16, work.batch), "control_samples": 16,
            "auxiliary_steps": 3, "auxiliary_batch_size": 256, "verify_prompts": 896, "potential_exponent": 1.0,
            "per_device_train_batch_size": work.batch, "max_length": max(96, work.length), "bf16": work.bf16,
            "max_new_tokens": work.new_tokens, "learning_rate": 1e-6, "seed": work.seed, "lora_r": work.lora_r,
            "sampling_batch_size": max(16, work.batch), "use_cpu": work.device == "cpu", "save_strategy": "no",
            "regularizer_rows": sampled_rows(work),
        }  # fmt: skip
        self._made += 1  # each trainer has a folder of its own for what it keeps
        output = str(self.folder / f"out{self._made}")
        return ConstraintConfig(output_dir=output, disable_tqdm=True, **own | changes)

    def scorers(self) -> dict[str, Any]:
        """The scorer of the policy's attribute."""
        return {"toxicity": by_hash}

    def trainer(self, changes: dict[str, Any]) -> Any:
        """A trainer after its first fit, with the regularizer in force."""
        from transformers import PrinterCallback

        from constraintlang_runtime.trainer import ConstraintTrainer

        made = ConstraintTrainer(
            self.model, self.config(changes), policy=self.policy, train_dataset=self.rows,
            processing_class=self.tokenizer, scorers=self.scorers(), tell=lambda message: None,
        )  # fmt: skip
        made.remove_callback(PrinterCallback)
        made.optimizer = self.optimizer
        made.state.num_train_epochs = 1000  # rows come again, so that what a later epoch can use is kept
        made.state.global_step = step = made.engine.activation_step
        made.before_step(step)
        if not made.engine.active():
            raise RuntimeError(f"the regularizer does not act under {changes}")
        kind = made.constraint.anchor
        if kind in ("tuned", "start", "previous"):
            if self._frozen is None:
                self._frozen = made.engine.anchor.weights
            made.engine.anchor.weights = self._frozen
        return made

    def plain(self, *, liger: bool = False) -> Any:
        """transformers' own trainer on the same rows, with its own loss, or with Liger's fused one."""
        from transformers import Trainer, TrainingArguments

        work = self.work
        config = TrainingArguments(
            output_dir=str(self.folder / "plain"), max_steps=1000, per_device_train_batch_size=work.batch,
            bf16=work.bf16, learning_rate=1e-6, seed=work.seed, use_cpu=work.device == "cpu", disable_tqdm=True,
            remove_unused_columns=False, report_to="none", save_strategy="no", use_liger_kernel=liger,
        )  # fmt: skip
        made = Trainer(self.model, config, train_dataset=self.rows, processing_class=self.tokenizer)
        made.optimizer = self.optimizer
        return made

    def collated(self, trainer: Any) -> list[dict[str, Any]]:
        """The batches of one pass over the rows in their order, as a constraint trainer collates them."""
        size, every = self.work.batch, trainer.train_dataset
        return [
            trainer._collate([every[i] for i in range(start, min(start + size, len(every)))])
            for start in range(0, len(every), size)
        ]


def one_step(trainer: Any, batch: dict[str, Any], optimizer: Any) -> None:
    """What a trainer does for one optimizer step: loss, gradients, clipping, update."""
    # a copy, because what is left out of a step is noted in its batch, which trainers share
    batches, count = trainer.get_batch_samples(iter([dict(batch)]), 1, trainer.args.device)
    trainer.training_step(trainer.model, batches[0], count)
    trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), trainer.args.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
