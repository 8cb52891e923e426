"""Figures of benchmarks: metrics with standard errors and chance, and paired differences from a base model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.report.records import TaskFigure
from constraintlang_runtime.verification import UtilityEvidence

Floats = NDArray[np.float64]
ACCURACY = "acc"


def figures(
    own: Mapping[str, Mapping[str, Any]], base: Mapping[str, Mapping[str, Any]] | None
) -> list[TaskFigure]:
    """Every metric of every task, from what ``Benchmarks.run`` returns for the model and for the base model."""
    found: list[TaskFigure] = []
    for name, results in own.items():
        other = None if base is None else base[name]
        for task, metrics in results["results"].items():
            for key in metrics:
                metric, comma, rule = key.partition(",")
                if not comma or metric.endswith("_stderr") or not _is_number(metrics[key]):
                    continue
                found.append(_figure(task, metric, rule, results, other))
    return found


def accuracies(
    own: Mapping[str, Mapping[str, Any]], base: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, UtilityEvidence]:
    """For each task with accuracies of single questions, what a `preserve` clause about accuracy is judged on."""
    if base is None:
        return {}
    evidence: dict[str, UtilityEvidence] = {}
    for name, results in own.items():
        for task in results["results"]:
            pair = _paired(results, base[name], task, ACCURACY, "none")
            if pair is not None:
                evidence[task] = UtilityEvidence(
                    model_sums=pair[0], base_sums=pair[1], counts=np.ones(len(pair[0]))
                )
    return evidence


def _figure(
    task: str, metric: str, rule: str, own: Mapping[str, Any], base: Mapping[str, Any] | None
) -> TaskFigure:
    metrics = own["results"][task]
    counted = own.get("n-samples", {}).get(task, {})
    figure = {
        "value": float(metrics[f"{metric},{rule}"]),
        "stderr": _number(metrics.get(f"{metric}_stderr,{rule}")),
        "n": int(counted.get("effective") or metrics.get("sample_len") or 0),
        "num_fewshot": own.get("n-shot", {}).get(task),
        "higher_is_better": (own.get("higher_is_better", {}).get(task) or {}).get(metric),
        "chance": _chance(own, task) if metric.startswith(ACCURACY) else None,
    }
    if base is not None:
        other = base["results"][task]
        value = float(other[f"{metric},{rule}"])
        figure |= {
            "base": value,
            "base_stderr": _number(other.get(f"{metric}_stderr,{rule}")),
            "difference": figure["value"] - value,
            "difference_stderr": _paired_error(own, base, task, metric, rule, figure["value"] - value),
        }
    return TaskFigure(task=task, metric=metric if rule == "none" else f"{metric} ({rule})", **figure)


def _paired_error(
    own: Mapping[str, Any], base: Mapping[str, Any], task: str, metric: str, rule: str, difference: float
) -> float | None:
    """Standard error of the mean difference: sd of the paired differences / √n."""
    pair = _paired(own, base, task, metric, rule)
    if pair is None or len(pair[0]) < 2:
        return None
    gaps = pair[0] - pair[1]
    if not math.isclose(float(gaps.mean()), difference, abs_tol=1e-9):
        return None  # the figure is no mean over questions
    return float(gaps.std(ddof=1) / math.sqrt(len(gaps)))


def _paired(
    own: Mapping[str, Any], base: Mapping[str, Any], task: str, metric: str, rule: str
) -> tuple[Floats, Floats] | None:
    """A metric of single questions under both models, in the order of bets; None where it is not logged."""
    mine, theirs = (_answers(results, task, metric, rule) for results in (own, base))
    if not mine or mine.keys() != theirs.keys():
        return None
    asked = {s["doc_id"]: s.get("doc") for s in own["samples"][task]}
    order = bet_order(bet_keys(f"{question} {asked[question]!r}" for question in mine))
    questions = [[*mine][place] for place in order.tolist()]
    return np.array([mine[one] for one in questions]), np.array([theirs[one] for one in questions])


def _answers(results: Mapping[str, Any], task: str, metric: str, rule: str) -> dict[Any, float]:
    logged = [s for s in results.get("samples", {}).get(task, ()) if s.get("filter", "none") == rule]
    values = {s["doc_id"]: s.get(metric) for s in logged}
    if not all(_is_number(value) for value in values.values()):
        return {}
    return {question: float(value) for question, value in values.items()}


def _chance(results: Mapping[str, Any], task: str) -> float | None:
    """The mean of 1/(number of choices) over the questions of a multiple choice; None elsewhere."""
    if results.get("configs", {}).get(task, {}).get("output_type") != "multiple_choice":
        return None
    logged = results.get("samples", {}).get(task, ())
    # `acc_mutual_info` asks for every choice a second time, without the question
    times = 2 if any("acc_mutual_info" in s.get("metrics", ()) for s in logged) else 1
    choices = [len(s["arguments"]) / times for s in logged]
    return float(np.mean([1.0 / count for count in choices])) if choices and min(choices) > 0 else None


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, np.bool_)) and math.isfinite(float(value))
