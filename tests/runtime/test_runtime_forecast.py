"""What a dry run says of the time of the whole run: its parts from a history that is known, and a real one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tiny_models import World

from constraintc.main import main
from constraintlang import SourceFile
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime import forecast as module
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.forecast import Rounds, StepWatch, forecast

Captured = pytest.CaptureFixture[str]


class Clock:
    """Says the times that it was given, one after the other."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def perf_counter(self) -> float:
        return self.times.pop(0)


def watched(
    monkeypatch: pytest.MonkeyPatch, fits: list[list[tuple[int, float]]], steps: list[float]
) -> StepWatch:
    """After fits that said (done, at) and steps of so many seconds."""
    times = [at for fit in fits for _, at in fit]
    times += [
        bound
        for number, seconds in enumerate(steps)
        for bound in (1000.0 * number, 1000.0 * number + seconds)
    ]
    monkeypatch.setattr(module, "time", Clock(*times))
    told: list[Any] = []
    found = StepWatch(lambda *said: told.append(said))
    for fit in fits:
        for done, _ in fit:
            found.progress("auxiliary", done, 9)
        found.progress("sampling", 5, 5)
    for _ in steps:
        found.on_step_begin(None, None, None)
        found.on_step_end(None, None, None)
    assert len(told) == sum(map(len, fits)) + len(fits)
    return found


def config(**changes: Any) -> ConstraintConfig:
    return ConstraintConfig(output_dir="unused", use_cpu=True, **changes)


def rounds(made: ConstraintConfig) -> Rounds:
    policy = compile_source(SourceFile("edition 1\nattribute bad: flag\nrate: P(bad) <= 0.3\n"))
    return Rounds.of(ConstraintEngine(policy, made, None, None, [], int(made.max_steps), 0))  # type: ignore[arg-type]


HISTORY: list[dict[str, Any]] = [
    {
        "round": 0,
        "a/seconds/sampling": 30.0,
        "a/seconds/scoring": 3.0,
        "a/seconds/fitting": 16.0,
        "a/dual": 1.0,
    },
    {"round": 0, "b/seconds/sampling": 10.0, "b/seconds/scoring": 1.0, "b/seconds/fitting": 8.0},
    {"round": 1, "a/seconds/sampling": 6.0, "a/seconds/scoring": 1.0},
    {"round": 1, "b/seconds/sampling": 4.0, "b/seconds/scoring": 4.0},
    {"loss": 2.0},
]
TWO_FITS = [[(2, 100.0), (6, 108.0)], [(2, 200.0), (6, 208.0)]]  # 2 s a step, the first two not seen
SMALL = {
    "anchor": "start",
    "anchor_samples": 20,
    "control_samples": 20,
    "auxiliary_steps": 6,
    "max_steps": 3,
    "rounds": 1,
}


def test_the_rounds_of_a_run() -> None:
    sizes = {"max_steps": 100, "rounds": 10}
    assert rounds(config(anchor="start", **sizes)) == Rounds(0, 10, 0, 0)
    assert rounds(config(anchor="tuned", warmup_fraction=0.5, **sizes)) == Rounds(
        5, 6, 0, 50
    )  # one looks ahead
    assert rounds(config(anchor="current", **sizes)) == Rounds(0, 10, 9, 0)
    assert rounds(config(anchor="current", max_steps=20, rounds=16)) == Rounds(0, 10, 9, 0)
    assert rounds(config(method="plain", **sizes)) == Rounds(None, 11, 0, 100)


def test_the_parts_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(monkeypatch, TWO_FITS, [9.0, 5.0, 4.0])
    small = config(**SMALL)
    wanted = config(
        anchor="start", anchor_samples=200, control_samples=50, auxiliary_steps=80, max_steps=100, rounds=4
    )
    found = forecast(watch, HISTORY, (small, rounds(small)), (wanted, rounds(wanted)))
    assert found == {
        "training": 4.0 * 100,
        "sampling": 0.5 * (200 + 4 * 50),  # 10 s for 20 in the faster round
        "scoring": 0.2 * (200 + 4 * 50),
        "fitting": (24.0 - 2 * 6 * 2.0) / 20 * 200 + 2 * 80 * 2.0,
    }


