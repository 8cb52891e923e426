"""Multiple choice through lm-eval: from local files at small scales, lm-eval's own tasks at the paper's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from drawing import Measured
from intervals import rate
from job import Scale
from protocol_data import FOLDER, TASKS, read_rows

from constraintlang_runtime.benchmark_results import figures
from constraintlang_runtime.benchmark_tasks import Benchmarks, TaskSettings

BATCH = 16
TASK = """\
task: local_{name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: {text}
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
NORMALIZED = ("piqa", "hellaswag")  # whose published figure is acc_norm: choices of different lengths


def measure_choices(measured: Measured) -> dict[str, Any]:
    """Accuracy of each task with its exact interval and the chance of guessing.

    Below `paper` scale the questions lie in files (``protocol_data``) in the form of lm-eval's own tasks and no worked
    example stands before them. A small model is at the chance line; the page has to say so.
    """
    if measured.job.scale.name == "paper":
        return _by_name(measured)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task in TASKS:
            read_rows(measured.job.work, f"choices_{task}.jsonl")  # says what is missing
            file = (measured.job.work / FOLDER / f"choices_{task}.jsonl").resolve()
            text = "question" if task == "winogrande" else '"{{question}}"'
            (folder / f"{task}.yaml").write_text(
                TASK.format(name=task, file=json.dumps(str(file)), text=text)
            )
        found = _run(measured, TaskSettings(task_path=str(folder), num_fewshot=0))
    return {
        task: _figure(found[f"local_{task}"], f"local_{task}", "acc_norm" if task in NORMALIZED else "acc")
        for task in TASKS
    }


def _by_name(measured: Measured) -> dict[str, Any]:
    scale = measured.job.scale
    commonsense = tuple(task for task in TASKS if task != "mmlu")
    found = _run(measured, TaskSettings(commonsense, num_fewshot=0, limit=_limit(scale)))
    found |= _run(measured, TaskSettings(("mmlu",), num_fewshot=scale.choice_shots, limit=_limit(scale)))
    return {task: _figure(found[task], task, "acc_norm" if task in NORMALIZED else "acc") for task in TASKS}


def _limit(scale: Scale) -> int | None:
    return scale.choice_questions // len(TASKS) if scale.choice_questions else None


def _run(measured: Measured, settings: TaskSettings) -> dict[str, dict[str, Any]]:
    return Benchmarks.find(settings).run(measured.model, measured.tokenizer, batch_size=BATCH)


def _figure(results: dict[str, Any], task: str, metric: str) -> dict[str, Any]:
    """The metric over all questions below a task; a group such as MMLU has its subjects' questions together."""
    logged = [sample for samples in results["samples"].values() for sample in samples]
    answers = np.array([bool(sample[metric]) for sample in logged])
    known = [
        figure
        for figure in figures({task: results}, None)
        if figure.metric == metric and figure.chance is not None  # a group of tasks has none
    ]
    sizes = np.array([figure.n for figure in known], dtype=np.float64)
    chances = np.array([figure.chance for figure in known])
    return {
        **rate(answers),
        "metric": metric,
        "chance": float((sizes * chances).sum() / sizes.sum()) if len(sizes) else None,
        "shots": known[0].num_fewshot if known else None,
    }
