"""A ``ConstraintTrainer`` over the tiny world, as the tests of training make it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_models import POLICY, SETTINGS, World

from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.trainer import ConstraintTrainer

GIVEN = (
    "heldout", "selection", "prompts", "tell", "callbacks",
    "eval_dataset", "compute_metrics", "preprocess_logits_for_metrics", "compute_loss_func",
    "data_collator", "peft_config", "formatting_func",
)  # fmt: skip


def compiled(text: str) -> CompiledPolicy:
    """The policy of a source text."""
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None, outcome.diagnostics
    return outcome.policy


def make(
    world: World, output: Path, *, policy: str = POLICY, rows: Any = None, model: Any = None, **changes: Any
) -> ConstraintTrainer:
    """A trainer with ``SETTINGS`` and changes over them; those in ``GIVEN`` are arguments of the trainer itself."""
    given = {name: changes.pop(name) for name in GIVEN if name in changes}
    config = ConstraintConfig(
        output_dir=str(output), disable_tqdm=True, **SETTINGS | {"save_strategy": "no"} | changes
    )
    return ConstraintTrainer(
        load_model(str(world.model)) if model is None else model, config, policy=compiled(policy),
        train_dataset=load_rows([str(world.data)], role="data") if rows is None else rows,
        processing_class=load_tokenizer(str(world.model)),
        scorers={"toxicity": LexiconScorer(world.root / "words.tsv", ceiling=1.0)}, **given,
    )  # fmt: skip


def weights(trainer: ConstraintTrainer) -> torch.Tensor:
    """All weights of the trainer's model in one row."""
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
