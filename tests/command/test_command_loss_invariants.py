"""What must not change a trained model, through the command: how a step is cut, chunked, adapted, or left alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import World

from constraintc.main import main
from constraintlang_runtime.loading import load_model

CALM: dict[str, Any] = {"learning_rate": 1e-3, "save_strategy": "no", "anchor": "start", "adam_epsilon": 1e-3}
# Adam divides by the size of the gradient, so that with a small epsilon rounding decides where there is next to none.


def trained(world: World, output: Path, **changes: Any) -> dict[str, torch.Tensor]:
    assert main(["train", *world.flags(output, **CALM | changes)]) == 0
    return load_file(output / "model.safetensors")


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("divergence", ["reverse", "alpha"])
def test_chunks_do_not_change_the_trained_model(world: World, tmp_path: Path, divergence: str) -> None:
    whole = trained(world, tmp_path / "plain", loss="plain", divergence=divergence)
    start = load_file(world.model / "model.safetensors")
    assert distance(whole, start) > 1e-3
    for chunk in (5, 10_000):
        run = tmp_path / str(chunk)
        other = trained(world, run, loss="chunked", chunk_sites=chunk, divergence=divergence)
        assert distance(whole, other) < 1e-5
    unconstrained = trained(world, tmp_path / "without", method="plain")
    assert distance(whole, unconstrained) > 1e-4  # the policy acted


@pytest.mark.parametrize("loss", ["plain", "chunked"])
def test_a_vacuous_policy_is_plain_fine_tuning_bit_for_bit(world: World, tmp_path: Path, loss: str) -> None:
    policy = tmp_path / "loose.policy"
    policy.write_text("edition 1\nlong: words <= 1000 under tolerance=0.5\n")
    changes = {"policy": policy, "loss": loss, "chunk_sites": 16}
    held = trained(world, tmp_path / "held", **changes)
    plain = trained(world, tmp_path / "plain", method="plain", **changes)
    assert same_bits(held, plain)
    assert distance(held, load_file(world.model / "model.safetensors")) > 1e-3


def test_batch_times_accumulation_does_not_change_the_trained_model(world: World, tmp_path: Path) -> None:
    """With the corpus rows as prefixes, since sampled rows are drawn for each micro-batch."""
    found = [
        trained(
            world, tmp_path / f"{size}x{count}", per_device_train_batch_size=size, gradient_accumulation_steps=count,
            prefixes="corpus", loss=loss, chunk_sites=16,
        )
        for size, count, loss in ((8, 1, "plain"), (4, 2, "chunked"), (2, 4, "chunked"))
    ]  # fmt: skip
    assert max(distance(found[0], other) for other in found[1:]) < 1e-5


def test_a_vocabulary_that_is_padded_to_a_larger_size(world: World, tmp_path: Path) -> None:
    """Rows of the embeddings beyond the tokenizer's: chunked as plain, and the auxiliary model has them too."""
    padded = tmp_path / "padded"
    model = load_model(str(world.model))
    own = model.config.vocab_size
    model.resize_token_embeddings(own + 13)
    model.save_pretrained(padded)
    for path in world.model.glob("token*"):
        shutil.copy(path, padded / path.name)
    whole = trained(world, tmp_path / "plain", model=padded, loss="plain")
    other = trained(world, tmp_path / "chunked", model=padded, loss="chunked", chunk_sites=7)
    assert whole["model.embed_tokens.weight"].shape[0] == own + 13
    assert distance(whole, other) < 1e-5
    heads = load_file(tmp_path / "chunked" / "constraint" / "constraint.safetensors")
    assert heads["0.head.token_bias"].shape[0] == own + 13


@pytest.mark.parametrize(("loss", "size"), [("plain", 6), ("chunked", 6), ("chunked", 1)])
def test_packing_does_not_change_the_trained_model(
    world: World, tmp_path: Path, loss: str, size: int
) -> None:
    """With one row a sampled one goes into a pass of its own."""
    changes = {"loss": loss, "chunk_sites": 16, "per_device_train_batch_size": size}
    rows = trained(world, tmp_path / "rows", **changes)
    packed = trained(world, tmp_path / "packed", packing="true", **changes)
    assert distance(rows, packed) < 1e-5


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # in peft
def test_an_adapter_that_is_switched_off_leaves_the_base_model(world: World, tmp_path: Path) -> None:
    from peft import PeftModel

    changes = CALM | {"lora_r": 4, "loss": "chunked", "chunk_sites": 16, "learning_rate": 0.05}
    assert main(["train", *world.flags(tmp_path / "run", **changes)]) == 0
    base = load_model(str(world.model)).eval()
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        expected = base(ids).logits
        adapted = PeftModel.from_pretrained(load_model(str(world.model)), tmp_path / "run").eval()
        assert not torch.allclose(adapted(ids).logits, expected, atol=1e-2)
        with adapted.disable_adapter():
            assert torch.equal(adapted(ids).logits, expected)


@pytest.mark.filterwarnings("ignore")  # of torchao's own
def test_an_adapter_on_a_quantized_model(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration that lies beside the weights passes through; training all weights of it is refused."""
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import AutoModelForCausalLM, TorchAoConfig

    config = TorchAoConfig(Int8WeightOnlyConfig())
    AutoModelForCausalLM.from_pretrained(world.model, quantization_config=config).save_pretrained(
        tmp_path / "q"
    )
    for path in world.model.glob("token*"):
        shutil.copy(path, tmp_path / "q" / path.name)
    changes = CALM | {"model": tmp_path / "q", "loss": "chunked", "chunk_sites": 16}
    assert main(["train", *world.flags(tmp_path / "run", lora_r=4, **changes)]) == 0
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    assert main(["train", *world.flags(tmp_path / "all", **changes)]) == 2
    assert "adapters on top of the quantized model" in capsys.readouterr().err
