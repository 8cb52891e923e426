"""The loss of the trainer: invariant to how a step is split, equal to plain training, and filtered as said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import SETTINGS, World
from transformers import Trainer, TrainerCallback, TrainingArguments

from constraintlang_compiler.pipeline import compile_path
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import collate, encode_rows, load_rows
from constraintlang_runtime.demo import language
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.trainer import ConstraintTrainer

LINES = [
    {"text": " ".join(language.vocabulary()[i : i + 3 + i % 7]), "domain": "kitchen"} for i in range(0, 80, 5)
]  # of unequal lengths, so that a mean of means differs from the mean


class Sharpen(TrainerCallback):
    """Gives the auxiliary model of a fresh fit a clear opinion about every word, the same in every run."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        head = self.trainer.groups[0].head
        noise = torch.randn(head.token_bias.shape, generator=torch.Generator().manual_seed(0))
        head.token_bias.copy_(3 * noise)


class Watch(TrainerCallback):
    """Keeps the gradient of the first steps before it is applied."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parameters = kwargs["model"].parameters()
        self.gradients.append(torch.cat([p.grad.flatten().clone() for p in parameters if p.grad is not None]))


def constraint_trainer(
    world: World, output: Path, *, extra: Any = (), rows: Any = None, **changes: Any
) -> Any:
    tokenizer = load_tokenizer(str(world.model))
    config = ConstraintConfig(
        output_dir=str(output), disable_tqdm=True, **SETTINGS | {"save_strategy": "no"} | changes
    )
    made = ConstraintTrainer(
        load_model(str(world.model)), config, policy=compile_path(world.policy),
        train_dataset=load_rows([str(world.data)], role="data") if rows is None else rows,
        prompts=load_rows([str(world.prompts)], role="prompts"), processing_class=tokenizer,
        scorers={"toxicity": LexiconScorer(world.root / "words.tsv", ceiling=1.0)}, callbacks=list(extra),
    )  # fmt: skip
    return made


@pytest.mark.parametrize("rows", [None, LINES], ids=["demo rows", "unequal rows"])
def test_accumulation_does_not_change_the_gradient(world: World, tmp_path: Path, rows: Any) -> None:
    found = []
    for size, count in ((8, 1), (4, 2), (1, 8)):
        watch = Watch()
        constraint_trainer(
            world, tmp_path, extra=[watch], rows=rows, method="plain", max_steps=2, max_grad_norm=0.0,
            per_device_train_batch_size=size, gradient_accumulation_steps=count,
        ).train()  # fmt: skip
        found.append(watch.gradients)
    assert found[0][0].norm() > 1e-3
    for other in found[1:]:
        for mine, its in zip(found[0], other, strict=True):
            assert torch.allclose(mine, its, atol=1e-5)


def test_accumulation_does_not_change_the_regularizers_gradient(world: World, tmp_path: Path) -> None:
    """On the same prefixes (the corpus rows) the policy's term too is one mean over the whole step."""
    found = []
    for size, count in ((8, 1), (4, 2)):
        watch, sharpen = Watch(), Sharpen()
        trainer = constraint_trainer(
            world, tmp_path, extra=[sharpen, watch], max_steps=2, rounds=1, max_grad_norm=0.0, anchor="start",
            prefixes="corpus",
            per_device_train_batch_size=size, gradient_accumulation_steps=count, regularizer_weight=2.0,
        )  # fmt: skip
        sharpen.trainer = trainer
        trainer.train()
        assert trainer.groups[0].is_active
        assert not trainer.groups[0].is_vacuous()
        found.append(watch.gradients[0])
    assert torch.allclose(*found, atol=1e-5)
    plain = Watch()
    constraint_trainer(
        world,
        tmp_path,
        extra=[plain],
        max_steps=1,
        method="plain",
        max_grad_norm=0.0,
        per_device_train_batch_size=8,
    ).train()
    assert not torch.allclose(found[0], plain.gradients[0], atol=1e-3)  # the term is really there


