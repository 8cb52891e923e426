"""The steps of refits: few when there is nothing left to learn, more when the language model moves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import World

from constraintc.main import main
from constraintlang_runtime import fit_once, fitting
from constraintlang_runtime.auxiliary import AuxiliaryData, AuxiliaryHead, FitReport, fit
from constraintlang_runtime.auxiliary.ensemble import Ensemble
from constraintlang_runtime.auxiliary.fit_members import fit_members
from constraintlang_runtime.balance import Balance
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.schedule.records import from_bytes, pack_fits, to_bytes, unpack_fits
from constraintlang_runtime.schedule.work import GroupFit
from constraintlang_runtime.settings import ConstraintSettings

MOST = 200  # of 800


def report(steps: int, start: float, half: float, end: float, error: float = 0.01) -> FitReport:
    """A fit whose constant law loses 0.5 nats."""
    return FitReport(steps, end, start, half, end, error, error, end, 0.5, 0.0, ())


FIRST = Balance.of_first(report(800, 0.5, 0.32, 0.3), 800)


def steps_of(balance: Balance, refits: list[tuple[float, float, float]], **more: float) -> list[int]:
    """Steps of refits with these losses at the start, the half and the end, and of the one after them."""
    found = [balance.steps]
    for losses in refits:
        balance = balance.after(report(balance.steps, *losses, **more), 800)
        found.append(balance.steps)
    return found


# ------------------------------------------------------------ the rule
def test_steps_fall_to_the_floor_when_nothing_is_left_to_learn() -> None:
    assert steps_of(FIRST, [(0.3, 0.299, 0.298)] * 5) == [MOST, 100, 50, 25, 25, 25]


def test_steps_rise_when_the_language_model_moves() -> None:
    """By what its movement cost, although the refit's second half won nothing."""
    low = replace(FIRST, steps=25)
    assert steps_of(low, [(0.4, 0.3, 0.3)] * 4) == [25, 50, 100, MOST, MOST]
    assert (
        steps_of(low, [(0.4, 0.3, 0.3)] * 3, error=0.08) == [25] * 4
    )  # 0.1 is within two errors of two samples
    assert steps_of(low, [(0.304, 0.3, 0.3)] * 3, error=0.0) == [25] * 4  # and this is nothing


def test_steps_rise_while_the_refit_ends_before_it_has_followed() -> None:
    assert steps_of(replace(FIRST, steps=25), [(0.3, 0.3, 0.28), (0.28, 0.27, 0.25)]) == [25, 50, 100]


def test_an_auxiliary_model_worse_than_the_constant_law_is_never_content() -> None:
    """Where a refit wins nothing back, what the movement cost once is still owed in the next rounds."""
    assert steps_of(replace(FIRST, steps=25), [(0.7, 0.7, 0.7)] * 3) == [25, 50, 100, MOST]


def test_the_speed_of_the_language_model_compares_rounds_of_different_rates() -> None:
    """The same law is worth the same beside a constant law that has less to lose."""
    rarer = replace(report(100, 0.05, 0.05, 0.05), constant_loss=0.25)
    assert FIRST.speed_lm(rarer) == pytest.approx(0.0)
    assert FIRST.speed_lm(replace(rarer, start_loss=0.15)) == pytest.approx(0.1)


def test_few_steps_are_at_least_one() -> None:
    balance = Balance.of_first(report(3, 0.5, 0.3, 0.3), 3)
    assert balance.steps == 1
    assert balance.after(report(1, 0.3, 0.3, 0.3), 3).steps == 1


# ------------------------------------------------------------ fits
def labelled(seed: int, flipped: bool) -> AuxiliaryData:
    """Sequences of four sites whose bin the sign of their first feature tells, or the opposite sign."""
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.arange(300).repeat_interleave(4)
    features = torch.randn(300, 6, generator=generator).repeat_interleave(4, 0)
    bins = ((features[:, 0] > 0) != flipped).long()
    site = torch.arange(1200)
    follows = torch.where(site % 4 == 0, torch.full_like(site, -1), site - 1)
    tokens = torch.randint(5, (1200,), generator=generator)
    return AuxiliaryData(features, tokens, bins, sequence, follows, [TokenRow((), (0,) * 4, {}, False)] * 300)


def fitted(head: Any, data: AuxiliaryData, steps: int, **more: Any) -> FitReport:
    train = fit_members if isinstance(head, Ensemble) else fit
    return train(
        head, data, lambda features: torch.zeros(len(features), 5), steps=steps, learning_rate=1e-2, batch_size=64,
        consistency_weight=0.0, weight_decay=0.0, seed=1, **more,
    )  # fmt: skip


def heads(count: int) -> list[AuxiliaryHead]:
    torch.manual_seed(0)
    return [AuxiliaryHead(6, 5, 2, rank=2, width=8) for _ in range(count)]


@pytest.mark.parametrize("members", [1, 2])
def test_fits_of_a_law_that_stays_and_then_turns(members: int) -> None:
    head: Any = heads(1)[0] if members == 1 else Ensemble(heads(members))
    first = fitted(head, labelled(0, False), 120)
    assert first.gain > 0.2
    balance = Balance.of_first(first, 120)
    counts, costs = [], []
    for number in range(1, 9):
        last, found = balance, fitted(head, labelled(number, number >= 5), balance.steps, of_steps=120)
        balance = balance.after(found, 120)
        counts.append(found.steps)
        costs.append(last.speed_lm(found))
    assert counts == [30, 15, 7, 3, 3, 6, 12, 24]
    assert costs[4] > max(costs[:4]) + 0.5


