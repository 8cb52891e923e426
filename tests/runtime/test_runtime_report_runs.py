"""Several runs on one page: their curves on the same axes, and losses that nobody measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from constraintc.main import main
from constraintlang_runtime.report.data import RunCurves, report_data
from constraintlang_runtime.report.panels import Panel
from constraintlang_runtime.report.run_panels import run_panels

POLICY = "edition 1\nkind: words <= 9\n"
CLAUSE = {
    "clause": "kind", "domain": None, "kind": "violation", "n": 50, "estimate": 0.04, "lower": 0.01, "upper": 0.1,
    "bound": 0.05, "verdict": "inconclusive",
}  # fmt: skip


def history(rates: list[float], bound: float = 0.05) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, rate in enumerate(rates):
        found.append({
            "step": 10 * number, "round": number, "constraint/kind/value": rate, "constraint/kind/samples": 200,
            "constraint/kind/bound": bound, "constraint/kind/dual": 1.0 + number, "constraint/kind/weight": 2.0,
        })  # fmt: skip
        found.append({"step": 10 * number + 5, "loss_lm": 3.0 - rate, "loss_regularizer/chat": rate})
    return found


def write_run(
    place: Path, name: str, rates: list[float], losses: dict[str, float], *, bound: float = 0.05
) -> Path:
    for folder in (place / name / "constraint", place / f"{name}-eval"):
        folder.mkdir(parents=True)
    record = {
        "history": history(rates, bound),
        "settings": {},
        "semantic_hash": "h",
        "seconds": 1.0,
        "versions": {},
    }
    record |= {"model": "m", "steps": 20, "rows": 5}
    (place / name / "constraint" / "run.json").write_text(json.dumps(record))
    verdict = {"clauses": [CLAUSE], "losses": losses, "degeneracy": {}, "settings": {}}
    (place / f"{name}-eval" / "verdict.json").write_text(json.dumps(verdict))
    (place / f"{name}-eval" / "samples.jsonl").write_text("")
    return place / name


def panels(*runs: RunCurves) -> dict[str, Panel]:
    groups = run_panels(runs, report_data({"title": "t", "policy_text": "p", "systems": [
        {"name": "a", "label": "a", "clauses": [CLAUSE]}]}).systems[0].clauses)  # fmt: skip
    return {panel.title: panel for group in groups for panel in group.panels}


def curves(label: str, rates: list[float], bound: float = 0.05) -> RunCurves:
    from constraintlang_runtime.report.history import read_history

    found = read_history(history(rates, bound))
    page = {"title": "t", "policy_text": "p", "systems": [{"name": "a", "label": "a", "clauses": []}]}
    run = {"label": label, "curves": found["curves"], "bounds": found["bounds"]}
    return report_data({**page, "runs": [run]}).runs[0]


def ends(panel: Panel) -> dict[str, tuple[float, float]]:
    """Of each line, where it begins and ends."""
    found = re.findall(r'<polyline class="line([^"]*)" points="([^"]*)"', panel.svg)
    points = {kind.strip(): [p.split(",") for p in path.split()] for kind, path in found}
    return {kind: (float(path[0][0]), float(path[-1][0])) for kind, path in points.items()}


def test_a_chart_has_a_line_for_each_run_on_the_same_axes() -> None:
    found = panels(curves("long", [0.3, 0.2, 0.1]), curves("short", [0.3, 0.1]))
    assert list(found) == [
        "Violation rate, kind", "Dual variable λ, kind", "Weight ρ, kind", "Training loss, corpus", "Regularizer, chat",
    ]  # fmt: skip
    for panel in found.values():
        assert [name for name, mark in panel.legend if mark.startswith("c")] == ["long", "short"]
        lines = ends(panel)
        assert set(lines) == {"c1", "c2"}
        assert lines["c1"][0] == lines["c2"][0]
        assert lines["c1"][1] > lines["c2"][1]  # it was stopped early, and ends early
    starts = {ends(found[title])["c1"][0] for title in ("Training loss, corpus", "Regularizer, chat")}
    assert len(starts) == 1
    assert starts != {ends(found["Weight ρ, kind"])["c1"][0]}  # step 5 lies right of step 0 in every chart
    assert ("bound 5%", "bound") in found["Violation rate, kind"].legend


def test_runs_under_other_bounds_show_each() -> None:
    found = panels(curves("a", [0.3, 0.2]), curves("b", [0.2, 0.1], bound=0.1))
    bounds = [name for name, mark in found["Violation rate, kind"].legend if mark == "bound"]
    assert bounds == ["bound 5%", "bound 10%"]


def test_a_run_without_a_series_has_no_line_there() -> None:
    silent = curves("silent", [0.3, 0.2])
    silent = RunCurves(label="silent", curves={"loss": silent.curves["loss"]})
    found = panels(curves("loud", [0.3, 0.2]), silent)
    assert [name for name, _ in found["Dual variable λ, kind"].legend] == ["loud"]
    assert [name for name, _ in found["Training loss, corpus"].legend] == ["loud", "silent"]
    assert panels(curves("alone", [0.3])) == {}


def test_the_seventh_run_repeats_a_colour_with_dashes() -> None:
    found = panels(*(curves(f"run {k}", [0.3, 0.2]) for k in range(7)))
    assert found["Weight ρ, kind"].legend[0] == ("run 0", "c1")
    assert found["Weight ρ, kind"].legend[6] == ("run 6", "c1 reference")


def test_the_command_compares_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "p.policy").write_text(POLICY)
    runs = [
        write_run(tmp_path, "plain", [0.3, 0.28, 0.29], {"utility": 2.5}),
        write_run(tmp_path, "<b>&", [0.3, 0.1], {"other": 2.0}),
    ]
    page = tmp_path / "page.html"
    words = ["report", str(tmp_path / "p.policy"), *map(str, runs), "--output", str(page)]
    assert main(words) == 0
    out, err = capsys.readouterr()
    text = page.read_text()
    assert "Runs compared" in text
    assert text.count('<i class="c2"></i>&lt;b&gt;&amp;') == 5
    assert "<b>&" not in text
    # what was not measured says so, and how to measure it
    assert ("2.5000" in out, "not measured" in out) == (True, True)
    assert "Utility loss is not measured for <b>&: run" in err
    assert "--rows utility=FILE" in err
    assert "name a set that was measured (utility, other) with `--utility NAME`" in err
    assert "<code>--rows utility=FILE</code>" in text
    assert "Compliant loss" not in err + text  # nobody measured that one
    assert "compliant" not in out
    assert "not measured" in text
    assert main([*words, "--utility", "other", "--compliant", "utility"]) == 0
    err = capsys.readouterr().err
    assert "Utility loss is not measured for plain:" in err
    assert "Compliant loss is not measured for <b>&:" in err


def test_one_run_is_not_compared_and_measured_losses_need_no_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.policy").write_text(POLICY)
    run = write_run(tmp_path, "one", [0.3, 0.2], {"utility": 2.5, "compliant": 2.0})
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "p.policy"), str(run), "--output", str(page)]) == 0
    assert "not measured" not in capsys.readouterr().err + page.read_text()
    assert "Runs compared" not in page.read_text()
    (run / "constraint" / "run.json").write_text('{"history": []}')
    assert main(["report", str(tmp_path / "p.policy"), str(run), "--output", str(page)]) == 2
    assert "so it is no record of `constraintc train`" in capsys.readouterr().err


def test_the_only_set_that_was_measured_is_the_utility(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "p.policy").write_text(POLICY)
    run = write_run(tmp_path, "one", [0.3], {"recipes": 2.75, "compliant": 1.5})
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "p.policy"), str(run), "--output", str(page)]) == 0
    out, err = capsys.readouterr()
    assert "2.7500" in out
    assert "Utility loss is not" not in err
    assert "The utility loss is the loss on the rows <code>recipes</code>" in page.read_text()
