"""What a run records and leaves alone: groups, rounds, seeds, preserved domains and the loss's failure."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import POLICY, World
from tiny_trainer import make, weights

from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.fingerprint import harmless_to
from constraintlang_runtime.settings import ConstraintSettings


def test_groups_rates_and_shares(world: World, tmp_path: Path) -> None:
    rows = load_rows([str(world.data)], role="data")
    trainer = make(world, tmp_path)
    (group,) = trainer.groups
    assert group.name == "chat"
    chat = [row for row in rows if row["domain"] == "chat"]
    assert {p.tags["domain"] for p in group.prompts} == {"chat"}
    assert len(group.prompts) == len({row["prompt"] for row in chat})
    lengths = {id(row): len(row["completion"].split()) + 1 for row in rows}
    assert group.corpus_share == pytest.approx(sum(lengths[id(r)] for r in chat) / sum(lengths.values()))
    from constraintlang_runtime.demo.language import complies

    assert group.corpus_means.tolist() == [
        pytest.approx(1 - sum(complies(r["completion"]) for r in chat) / len(chat))
    ]


def test_one_group_per_set_of_clauses(world: World, tmp_path: Path) -> None:
    both = POLICY + "calm: mean(toxicity) < 0.9 for domain in {chat, kitchen}\n"
    names = [group.name for group in make(world, tmp_path, policy=both).groups]
    assert len(names) == 2
    assert len(make(world, tmp_path, policy=both, adaptive="none").groups) == 1


def test_rounds_are_logged_with_their_clause(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path)
    trainer.train()
    rounds = [record for record in trainer.state.log_history if "round" in record]
    assert [record["round"] for record in rounds] == [
        0,
        2,
        3,
    ]  # the first, those from the anchor on, the last
    assert [record["step"] for record in rounds] == [0, 4, 6]
    for record in rounds:
        assert 0 <= record["constraint/kind/value"] <= 1
        assert record["constraint/kind/samples"] in (24, 48)
    assert "constraint/kind/dual" in rounds[-1]
    assert "constraint/kind/dual" not in rounds[0]


def test_the_seed_decides(world: World, tmp_path: Path) -> None:
    runs = [make(world, tmp_path, seed=seed) for seed in (5, 5, 6)]
    for trainer in runs:
        trainer.train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


def test_measuring_does_not_disturb_plain_training(world: World, tmp_path: Path) -> None:
    """Rounds draw from seeds of their own: plain training ends in the same weights with one round or with six."""
    runs = [make(world, tmp_path, method="plain", rounds=rounds) for rounds in (1, 6)]
    for trainer in runs:
        trainer.train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_a_vacuous_clause_changes_no_bit(world: World, tmp_path: Path) -> None:
    loose = POLICY.replace("toxicity < 0.1 for", "mean(toxicity) <= 1 for")
    runs = [
        make(world, tmp_path, policy=loose, method=m, set_point_share=0.999999)
        for m in ("constraint", "plain")
    ]
    for trainer in runs:
        trainer.train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_preserved_rows_stay_with_the_start_model(world: World, tmp_path: Path) -> None:
    policy = POLICY + "same: preserve mean(perplexity) <= 1.1 * base for domain=kitchen\n"
    weak, strong = (make(world, tmp_path, policy=policy, preserve_weight=w) for w in (1e-6, 50.0))
    start = weights(weak)
    for trainer in (weak, strong):
        trainer.train()
        assert any("loss_preserve" in record for record in trainer.state.log_history)
    kept = [r["loss_preserve"] for t in (weak, strong) for r in t.state.log_history if "loss_preserve" in r]
    assert kept[-1] < kept[len(kept) // 2 - 1]
    assert not torch.equal(start, weights(strong))


def test_weights_that_are_no_numbers_stop_the_run(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, method="plain")
    with torch.no_grad():
        trainer.model.model.embed_tokens.weight[:] = float("nan")
    trainer.engine.groups = []
    with pytest.raises(TrainingError, match="the weights hold NaN or infinities at step 0"):
        trainer.train()


@pytest.mark.parametrize(
    ("changes", "last"),
    [({"rounds": 1}, 6), ({"rounds": 3, "warmup_fraction": 0.9}, 6), ({"max_steps": 1}, 1)],
)
def test_a_policy_that_would_never_act_is_refused(
    world: World, tmp_path: Path, changes: dict[str, Any], last: int
) -> None:
    with pytest.raises(ConfigError, match=f"would start at step {last} of {last}"):
        make(world, tmp_path, **changes)
    make(world, tmp_path, **changes, method="plain")
    make(world, tmp_path, **changes, anchor="start")


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed here")
def test_settings_that_transformers_refuses(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="transformers refuses"):
        make(world, tmp_path, report_to="wandb")


@pytest.mark.parametrize(
    "changes",
    [
        {"eval_strategy": "steps"}, {"num_train_epochs": -1}, {"num_train_epochs": 2, "max_steps": 7},
        {"label_smoothing_factor": 0.1}, {"train_sampling_strategy": "group_by_length"},
        {"train_sampling_strategy": "batch_rebalance"}, {"auto_find_batch_size": True}, {"remove_unused_columns": True},
        {"load_best_model_at_end": True}, {"eval_on_start": True}, {"save_strategy": "best", "keep": "best"},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_settings_without_a_part_are_refused(world: World, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(changes))}: "):
        make(world, tmp_path, **changes)


def test_how_to_evaluate_is_not_read_where_nothing_is_evaluated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ConstraintConfig(
        output_dir=str(tmp_path), eval_steps=2, metric_for_best_model="loss", greater_is_better=False
    )
    assert [record.getMessage() for record in caplog.records] == [
        "eval_steps, metric_for_best_model, greater_is_better: no rows are evaluated in training, so that nothing "
        "reads it"
    ]
    caplog.clear()
    ConstraintConfig(output_dir=str(tmp_path))
    assert not caplog.records


@pytest.mark.parametrize(
    "name",
    ["eval_dataset", "compute_metrics", "preprocess_logits_for_metrics", "compute_loss_func", "data_collator",
     "peft_config", "formatting_func"],
)  # fmt: skip
def test_arguments_that_nothing_would_call_are_refused(world: World, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: "):
        make(world, tmp_path, **{name: [{"text": "b b"}]})


def test_rows_are_not_evaluated(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path)
    for name in ("evaluate", "predict"):
        with pytest.raises(ConfigError, match=f"^{name}: there is no evaluation loop"):
            getattr(trainer, name)([{"text": "b b"}])


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ({"method": "plain"}, {}, "method: plain there, constraint here"),
        ({}, {"anchor": "start"}, "anchor: tuned there, start here"),
        ({}, {"max_steps": 12}, "max_steps: 6 there, 12 here"),
        ({}, {"divergence": "forward", "seed": 4}, "divergence: reverse there, forward here; seed: 3 there, 4 here"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_other_settings_is_refused(
    world: World, tmp_path: Path, first: dict[str, Any], then: dict[str, Any], said: str
) -> None:
    """A run resumed so would end without a regularizer, or beside another reference, and say nothing of it."""
    make(world, tmp_path, **first, save_strategy="steps", save_steps=4).train()
    with pytest.raises(ConfigError, match=said):
        make(world, tmp_path, **then).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    harmless: dict[str, Any] = {
        "anchor_cache_gib": 0,
        "logging_steps": 3,
        "score_cache": "off",
        "save_steps": 2,
    }
    again = make(world, tmp_path, **{**first, **harmless, "save_total_limit": 1})
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_a_judge_may_be_served_elsewhere_when_a_run_is_resumed() -> None:
    """The address is no part of a judge that has a name; a server without one may have any model."""
    named = harmless_to(ConstraintSettings(judge_url="http://a:1", judge_model="judge"))
    assert {"judge_url", "judge_rate", "judge_timeout", "score_cache"} <= named
    assert "judge_model" not in named
    assert "judge_url" not in harmless_to(ConstraintSettings(judge_url="http://a:1"))


def test_checkpoints_of_an_earlier_run_go_before_those_of_this_one(world: World, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": "plain", "save_strategy": "steps", "save_total_limit": 2}
    make(world, tmp_path, **settings, max_steps=12).train()
    make(world, tmp_path, **settings).train()
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_epochs_pass_over_the_rows_that_filtering_leaves(world: World, tmp_path: Path) -> None:
    trainer = make(world, tmp_path, method="filtering", max_steps=-1, num_train_epochs=2)
    assert trainer.rows_dropped > 0
    trainer.train()
    assert trainer.state.epoch == 2
    assert trainer.state.global_step == 2 * -(-len(trainer.train_dataset) // 4)


def test_resuming_at_the_last_step_takes_no_step(world: World, tmp_path: Path) -> None:
    """transformers takes one step too many there, since it looks at the step count only after a step."""
    first, second = (make(world, tmp_path, save_strategy="steps") for _ in range(2))
    first.train()
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert second.state.global_step == 6
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize("name", ["settings", "semantic_hash", "budgets", "has_anchor"])
def test_a_checkpoint_that_does_not_say_of_which_run_it_is_is_refused(
    world: World, tmp_path: Path, name: str
) -> None:
    trainer = make(world, tmp_path, save_strategy="steps", save_steps=4)
    trainer.train()
    state = tmp_path / "checkpoint-4" / "constraint.json"
    state.write_text(json.dumps({k: v for k, v in json.loads(state.read_text()).items() if k != name}))
    with pytest.raises(TrainingError, match=rf"checkpoint-4` is damaged: `constraint.json` has no `{name}`"):
        trainer.train(resume_from_checkpoint=str(state.parent))


def test_mixed_precision_takes_the_chunked_loss(world: World, tmp_path: Path) -> None:
    """The head is compared with, and multiplied in, the precision of the model's own forward."""
    trainer = make(
        world,
        tmp_path,
        bf16=True,
        use_cpu=True,
        loss="chunked",
        anchor="start",
        max_steps=2,
        rounds=2,
        logging_steps=1,
    )
    trainer.train()
    assert trainer._chunked is not None
    assert trainer._chunked.supports
    assert any(key.startswith("loss_regularizer") for one in trainer.state.log_history for key in one)
