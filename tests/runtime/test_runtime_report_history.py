"""From a run's history to the report's curves, fits, calibration, times and stamps, and their charts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constraintlang_compiler.bounds import clopper_pearson_lower, clopper_pearson_upper
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.pooling import pool
from constraintlang_runtime.report.assemble import assemble
from constraintlang_runtime.report.data import Reliability, StageTime, report_data
from constraintlang_runtime.report.history import read_history
from constraintlang_runtime.report.html import render_html
from constraintlang_runtime.report.round_charts import reliability_chart, stage_chart

CELLS = [[0.1, 0.3, 50], [0.5, 0.5, 10], [0.9, 0.8, 40], [0.95, 0.0, 0]]


def round_(number: int, **changes: Any) -> dict[str, Any]:
    """What a round of two groups logs."""
    record: dict[str, Any] = {"step": 10 * number, "round": number}
    for group, rate in (("chat", 0.2), ("a/b", 0.05)):
        record |= {
            f"constraint/{group} clause/value": rate / (number + 1),
            f"constraint/{group} clause/standard_error": 0.01,
            f"constraint/{group} clause/samples": 200,
            f"constraint/{group} clause/bound": 0.1,
            f"constraint/{group} clause/dual": 1.0 + number,
            f"constraint/{group} clause/weight": 4.0,
            f"constraint/{group} clause/set_point": 0.06,
            f"{group}/seconds/sampling": 2.0,
            f"{group}/seconds/scoring": 1.0 + number,
        }
    return record | changes


def fit(group: str, loss: float) -> dict[str, Any]:
    own = f"{group}/auxiliary"
    return {
        f"{own}/heldout_loss": loss, f"{own}/constant_loss": 0.6, f"{own}/calibration_error": 0.03,
        f"{own}/explained_share": 0.4, f"{group}/exponent": 2.5, f"{group}/effective_sample_size": 100.0,
        f"{own}/reliability": CELLS,
    }  # fmt: skip


HISTORY = [
    round_(0, **fit("chat", 0.5), **fit("a/b", 0.3)),
    {"step": 5, "loss": 9.9, "loss_lm": 3.0, "loss_regularizer/chat": 0.2},
    round_(1),
    round_(2, **fit("chat", 0.45)),
]


def test_every_series_is_found() -> None:
    found = read_history(HISTORY)
    curves = found["curves"]
    assert {(p["step"], p["domain"]) for p in curves["violation_rate"]} == {
        (step, f"{group} clause") for step in (0, 10, 20) for group in ("chat", "a/b")
    }
    assert [p["value"] for p in curves["dual"] if p["domain"] == "chat clause"] == [1.0, 2.0, 3.0]
    assert {p["value"] for p in curves["weight"]} == {4.0}
    assert curves["loss"] == [{"step": 5, "value": 3.0, "domain": "corpus"}]
    assert curves["regularizer"] == [{"step": 5, "value": 0.2, "domain": "chat"}]
    assert [(p["domain"], p["value"]) for p in curves["auxiliary_loss"]] == [
        ("chat", 0.5), ("chat, constant law", 0.6), ("a/b", 0.3), ("a/b, constant law", 0.6),
        ("chat", 0.45), ("chat, constant law", 0.6),
    ]  # fmt: skip
    assert found["bounds"] == {"chat clause": 0.1, "a/b clause": 0.1}
    assert found["set_points"] == {"chat clause": 0.06, "a/b clause": 0.06}
    assert found["events"] == [{"step": 0, "label": "regularizer on"}]
    assert [(f["domain"], f["step"], f["strength"]) for f in found["fits"]] == [
        ("chat", 0, 2.5), ("a/b", 0, 2.5), ("chat", 20, 2.5),
    ]  # fmt: skip
    # times of the groups add up; of several fits the last one's reliability is shown
    assert {"round": 2, "stage": "scoring", "seconds": 6.0} in found["stages"]
    assert {"round": 0, "stage": "sampling", "seconds": 4.0} in found["stages"]
    assert [(r["domain"], r["step"]) for r in found["reliability"]] == [("chat", 20), ("a/b", 0)]
    assert found["stamps"] == []


def test_refits_show_the_balance_of_the_two_learners() -> None:
    """The first fit has no language model's movement to follow, and two refits make a line."""

    def refit(number: int, cost: float) -> dict[str, Any]:
        own = "chat/auxiliary"
        more = {f"{own}/steps": 200 >> number, f"{own}/speed": 0.03, f"{own}/speed_lm": cost}
        return round_(number, **fit("chat", 0.5), **more)

    first = round_(0, **fit("chat", 0.5), **{"chat/auxiliary/steps": 800, "chat/auxiliary/speed": 0.2})
    curves = read_history([first, refit(1, 0.04), refit(2, -0.01)])["curves"]
    assert [(p["step"], p["domain"], p["value"]) for p in curves["speed"]] == [
        (10, "chat, cost", 0.04), (10, "chat, won back", 0.03),
        (20, "chat, cost", -0.01), (20, "chat, won back", 0.03),
    ]  # fmt: skip
    assert [p["value"] for p in curves["refit_steps"]] == [100, 50]
    page = render_html(page_data(read_history([first, refit(1, 0.04), refit(2, -0.01)])))
    assert "Balance of the two learners" in page
    assert "Steps of each refit" in page
    assert "Steps of each refit" not in render_html(page_data(read_history([first, refit(1, 0.04)])))


