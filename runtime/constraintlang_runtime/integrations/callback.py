"""``ConstraintCallback``: a policy's regularizer for a trainer that already exists, transformers' or TRL's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_compiler.scopes import utility_clauses
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.cached_anchor import AnchorStates
from constraintlang_runtime.checkpoint import STATE_FILE
from constraintlang_runtime.columns import Row
from constraintlang_runtime.data import collate, encode_rows, prompt_rows
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.integrations.policy import Policy
from constraintlang_runtime.integrations.texts import given_rows
from constraintlang_runtime.model_checks import require_causal
from constraintlang_runtime.output_head import precision_of
from constraintlang_runtime.penalty import regularizer_term
from constraintlang_runtime.sampling import derived_seed, seeded
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.sharding import require_whole_weights
from constraintlang_runtime.unknown_settings import require_known

logger = logging.getLogger(__name__)
REFUSED = (
    "method", "schedule", "staleness", "lane_timeout", "lane_ranks", "prefixes", "training_rows", "adaptive",
    "preserve_weight", "heldout_rows", "keep", "selection_prompts", "loss", "packing", "scorer_timeout",
    "score_cache", "judge_url", "judge_model", "judge_rate", "judge_timeout",
    "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "train_dtype",
    "attn_implementation",
)  # fmt: skip


class ConstraintCallback(TrainerCallback):
    """Before each step, adds the gradient of the regularizer to what the trainer is about to compute.

    Equation: with ḡ the trainer's own gradient of a mean loss per token, the step uses
    ḡ + ∇ Σ_d ρ_d w_d E_{s ~ sampled prefixes of d} D(q̂_d, p): the loss of ``ConstraintTrainer`` with
    ``training_rows: given``, w_d the share of the group's tokens among ``rows``; that of D groups is 1/D where it has
    no rows.
    The trainer's loss is not touched, so any that steps an optimizer on a causal LM will do; gradients are clipped
    together.

    Args:
        policy: the policy with its scorers.
        prompts: rows with ``prompt`` (or ``messages``) and tags; they are sampled during training.
        rows: the training rows as text, when they are at hand: their violations set the weight of the regularizer.
        settings: those of ``docs/settings.md`` that belong to the constraint, e.g. ``anchor="start"``, ``rounds=32``.

    State is kept in the trainer's checkpoints and restored with them. ``history`` has one record per group and round.
    Not run under DeepSpeed, FSDP or fp16 loss scaling: refused.
    Raises: ConfigError for a wrong setting; at the start of training DataError, ScorerError; later TrainingError.
    """

    def __init__(
        self,
        policy: Policy,
        prompts: Sequence[Row | str],
        *,
        rows: Sequence[Row] | None = None,
        **settings: Any,
    ) -> None:
        known = [f.name for f in fields(ConstraintSettings) if f.name not in REFUSED]
        for name in settings:
            if name in REFUSED:
                raise ConfigError(
                    f"the callback has no setting `{name}`",
                    help="only ConstraintTrainer has it, whose loop, model and scorers are its own",
                )
        require_known("the callback", settings, known)
        self.config = ConstraintSettings(**settings, prefixes="sampled", training_rows="given")
        self.config.check()
        self._policy = policy
        if kept := utility_clauses(policy.compiled.ir):
            logger.warning(
                "the callback does not act on %s: verify with `constraintc eval --base`, or use ConstraintTrainer",
                ", ".join(f"`{clause.name}`" for clause in kept),
            )
        self._prompts = given_rows(prompts)
        self._rows = None if rows is None else [dict(row) for row in rows]
        self.engine: ConstraintEngine | None = None
        self.history: list[dict[str, Any]] = []

    # ------------------------------------------------------------ events of the trainer
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Encode the prompts, make the groups, and take the state of the checkpoint that is resumed, if any."""
        model, tokenizer = kwargs["model"], kwargs["processing_class"]
        _check(args, tokenizer)
        require_causal(model)
        config = self.config
        prompts = prompt_rows(
            encode_rows(
                self._prompts, tokenizer, max_length=config.max_length, seed=args.seed, need_completion=False,
                chat=config.chat,
            )
        )  # fmt: skip
        rows = encode_rows(
            self._rows or [], tokenizer, max_length=config.max_length, seed=args.seed, chat=config.chat
        )
        self.engine, _ = ConstraintEngine.prepare(
            self._policy.compiled, rows, prompts, config, self._policy.pool, tokenizer,
            max_steps=state.max_steps, seed=args.seed,
        )  # fmt: skip
        self.history = []  # of this run; a resumed one brings its own
        self.engine.keeps_start = True  # when a run is resumed, the model comes with the checkpoint's weights
        self.engine.log = lambda record: self._record(record, state)
        self.engine.states = AnchorStates.below(args.output_dir, config.anchor_cache_gib)
        for group in self.engine.groups:  # of a group without training rows no share is known
            group.corpus_share = group.corpus_share or 1.0 / len(self.engine.groups)
        self.engine.take_start(model, preserves=False)
        if state.global_step:
            self._resume(Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}", model, args)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Run the round that is due, then add the regularizer's gradient for this step."""
        engine, model = self._running(), kwargs["model"]
        if engine.states is not None:
            engine.states.at(state.global_step)
        if engine.is_round(state.global_step):
            engine.run_round(model, state.global_step)
        for number in engine.active():
            for part in range(args.gradient_accumulation_steps):
                self._add_gradient(engine, number, model, args, state.global_step, part)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the constraint's state beside the trainer's."""
        folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        if args.should_save and folder.is_dir():
            self._running().save(folder, {"history": self.history})

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure once more, after the last step."""
        engine = self._running()
        if state.global_step >= engine.max_steps:
            engine.run_round(kwargs["model"], engine.last_round_step)
        if engine.states is not None:
            engine.states.remove()

    # ------------------------------------------------------------ parts
    def _add_gradient(
        self, engine: ConstraintEngine, number: int, model: Any, args: Any, step: int, part: int
    ) -> None:
        group, config = engine.groups[number], self.config
        assert engine.anchor is not None
        count = config.rows_beside(
            group.corpus_share * args.per_device_train_batch_size, steps=engine.max_steps,
            parts=args.gradient_accumulation_steps * args.world_size,
        )  # fmt: skip
        chosen = engine.sampled_rows(number, count, step, part)
        if not chosen:
            return
        model.train()  # the trainer says so after this event, and not before the first step or behind an evaluation
        device = next(model.parameters()).device
        batch = collate(chosen, pad_token(engine.tokenizer)).to(device)
        with seeded(derived_seed(args.seed, "regularizer", step, part, number, args.process_index)):
            logits = model(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
            ).logits
            # N = 1: the trainer's loss is a mean over tokens, and so is this one
            loss = regularizer_term(
                group, engine.anchor, batch, logits,
                corpus_rows=torch.zeros(0, dtype=torch.long), sampled_rows=torch.arange(len(chosen), device=device),
                corpus_tokens=group.corpus_share, config=config.regularizer,
            )  # fmt: skip
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the regularizer is {float(loss.detach())} at step {step}",
                    help="lower the learning rate, and check the prompts",
                )
            _accumulate(model, loss / args.gradient_accumulation_steps)

    def _record(self, record: Mapping[str, Any], state: Any) -> None:
        kept = {**record, "step": state.global_step}
        self.history.append(kept)
        state.log_history.append(kept)
        logger.info("constraint: %s", kept)

    def _resume(self, folder: Path, model: Any, args: Any) -> None:
        if not (folder / STATE_FILE).exists():
            raise TrainingError(
                f"`{folder}` holds no state of the constraint",
                help="resume from a checkpoint that was written with this callback, in the trainer's output_dir",
            )
        self.history = self._running().load(folder, model, args.device)["history"]

    def _running(self) -> ConstraintEngine:
        if self.engine is None:
            raise TrainingError(
                "the callback was not told that training begins", help="pass it to the trainer"
            )
        return self.engine