def test_a_round_of_few_samples_has_its_own_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(monkeypatch, TWO_FITS, [9.0, 4.0])
    small = config(**SMALL | {"control_samples": 5})
    wanted = config(anchor="start", anchor_samples=200, control_samples=5, max_steps=100, rounds=4)
    found = forecast(watch, HISTORY, (small, rounds(small)), (wanted, rounds(wanted)))
    assert found["sampling"] == 2.0 * (200 + 4 * 5)  # 40 s for 20; 10 s for 5 are no more than that
    fast = [*HISTORY[:2], {"round": 1, "a/seconds/sampling": 20.0}]
    found = forecast(watch, fast, (small, rounds(small)), (wanted, rounds(wanted)))
    assert found["sampling"] == 2.0 * 200 + 4.0 * 4 * 5


def test_processes_share_the_batches_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(monkeypatch, TWO_FITS, [9.0, 4.0])
    small = config(**SMALL, sampling_batch_size=20)
    wanted = config(
        anchor="start",
        anchor_samples=200,
        control_samples=20,
        max_steps=100,
        rounds=4,
        sampling_batch_size=20,
    )
    found = forecast(watch, HISTORY, (small, rounds(small)), (wanted, rounds(wanted)), processes=4)
    assert found["sampling"] == pytest.approx(
        0.5 * (3 * 20 + 4 * 20)
    )  # 10 batches of the first round, 1 of the others


def test_steps_before_a_tuned_anchor_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(monkeypatch, TWO_FITS, [9.0, 1.0, 7.0, 3.0])
    small = config(**SMALL | {"anchor": "tuned", "max_steps": 4, "rounds": 2, "warmup_fraction": 0.5})
    wanted = config(anchor="tuned", max_steps=100, rounds=10, warmup_fraction=0.4)
    found = forecast(watch, HISTORY, (small, rounds(small)), (wanted, rounds(wanted)))
    assert found["training"] == 40 * 1.0 + 60 * 3.0


def test_every_member_and_every_refit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [[(2, 100.0), (18, 132.0)]]  # three of six steps each
    watch = watched(monkeypatch, members, [9.0, 4.0])
    history = [{"round": 0, "a/seconds/sampling": 20.0, "a/seconds/fitting": 46.0}]
    own = {"anchor": "current", "auxiliary_ensemble": 3}
    small = config(**SMALL | own)
    wanted = config(
        **own, anchor_samples=200, control_samples=40, auxiliary_steps=80, max_steps=100, rounds=5
    )
    fitting = forecast(watch, history, (small, rounds(small)), (wanted, rounds(wanted)))["fitting"]
    assert fitting == pytest.approx(0.5 * (200 + 4 * 40) + 2.0 * 3 * (80 + 4 * 20))


def test_a_fit_of_one_step_says_nothing_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [[(1, 100.0)]], [9.0]).fit_step == 0.0


def test_a_run_without_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(monkeypatch, [], [9.0, 4.0])
    history = [{"round": 0, "a/seconds/sampling": 8.0}, {"round": 1, "a/seconds/sampling": 4.0}]
    small, wanted = (config(method="plain", max_steps=n, control_samples=8, rounds=1) for n in (3, 50))
    found = forecast(watch, history, (small, rounds(small)), (wanted, rounds(wanted)))
    assert found == {"training": 200.0, "sampling": 8.0, "scoring": 0.0, "fitting": 0.0}


@pytest.mark.parametrize("changes", [{}, {"method": "plain"}, {"anchor": "current", "proposals": "auto"}])
def test_a_dry_run_says_it(world: World, tmp_path: Any, capsys: Captured, changes: dict[str, Any]) -> None:
    """`proposals: auto` asks for more batches than a dry run has."""
    flags = world.flags(tmp_path / "out", **changes, sampling_batch_size=8)
    assert main(["train", *flags, "--dry-run", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    stages = found["planned_seconds"]
    acts = changes.get("method") != "plain"
    assert {stage for stage, seconds in stages.items() if seconds > 0} == (
        {"training", "sampling", "scoring", "fitting"} - (set() if acts else {"fitting"})
    )
    assert main(["train", *flags, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "the whole run takes about" in out
    assert "6 steps" in out
