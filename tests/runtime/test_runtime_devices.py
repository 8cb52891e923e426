"""No tensor of the host meets one of a GPU: tiny runs on a device that refuses what CUDA would refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import backend_registration
from warm_process import run_script, started

from constraintlang_runtime.schedule.remote import see_one_gpu

TESTS = Path(__file__).parents[1]
RUNS: dict[str, list[dict[str, Any]]] = {
    "losses": [{}, {"loss": "plain", "anchor": "start", "prefixes": "mixed"}, {"divergence": "js"}],
    "forms": [{"auxiliary": "adapter", "anchor": "previous"}, {"auxiliary": "transformer"}],
    "rows": [
        {"adaptive": "prompt", "packing": True},
        {"anchor_cache_gib": 0.0, "chunk_sites": 3, "lora_r": 2},
    ],
}
FLOWS = {
    "decoding": ["decoding", "library", "evaluation"],
    "training": ["lanes", "preserving", "callback"],
}
with_devices = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch makes no devices in Python",
)


def go_through(script: str, folder: Path, words: list[str]) -> None:
    """Run a script on the pretended GPU, and expect a line that says `done` for each word."""
    process = started(folder, "script", run_script, str(TESTS / script), [str(folder), *words])
    assert process.ended(200) == 0, process.err.read_text()[-3000:]
    assert sum(line.startswith("done ") for line in process.out.read_text().splitlines()) == len(words)


@with_devices
@pytest.mark.parametrize("name", RUNS)
def test_a_run_on_a_device_of_its_own(tmp_path: Path, name: str) -> None:
    go_through("pretend_gpu_run.py", tmp_path, [json.dumps(changes) for changes in RUNS[name]])


@with_devices
@pytest.mark.parametrize("name", FLOWS)
def test_a_device_and_the_host_give_the_same(tmp_path: Path, name: str) -> None:
    go_through("pretend_gpu_flows.py", tmp_path, FLOWS[name])


@pytest.mark.parametrize(("visible", "left"), [(None, "1"), ("4,6,7", "6"), ("5", "5")])
def test_a_process_that_trains_beside_lanes_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, left: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    see_one_gpu(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