def _accumulate(model: Any, loss: torch.Tensor) -> None:
    """Add the gradient of ``loss`` to the parameters' own.

    Not by ``backward``: that would set off the hooks by which a distributed trainer averages gradients, before it
    has added its own.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _check(args: Any, tokenizer: Any) -> None:
    if precision_of(args) == torch.float16:
        raise ConfigError("fp16 scales the loss, and the callback's gradient is not scaled", help="use bf16")
    if args.full_determinism and args.device.type == "cuda":
        raise ConfigError(
            "full_determinism: cumulative sums, which we take, have no deterministic form on a GPU",
            help="leave it out: runs of one seed draw alike, and differ by the rounding of sums",
        )
    require_whole_weights(args)
    named = ("activation", "gradient")  # of later and of earlier transformers
    checkpoints = any(getattr(args, f"{name}_checkpointing", None) for name in named)
    options: dict[str, Any] = next(
        filter(None, (getattr(args, f"{name}_checkpointing_kwargs", None) for name in named)), {}
    )
    if checkpoints and options.get("use_reentrant"):
        raise ConfigError(
            "gradient_checkpointing_kwargs: reentrant checkpointing has no gradient apart from `backward`",
            help="set use_reentrant to False, which is the default",
        )
    if tokenizer is None:
        raise ConfigError(
            "the trainer has no tokenizer, so that nothing can be sampled",
            help="give it one: Trainer(..., processing_class=tokenizer)",
        )
