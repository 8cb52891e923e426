"""Tiny runs on the pretended GPU, ``python pretend_gpu_run.py FOLDER SETTINGS ...``, a JSON object for each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pretend_gpu
import tiny_models
import torch
from transformers import TrainingArguments

from constraintlang_runtime import output_head
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.trainer import ConstraintTrainer

SHORT = {  # every operation passes through Python here
    "max_steps": 4, "rounds": 2, "anchor_samples": 16, "control_samples": 8, "auxiliary_steps": 2, "max_new_tokens": 6,
}  # fmt: skip


def main() -> None:
    """Make the world, and take every step of each run: rounds, fits, losses, checkpoints of our state."""
    folder = Path(sys.argv[1])
    world = tiny_models.write_world(folder)
    output_head.Tensor = pretend_gpu.OnDevice  # what it takes for a plain tensor
    device = property(lambda self: (self._setup_devices, pretend_gpu.DEVICE)[1])
    TrainingArguments.device = device  # type: ignore[method-assign]
    for number, changes in enumerate(map(json.loads, sys.argv[2:])):
        trainer_steps(world, folder / f"run{number}", changes)
        print(f"done {number}", flush=True)


def trainer_steps(world: tiny_models.World, output: Path, changes: dict[str, Any]) -> None:
    """All steps of a run under changed settings."""
    tokenizer = load_tokenizer(str(world.model))
    model = load_model(str(world.model), tokenizer=tokenizer, dtype="float32", device="cpu")
    settings = {key: value for key, value in tiny_models.SETTINGS.items() if key != "save_steps"}
    config = ConstraintConfig(
        output_dir=str(output),
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
        **settings | SHORT | changes,
    )
    with pretend_gpu.pretended():
        trainer = ConstraintTrainer(
            model, config, policy=str(world.policy), processing_class=tokenizer,
            train_dataset=load_rows([str(world.data)], role="data"),
            prompts=load_rows([str(world.prompts)], role="prompts"),
        )  # fmt: skip
        assert next(trainer.model.parameters()).device == pretend_gpu.DEVICE
        optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-3, foreach=False)
        trainer.state.num_train_epochs, trainer.state.epoch = 3, 0
        for step in range(config.max_steps):
            trainer.state.global_step = step
            trainer.before_step(step)
            rows = trainer.train_dataset
            batch = trainer._collate([rows[(4 * step + i) % len(rows)] for i in range(4)])
            batches, count = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
            trainer.training_step(trainer.model, batches[0], count)
            optimizer.step()
            optimizer.zero_grad()
        assert trainer.engine.active()
        state = output / "state"
        state.mkdir(parents=True, exist_ok=True)
        trainer.write_state(state)
        trainer.read_state(state)
        trainer.finish()


if __name__ == "__main__":
    main()
