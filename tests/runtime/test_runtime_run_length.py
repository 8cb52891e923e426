"""Epochs as steps: against accelerate's own count of batches, and in a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import World
from tiny_trainer import make
from torch.utils.data import BatchSampler, SequentialSampler

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.run_length import checked_steps, steps_of


@given(
    rows=st.integers(1, 500), batch=st.integers(1, 9), processes=st.integers(1, 5), accumulation=st.integers(1, 5),
    epochs=st.floats(0.01, 7), drop_last=st.booleans(),
)  # fmt: skip
def test_steps_are_those_of_the_loaders(
    rows: int, batch: int, processes: int, accumulation: int, epochs: float, drop_last: bool
) -> None:
    batches = BatchSampler(SequentialSampler(range(rows)), batch, drop_last)
    per_process = len(BatchSamplerShard(batches, processes, 0, even_batches=not drop_last))
    updates = max(1, per_process // accumulation + int(per_process % accumulation > 0))
    found = steps_of(
        epochs, rows, batch=batch, processes=processes, accumulation=accumulation, drop_last=drop_last
    )
    assert found == math.ceil(epochs * updates)


def test_a_length_is_given_once() -> None:
    assert checked_steps(7, 0) == 7
    assert checked_steps(1000, 2.5) == checked_steps(-1, 2.5) == 1000
    for steps, epochs in ((0, 0), (-1, 0), (7, 2), (1000, -1), (1000, math.inf), (1000, math.nan)):
        with pytest.raises(ConfigError, match=r"^(max_steps|num_train_epochs): got"):
            checked_steps(steps, epochs)


@pytest.mark.parametrize(("epochs", "accumulation"), [(2.0, 1), (1.5, 1), (3.0, 2)])
def test_a_run_of_epochs(world: World, tmp_path: Path, epochs: float, accumulation: int) -> None:
    trainer = make(
        world, tmp_path, max_steps=1000, num_train_epochs=epochs, gradient_accumulation_steps=accumulation
    )
    rows, batch = len(trainer.train_dataset), trainer.args.train_batch_size
    steps = math.ceil(epochs * math.ceil(math.ceil(rows / batch) / accumulation))
    assert trainer.engine.max_steps == steps
    trainer.train()
    assert trainer.state.global_step == steps
    assert trainer.state.epoch == pytest.approx(epochs, abs=1 / math.ceil(rows / batch))
    assert trainer.state.num_train_epochs == math.ceil(epochs)


def test_settings_that_were_given_stay_as_they_are(world: World, tmp_path: Path) -> None:
    first = make(world, tmp_path, max_steps=1000, num_train_epochs=1)
    given = first.args.over(10**6)
    assert given.max_steps > first.args.max_steps
    assert given.num_train_epochs == first.args.num_train_epochs == 1