def test_intervals_of_rates_are_exact_and_of_means_are_not() -> None:
    history = [
        round_(0, **{"constraint/chat clause/value": 0.0, "constraint/chat clause/standard_error": 0.0})
    ]
    exact = read_history(history, {"chat clause": "violation", "a/b clause": "mean"})["curves"][
        "violation_rate"
    ]
    assert exact[0]["lower"] == clopper_pearson_lower(0, 200, 0.025) == 0.0
    assert exact[0]["upper"] == clopper_pearson_upper(0, 200, 0.025) > 0.01
    assert exact[1]["upper"] == pytest.approx(0.05 + 1.96 * 0.01)


def test_the_unit_of_an_interval_is_the_prompt() -> None:
    """200 samples of 20 prompts are as wide as 20 samples; a record without prompts counts its samples."""
    rare = {"constraint/chat clause/value": 0.1, "constraint/chat clause/prompts": 20}
    (band, *_) = read_history([round_(0, **rare)], {"chat clause": "violation"})["curves"]["violation_rate"]
    assert (band["lower"], band["upper"]) == (
        clopper_pearson_lower(2, 20, 0.025), clopper_pearson_upper(2, 20, 0.025)
    )  # fmt: skip


def test_what_a_round_measured_counts_prompts_and_their_spread() -> None:
    """Ten samples of each of four prompts, all alike within a prompt, tell as much as four samples."""
    rate = np.array([0.0, 1.0, 0.0, 0.0])
    rows = [TokenRow((number,), (5, k), {}, False) for number in range(4) for k in range(10)]
    group = Group("g", (), (0,), rows[::10], 1.0, np.zeros(0))
    once = pool([group], [rate[:, None]], [rows[::10]])[0]
    often = pool([group], [np.repeat(rate, 10)[:, None]], [rows])[0]
    assert once.num_prompts == often.num_prompts == 4
    assert once.standard_error == pytest.approx((rate.var() / 4) ** 0.5)
    assert often.standard_error == pytest.approx(once.standard_error)
    assert often.mean == once.mean == 0.25
    unknown = pool([group], [np.repeat(rate, 10)[:, None]])[0]
    assert unknown.num_prompts == 40
    assert unknown.standard_error == pytest.approx((rate.var() / 40) ** 0.5)
    single = pool([group], [np.array([[0.0], [1.0]])], [rows[:2]])[0]
    assert single.standard_error == 0.5  # one prompt says nothing of others


def test_stamps_of_the_parallel_schedule_become_ages() -> None:
    history = [
        round_(n, **{"chat/stamp/samples": max(0, n - 1), "chat/stamp/auxiliary": max(0, n - 2)})
        for n in range(4)
    ]
    found = read_history(history)
    assert found["stamps"][3] == {"domain": "chat", "round": 3, "samples": 2, "auxiliary": 1, "duals": None}
    page = render_html(page_data(found))
    assert "Staleness, chat" in page
    assert "samples, round 3: 1<" in page
    assert "auxiliary, round 3: 2<" in page
    assert "Staleness" not in render_html(page_data(read_history(HISTORY)))


