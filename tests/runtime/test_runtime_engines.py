"""Settings that may not change what is learned, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_models import World

from constraintc.main import main

Captured = pytest.CaptureFixture[str]
BASE: dict[str, Any] = {
    "anchor": "start", "per_device_train_batch_size": 4, "regularizer_rows": 4, "use_cpu": True,
}  # fmt: skip
HALF = {"per_device_train_batch_size": 2, "regularizer_rows": 2}
QUARTER = {"per_device_train_batch_size": 1, "regularizer_rows": 1}
ACCELERATE = {
    "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU", "num_machines": 1, "num_processes": 2,
    "use_cpu": True, "mixed_precision": "no",
}  # fmt: skip
"""Two processes of this machine's processor; as MULTI_CPU accelerate would ask for mpirun, or start one."""


def weights(folder: Path) -> torch.Tensor:
    loaded = load_file(folder / "model.safetensors")
    return torch.cat([loaded[name].float().flatten() for name in sorted(loaded)])


def launched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command under ``accelerate launch`` on two CPU processes."""
    (folder / "accelerate.yaml").write_text(yaml.safe_dump(ACCELERATE))
    starter = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    return subprocess.run(
        [*starter, "--config_file", str(folder / "accelerate.yaml"), "--main_process_port", "0", "-m", "constraintc",
         *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that the others are compared with: one process, batches of 4."""
    output = tmp_path_factory.mktemp("one") / "out"
    assert main(["train", *world.flags(output, **BASE)]) == 0
    return output


# what is changed, and by how much weights may then differ: sums are rounded in another order
SAME = {
    "nothing": ({}, 0.0),
    "batch 2 accumulated twice": (HALF | {"gradient_accumulation_steps": 2}, 1e-5),
    "batch 1 accumulated four times": (QUARTER | {"gradient_accumulation_steps": 4}, 1e-5),
    "chunks of 3 sites": ({"chunk_sites": 3}, 1e-5),
    "gradient checkpointing": ({"gradient_checkpointing": True}, 1e-6),
    "frequent checkpoints and logs": ({"save_steps": 1, "logging_steps": 2}, 0.0),
}  # fmt: skip


@pytest.mark.filterwarnings(
    "ignore:.gradient_checkpointing. is deprecated"
)  # the name that all versions know
@pytest.mark.parametrize("name", sorted(SAME))
def test_the_same_weights(world: World, one: Path, tmp_path: Path, name: str) -> None:
    changes, tolerance = SAME[name]
    assert main(["train", *world.flags(tmp_path / "out", **(BASE | changes))]) == 0
    torch.testing.assert_close(weights(tmp_path / "out"), weights(one), atol=tolerance, rtol=0)
    records = [json.loads((path / "constraint" / "run.json").read_text()) for path in (one, tmp_path / "out")]
    assert records[0]["groups"][0]["duals"] == pytest.approx(records[1]["groups"][0]["duals"], abs=1e-4)


def test_another_batch_is_another_run(world: World, one: Path, tmp_path: Path) -> None:
    """The comparison above can fail: half of the rows a step end elsewhere."""
    assert main(["train", *world.flags(tmp_path / "out", **(BASE | HALF))]) == 0
    assert (weights(tmp_path / "out") - weights(one)).abs().max() > 1e-3


def test_bfloat16_learns_as_float32_does(world: World, one: Path, tmp_path: Path) -> None:
    assert main(["train", *world.flags(tmp_path / "out", bf16=True, **BASE)]) == 0
    records = [json.loads((path / "constraint" / "run.json").read_text()) for path in (one, tmp_path / "out")]
    losses = [[entry["loss_lm"] for entry in record["history"] if "loss_lm" in entry] for record in records]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1] != losses[0]
    assert torch.isfinite(weights(tmp_path / "out")).all()


@pytest.mark.slow
def test_accelerate_launch_on_two_processes(world: World, one: Path, tmp_path: Path) -> None:
    flags = world.flags(tmp_path / "two", **(BASE | HALF))
    done = launched(tmp_path, "train", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(weights(tmp_path / "two"), weights(one), atol=1e-5, rtol=1e-4)
