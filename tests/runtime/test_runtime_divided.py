"""Weights that FSDP2 divides: the parts that read them in one process, and whole runs of two beside undivided ones."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_process import run_divided, two_ranks
from safetensors.torch import load_file, save_file
from tiny_models import POLICY, World, read_jsonl, tiny_llama, write_jsonl
from torch import Tensor

from constraintc.main import main
from constraintlang_runtime import divided
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.anchor_weights import load_anchor, save_anchor
from constraintlang_runtime.chunked_loss import ChunkedLoss
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import IGNORED_LABEL, Batch, prediction_sites
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.micro_batch import MicroBatch
from constraintlang_runtime.mishaps import require_finite
from constraintlang_runtime.settings import RegularizerConfig
from constraintlang_runtime.sharding import ENGINES
from constraintlang_runtime.step_loss import plain_loss
from constraintlang_runtime.stored_weights import take_weights

Captured = pytest.CaptureFixture[str]
VOCAB = 40
BATCH = Batch(
    torch.arange(2 * 7).reshape(2, 7) % VOCAB, torch.ones(2, 7, dtype=torch.long),
    torch.arange(2 * 7).reshape(2, 7) % VOCAB, torch.ones(2, 7, dtype=torch.bool),
)  # fmt: skip
SITES = prediction_sites(BATCH.region)


def divide(model: Any, *, apart: bool = True) -> Any:
    """As accelerate does: each layer, the embeddings with the norm and the head (``apart``: newer ones), the rest."""
    from torch.distributed.fsdp import fully_shard

    for layer in model.model.layers:
        fully_shard(layer)
    if not apart:
        return fully_shard(model, reshard_after_forward=True)
    tail = [model.model.norm, *dict.fromkeys([model.model.embed_tokens, model.lm_head])]
    fully_shard(tail, reshard_after_forward=False)
    return fully_shard(model)


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process alone."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def pair(alone: None) -> tuple[Any, Any]:
    """A model, and the same with its weights divided."""
    model = tiny_llama(VOCAB)
    return model, divide(copy.deepcopy(model))


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=BATCH.input_ids).logits
    return found


def test_whole_weights_are_whole_in_the_block_and_parts_after_it(pair: tuple[Any, Any]) -> None:
    model, parted = pair
    assert not divided.is_divided(model)
    assert divided.is_divided(parted)
    assert divided.undivided_type(parted.lm_head) is torch.nn.Linear
    with divided.whole_weights(parted):
        assert not any(divided.is_shard(p) for p in parted.parameters())
        with torch.inference_mode():
            logits(parted)
        assert not any(divided.is_shard(p) for p in parted.parameters())
    assert all(divided.is_shard(p) for p in parted.parameters())
    assert not divided._releases(parted.lm_head)
    assert divided._releases(parted.model.layers[0])
    parted(input_ids=BATCH.input_ids, labels=BATCH.labels).loss.backward()  # after a block in inference mode
    assert all(p.grad is not None for p in parted.parameters())


def test_an_anchor_stays_while_the_model_is_trained(pair: tuple[Any, Any], tmp_path: Path) -> None:
    model, parted = pair
    anchor = Anchor.snapshot(parted)
    before = logits(model)
    with torch.no_grad():
        for parameter in parted.parameters():
            parameter.mul_(1.5)
    moved = logits(parted)
    assert (moved - before).abs().max() > 0.1
    for one in (anchor, _reloaded(anchor, parted, tmp_path)):
        read, features = one.read(BATCH, SITES)
        torch.testing.assert_close(read, before[SITES])
        head = one.output_head()
        assert head is not None
        assert not divided.is_shard(head.weight)
        torch.testing.assert_close(head.logits(features[:, :16]), before[SITES])
        with one.everywhere():
            torch.testing.assert_close(one.logits_from(one.features(BATCH, SITES)), before[SITES])
        torch.testing.assert_close(logits(parted), moved, atol=0, rtol=0)


def _reloaded(anchor: Anchor, model: Any, folder: Path) -> Anchor:
    save_anchor(folder, anchor)
    return load_anchor(folder, model)


def test_a_start_model_is_recorded_before_it_is_divided(alone: None) -> None:
    model = tiny_llama(VOCAB)
    before, anchor = logits(model), Anchor.snapshot(model)
    divide(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    anchor = Anchor(model, anchor.weights)
    torch.testing.assert_close(anchor.read(BATCH, SITES)[0], before[SITES])
    assert all(divided.is_shard(weight) for weight in anchor.weights.values())


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("chunk", [3, 1000])
@pytest.mark.parametrize("labelled", [True, False])
def test_gradients_of_the_chunked_loss_are_those_of_the_plain_one(
    alone: None, chunk: int, apart: bool, labelled: bool
) -> None:
    """Those of rows that are all left out are zeros: a process without any would exchange less than the others."""
    model = tiny_llama(VOCAB)
    parted = divide(copy.deepcopy(model), apart=apart)
    rows = BATCH if labelled else replace(BATCH, labels=torch.full_like(BATCH.labels, IGNORED_LABEL))
    batch, config = MicroBatch(rows, rows), RegularizerConfig(chunk_sites=chunk, loss="chunked")
    expected = plain_loss(model, batch, config)
    expected.total.backward()
    for _ in range(2):  # as in a step after the first
        parted.zero_grad()
        found = ChunkedLoss(parted, config)(parted, batch, batch.sites(config))
        assert found is not None
        found.total.backward()
    torch.testing.assert_close(found.total, expected.total)
    for (name, mine), its in zip(parted.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(divided.whole(mine.grad), its.grad, msg=name)


def test_weights_that_are_no_numbers_are_found_in_parts(pair: tuple[Any, Any]) -> None:
    _, parted = pair
    require_finite(parted, 3)
    with torch.no_grad():
        divided.own_part(parted.lm_head.weight).view(-1)[5] = float("nan")
    with pytest.raises(TrainingError, match="at step 3"):
        require_finite(parted, 3)


def test_stored_weights_go_into_parts(pair: tuple[Any, Any], tmp_path: Path) -> None:
    model, parted = pair
    other = tiny_llama(VOCAB, seed=1)
    other.save_pretrained(tmp_path)
    take_weights(parted, tmp_path)
    torch.testing.assert_close(logits(parted), logits(other))
    stored = load_file(tmp_path / "model.safetensors")
    save_file({**stored, "odd": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="other tensors: odd"):
        take_weights(parted, tmp_path)
    stored.pop("model.norm.weight")
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks: model\.norm\.weight"):
        take_weights(model, tmp_path)


# ------------------------------------------------------------ whole runs
BASE: dict[str, Any] = {
    "anchor": "start", "per_device_train_batch_size": 4, "regularizer_rows": 4, "use_cpu": True, "loss": "chunked",
}  # fmt: skip
HALF = BASE | {"per_device_train_batch_size": 2, "regularizer_rows": 2}
LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}


def weights(folder: Path) -> Tensor:
    loaded = load_file(folder / "model.safetensors")
    return torch.cat([loaded[name].float().flatten() for name in sorted(loaded)])


def run_two(folder: Path, words: list[str], **environment: str) -> None:
    codes, ranks = two_ranks(folder, words, target=run_divided, **environment)
    assert codes == [0, 0], "".join(rank.err.read_text()[-3000:] for rank in ranks)


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_resume_to_the_same_bits(world: World, tmp_path: Path) -> None:
    changes = {"anchor": "tuned", "save_steps": 1, "save_total_limit": 9}
    assert main(["train", *world.flags(tmp_path / "one", **(BASE | changes))]) == 0
    words = world.flags(tmp_path / "two", fsdp="true", **(HALF | changes))
    run_two(tmp_path, ["train", *words])
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "one"), atol=1e-5, rtol=1e-4)
    checkpoints = tmp_path / "two" / "checkpoints"
    assert not list(checkpoints.glob("*/pytorch_model_fsdp*"))
    assert (checkpoints / "checkpoint-5" / "anchor.safetensors").exists()
    for last in (6, 5):  # killed before its final save; killed after step 5
        shutil.copytree(tmp_path / "two", tmp_path / f"again {last}")
        (tmp_path / f"again {last}" / "constraint" / "run.json").unlink()
        (tmp_path / f"again {last}" / "model.safetensors").unlink()
        for path in (tmp_path / f"again {last}" / "checkpoints").glob("checkpoint-*"):
            if int(path.name.split("-")[1]) > last:
                shutil.rmtree(path)
        words = world.flags(tmp_path / f"again {last}", fsdp="true", resume=True, **(HALF | changes))
        run_two(tmp_path, ["train", *words])
        assert weights(tmp_path / f"again {last}").equal(weights(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.parametrize("anchor", ["tuned", "current"])
def test_processes_with_different_numbers_of_passes(world: World, tmp_path: Path, anchor: str) -> None:
    """One row in each process: whose groups and preserved rows a process has differs from step to step."""
    policy = tmp_path / "both.policy"
    policy.write_text(
        POLICY
        + "calm: toxicity < 0.3 for domain=kitchen under tolerance=10%\n"
        + "same: preserve mean(perplexity) <= 1.02 * base for domain=kitchen\n"
    )
    shutil.copy(world.root / "words.tsv", tmp_path)
    cooking = [row for row in read_jsonl(world.data) if row["domain"] == "kitchen"]
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [*read_jsonl(world.prompts), *cooking])
    changes = {"policy": policy, "prompts": prompts, "prefixes": "mixed", "anchor": anchor}
    one = BASE | changes | {"per_device_train_batch_size": 2, "regularizer_rows": 2}
    assert main(["train", *world.flags(tmp_path / "one", **one)]) == 0
    two = BASE | changes | {"per_device_train_batch_size": 1, "regularizer_rows": 1}
    run_two(tmp_path, ["train", *world.flags(tmp_path / "two", **two)], **LAUNCHED)
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "one"), atol=1e-4, rtol=1e-3)
    records = [
        json.loads((tmp_path / name / "constraint" / "run.json").read_text()) for name in ("one", "two")
    ]
    duals = [[group["duals"][0] for group in record["groups"]] for record in records]
    assert duals[1] == pytest.approx(duals[0], abs=1e-3)


# ------------------------------------------------------------ what is refused
@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_that_the_launcher_chose_is_refused(
    world: World, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "true")
    assert main(["train", *world.flags(tmp_path / "out")]) == 2
    assert f"({name}) asks for {ENGINES[name]}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv(name, "false")
    ConstraintConfig(output_dir=str(tmp_path))


def test_an_engine_in_the_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use FSDP2"):
        ConstraintConfig(output_dir=str(tmp_path), deepspeed="zero3.json")


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"fsdp_config": {"version": 1}}, "version 1"),
        ({"fsdp_config": {"cpu_offload": True}}, "offloaded"),
        ({"schedule": "parallel"}, "lanes"),
        ({"auxiliary": "adapter"}, "adapter"),
        ({"torch_compile": True}, "torch_compile"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_go_with_fsdp_is_refused(tmp_path: Path, setting: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=f"FSDP: .*{why}"):
        ConstraintConfig(output_dir=str(tmp_path), fsdp=True, use_cpu=True, **setting)


def test_the_launchers_first_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="version 1 of FSDP"):
        ConstraintConfig(output_dir=str(tmp_path), use_cpu=True)
