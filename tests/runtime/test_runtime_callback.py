"""The callback: a policy in transformers' own Trainer and in TRL's, from its gradient to a resumed run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import peft
import pytest
import torch
from tiny_models import SETTINGS, World
from transformers import Trainer, TrainingArguments

from constraintlang_runtime import ConstraintCallback, Policy
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.data import collate, encode_rows, load_rows
from constraintlang_runtime.errors import ConfigError, DataError, TrainingError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.output_head import precision_of

OWN = (
    "rounds", "max_length", "max_new_tokens", "anchor_samples", "control_samples", "auxiliary_steps",
    "auxiliary_rank", "auxiliary_width", "set_point_share",
)  # fmt: skip
SMALL = {name: SETTINGS[name] for name in OWN}


def rows_of(world: World) -> list[dict[str, Any]]:
    return load_rows([str(world.data)], role="data")


def prompts_of(world: World) -> list[dict[str, Any]]:
    return [r for r in load_rows([str(world.prompts)], role="prompts") if r["domain"] == "chat"]


def callback(world: World, **changes: Any) -> ConstraintCallback:
    settings: dict[str, Any] = SMALL | {"rows": rows_of(world)} | changes
    return Policy.load(world.policy).callback(prompts_of(world), **settings)


def trainer(world: World, output: Path, *callbacks: Any, model: Any = None, **changes: Any) -> Trainer:
    """transformers' own Trainer on the world's rows."""
    tokenizer = load_tokenizer(str(world.model))
    encoded = encode_rows(rows_of(world), tokenizer, max_length=64)

    def joined(chosen: list[Any]) -> dict[str, torch.Tensor]:
        batch = collate([encoded[row["number"]] for row in chosen], pad_token(tokenizer))
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}

    settings: dict[str, Any] = {
        "max_steps": 6, "learning_rate": 5e-3, "per_device_train_batch_size": 4, "seed": 3, "use_cpu": True,
        "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no",
        "remove_unused_columns": False, "dataloader_pin_memory": False,
    } | changes  # fmt: skip
    return Trainer(
        model=model or load_model(str(world.model)), args=TrainingArguments(output_dir=str(output), **settings),
        train_dataset=datasets.Dataset.from_list([{"number": i} for i in range(len(encoded))]),
        data_collator=joined, processing_class=tokenizer, callbacks=list(callbacks),
    )  # fmt: skip


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_acts_and_records(world: World, tmp_path: Path) -> None:
    plain = trainer(world, tmp_path / "plain")
    plain.train()
    constraint = callback(world)
    held = trainer(world, tmp_path / "held", constraint)
    held.train()
    assert not torch.equal(weights(plain.model), weights(held.model))
    assert [record["round"] for record in constraint.history] == [0, 2, 3]  # it acts from round 2 on
    assert "constraint/kind/dual" in constraint.history[-1]
    logged = [r for r in held.state.log_history if "constraint/kind/value" in r]
    assert logged == constraint.history


def test_a_second_run_begins_anew(world: World, tmp_path: Path) -> None:
    """At a learning rate of 0 it starts from the same weights, so that its rounds must be the first's."""
    constraint = callback(world)
    held = trainer(world, tmp_path, constraint, learning_rate=0.0)
    held.train()
    first = list(constraint.history)
    held.train()
    seconds = {key for record in first for key in record if "seconds" in key}
    assert [{k: v for k, v in record.items() if k not in seconds} for record in constraint.history] == [
        {k: v for k, v in record.items() if k not in seconds} for record in first
    ]


def test_a_vacuous_policy_changes_no_bit(world: World, tmp_path: Path) -> None:
    plain = trainer(world, tmp_path / "plain")
    plain.train()
    loose = Policy.from_text("edition 1\nwords <= 1000 under tolerance=0.5\n")
    held = trainer(world, tmp_path / "held", loose.callback(prompts_of(world), **SMALL))
    held.train()
    assert torch.equal(weights(plain.model), weights(held.model))