def page_data(found: dict[str, Any]) -> dict[str, Any]:
    system = {"name": "m", "label": "Model", "clauses": []}
    return {"title": "t", "policy_text": "words < 3", "systems": [system], **found}


def test_the_page_draws_them() -> None:
    page = render_html(page_data(read_history(HISTORY)))
    for title in (
        "Violation rate, chat clause", "Dual variable λ", "Weight ρ", "Training loss", "Regularizer",
        "Held-out loss", "Explained share", "Calibration, chat", "Calibration, a/b", "Seconds by stage",
        "Fits of the auxiliary models",
    ):  # fmt: skip
        assert title in page
    error = (50 * 0.2 + 40 * 0.1) / 100
    assert f"expected calibration error {100 * error:.0f}%, fit at step 20" in page
    assert "round 2, scoring: 6 s of 10 s" in page
    assert "bound 10%" in page
    assert "set-point 6%" in page
    assert ">nan" not in page
    assert not re.search(r'="-?(nan|inf)', page)


def test_one_fit_has_a_row_and_no_curve() -> None:
    page = render_html(page_data(read_history(HISTORY[:3])))
    assert "Held-out loss</th>" in page
    assert "<figcaption>Held-out loss" not in page
    assert "<figcaption>Calibration, chat" in page


def test_calibration_chart() -> None:
    found = Reliability(domain="chat", step=3, points=tuple(tuple(cell) for cell in CELLS))
    assert found.expected_error == pytest.approx(0.14)
    svg = str(reliability_chart(found, 2, title="Calibration"))
    discs = [float(r) for r in re.findall(r'r="([\d.]+)"', svg)]
    assert len(discs) == 3  # the empty cell is none
    assert discs == sorted(discs, reverse=True)  # small discs are drawn on top of large ones
    assert "predicted 10%, actual 30%, 50 sites" in svg
    empty = Reliability(domain="", step=0, points=((0.5, 0.5, 0),))
    assert str(reliability_chart(empty, 1, title="t")) == ""
    assert empty.expected_error == 0.0


def test_bars_stand_on_each_other() -> None:
    times = [
        StageTime(round=r, stage=s, seconds=v)
        for r in (0, 1)
        for s, v in (("a", 3.0), ("b", 1.0), ("c", 0.0))
    ]
    svg = str(stage_chart(times, ["a", "b", "c"], title="Seconds"))
    pattern = r' x="([\d.]+)" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"'
    bars = [tuple(map(float, found)) for found in re.findall(pattern, svg)]
    assert len(bars) == 4
    (x, y_a, h_a), (x_b, y_b, h_b) = bars[:2]
    assert x == x_b
    assert y_b + h_b == pytest.approx(y_a, abs=0.11)
    assert h_a == pytest.approx(3 * h_b, abs=0.31)
    assert str(stage_chart([], [], title="t")) == ""


def test_a_run_is_assembled(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "run" / "constraint").mkdir(parents=True)
    verdict = {"clauses": [], "losses": {}, "degeneracy": {}}
    (tmp_path / "eval" / "verdict.json").write_text(json.dumps(verdict))
    sample = {"prompt": "p", "completion": "c", "domain": None, "scores": {}, "statistic": None}
    (tmp_path / "eval" / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    record = {
        "history": HISTORY, "semantic_hash": "sha256:0", "model": "m", "steps": 20, "rows": 3, "seconds": 1.0,
        "settings": {}, "versions": {},
    }  # fmt: skip
    (tmp_path / "run" / "constraint" / "run.json").write_text(json.dumps(record))
    data = assemble(
        title="t", policy_text="words < 3", systems=[("m", "Model", tmp_path / "eval")], run=tmp_path / "run"
    )
    assert len(data.reliability) == 2
    assert "Calibration, chat" in render_html(data)
    with pytest.raises(DataError, match="points"):
        report_data(page_data({"reliability": [{"domain": "a", "step": 1, "points": [[0.1, 0.2]]}]}))
