"""``ConstraintTrainer`` by names, as a user of TRL would call it, is the trainer of ready parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_trainer
import torch
from tiny_models import World
from transformers import TrainingArguments

from constraintlang_runtime import ConstraintConfig, ConstraintTrainer, Policy, load_rows
from constraintlang_runtime.adapters import with_adapter
from constraintlang_runtime.errors import ConfigError, DataError, ModelError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.run_parts import load_parts
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.scorers import hf_model
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.trainer_inputs import policy_and_scorers


def test_names_and_ready_parts_make_the_same_trainer(world: World, tmp_path: Path) -> None:
    policy = tmp_path / "p.policy"
    policy.write_text(tiny_trainer.POLICY)
    ready = tiny_trainer.make(world, tmp_path / "ready")
    config = ConstraintConfig(
        output_dir=str(tmp_path / "named"),
        disable_tqdm=True,
        **tiny_trainer.SETTINGS | {"save_strategy": "no"},
    )
    words = LexiconScorer(world.root / "words.tsv", ceiling=1.0)
    named = ConstraintTrainer(
        str(world.model),
        config,
        policy=policy,
        train_dataset=load_rows([str(world.data)]),
        scorers={"toxicity": words},
    )
    ready.train()
    named.train()
    assert torch.equal(tiny_trainer.weights(ready), tiny_trainer.weights(named))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
def test_a_ready_model_gets_the_adapter_of_the_settings(world: World, tmp_path: Path) -> None:
    ready = tiny_trainer.make(world, tmp_path / "ready", lora_r=2, method="plain", seed=3)
    assert {name.split(".")[-3] for name, p in ready.model.named_parameters() if p.requires_grad} == {
        "lora_A", "lora_B",
    }  # fmt: skip
    own = with_adapter(load_model(str(world.model)), ready.constraint, 3)
    given = tiny_trainer.make(world, tmp_path / "given", model=own, lora_r=2, method="plain", seed=3)
    assert given.model is own
    ready.train()
    given.train()
    assert torch.equal(tiny_trainer.weights(ready), tiny_trainer.weights(given))
    with pytest.raises(ConfigError, match=r"^lora_r: got 3, and the model comes with an adapter of rank 2"):
        tiny_trainer.make(world, tmp_path / "other", model=own, lora_r=3, method="plain", seed=3)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
def test_a_ready_model_in_another_precision_than_asked_for_is_refused(world: World, tmp_path: Path) -> None:
    half = load_model(str(world.model), dtype="bfloat16")
    with pytest.raises(ConfigError, match=r"^train_dtype: got float32, and the model is given in bfloat16"):
        tiny_trainer.make(world, tmp_path, model=half, train_dtype="float32")
    tiny_trainer.make(world, tmp_path, model=half, train_dtype="bfloat16")
    tiny_trainer.make(world, tmp_path, model=half, train_dtype="bfloat16", lora_r=2)  # of float32 itself


def test_a_tokenizer_without_an_end_is_refused(world: World, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(world.model))
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="has no end-of-sequence token"):
        ConstraintTrainer(
            load_model(str(world.model)),
            ConstraintConfig(output_dir=str(tmp_path / "o")),
            policy=Policy.from_text("short: words <= 3"),
            train_dataset=load_rows([str(world.data)]),
            processing_class=tokenizer,
        )


def test_a_policy_brings_its_scorers(world: World, tmp_path: Path) -> None:
    words = str(world.root / "words.tsv")
    policy = Policy.from_text(tiny_trainer.POLICY, scorers={"toxicity": words})
    rows = load_rows([str(world.data)])
    config = ConstraintConfig(
        output_dir=str(tmp_path / "o"), **tiny_trainer.SETTINGS | {"save_strategy": "no"}
    )
    trainer = ConstraintTrainer(load_model(str(world.model)), config, policy=policy, train_dataset=rows)
    assert trainer.engine.policy.semantic_hash == policy.compiled.semantic_hash
    with pytest.raises(ConfigError, match=r"`scorers` are given \(toxicity\) beside a `Policy`"):
        ConstraintTrainer(
            str(world.model), config, policy=policy, train_dataset=rows, scorers={"toxicity": words}
        )
    config.judge_url, config.judge_model = "http://localhost:1", "judge"
    with pytest.raises(ConfigError, match=r"judge_url: .* beside a `Policy`"):
        ConstraintTrainer(str(world.model), config, policy=policy, train_dataset=rows)


@pytest.mark.parametrize("entry", ["command", "python"])
def test_scorers_are_put_where_the_trainer_is(
    world: World, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """``use_cpu`` on a machine with a GPU: the scorers' models stay on the CPU as the trained one does."""
    placed: list[str] = []
    monkeypatch.setattr(hf_model, "load_scoring_model", _placing(placed, hf_model.load_scoring_model))
    monkeypatch.setattr(
        "constraintlang_runtime.scorers.classifier.load_scoring_model", hf_model.load_scoring_model
    )
    config = ConstraintConfig(output_dir=str(tmp_path), **tiny_trainer.SETTINGS, use_cpu=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    policy = tiny_trainer.compiled(tiny_trainer.POLICY)
    option = f"{classifier}#rude"
    if entry == "python":
        policy_and_scorers(policy, {"toxicity": option}, model=str(world.model), args=config)
    else:
        settings = RunSettings(
            model=str(world.model), data=(str(world.data),), output=str(tmp_path), scorer=(f"toxicity={option}",)
        )  # fmt: skip
        load_parts(policy, settings, config, tmp_path, None)
    assert placed == ["cpu"]


def _placing(placed: list[str], load: Any) -> Any:
    def loading(*args: Any, **kwargs: Any) -> Any:
        found = load(*args, **kwargs)
        placed.append(found.model.device.type)
        return found

    return loading


def test_a_model_from_nowhere_needs_its_tokenizer(world: World, tmp_path: Path) -> None:
    model = load_model(str(world.model))
    model.config._name_or_path = ""
    model.name_or_path = ""
    with pytest.raises(ConfigError, match="`processing_class` is missing"):
        ConstraintTrainer(
            model,
            ConstraintConfig(output_dir=str(tmp_path / "o")),
            policy=Policy.from_text("short: words <= 3"),
            train_dataset=load_rows([str(world.data)]),
        )


def test_an_attribute_that_nothing_measures_is_named(world: World, tmp_path: Path) -> None:
    policy = tmp_path / "p.policy"
    policy.write_text("kind: toxicity < 0.1\n")
    with pytest.raises(ConfigError, match="no scorer for the attribute `toxicity`"):
        ConstraintTrainer(
            str(world.model),
            ConstraintConfig(output_dir=str(tmp_path / "o")),
            policy=policy,
            train_dataset=load_rows([str(world.data)]),
        )


@pytest.mark.parametrize(
    ("change", "kind", "said", "advice"),
    [
        ({"train_dataset": None}, DataError, "train_dataset: got a NoneType, expected rows", "load_rows"),
        ({"train_dataset": "a.jsonl"}, DataError, "got 'a.jsonl', expected rows", 'load_rows(["a.jsonl"])'),
        ({"train_dataset": {"text": ["a"]}}, DataError, "train_dataset: got a dict", "datasets.Dataset"),
        ({"train_dataset": ["a b"]}, DataError, "row 0 is 'a b', expected a dictionary", '{"text": ...}'),
        ({"prompts": ["a"]}, DataError, "prompts: row 0 is 'a'", '{"text": ...}'),
        ({"train_dataset": []}, DataError, "there are no training rows", "train_dataset in Python"),
        ({"train_dataset": [{"x": "1"}]}, DataError, "none of the columns text, prompt, messages; it has x", "rename"),
        ({"train_dataset": [{"prompt": None}]}, DataError, "row 0 has nothing in `prompt`", "concatenate_datasets"),
        ({"scorers": {"toxicity": 3}}, ConfigError, "scorers: `toxicity` is '3', expected a function", "--scorer"),
        ({"scorers": {}}, ConfigError, "no scorer for the attribute `toxicity`", "scorers={'toxicity': ...}"),
        ({"args": TrainingArguments()}, ConfigError, "args: got a TrainingArguments", "takes every argument"),
    ],
)  # fmt: skip
def test_mistakes_say_what_to_do(
    change: dict[str, Any], kind: type[Exception], said: str, advice: str, world: World, tmp_path: Path
) -> None:
    policy = tmp_path / "p.policy"
    policy.write_text("kind: toxicity < 0.1\n")
    given: dict[str, Any] = {
        "args": ConstraintConfig(output_dir=str(tmp_path / "o")), "policy": policy,
        "train_dataset": [{"text": "a b"}], "scorers": {"toxicity": len},
    }  # fmt: skip
    with pytest.raises(kind) as found:
        ConstraintTrainer(str(world.model), **given | change)
    assert said in str(found.value)
    assert advice in str(found.value)


def test_one_file_needs_no_list(world: World) -> None:
    assert load_rows(str(world.data)) == load_rows([str(world.data)])


def test_the_attention_that_is_asked_for_is_loaded(world: World, tmp_path: Path) -> None:
    for name in ("eager", "sdpa"):
        made = tiny_trainer.make(world, tmp_path / name, model=str(world.model), attn_implementation=name)
        assert made.model.config._attn_implementation == name
    ready = load_model(str(world.model), attention="eager")
    tiny_trainer.make(world, tmp_path / "ready", model=ready, attn_implementation="eager")
    with pytest.raises(ConfigError, match=r"^attn_implementation: got 'sdpa', and .* with 'eager'"):
        tiny_trainer.make(world, tmp_path / "other", model=ready, attn_implementation="sdpa")


@pytest.mark.parametrize("name", ["flash_attention_2", "no_such_attention"])
def test_an_attention_that_is_not_here_is_named(world: World, name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^attn_implementation: got '{name}', which `.*` cannot be loaded with: \w+"
    ) as caught:
        load_model(str(world.model), attention=name)
    assert "sdpa" in str(caught.value.help)
