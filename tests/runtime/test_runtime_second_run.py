"""A trainer that trains twice: the second run begins anew, or goes on from the checkpoint that it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import POLICY, World
from tiny_trainer import make, weights

from constraintlang_runtime.trainer import ConstraintTrainer


def _rounds_of(trainer: ConstraintTrainer) -> list[dict[str, Any]]:
    """What the rounds of the newest run logged, without times."""
    found = [
        record for record in trainer.state.log_history if "round" in record or "chat/rows/kept" in record
    ]
    return [{key: value for key, value in one.items() if "seconds" not in key} for one in found]


@pytest.mark.parametrize("anchor", ["start", "tuned", "previous"])
def test_a_second_run_of_a_trainer_begins_anew(world: World, tmp_path: Path, anchor: str) -> None:
    """At a learning rate of 0 the second run starts from the same weights, so that its rounds must be the first's."""
    policy = POLICY + "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n"
    trainer = make(
        world, tmp_path, policy=policy, anchor=anchor, learning_rate=0.0,
        keep="best", selection_prompts=4, save_strategy="steps",
    )  # fmt: skip
    trainer.train()
    first, records = _rounds_of(trainer), trainer.selection.records if trainer.selection else []
    assert any("constraint/kind/dual" in record for record in first)
    assert any("chat/rows/kept" in record for record in first)
    trainer.train()
    assert _rounds_of(trainer) == first
    assert trainer.selection is not None
    assert trainer.selection.records == records


def test_a_second_run_starts_beside_the_weights_of_the_first(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, anchor="start")
    trainer.train()
    then = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    anchor = trainer.engine.anchor
    assert anchor is not None
    assert anchor.weights is not None
    assert all(torch.equal(weight, then[name]) for name, weight in anchor.weights.items())


@pytest.mark.parametrize("step", [2, 4])  # before and since the regularizer acts
@pytest.mark.parametrize("anchor", ["start", "tuned"])
def test_a_second_run_may_resume_the_first(world: World, tmp_path: Path, step: int, anchor: str) -> None:
    trainer = make(world, tmp_path, anchor=anchor, save_strategy="steps", save_total_limit=9)
    trainer.train()
    first, whole = _rounds_of(trainer), weights(trainer)
    trainer.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert torch.equal(weights(trainer), whole)
    assert _rounds_of(trainer) == first