def test_a_group_without_training_rows_weighs_like_one_of_all(world: World, tmp_path: Path) -> None:
    """A mean over sites, not their sum: there is no share to take it by."""
    others = [row for row in rows_of(world) if row["domain"] != "chat"]
    assert others
    constraint = callback(world, rows=others)
    held = trainer(world, tmp_path, constraint, max_steps=2)
    held.train()
    assert constraint.engine is not None
    assert [group.corpus_share for group in constraint.engine.groups] == [1.0]


def test_the_model_is_in_training_mode_for_the_regularizer(world: World, tmp_path: Path) -> None:
    """Before the first step, and after an evaluation, nobody else has said so."""
    modes = []
    constraint = callback(world, anchor="start")
    original = constraint._add_gradient

    def adds(engine: Any, number: int, model: Any, *rest: Any) -> None:
        handle = model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
        try:
            model.eval()
            original(engine, number, model, *rest)
        finally:
            handle.remove()

    constraint._add_gradient = adds  # type: ignore[method-assign]
    trainer(world, tmp_path, constraint, max_steps=2).train()
    assert modes[0] is True


def test_the_launchers_precision_counts_as_a_flag(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch --mixed_precision` sets a variable of the environment and no flag."""
    run = trainer(world, tmp_path, callback(world))
    run.args.mixed_precision = "fp16"
    with pytest.raises(ConfigError, match="fp16 scales the loss"):
        run.train()
    for name, wanted in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("no", None)):
        assert precision_of(SimpleNamespace(bf16=False, fp16=False, mixed_precision=name)) == wanted
    assert precision_of(SimpleNamespace(bf16=True)) == torch.bfloat16


@pytest.mark.parametrize("anchor", ["start", "tuned", "previous", "current"])
def test_a_resumed_run_ends_in_the_same_bits(world: World, tmp_path: Path, anchor: str) -> None:
    whole = trainer(
        world, tmp_path / "a", callback(world, anchor=anchor), save_strategy="steps", save_steps=4
    )
    whole.train()
    again = callback(world, anchor=anchor)
    resumed = trainer(world, tmp_path / "a", again)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert [r["round"] for r in again.history] == ([0, 2, 3] if anchor == "tuned" else [0, 1, 2, 3])


def test_a_checkpoint_of_other_settings_is_refused(world: World, tmp_path: Path) -> None:
    trainer(
        world, tmp_path, callback(world, anchor="current"), save_strategy="steps", save_steps=4, max_steps=5
    ).train()
    with pytest.raises(ConfigError, match="anchor: current there, start here; max_steps: 5 there, 6 here"):
        trainer(world, tmp_path, callback(world, anchor="start")).train(
            resume_from_checkpoint=str(tmp_path / "checkpoint-4")
        )


def test_a_checkpoint_without_the_state_is_refused(world: World, tmp_path: Path) -> None:
    plain = trainer(world, tmp_path, save_strategy="steps", save_steps=4)
    plain.train()
    with pytest.raises(TrainingError, match="holds no state of the constraint"):
        trainer(world, tmp_path, callback(world)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_accumulation_gives_the_regularizer_once(world: World, tmp_path: Path) -> None:
    """Two micro-batches of a step share one weight: with the same rows drawn, half the gradient from each."""
    found = []
    for accumulation in (1, 2):
        constraint = callback(world, anchor="start", regularizer_weight=1.0)
        run = trainer(
            world,
            tmp_path / str(accumulation),
            constraint,
            max_steps=1,
            gradient_accumulation_steps=accumulation,
        )
        constraint.on_train_begin(
            run.args, _state(run, 8), run.control, model=run.model, processing_class=run.processing_class
        )
        constraint.on_step_begin(run.args, _state(run, 8), run.control, model=run.model)
        engine = constraint.engine
        assert engine is not None
        store = engine.groups[0].store
        engine.sampled_rows = lambda number, count, *where, store=store: store[:count]  # type: ignore[method-assign]
        run.model.zero_grad()
        for part in range(accumulation):
            constraint._add_gradient(engine, 0, run.model, run.args, 0, part)
        found.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]))  # type: ignore[union-attr]
    assert found[0].abs().max() > 0
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_an_adapter_is_trained_as_trl_trains_it(world: World, tmp_path: Path) -> None:
    """A `PeftModel` with checkpointing, which SFTTrainer turns on: the adapter moves as it would not without."""
    found = []
    for callbacks in ([], [callback(world, anchor="start")]):
        torch.manual_seed(0)
        model = peft.get_peft_model(
            load_model(str(world.model)), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
        )
        frozen = weights(model.get_base_model().model.embed_tokens)
        run = trainer(world, tmp_path, *callbacks, model=model, gradient_checkpointing=True)
        run.train()
        assert torch.equal(frozen, weights(model.get_base_model().model.embed_tokens))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad]))
    assert callbacks[0].engine is not None
    assert callbacks[0].history[-1]["chat/weight"] > 0
    assert not torch.equal(*found)


def _state(run: Trainer, max_steps: int) -> Any:
    run.state.max_steps, run.state.global_step = max_steps, 0
    return run.state


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # its name in transformers 5.17
def test_wrong_settings_name_themselves(world: World, tmp_path: Path) -> None:
    policy = Policy.load(world.policy)
    with pytest.raises(ConfigError, match="has no setting `prefixes`"):
        policy.callback(["hello"], prefixes="corpus")
    with pytest.raises(ConfigError, match="has no setting `judge_url`"):
        policy.callback(["hello"], judge_url="http://localhost:1", judge_model="judge")
    with pytest.raises(ConfigError, match=r"(?s)no setting `lora_r`.*only ConstraintTrainer"):
        policy.callback(["hello"], lora_r=4)
    with pytest.raises(ConfigError, match=r"(?s)no setting `rouns`.*similar setting exists: `rounds`"):
        policy.callback(["hello"], rouns=4)
    with pytest.raises(ConfigError, match="anchor: got 'begin'"):
        policy.callback(["hello"], anchor="begin")
    with pytest.raises(ConfigError, match="fp16"):
        policy.callback(["hello"]).on_train_begin(
            type("Args", (), {"fp16": True}), None, None, model=None, processing_class=None
        )
    with pytest.raises(ConfigError, match="full_determinism: cumulative sums"):
        policy.callback(["hello"]).on_train_begin(
            SimpleNamespace(fp16=False, full_determinism=True, device=torch.device("cuda")), None, None,
            model=None, processing_class=None,
        )  # fmt: skip
    bare = trainer(world, tmp_path, policy.callback(["hello"], **SMALL))
    bare.callback_handler.processing_class = None
    with pytest.raises(ConfigError, match=r"no tokenizer.*\n.*processing_class=tokenizer"):
        bare.train()
    reentrant = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    with pytest.raises(ConfigError, match="set use_reentrant to False"):
        trainer(world, tmp_path, policy.callback(["hello"], **SMALL), **reentrant).train()
    with pytest.raises(DataError, match="no prompt lies in the domain"):
        trainer(world, tmp_path, policy.callback(["hello"], **SMALL)).train()
    with pytest.raises(TrainingError, match="was not told that training begins"):
        policy.callback(["hello"]).on_step_begin(None, None, None)


@pytest.mark.filterwarnings("ignore")  # of TRL's own
def test_sft_trainer_takes_it_in_three_lines(world: World, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is not installed: pip install --group test")
    config = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=4, report_to="none", use_cpu=True,
        bf16=False, save_strategy="no", disable_tqdm=True, logging_steps=1, max_length=64, learning_rate=5e-3,
        dataloader_pin_memory=False,
    )  # fmt: skip
    data = datasets.Dataset.from_list(
        [{"prompt": r["prompt"] + " ", "completion": r["completion"]} for r in rows_of(world)]
    )

    def run(*callbacks: Any) -> Any:
        made = trl.SFTTrainer(
            load_model(str(world.model)), args=config, train_dataset=data,
            processing_class=load_tokenizer(str(world.model)), callbacks=list(callbacks),
        )  # fmt: skip
        made.train()
        return made

    constraint = callback(world)
    plain, held = run(), run(constraint)
    assert not torch.equal(weights(plain.model), weights(held.model))
    assert constraint.history[-1]["round"] == 3
    first = [r["loss"] for r in plain.state.log_history if "loss" in r][:2]
    assert [r["loss"] for r in held.state.log_history if "loss" in r][
        :2
    ] == first  # before it starts: the same bits
