"""The speed benchmark where the device's memory does not suffice: a row says so, and the next is measured."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the folder are found by their plain names, as when a script of it runs, and by this test alone."""
    monkeypatch.syspath_prepend(str(SPEED.parent))
    monkeypatch.syspath_prepend(str(SPEED))
    names = [path.stem for path in SPEED.glob("*.py")]
    of_others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(of_others)


def full(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def run_py(patch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed_run", SPEED / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, module)  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_a_system_without_room_is_left_and_the_others_go_on() -> None:
    timing = importlib.import_module("timing")
    calls: list[str] = []

    def second(number: int) -> None:
        calls.append("second")
        if number == 1:  # after it was timed once
            full()

    systems = {"first": lambda number: calls.append("first"), "second": second}
    seconds = timing.interleaved(systems, 3, torch.device("cpu"))
    assert len(seconds["first"]) == 3
    assert seconds["second"] == []
    assert calls.count("second") == 3  # the warm-up, one timed call, and the one that failed
    assert timing.summary(seconds["second"], seconds["first"]) == {"not_measured": "out of memory"}
    assert "ratio" not in timing.summary(seconds["first"], seconds["second"])


def test_the_rows_of_a_vocabulary_without_room_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = importlib.import_module("parts")
    monkeypatch.setattr(parts, "SITES", 4)
    monkeypatch.setattr(parts, "measured_peak", lambda *_: SimpleNamespace(flops=1e9))
    vocabulary_loss = importlib.import_module("constraintlang_runtime.vocabulary_loss")
    real = vocabulary_loss.vocabulary_loss

    def small(hidden: Any, head: Any, terms: Any, chunk: int) -> Any:
        return full() if len(terms) > 1 else real(hidden, head, terms, chunk)

    monkeypatch.setattr(vocabulary_loss, "vocabulary_loss", small)
    rows = parts.vocabulary_losses([16], 8, "cpu", False, 2)
    assert {row["system"]: row.get("not_measured", "measured") for row in rows} == {
        "cross entropy of torch": "measured", "labels": "measured",
        "labels, reverse to a frozen anchor": "out of memory", "labels, reverse to the current anchor": "out of memory",
    }  # fmt: skip
    monkeypatch.setattr(importlib.import_module("constraintlang_runtime.auxiliary"), "AuxiliaryHead", full)
    assert parts.vocabulary_losses([16, 32], 8, "cpu", False, 2) == [
        {"part": "vocabulary", "system": "all", "not_measured": "out of memory", "vocab": vocab} for vocab in (16, 32)
    ]  # fmt: skip


def test_a_part_without_room_is_a_row_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run, workload = run_py(monkeypatch), importlib.import_module("workload")
    monkeypatch.setattr(importlib.import_module("parts"), "round_parts", full)
    monkeypatch.setattr(importlib.import_module("decoding"), "decoding", full)
    args = argparse.Namespace(
        shared=Path(), work=Path(), only=["parts", "decode"], small=True, vocab=None, length=None, options=None,
        repeats=None, runs=1, scale=None, epochs=None, schedules=["sequential"], threads=1, again=False, device="cpu",
        seed=0,
    )  # fmt: skip
    work = workload.Workload("tiny", 2000, 64, 4, "cpu", False, False, 0, 16, 0.5, 0, ".")
    rows = [row for part in run.planned(args, work, [2000], False, True) for row in part.run()]
    assert [(row["part"], row["not_measured"]) for row in rows] == [
        ("parts", "out of memory"), ("decode", "out of memory")
    ]  # fmt: skip
    assert run.told(rows[0]) == "all: not measured: out of memory"
    page = importlib.import_module("page")
    assert "not measured: out of memory" in page._table(rows, page.TABLES[3][3])
    assert page._charts([{**rows[0], "part": "vocabulary", "vocab": 16}])[1] == ""
