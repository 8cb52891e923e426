"""The estimate of a run: weights against real models, work and memory against numbers by hand, monotonicity."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import World
from tiny_trainer import make

from constraintlang.source import SourceFile
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.ir import PolicyIR
from constraintlang_runtime.early_checks import TRAINING, light_names
from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.estimate import adapters, anchor_cache, memory, work
from constraintlang_runtime.estimate.estimate import Estimate, estimate, seconds
from constraintlang_runtime.estimate.gpu_table import GPUS, Machine, Range, named_gpu
from constraintlang_runtime.estimate.model_shape import ModelShape, given_shape, shape_of
from constraintlang_runtime.estimate.model_source import header_counts, read_shape
from constraintlang_runtime.estimate.this_machine import measured_cpu, table_name
from constraintlang_runtime.estimate.workload import (
    Training,
    Workload,
    group_bins,
    read_settings,
    workload,
)
from constraintlang_runtime.settings import ConstraintSettings

ONE = "edition 1\nkind: toxicity < 0.1 for domain=chat\n"
TWO = ONE + "tame: mean(toxicity) <= 0.2 for domain=wiki\n"
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "mistral": SIZES | {"head_dim": 16},
    "qwen2": SIZES | {"tie_word_embeddings": True},
    "qwen3": SIZES | {"head_dim": 16},
    "gemma2": SIZES | {"head_dim": 8},
    "gemma3_text": SIZES | {"head_dim": 8},
    "olmo2": SIZES,
    "phi3": SIZES | {"pad_token_id": 0},
    "granite": SIZES | {"attention_bias": True, "mlp_bias": True},
    "smollm3": SIZES | {"pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 50, "n_positions": 20},
    "gpt_neox": {k: v for k, v in SIZES.items() if k != "num_key_value_heads"},
}
MACHINE = Machine(
    "made up",
    1,
    1e12,
    1e11,
    1e10,
    1e10,
    Range(0.25, 0.5),
    Range(0.5, 1.0),
    Range(0.0, 0.0),
    Range(1e9, 2e9),
    "x",
)


STORED = ConstraintSettings(train_dtype="stored")  # the toy has two bytes a weight


def ir(text: str = ONE) -> PolicyIR:
    lowered = check_and_lower(SourceFile(text, "my.policy", None)).lowered
    assert lowered is not None
    return lowered.ir


def toy() -> ModelShape:
    """One layer of H = 4, A = K = 4, I = 6, V = 10, untied, two bytes a weight."""
    return given_shape(216, 4, 1, 10, heads=2, kv_heads=2, tied=False, weight_type="bfloat16")


def load(config: ConstraintSettings | None = None, text: str = ONE, **changes: Any) -> Workload:
    options: dict[str, Any] = {
        "rows": 100, "tokens_per_row": 20, "prompt_tokens": 8, "constrained": None, "devices": 1,
    }  # fmt: skip
    training = replace(training_of(), max_steps=changes.pop("max_steps", 10), batch=changes.pop("batch", 2))
    training = replace(training, save_steps=changes.pop("save_steps", 200), epochs=changes.pop("epochs", 0))
    own = config or ConstraintSettings(rounds=2, max_new_tokens=5, anchor_samples=40, control_samples=30)
    return workload(ir(text), own, training, **options | changes)


def load_of_both(**changes: Any) -> Workload:
    """The regularizer on corpus rows and on sampled rows."""
    config = ConstraintSettings(
        rounds=2, max_new_tokens=5, anchor_samples=40, control_samples=30, prefixes="mixed"
    )
    return load(config, **changes)


def training_of(**changes: Any) -> Training:
    return replace(Training(10, 2, 1, False, False, "adamw_torch"), **changes)


def whole(
    shape: ModelShape | None = None, machine: Machine = MACHINE, devices: int = 1, **changes: Any
) -> Estimate:
    own = {
        "train_dtype": "stored",
        "rounds": 2,
        "max_new_tokens": 5,
        "anchor_samples": 40,
        "control_samples": 30,
    } | {key: changes.pop(key) for key in list(changes) if key in light_names() and key not in TRAINING}
    config = ConstraintSettings(**own)
    training = training_of(
        **{k: changes.pop(k) for k in ("checkpointing", "half", "optimizer") if k in changes}
    )
    student = adapters.student_of(shape or toy(), config, training)
    counted = load(config, devices=devices, **changes)
    return estimate(student, counted, replace(machine, devices=devices), config)


@pytest.mark.parametrize(("anchor", "candidates"), [("tuned", 1), ("start", 3)])
def test_the_samples_that_choose_a_checkpoint_are_counted(
    world: World, tmp_path: Path, anchor: str, candidates: int
) -> None:
    """Against a run of 6 steps with a checkpoint every two; a tuned regularizer begins at the fourth."""
    last = ConstraintSettings(selection_prompts=7, rounds=3, anchor=anchor)
    best = replace(last, keep="best")
    more = load(best, max_steps=6, save_steps=2).samples - load(last, max_steps=6, save_steps=2).samples
    trainer = make(world, tmp_path, save_strategy="steps", keep="best", selection_prompts=7, anchor=anchor)
    trainer.train()
    assert trainer.selection is not None
    counted = [one["clauses"][0]["samples"] for one in trainer.selection.records]
    assert more == sum(counted) == 7 * candidates


# ------------------------------------------------------------------ weights
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_the_real_model(family: str) -> None:
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = AutoConfig.for_model(family, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config)
    shape = shape_of(json.loads(config.to_json_string(use_diff=False)), family)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    matrices = [
        m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head
    ]
    assert shape.blocks == sum(matrices)
    assert shape.head == head.weight.numel()


def test_a_folder_is_counted(world: World) -> None:
    from transformers import AutoModelForCausalLM

    shape = read_shape(str(world.model))
    model = AutoModelForCausalLM.from_pretrained(world.model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert (shape.hidden, shape.layers, shape.weight_type, shape.weight_bytes) == (16, 2, "float32", 4)
    assert shape_of(json.loads((world.model / "config.json").read_text()), "x").parameters == shape.parameters


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft
def test_adapters_are_those_of_peft(world: World) -> None:
    from transformers import AutoModelForCausalLM

    from constraintlang_runtime.adapters import with_adapter

    shape = read_shape(str(world.model))
    for modules in ("all-linear", "q_proj,v_proj"):
        config = ConstraintSettings(lora_r=3, lora_target_modules=modules)
        model = with_adapter(AutoModelForCausalLM.from_pretrained(world.model), config, 0)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert adapters.adapter_weights(shape, 3, modules) == trained
    student = adapters.student_of(shape, ConstraintSettings(lora_r=3), training_of())
    assert (student.trained, student.trained_bytes, student.states) == (student.adapter, 4, 8)


def test_classifiers_have_a_shape(classifier: Path) -> None:
    shape = read_shape(str(classifier))
    assert shape.blocks == 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert shape.parameters == sum(header_counts(classifier / "model.safetensors").values())


def test_sizes_that_are_given() -> None:
    shape = toy()
    assert shape.parameters == 2 * 40 + 4 * 16 + 3 * 4 * 6
    assert (shape.intermediate, shape.blocks, shape.head) == (6, 136, 40)
    with pytest.raises(ModelError, match="too few"):
        given_shape(100, 4, 1, 10, heads=2, kv_heads=2, tied=False, weight_type="bfloat16")
    with pytest.raises(ModelError, match="do not fit"):
        given_shape(216, 4, 1, 10, heads=3, kv_heads=3, tied=False, weight_type="bfloat16")
    with pytest.raises(ModelError, match="int4"):
        given_shape(216, 4, 1, 10, heads=2, kv_heads=2, tied=False, weight_type="int4")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "rwkv"}, "no formula.*--parameters"),
        ({"num_local_experts": 8}, "mixture of experts"),
        ({"hidden_size": "big"}, "no positive `hidden_size`"),
        ({"dtype": "float8"}, "float8"),
    ],
)
def test_configurations_that_are_refused(change: dict[str, Any], said: str) -> None:
    import re

    with pytest.raises(ModelError) as error:
        shape_of({"model_type": "llama", **SIZES, **change}, "x")
    assert re.search(said, str(error.value), re.DOTALL)


@pytest.mark.parametrize(
    "content", [b"", b"\x08\0\0\0\0\0\0\0nonsense", b"\xff" * 16, b"\x04\0\0\0\0\0\0\0[1,2"]
)
def test_a_broken_file_of_weights_is_an_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot read the header"):
        header_counts(file)


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"`huggingface_hub` is not installed"):
        read_shape("nobody/nothing-of-that-name")


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        read_shape(str(tmp_path))
    with pytest.raises(ModelError, match=r"--parameters 7b"):
        read_shape("nobody/nothing-of-that-name")


# ------------------------------------------------------------------ what a run does
def test_counts_of_a_run() -> None:
    """10 steps, 2 rounds: measured at 0, 5 and 10; the tuned anchor is taken at 5."""
    found = load()
    assert (found.steps, found.active_steps, found.bins, found.snapshots) == (10, 5, (2,), 1)
    assert (found.control_rounds, found.start_rounds, found.samples) == (2, 1, 2 * 30 + 40)
    assert found.corpus_fits() == [(40, 400)]
    assert (
        found.scored_corpus == 100 + 40 + 5 * 2
    )  # before the run, beside the fit, in the steps of the regularizer
    assert load(max_steps=400).scored_corpus == 100 + 100
    assert (found.sampled_rows, found.sites, found.width) == (2, 2 * 5, 20)
    given = ConstraintSettings(
        rounds=2, anchor_samples=40, training_rows="given", prefixes="mixed", max_new_tokens=5
    )
    assert load(given).scored_corpus == 100 + 40
    assert load(given).sites == 2 * 12 + 2 * 5
    filtering = load(ConstraintSettings(rounds=2, method="filtering"))
    assert (filtering.active_steps, filtering.scored_corpus, filtering.samples) == (0, 200, 3 * 512)


def test_counts_agree_with_the_engine(world: World, tmp_path: Path) -> None:
    """Steps, samples and fits of a real run, as its log has them."""
    from constraintc.main import main

    rows = len(world.data.read_text().splitlines())
    for anchor in ("tuned", "previous"):
        output = tmp_path / anchor
        assert main(["train", *world.flags(output, anchor=anchor), "--quiet"]) == 0
        history = json.loads((output / "constraint" / "run.json").read_text())["history"]
        rounds = [one for one in history if "round" in one]
        config = ConstraintSettings(
            rounds=3,
            max_new_tokens=10,
            anchor_samples=48,
            control_samples=24,
            auxiliary_steps=12,
            anchor=anchor,
        )
        counted = workload(
            ir(), config, training_of(max_steps=6, batch=4), rows=rows, tokens_per_row=20, prompt_tokens=5,
            constrained=None, devices=1,
        )  # fmt: skip
        assert counted.samples == sum(one["constraint/kind/samples"] for one in rounds)
        assert len(counted.fits) == sum("chat/auxiliary/heldout_loss" in one for one in rounds)
        regularized = [one for one in history if "loss_regularizer/chat" in one]
        assert counted.active_steps >= len(regularized) > 0


def test_groups_follow_the_policy() -> None:
    assert group_bins(ir(), "domain") == (2,)
    assert sorted(group_bins(ir(TWO), "domain")) == [2, 7]
    assert group_bins(ir(TWO), "none") == (14,)
    hard = "edition 1\nnever: always toxicity < 0.5\nrare: P(toxicity >= 0.2) < 5% for domain=chat\n"
    assert group_bins(ir(hard), "domain") == (3,)


def test_constants_are_those_of_the_runtime() -> None:
    from constraintlang_runtime import fitting, grouping
    from constraintlang_runtime.config import ConstraintConfig
    from constraintlang_runtime.estimate import workload as counts

    assert counts.SCORED_ROWS == grouping.CORPUS_SCORED
    assert work.EXPLAINED_SEQUENCES == fitting.EXPLAINED_SEQUENCES
    plain = ConstraintConfig(output_dir="x", use_cpu=True)
    for name, default in TRAINING.items():
        assert (getattr(plain, name) or False if default is False else getattr(plain, name)) == default, name


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="a similar setting exists: `rounds`"):
        read_settings({"round": 3})
    with pytest.raises(ConfigError, match="expected at least 1"):
        read_settings({"per_device_train_batch_size": 0})
    with pytest.raises(ConfigError, match="one of forward"):
        read_settings({"divergence": "sideways"})
    with pytest.raises(ConfigError, match="would never act"):
        load(max_steps=1)
    with pytest.raises(ConfigError, match="one token on either side"):
        load(prompt_tokens=20)
    with pytest.raises(ConfigError, match="share between 0 and 1"):
        load(constrained=2.0)
    with pytest.raises(ConfigError, match="adafactor"):
        adapters.student_of(toy(), ConstraintSettings(), training_of(optimizer="adafactor"))
    with pytest.raises(ConfigError, match="no sizes are known for w_in"):
        adapters.adapter_weights(toy(), 2, "w_in")
    with pytest.raises(ConfigError, match="h200, h100"):
        named_gpu("abacus", 1, bf16=True)


# ------------------------------------------------------------------ numbers by hand
def test_a_forward_pass_by_hand() -> None:
    """10 tokens in a row of 5: 2·136·10 + 4·1·4·5·10; logits at 3: 2·40·3."""
    student = adapters.student_of(toy(), STORED, training_of())
    once = student.forward(10, 5, 3)
    assert once.flops == 2720 + 800 + 240
    assert student.backward(10, 5, 3).flops == 2 * once.flops
    again = replace(student, checkpointing=True).backward(10, 5, 3)
    assert again.flops == 2 * once.flops + 2720 + 800


def test_an_adapter_halves_the_backward_pass() -> None:
    """Rank 1: q, k, v, o have 4 + 4 each, the MLP 3 x (4 + 6): 62 weights."""
    student = adapters.student_of(toy(), ConstraintSettings(lora_r=1), training_of())
    assert student.adapter == 62
    assert student.forward(10, 5, 3).flops == 2720 + 800 + 240 + 1240
    assert student.backward(10, 5, 3).flops == 2 * (800 + 1240) + 2720 + 240


def test_the_regularizer_by_hand() -> None:
    """34 sites, 2 bins, rank 32, width 128, H = 4: trunk 2(2·8·128 + 128² + 128·33), tokens 2·32·10."""
    student = adapters.student_of(toy(), STORED, training_of())
    found = work.regularizer_step(student, load_of_both(), ConstraintSettings())
    assert found.flops == 34 * (2 * (2 * 8 * 128 + 128 * 128 + 128 * 33) + 2 * 32 * 10)
    assert found.bytes == 34 * 10 * (144 + 9 * 2 + 24 + 36 * 2)


def test_the_anchor_by_hand() -> None:
    """Two corpus rows and two sampled rows of width 20, logits at 34 sites."""
    student = adapters.student_of(toy(), STORED, training_of())
    found = work.anchor_step(student, load_of_both())
    assert found.flops == 80 * (2 * 136 + 4 * 4 * 20) + 34 * 2 * 40


def test_a_kept_row_pays_its_output_embeddings_alone() -> None:
    student = adapters.student_of(toy(), STORED, training_of())
    whole, half, none = (work.anchor_step(student, load_of_both(), share) for share in (1.0, 0.5, 0.0))
    assert whole == work.anchor_step(student, load_of_both())
    assert none.flops == 34 * 2 * 40
    assert (
        none.bytes == 2 * 40 * 2 + 34 * 10 * 2 + 34 * 4 * 2
    )  # the head for either kind of rows, logits, states
    assert half.flops == (whole.flops + none.flops) / 2
    assert (whole.launches, none.launches) == (2 * 2, 2)


def test_first_readings_by_hand() -> None:
    """10 rows: from the start 25 readings have 10 new ones; after 5 the next 10 have 5 and then half of the epoch."""
    assert anchor_cache.fresh(25, 10, 0) == 10
    assert anchor_cache.fresh(4, 10, 0) == 4
    assert anchor_cache.fresh(10, 10, 5) == 5 + 5 * 0.5
    assert anchor_cache.fresh(100, 10, 25) == 10
    assert anchor_cache.fresh(3, 0, 0) == 0


def shares(load: Workload, **settings: Any) -> anchor_cache.Passes:
    own = {
        "train_dtype": "stored",
        "rounds": 2,
        "max_new_tokens": 5,
        "anchor_samples": 40,
        "control_samples": 30,
    } | settings
    return anchor_cache.passes(toy(), load, ConstraintSettings(**own), element=2, devices=1)


def test_rows_of_later_epochs_are_read_from_the_cache() -> None:
    """400 steps of 2 rows over 100: 400 corpus readings, the first 100 new; samples: one round, those of the fit."""
    corpus = ConstraintSettings(rounds=2, prefixes="corpus")
    assert shares(load(corpus, max_steps=400), prefixes="corpus").anchor == 0.25
    # an epoch that is not over has every row once
    assert shares(load(corpus, max_steps=10), prefixes="corpus").anchor == 1
    for settings in ({"anchor_cache_gib": 0}, {"anchor": "previous"}, {"anchor": "current", "loss": "plain"}):
        assert shares(load(corpus, max_steps=400), prefixes="corpus", **settings).anchor == 1
    assert not shares(load(corpus, max_steps=400), anchor="current").reads
    # room for half of the states: 100 rows of 12 sites, H = 4, two bytes
    room = 100 * 12 * 4 * 2 / 2 / 2**30
    found = shares(load(corpus, max_steps=400), prefixes="corpus", anchor_cache_gib=room)
    assert found.anchor == pytest.approx(1 - 0.5 * 0.75)


def test_samples_of_the_fit_are_known_and_later_ones_are_new() -> None:
    sampled: dict[str, Any] = {"prefixes": "sampled", "regularizer_rows": 2}
    one = ConstraintSettings(rounds=2, max_new_tokens=5, anchor_samples=40, control_samples=30, **sampled)
    assert shares(load(one, max_steps=10), **sampled).anchor == 0
    # four rounds, two of them active: in the second 30 of 40 rows of the store are new, 20 readings of it
    four = replace(one, rounds=4)
    assert shares(load(four, max_steps=40), rounds=4, **sampled).anchor == pytest.approx(0.75 / 2)


def test_the_estimate_follows_the_cache() -> None:
    def anchor(**changes: Any) -> Any:
        return next(phase for phase in whole(max_steps=400, **changes).phases if phase.name == "anchor")

    assert anchor().best < anchor(anchor_cache_gib=0.0).best
    assert anchor(anchor="current").work.flops == 0
    assert "100% of the readings" in anchor(anchor_cache_gib=0.0).formula


def test_sampling_by_hand() -> None:
    """Six completions of 2 tokens after 3 in batches of 4: two batches of 3, prefill and two passes each."""
    student = adapters.student_of(toy(), STORED, training_of())
    found = work.sampling(student, 6, 3, 2, 4, 1)
    prefill = 9 * (272 + 16 * 3) + 3 * 80
    step = 3 * (272 + 16 * 3.5) + 3 * 80
    assert found.flops == 2 * (prefill + 2 * step)
    assert found.launches == 2 * 3 * 2
    assert work.sampling(student, 6, 3, 2, 4, 2).flops * 2 == found.flops
    cache = student.shape.kv_bytes(2)
    assert cache == 2 * 1 * 2 * 2 * 2
    assert found.bytes > 2 * 2 * 3 * 3.5 * 3 * cache


def test_weights_that_are_all_trained_are_held_in_float32() -> None:
    student = adapters.student_of(toy(), ConstraintSettings(), training_of())
    assert (student.shape.weight_bytes, student.trained_bytes) == (4, 4)
    assert adapters.student_of(toy(), ConstraintSettings(lora_r=1), training_of()).shape.weight_bytes == 2
    half = ConstraintSettings(train_dtype="bfloat16")
    assert adapters.student_of(toy(), half, training_of()).shape.weight_bytes == 2


def test_memory_by_hand() -> None:
    """Two bytes a weight: 432 of weights, as much of gradients and of the snapshot, twice of the optimizer."""
    found = {part.name: part.bytes for part in parts(whole().memory)}
    assert found["weights"] == found["gradients"] == found["anchor snapshot"] == 432
    assert found["optimizer"] == 864
    assert found["KV cache"] == 40 * 13 * 16
    assert found["auxiliary model"] == 4 * 10 * 33
    assert found["activations"] == 4 * 20 * (2 * (16 + 8 + 8 + 24) + 64)
    lora = {part.name: part.bytes for part in parts(whole(lora_r=1).memory)}
    assert lora["weights"] == 432 + 62 * 4
    assert (lora["gradients"], lora["anchor snapshot"], lora["optimizer"]) == (248, 248, 496)
    for anchor, bytes_ in (("current", 0), ("start", 432)):
        kept = {part.name: part.bytes for part in parts(whole(anchor=anchor).memory)}
        assert kept["anchor snapshot"] == bytes_
    two = {part.name: part.bytes for part in parts(whole(devices=2).memory)}
    assert two["buckets"] == 432


def parts(found: memory.Memory) -> list[memory.Part]:
    return [*found.always, *found.training, *found.sampling]


def test_seconds_by_hand() -> None:
    """1e12 FLOP/s at 25-50%, 1e11 bytes/s at 50-100%: 2 s or 4 s of arithmetic, 1 s or 2 s of memory, host 1-2 s."""
    found = seconds(work.Work(flops=1e12, bytes=1e11, host=2e9, link=1e10), MACHINE)
    assert found == Range(4 + 2 + 1 + 2, 2 + 1)


def test_a_snapshot_only_where_one_is_kept() -> None:
    for anchor, snapshots in (("tuned", 1), ("start", 1), ("previous", 1), ("current", 0)):
        config = ConstraintSettings(rounds=2, anchor=anchor)
        assert load(config).snapshots == snapshots, anchor
    kept = ONE + "fluent: preserve mean(perplexity) <= 1.02 * base for domain=wiki\n"
    found = load(ConstraintSettings(rounds=2), kept)
    assert (found.snapshots, found.preserves, found.constrained, found.preserved) == (2, True, 0.5, 0.5)


# ------------------------------------------------------------------ as a whole
@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 4}, {"tokens_per_row": 40}, {"anchor_samples": 400}, {"control_samples": 300}, {"max_steps": 40},
        {"max_new_tokens": 50}, {"auxiliary_steps": 8000}, {"auxiliary_rank": 320}, {"anchor": "start"},
    ],
)  # fmt: skip
def test_more_work_takes_longer(changes: dict[str, Any]) -> None:
    less, more = whole(), whole(**changes)
    assert more.total.best > less.total.best
    assert more.total.worst > less.total.worst
    assert more.memory.peak >= less.memory.peak


def test_less_of_the_method_costs_less() -> None:
    full, plain = whole(), whole(method="plain")
    assert plain.step_ratio == Range(1, 1)
    assert plain.flops_ratio < full.flops_ratio
    assert full.step_ratio.best < whole(prefixes="mixed").step_ratio.best
    assert whole(prefixes="corpus").step_ratio.best < whole(prefixes="mixed").step_ratio.best
    assert whole(checkpointing=True).total.worst > full.total.worst


def test_more_devices_take_less_time_and_divided_less_memory() -> None:
    big = given_shape(10**9, 2048, 16, 32000, heads=16, kv_heads=4, tied=False, weight_type="bfloat16")
    options = {"sampling_batch_size": 4, "tokens_per_row": 400, "batch": 8, "regularizer_rows": 8}
    h100 = named_gpu("h100", 1, bf16=True)
    one, four = whole(big, h100, **options, epochs=30.0), whole(big, h100, 4, **options, epochs=30.0)
    assert (one.load.steps, four.load.steps) == (30 * 13, 30 * 4)  # 13 batches, 4 in each process
    assert four.total.best < one.total.best
    assert four.memory.peak > one.memory.peak > four.memory.sharded_peak(4)
    tight = replace(h100, memory=one.memory.peak - 1)
    assert not whole(big, tight, **options).fits
    assert whole(big, tight, **options).least_sharded() == 2


def test_worst_is_never_below_best() -> None:
    for gpu in GPUS:
        found = whole(machine=named_gpu(gpu, 1, bf16=True))
        assert all(phase.worst >= phase.best > 0 for phase in found.phases if phase.work != work.Work())
        assert found.ratio.worst >= found.ratio.best > 1


def test_the_processor_is_measured() -> None:
    machine = measured_cpu()
    assert 1e8 < machine.flops < 1e15
    assert 1e8 < machine.bandwidth < 1e13
    assert machine.source == "measured"


def test_names_of_the_driver() -> None:
    assert table_name("NVIDIA A100-SXM4-80GB") == "a100"
    assert table_name("NVIDIA L40S") == "l40s"
    assert table_name("NVIDIA GeForce GTX 1080") is None
