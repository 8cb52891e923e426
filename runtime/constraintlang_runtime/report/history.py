"""From the history of a run (``run.json``) to what a report draws of it: series, fits, calibration, times, stamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constraintlang_compiler.bounds import clopper_pearson_lower, clopper_pearson_upper

RATES = ("violation", "probability")
REFERENCE = ", constant law"  # ends the name of a line that another one is compared with
Curves = dict[str, list[dict[str, Any]]]


def read_history(
    history: Sequence[Mapping[str, Any]], kinds: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The fields of ``ReportData`` that a run's history fills; ``kinds`` are those of the clauses, by name.

    Intervals of measured values: exact (Clopper-Pearson) where the clause is a rate, else 1.96 standard errors, the
    prompt the unit in both, as of verdicts (older runs do not say how many there were). Of the reliability of an
    auxiliary model the last fit of each group is kept.
    """
    found: dict[str, Any] = {
        "curves": {}, "bounds": {}, "set_points": {}, "events": [], "fits": [], "stages": [], "stamps": [],
    }  # fmt: skip
    reliability: dict[str, dict[str, Any]] = {}
    seconds: dict[tuple[int, str], float] = {}
    for record in history:
        step = record.get("step", 0)
        if not found["events"] and any(key.endswith("/dual") for key in record):
            found["events"].append({"step": step, "label": "regularizer on"})
        for key in record:
            if key.startswith("constraint/") and key.endswith("/value"):
                _clause(record, key.removeprefix("constraint/").removesuffix("/value"), found, kinds or {})
        _losses(record, step, found["curves"])
        for group in _groups(record):
            _fit(record, group, step, found)
            points = record.get(f"{group}/auxiliary/reliability")
            if points:
                reliability[group] = {"domain": group, "step": step, "points": points}
            stamp = {k: record.get(f"{group}/stamp/{k}") for k in ("samples", "auxiliary", "duals")}
            if any(value is not None for value in stamp.values()):
                found["stamps"].append({"domain": group, "round": record.get("round", 0), **stamp})
            prefix = f"{group}/seconds/"
            for key, spent in record.items():
                if key.startswith(prefix):
                    place = (int(record.get("round", 0)), key.removeprefix(prefix))
                    seconds[place] = seconds.get(place, 0.0) + float(spent)
    found["stages"] = [{"round": r, "stage": stage, "seconds": s} for (r, stage), s in seconds.items()]
    found["reliability"] = list(reliability.values())
    return found


def _clause(record: Mapping[str, Any], clause: str, found: dict[str, Any], kinds: Mapping[str, str]) -> None:
    """The measured value of a clause, and what its controller stood at."""
    prefix, step, curves = f"constraint/{clause}", record.get("step", 0), found["curves"]
    value = float(record[f"{prefix}/value"])
    error = 1.96 * float(record.get(f"{prefix}/standard_error", 0.0))
    lower, upper = max(0.0, value - error), value + error
    n = int(record.get(f"{prefix}/prompts", record.get(f"{prefix}/samples", 0)))
    if kinds.get(clause, "violation") in RATES and n and 0 <= value <= 1:
        failures = round(value * n)
        lower, upper = clopper_pearson_lower(failures, n, 0.025), clopper_pearson_upper(failures, n, 0.025)
    point = {"step": step, "domain": clause}
    curves.setdefault("violation_rate", []).append({**point, "value": value, "lower": lower, "upper": upper})
    for name in ("dual", "weight"):
        if f"{prefix}/{name}" in record:
            curves.setdefault(name, []).append({**point, "value": record[f"{prefix}/{name}"]})
    for name, target in (("bound", "bounds"), ("set_point", "set_points")):
        if f"{prefix}/{name}" in record:
            found[target][clause] = record[f"{prefix}/{name}"]


def _losses(record: Mapping[str, Any], step: float, curves: Curves) -> None:
    if "loss_lm" in record:
        curves.setdefault("loss", []).append({"step": step, "value": record["loss_lm"], "domain": "corpus"})
    for key, value in record.items():
        if key.startswith("loss_regularizer/"):
            group = key.removeprefix("loss_regularizer/")
            curves.setdefault("regularizer", []).append({"step": step, "value": value, "domain": group})
        elif key.startswith("preserve/") and key.endswith("/spent"):
            clause = key.removeprefix("preserve/").removesuffix("/spent")
            spent = max(0.0, value)  # rows that the model now knows better than the start model spend nothing
            curves.setdefault("budget", []).append({"step": step, "value": spent, "domain": clause})


def _groups(record: Mapping[str, Any]) -> list[str]:
    """The groups that a record speaks of: what stands before a key of theirs."""
    found: dict[str, None] = {}
    for key in record:
        for mark in ("/auxiliary/", "/seconds/", "/stamp/"):
            group, is_there, rest = key.rpartition(mark)
            if is_there and "/" not in rest:
                found.setdefault(group)
    return list(found)


def _fit(record: Mapping[str, Any], group: str, step: float, found: dict[str, Any]) -> None:
    """A fit of the group's auxiliary model, as a row of the table and as points of its curves."""
    own = f"{group}/auxiliary"
    if f"{own}/heldout_loss" not in record:
        return
    fit = {
        "domain": group,
        "step": step,
        "heldout_loss": record[f"{own}/heldout_loss"],
        "constant_loss": record[f"{own}/constant_loss"],
        "calibration_error": record.get(f"{own}/calibration_error"),
        "explained_share": record.get(f"{own}/explained_share"),
        "strength": record.get(f"{group}/exponent"),
        "effective_sample_size": record.get(f"{group}/effective_sample_size"),
    }
    found["fits"].append(fit)
    curves: Curves = found["curves"]
    loss = curves.setdefault("auxiliary_loss", [])
    loss.append({"step": step, "value": fit["heldout_loss"], "domain": group})
    loss.append({"step": step, "value": fit["constant_loss"], "domain": f"{group}{REFERENCE}"})
    if f"{own}/speed_lm" in record:  # not the first fit
        for key, line in (("speed_lm", f"{group}, cost"), ("speed", f"{group}, won back")):
            point = {"step": step, "value": record[f"{own}/{key}"], "domain": line}
            curves.setdefault("speed", []).append(point)
        steps = {"step": step, "value": record[f"{own}/steps"], "domain": group}
        curves.setdefault("refit_steps", []).append(steps)
    for name in ("explained_share", "effective_sample_size"):
        if fit[name] is not None:
            curves.setdefault(name, []).append({"step": step, "value": fit[name], "domain": group})
