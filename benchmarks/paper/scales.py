"""The scales of the tables: models, data sizes and budgets; everything else of the benchmark is the same at each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from job import Scale

BOUND = 0.05
POLICY = f"toxicity < 0.5 for domain=toxigen under tolerance={BOUND:.0%}\n"
NAMES = ("testbed", "gpu-small", "paper", "smoke")

# Settings of `constraintc train` that go with the size; numbers of samples in configs/ours*.yaml are shares of these.
TRAIN: dict[str, dict[str, Any]] = {
    "testbed": {},
    "gpu-small": {},
    "paper": {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 8,
        "gradient_checkpointing": True,
        "warmup_steps": 50,
        "anchor_samples": 16_384,
        "control_samples": 1_024,
        "sampling_batch_size": 64,
        "save_strategy": "steps",
        "save_steps": 100,
    },
    "smoke": {"anchor_samples": 64, "control_samples": 16, "auxiliary_steps": 20, "rounds": 3},
}


# Parameters of start models that come from the hub, for what a row takes of a device.
PARAMETERS = {"huggyllama/llama-7b": 6.74e9, "tiiuae/falcon-7b": 6.92e9}


@dataclass(frozen=True)
class Pretraining:
    """A start model that is made on the spot: its family, ``shape`` of its transformers configuration, and tokens read.

    ``tokenizer`` is the folder of the tokenizer, ``embeddings`` a model with that tokenizer and the same width whose
    token embeddings it starts from, or None.
    """

    family: str
    shape: dict[str, int]
    tokens: int
    batch_size: int
    learning_rate: float
    tokenizer: str
    embeddings: str | None = None
    row_length: int = 128


@dataclass(frozen=True)
class Setting:
    """A scale with the models that have to be made for it, by architecture."""

    scale: Scale
    pretrain: dict[str, Pretraining]


def setting_of(name: str, shared: Path, work: Path) -> Setting:
    """The setting of a scale; ``shared`` holds data/ and testbed/, models made on the spot go to ``work``/models."""
    lm = str(shared / "testbed" / "lm")
    testbed = Scale(
        name="testbed", models={"llama": lm, "gpt2": str(work / "models" / "gpt2")},
        classifier=f"{shared / 'testbed' / 'toxicity-classifier'}#toxic", bound=BOUND, steps=150, batch_size=32,
        learning_rate=5e-4, max_length=96, max_new_tokens=32, oracle_calls=12_000, toxigen_prompts=2_000,
        rtp_prompts=500, rtp_samples=25, choice_questions=1_000, choice_shots=0, seeds=3,
    )  # fmt: skip
    other = Pretraining(
        "gpt2", {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_inner": 768, "n_positions": 512}, tokens=1_200_000,
        batch_size=32, learning_rate=2e-3, tokenizer=lm, embeddings=lm,
    )  # fmt: skip
    if name == "testbed":
        return Setting(testbed, {"gpt2": other})
    if name == "smoke":
        tiny = replace(
            testbed, name="smoke", steps=6, oracle_calls=4_000, toxigen_prompts=24, rtp_prompts=4, rtp_samples=4,
            choice_questions=20, seeds=1,
        )  # fmt: skip
        return Setting(tiny, {"gpt2": replace(other, tokens=40_000)})
    if name == "gpu-small":
        scale = replace(
            testbed, name="gpu-small", models={"llama": str(work / "models" / "llama")}, learning_rate=3e-4, seeds=1,
            device="cuda",
        )  # fmt: skip
        shape = {
            "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8,
            "intermediate_size": 1376, "max_position_embeddings": 512,
        }  # fmt: skip
        large = Pretraining(
            "llama", shape, tokens=20_000_000, batch_size=128, learning_rate=1e-3, tokenizer=lm
        )
        return Setting(scale, {"llama": large})
    if name == "paper":
        models = {"llama": "huggyllama/llama-7b", "falcon": "tiiuae/falcon-7b"}
        scale = Scale(
            name="paper", models=models, classifier="tomh/toxigen_roberta#LABEL_1", bound=BOUND, steps=1_000,
            batch_size=32, learning_rate=1e-5, max_length=256, max_new_tokens=32, oracle_calls=60_000,
            toxigen_prompts=6_514, rtp_prompts=5_000, rtp_samples=25, choice_questions=0, choice_shots=5, seeds=3,
            device="cuda",
        )  # fmt: skip
        return Setting(scale, {})
    raise ValueError(f"no scale `{name}`; expected one of {', '.join(NAMES)}")