def test_gains_are_parts_of_the_heldout_losses() -> None:
    found = fitted(heads(1)[0], labelled(0, False), 60)
    assert found.start_loss > found.half_loss >= found.end_loss == found.heldout_loss
    assert (
        found.gain == found.start_loss - found.end_loss > found.late_gain == found.half_loss - found.end_loss
    )


def test_the_error_counts_sequences_and_not_their_sites() -> None:
    """Against the spread of the means of sequences of equal length."""
    head, data = heads(1)[0], labelled(3, False)
    found = fitted(head, data, 0)
    kept = torch.rand(300, generator=torch.Generator().manual_seed(1)) < 0.1
    labels = data.bins[::4]
    counts = torch.bincount(data.bins[~kept[data.sequence]], minlength=2).double() + 0.5
    base = (counts / counts.sum()).log()
    with torch.no_grad():
        law = head.one_token(data.features, data.tokens).double()
    away = -law.gather(1, data.bins[:, None]).reshape(300, 4).mean(1) + base[labels]
    chosen = away[kept].numpy()
    assert found.start_error == pytest.approx(np.std(chosen, ddof=1) / len(chosen) ** 0.5, rel=1e-4, abs=1e-6)
    again = fitted(heads(1)[0], data, 60)
    assert 0.001 < again.end_error < 0.1


def test_a_refit_goes_through_the_end_of_the_learning_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def seen(self: Any, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", seen)
    fitted(heads(1)[0], labelled(0, False), 20)
    whole = rates.copy()
    rates.clear()
    fitted(heads(1)[0], labelled(0, False), 5, of_steps=20)
    assert rates == pytest.approx(whole[-5:])
    assert whole[0] == pytest.approx(1e-2)


# ------------------------------------------------------------ runs
BOTH = pytest.mark.parametrize("schedule", ["sequential", "parallel"])
STILL: dict[str, Any] = {
    "anchor": "current", "learning_rate": 0.0, "max_steps": 6, "rounds": 6, "auxiliary_steps": 64,
    "control_samples": 80, "save_steps": 3,
}  # fmt: skip
OWN = ("steps", "speed", "speed_lm", "late_gain")


def logged(output: Path) -> list[list[Any]]:
    """What every fit of a run logs of its balance, first to last."""
    history = json.loads((output / "constraint" / "run.json").read_text())["history"]
    fits = [record for record in history if "chat/auxiliary/steps" in record]
    return [[record.get(f"chat/auxiliary/{name}") for name in OWN] for record in fits]


@BOTH
def test_a_model_that_stands_still_and_resumed_runs(world: World, tmp_path: Path, schedule: str) -> None:
    """The steps fall, and a run that is resumed while they do goes on with the same ones, to the same bits."""
    expected, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert main(["train", *world.flags(expected, schedule=schedule, **STILL)]) == 0
    found = logged(expected)
    steps = [fit[0] for fit in found]
    assert steps[:2] == [64, 16]
    assert found[0][2] is None
    assert min(steps) <= 4
    assert all(fit[2] is not None for fit in found[1:])
    shutil.copytree(expected, resumed)
    shutil.rmtree(resumed / "checkpoints" / "checkpoint-6")
    (resumed / "constraint" / "run.json").unlink()
    assert main(["train", *world.flags(resumed, schedule=schedule, **STILL), "--resume"]) == 0
    assert logged(resumed) == found
    for name in ("constraint.json", "constraint.safetensors"):
        assert (resumed / "constraint" / name).read_bytes() == (expected / "constraint" / name).read_bytes()


@BOTH
def test_steps_of_a_run_follow_what_its_fits_report(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    """The language model stands still for three refits and moves from then on."""
    counts: list[int] = []

    def told(head: Any, data: Any, logits: Any, *, steps: int, **more: Any) -> FitReport:
        counts.append(steps)
        start = 0.3 if len(counts) < 5 else 0.4
        return report(steps, start, 0.3, 0.3)

    monkeypatch.setattr(fitting, "fit", told)
    flags = world.flags(
        tmp_path / "run", anchor="current", schedule=schedule, max_steps=8, rounds=8, auxiliary_steps=64,
        save_strategy="no",
    )  # fmt: skip
    assert main(["train", *flags]) == 0
    fits = logged(tmp_path / "run")
    assert counts == [64, 16, 8, 4, 2, 4, 8, 16][: len(counts)]
    assert [fit[0] for fit in fits] == counts
    assert len(counts) >= 7
    assert [fit[2] for fit in fits[1:]] == pytest.approx([0.0] * 3 + [0.1] * (len(counts) - 4))


# ------------------------------------------------------------ on the way
def test_a_fit_keeps_its_balance_on_the_way_between_processes() -> None:
    balance = Balance(37, 0.1, -1 / 3, 0.2 / 3)
    record, tensors = from_bytes(to_bytes(*pack_fits([GroupFit(None, None, np.zeros((0, 0)), balance)])))
    assert unpack_fits(record, tensors)[0].balance == balance


def test_every_process_takes_the_balance_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else ranks that rounded differently would make different numbers of steps."""

    def group(balance: Balance) -> Group:
        return Group("chat", (), (), [], 1.0, np.zeros(0), balance=balance)

    first, other = group(Balance(25, 0.1, -0.2, 0.01)), group(Balance(50, 0.1, -0.2, 0.01))
    told = report(25, 0.3, 0.3, 0.3)
    monkeypatch.setattr(fit_once, "rank_and_size", lambda: (1, 2))
    monkeypatch.setattr(fit_once, "from_main", lambda _: (told, [first.fitted_state()]))
    anchor: Any = type("Standing", (), {"model": torch.nn.Linear(1, 1)})()
    found = fit_once.fit_once(
        other, anchor, Measurement([], np.zeros((0, 0))), ConstraintSettings(), None, [], seed=0, corpus=None
    )
    assert found == told
    assert other.balance == first.balance
