"""The row `rl`: GRPO of TRL with the policy as its reward and a KL term to the model that the stage starts from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
from job import Job, Trained
from oracle import Oracle
from stage import Stage, budgeted
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

DEFAULTS = {
    "learning_rate": 1e-4,
    "beta": 0.04,
    "num_generations": 8,
    "scale_rewards": "group",
    "loss_type": "dapo",
}


def train(job: Job, callbacks: Sequence[Callable[[Stage], TrainerCallback]] = ()) -> Trained:
    """GRPO (arXiv 2402.03300) by ``trl.GRPOTrainer``: groups of completions of a prompt, rewards scaled within a group.

    Objective: E[A · log p_θ] - β KL(p_θ ‖ p_plain), A the reward of ``PolicyReward`` (minus 1 for a violation) less its
    group's mean, over its group's deviation. Texts per step are the oracle budget over the scale's steps. Options
    (``configs/rl.yaml`` says which were tried): learning_rate, beta, num_generations, scale_rewards, loss_type. ``callbacks`` are made with the stage at hand.
    """
    from trl import GRPOConfig, GRPOTrainer

    options = DEFAULTS | dict(job.options)
    stage = Stage.start(job, resumes=True)
    scale, tokenizer = job.scale, stage.tokenizer
    steps, count = budgeted(scale, options["num_generations"])
    tokenizer.padding_side = "left"
    output = job.folder / "trainer"
    config = GRPOConfig(
        output_dir=str(output), max_steps=steps, per_device_train_batch_size=count, gradient_accumulation_steps=1,
        num_generations=options["num_generations"], max_completion_length=scale.max_new_tokens,
        learning_rate=options["learning_rate"], lr_scheduler_type="cosine", warmup_steps=min(10, max(1, steps // 10)),
        beta=options["beta"], scale_rewards=options["scale_rewards"], loss_type=options["loss_type"],
        temperature=1.0, top_p=1.0, top_k=0, seed=job.seed, bf16=scale.bf16, use_cpu=scale.device == "cpu",
        gradient_checkpointing=False, report_to="none", disable_tqdm=True, logging_steps=max(1, steps // 15),
        save_strategy="steps", save_steps=max(1, steps // 3), save_total_limit=1, dataloader_pin_memory=False,
        save_only_model=False,
    )  # fmt: skip
    watch = _Watch(stage, output)
    rows = [{"prompt": tokenizer.decode(row.prompt)} | dict(row.tags) for row in stage.prompts]
    trainer = GRPOTrainer(
        stage.model, reward_of(stage.oracle, tokenizer.bos_token or ""), args=config, callbacks=[watch, *(make(stage) for make in callbacks)],
        processing_class=tokenizer, train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    last = get_last_checkpoint(str(output)) if output.is_dir() else None
    if last is None:
        stage.oracle.rewind(0)
    else:
        stage.went_on(json.loads((Path(last) / "stage.json").read_text()))
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last)
    shutil.rmtree(output)
    stage.tokens = int(trainer.state.num_input_tokens_seen)
    return stage.finish(
        steps, {"options": options, "texts_per_step": count, "log": _curve(trainer.state.log_history)}
    )


def reward_of(oracle: Oracle, bos: str) -> Callable[..., list[float | None]]:
    """``PolicyReward`` as TRL calls it, its oracle told the step; prompts are recorded without the token they begin with."""
    reward = oracle.reward_func()

    def policy(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float | None]:
        oracle.step = int(columns["trainer_state"].global_step)
        return reward([prompt.removeprefix(bos) for prompt in prompts], completions, **columns)

    return policy


SHOWN = ("reward", "kl", "entropy", "loss", "step_time")


def _curve(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k in ("step", *SHOWN)} for line in history if "reward" in line]


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Tells progress, and puts beside each checkpoint what the stage had spent."""

    def __init__(self, stage: Stage, output: Path) -> None:
        self.stage, self.output = stage, output

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """A line of progress."""
        shown = {k: v for k, v in (logs or {}).items() if k in SHOWN}
        self.stage.tell(state.global_step, state.max_steps, **{k: float(v) for k, v in shown.items()})

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """The state beside the checkpoint of this step."""
        self.stage.tokens = int(state.num_input_tokens_seen)
        beside = self.output / f"checkpoint-{state.global_step}" / "stage.json"
        beside.write_text(json.dumps(self.stage.spent(state.global_step)))
