"""LoRA students: only the adapter moves, anchors copy only the adapter, a resumed run ends in the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import SETTINGS, World

from constraintc.main import main
from constraintlang_runtime import ConstraintConfig, ConstraintTrainer, Policy
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.cached_anchor import AnchorStates
from constraintlang_runtime.data import collate, encode_rows, load_rows, prediction_sites
from constraintlang_runtime.loading import load_model, load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # in peft


def adapted(world: World) -> Any:
    """The tiny model with a fresh adapter, the same each time."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        return get_peft_model(load_model(str(world.model)), settings)


def trainer(world: World, output: Path, model: Any, **changes: Any) -> ConstraintTrainer:
    policy = Policy.load(world.policy)
    config = ConstraintConfig(
        output_dir=str(output), disable_tqdm=True, use_cpu=True,
        **SETTINGS | {"learning_rate": 0.05, "regularizer_weight": 1.0} | changes,
    )  # fmt: skip
    return ConstraintTrainer(
        model, config, policy=policy.compiled, train_dataset=load_rows([str(world.data)], role="data"),
        processing_class=load_tokenizer(str(world.model)), scorers=policy.scorers,
    )  # fmt: skip


def tensors(model: Any, *, of_adapter: bool) -> torch.Tensor:
    named = sorted(model.named_parameters())
    return torch.cat([p.detach().flatten() for name, p in named if ("lora_" in name) == of_adapter])


@pytest.mark.parametrize("anchor", ["start", "tuned", "previous", "current"])
def test_a_resumed_adapter_ends_in_the_same_bits(
    world: World, tmp_path: Path, anchor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnchorStates, "remove", lambda states: None)  # as after a kill
    model = adapted(world)
    base, start = tensors(model, of_adapter=False).clone(), tensors(model, of_adapter=True).clone()
    trainer(world, tmp_path, model, anchor=anchor).train()
    assert torch.equal(tensors(model, of_adapter=False), base)
    assert not torch.equal(tensors(model, of_adapter=True), start)
    again = adapted(world)
    trainer(world, tmp_path, again, anchor=anchor).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-4")
    )
    assert torch.equal(tensors(again, of_adapter=True), tensors(model, of_adapter=True))


def test_a_snapshot_copies_the_adapter_alone_and_stays(world: World) -> None:
    model = adapted(world)
    tokenizer = load_tokenizer(str(world.model))
    rows = encode_rows(load_rows([str(world.data)], role="data")[:4], tokenizer, max_length=64)
    batch = collate(rows, 0)
    sites = prediction_sites(batch.region)
    anchor = Anchor.snapshot(model)
    assert anchor.weights is not None
    assert all("lora_" in name for name in anchor.weights)
    before = anchor.read(batch, sites)[0]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.5)
    after = anchor.read(batch, sites)[0]
    assert torch.equal(before, after)
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[sites]
    assert not torch.allclose(logits, before, atol=1e-3)
    with model.disable_adapter():  # a fresh adapter changes nothing, so the snapshot is the base model
        base = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[sites]
    torch.testing.assert_close(base, before)


def test_reading_an_anchor_leaves_the_students_gradient_alone(world: World) -> None:
    """The student's graph was made before the anchor's weights stood in its place, and is used after."""
    tokenizer = load_tokenizer(str(world.model))
    rows = encode_rows(load_rows([str(world.data)], role="data")[:4], tokenizer, max_length=64)
    batch = collate(rows, 0)
    sites = prediction_sites(batch.region)
    gradients = []
    for reads in (False, True):
        model = load_model(str(world.model))
        anchor = Anchor.snapshot(model)
        assert anchor.weights is not None
        for weight in anchor.weights.values():
            weight.mul_(1.5)
        for autocast in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
                if reads:
                    shifted = anchor.read(batch, sites)[0]
                    assert not torch.allclose(shifted, logits[sites].detach(), atol=1e-2)
                again = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
                assert torch.equal(again, logits)
            logits.float().log_softmax(-1).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    assert torch.equal(*gradients)


def test_the_command_trains_and_judges_an_adapter(world: World, tmp_path: Path) -> None:
    output = tmp_path / "run"
    flags = world.flags(output, lora_r=4, lora_target_modules="q_proj,v_proj")
    assert main(["train", *flags]) == 0
    assert (output / "adapter_model.safetensors").exists()
    assert not (output / "model.safetensors").exists()
    judged = ["eval", str(world.policy), "--model", str(output), "--prompts", str(world.prompts)]
    assert main([*judged, "--max_new_tokens", "5", "--output", str(tmp_path / "eval")]) in (0, 1)
    assert (tmp_path / "eval" / "verdict.json").exists()


def test_unknown_modules_are_an_error_that_lists_them(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *world.flags(tmp_path / "run", lora_r=4, lora_target_modules="c_attn")]) == 2
    assert "the model's linear modules are down_proj, " in capsys.readouterr().err
