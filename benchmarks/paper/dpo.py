"""The row `dpo`: TRL's DPO on pairs that the oracle ranked, drawn from the model that the stage starts from.

Several completions of each prompt; the best by score that obeys against the worst that violates, where there are both.
The reference is the model that the stage starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from job import Job, Trained
from stage import Drawn, Stage
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer

from constraintlang_runtime.errors import DataError

DEFAULTS: dict[str, Any] = {"completions": 8, "beta": 0.1, "learning_rate_share": 0.1}


@dataclass(frozen=True)
class Pair:
    """Indexes of two completions of one prompt."""

    chosen: int
    rejected: int


def ranked_pairs(scores: Sequence[float], violations: Sequence[float], completions: int) -> list[Pair]:
    """For each ``completions`` in a row that answer one prompt: lowest score that obeys, highest that violates.

    A prompt whose completions all obey, or all violate, gives no pair. Ties go to the earlier completion.
    """
    pairs = []
    for start in range(0, len(scores), completions):
        own = range(start, min(start + completions, len(scores)))
        obeying = [i for i in own if violations[i] == 0]
        violating = [i for i in own if violations[i] > 0]
        if obeying and violating:
            pairs.append(Pair(min(obeying, key=scores.__getitem__), max(violating, key=scores.__getitem__)))
    return pairs


class TokenDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer on rows that are tokens already.

    From texts it would tokenize a sampled completion anew and end each with the end token, one cut off by the length
    cap too, which would teach to stop there.
    """

    def _prepare_dataset(self, dataset: Any, *others: Any, **named: Any) -> Any:
        return dataset


def train(job: Job) -> Trained:
    """Draw and rank once, then ``scale.steps`` steps of ``batch_size`` / 2 pairs, which are ``batch_size`` rows.

    Objective: -log σ(β [log π/π_0 (chosen) - log π/π_0 (rejected)]), Rafailov et al. 2023. Options: completions (of a
    prompt), beta, learning_rate_share (of the scale's learning rate).
    Raises: DataError when no prompt has both an obeying and a violating completion.
    """
    options = DEFAULTS | dict(job.options)
    stage, scale = Stage.start(job), job.scale
    count = int(options["completions"])
    asked = stage.prompt_batch(0, scale.oracle_calls // count, copies=count)
    drawn = stage.draw(asked, 0)
    pairs = ranked_pairs(drawn.scores.tolist(), drawn.violations.tolist(), count)
    if not pairs:
        raise DataError(
            f"of {len(asked):,} completions no prompt has one that obeys and one that violates",
            help="raise the option `completions` or the scale's `oracle_calls`",
        )
    stage.tell(0, scale.steps, pairs=len(pairs), rate=float(drawn.violations.mean()))
    batch = max(1, scale.batch_size // 2)
    config = DPOConfig(
        output_dir=str(job.folder / "trainer"), max_steps=scale.steps, per_device_train_batch_size=batch,
        learning_rate=scale.learning_rate * float(options["learning_rate_share"]), lr_scheduler_type="cosine",
        warmup_steps=min(10, max(1, scale.steps // 10)), beta=float(options["beta"]), loss_type=["sigmoid"],
        max_length=None, precompute_ref_log_probs=True, precompute_ref_batch_size=4 * batch, seed=job.seed,
        bf16=scale.bf16, use_cpu=scale.device == "cpu", gradient_checkpointing=False, report_to="none",
        disable_tqdm=True, logging_steps=max(1, scale.steps // 15), save_strategy="no", dataloader_pin_memory=False,
        include_num_input_tokens_seen="non_padding",
    )  # fmt: skip
    trainer = TokenDPOTrainer(
        stage.model, args=config, train_dataset=datasets.Dataset.from_list(token_pairs(drawn, pairs)),
        processing_class=stage.tokenizer, callbacks=[_Told(stage)],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # it prints to standard output
    trainer.train()
    stage.tokens = int(trainer.state.num_input_tokens_seen)
    details = {"options": options, "pairs": len(pairs), "prompts": len(asked) // count}
    return stage.finish(scale.steps, details | {"log": trainer.state.log_history})


def token_pairs(drawn: Drawn, pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
    """The columns that TRL's collator reads; an end token is there only where the model drew it."""
    return [
        {
            "prompt_ids": list(drawn.rows[pair.chosen].prompt),
            "chosen_ids": list(drawn.rows[pair.chosen].completion),
            "rejected_ids": list(drawn.rows[pair.rejected].completion),
        }
        for pair in pairs
    ]


class _Told(TrainerCallback):  # type: ignore[misc]
    """Progress on stderr."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """A line of progress."""
        shown = {
            k: v for k, v in (logs or {}).items() if k in ("loss", "rewards/accuracies", "rewards/margins")
        }
        self.stage.tell(state.global_step, state.max_steps, **{k: float(v) for k, v in shown.items()})