def test_plain_training_is_a_plain_trainer(world: World, tmp_path: Path) -> None:
    steps = 5
    mine = constraint_trainer(world, tmp_path, method="plain", max_steps=steps)
    mine.train()
    tokenizer = load_tokenizer(str(world.model))
    rows = encode_rows(
        load_rows([str(world.data)], role="data"), tokenizer, max_length=SETTINGS["max_length"]
    )

    def together(examples: list[Any]) -> dict[str, Any]:
        batch = collate([e["row"] for e in examples], 0)
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}

    shared = ("learning_rate", "per_device_train_batch_size", "seed", "logging_steps")
    other = Trainer(
        load_model(str(world.model)),
        TrainingArguments(
            str(tmp_path), max_steps=steps, save_strategy="no", report_to="none", remove_unused_columns=False,
            disable_tqdm=True, **{key: SETTINGS[key] for key in shared},
        ),
        train_dataset=[{"row": row} for row in rows], data_collator=together,
    )  # fmt: skip
    other.train()
    losses = [[r["loss"] for r in t.state.log_history if "loss" in r] for t in (mine, other)]
    assert len(losses[0]) == steps
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    noted = [r["loss_lm"] for r in mine.state.log_history if "loss_lm" in r]
    assert noted == pytest.approx(losses[1], rel=1e-4)
    for a, b in zip(mine.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_filtering_drops_exactly_the_violating_rows(world: World, tmp_path: Path) -> None:
    rows = load_rows([str(world.data)], role="data")
    trainer = constraint_trainer(world, tmp_path, method="filtering")
    kept = [row for row in rows if row["domain"] != "chat" or language.complies(row["completion"])]
    assert trainer.rows_dropped == len(rows) - len(kept) > 5
    texts = [
        trainer.processing_class.decode(e["row"].ids, skip_special_tokens=True) for e in trainer.train_dataset
    ]
    assert texts == [f"{row['prompt']} {row['completion']}" for row in kept]
    harsh = [r for r in kept if r["domain"] == "kitchen" and not language.complies(r["completion"])]
    assert harsh  # the other domain keeps its words


def run_to_the_end(world: World, output: Path, **changes: Any) -> list[dict[str, Any]]:
    trainer = constraint_trainer(world, output, **changes)
    trainer.train()
    assert trainer.state.global_step == 6
    history = trainer.state.log_history
    for record in history:
        assert all(math.isfinite(v) for v in record.values() if isinstance(v, float)), record
    assert any(key.startswith("loss_regularizer/") for record in history for key in record)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    return history


@pytest.mark.parametrize(
    "changes",
    [
        {"adaptive": "none"},
        {"adaptive": "prompt", "anchor": "start"},
        {"adaptive": "prompt", "anchor": "tuned", "divergence": "forward"},
        {"divergence": "forward"},
        {"divergence": "js", "prefixes": "corpus"},
        {"anchor": "start", "prefixes": "sampled"},
        {"anchor": "previous", "prefixes": "mixed"},
        {"anchor": "current", "divergence": "forward"},
        {"anchor": "current", "divergence": "reverse", "prefixes": "sampled"},
        {"consistency_weight": 0.5},
        {"regularizer_rows": 3, "chunk_sites": 5, "gradient_accumulation_steps": 2},
        {"temperature": 0.7, "top_p": 0.9},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()),
)
def test_every_setting_runs(world: World, tmp_path: Path, changes: dict[str, Any]) -> None:
    run_to_the_end(world, tmp_path, **changes)


def test_chunks_do_not_change_the_gradient(world: World, tmp_path: Path) -> None:
    found = []
    for chunk in (3, 4096):
        watch = Watch()
        constraint_trainer(
            world,
            tmp_path,
            extra=[watch],
            anchor="start",
            max_steps=2,
            rounds=1,
            chunk_sites=chunk,
            max_grad_norm=0.0,
        ).train()
        found.append(watch.gradients[0])
    assert torch.allclose(*found, atol=1e-5)
