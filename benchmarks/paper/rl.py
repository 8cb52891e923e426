"""The row `rl`: GRPO of TRL with the policy as its reward and a KL term to the model that the stage starts from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
from job import Job, Trained, write_whole
from oracle import Oracle
from stage import Stage, budgeted
from transformers import PrinterCallback, TrainerCallback

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import DataError

DEFAULTS = {
    "learning_rate": 1e-4,
    "beta": 0.04,
    "num_generations": 8,
    "scale_rewards": "group",
    "loss_type": "dapo",
}
STATE = "stage.json"  # of the stage, written beside a checkpoint when that is whole


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
        save_only_model=False, disable_dropout=True,
    )  # fmt: skip
    watch = _Watch(stage, output)
    texts = prompts_to_read(stage.prompts, tokenizer)
    rows = [{"prompt": text} | dict(row.tags) for text, row in zip(texts, stage.prompts, strict=True)]
    trainer = GRPOTrainer(
        stage.model, reward_of(stage.oracle, tokenizer.bos_token or ""), args=config, callbacks=[watch, *(make(stage) for make in callbacks)],
        processing_class=tokenizer, train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    last = newest_whole(output)
    if last is None:
        stage.oracle.rewind(0)
    else:
        stage.went_on(json.loads((last / STATE).read_text()))
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    shutil.rmtree(output)
    stage.tokens = int(trainer.state.num_input_tokens_seen)
    return stage.finish(
        steps, {"options": options, "texts_per_step": count, "log": _curve(trainer.state.log_history)}
    )


def prompts_to_read(rows: Sequence[TokenRow], tokenizer: Any) -> list[str]:
    """Prompts as texts for a trainer that tokenizes them anew, without a first token that the tokenizer writes itself.

    Raises: DataError when one is read back as another text. (Its tokens may be others: a prompt may end within a word.)
    """
    bos = tokenizer.bos_token_id
    writes = bos is not None and tokenizer("")["input_ids"][:1] == [bos]
    texts = [
        tokenizer.decode(row.prompt[1:] if writes and row.prompt[0] == bos else row.prompt) for row in rows
    ]
    read = tokenizer(texts)["input_ids"]
    for text, row, ids in zip(texts, rows, read, strict=True):
        if tokenizer.decode(ids) != tokenizer.decode(row.prompt):
            raise DataError(
                f"the prompt {tokenizer.decode(row.prompt)!r} is read back as {tokenizer.decode(ids)!r} from {text!r}",
                help="take a tokenizer that reads back what it decodes",
            )
    return texts


def newest_whole(output: Path) -> Path | None:
    """The newest checkpoint with the state of the stage beside it; a run may end while it writes a newer one."""
    whole = [state.parent for state in output.glob(f"checkpoint-*/{STATE}")]
    return max(whole, key=lambda folder: int(folder.name.removeprefix("checkpoint-")), default=None)


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
        beside = self.output / f"checkpoint-{state.global_step}" / STATE
        write_whole(beside, json.dumps(self.stage.spent(state.global_step)))
