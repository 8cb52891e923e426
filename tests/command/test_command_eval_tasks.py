"""``constraintc eval --tasks``: benchmarks of lm-eval over local files, against the model's own log-probabilities."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import World, tiny_llama, write_jsonl

from constraintc.main import main
from constraintlang_runtime.benchmark_results import accuracies, figures
from constraintlang_runtime.demo import language
from constraintlang_runtime.errors import ConfigError

pytest.importorskip("lm_eval", reason="SKIPPED ALOUD: lm_eval is not installed, so no benchmark is tested")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of lm-eval and what it imports
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

Captured = pytest.CaptureFixture[str]
WORDS = language.vocabulary()
QUESTIONS = [
    {
        "question": " ".join(WORDS[i : i + 3]),
        "choices": [WORDS[(7 * i + k) % len(WORDS)] for k in range(2 + i % 3)],
        "answer": i % 2,
    }
    for i in range(24)
]
TASK = """\
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    file = write_jsonl(tmp_path / "questions.jsonl", QUESTIONS)
    (folder / "tiny.yaml").write_text(TASK.format(file=file))
    return folder


def by_hand(folder: Path) -> list[bool]:
    """Whether the likeliest choice is the right one, question by question."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    right = []
    for row in QUESTIONS:
        before = tokenizer(row["question"])["input_ids"]
        with torch.no_grad():
            law = model(torch.tensor([before])).logits[0, -1].log_softmax(-1)
        scores = [float(law[tokenizer(choice)["input_ids"][0]]) for choice in row["choices"]]
        right.append(int(np.argmax(scores)) == row["answer"])
    return right


@pytest.fixture
def other_model(world: World, tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    for path in world.model.glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    tiny_llama(len(WORDS) + 3, seed=8).save_pretrained(folder)
    return folder


def words_of(world: World, tmp_path: Path, *flags: str, policy: Path | None = None) -> list[str]:
    own = [str(policy or world.policy), "--model", str(world.model), "--prompts", str(world.prompts)]
    return [
        "eval",
        *own,
        "--max_new_tokens",
        "4",
        "--num_prompts",
        "4",
        "--overwrite",
        "--output",
        str(tmp_path / "ev"),
        *flags,
    ]


def test_accuracy_chance_and_the_paired_difference(
    world: World, tasks: Path, other_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    flags = ["--tasks", "tiny_choice", "--task_path", str(tasks), "--base", str(other_model)]
    assert main(words_of(world, tmp_path, *flags)) in (0, 1)
    out = capsys.readouterr().out
    (found,) = json.loads((tmp_path / "ev" / "verdict.json").read_text())["tasks"]
    own, base = by_hand(world.model), by_hand(other_model)
    gaps = np.array(own, float) - np.array(base, float)
    assert 0 < sum(own) < 24
    assert gaps.std() > 0
    assert (found["task"], found["metric"], found["n"], found["num_fewshot"]) == ("tiny_choice", "acc", 24, 0)
    assert found["value"] == pytest.approx(np.mean(own))
    assert found["stderr"] == pytest.approx(np.std(own, ddof=1) / math.sqrt(24))
    assert found["chance"] == pytest.approx(np.mean([1 / len(row["choices"]) for row in QUESTIONS]))
    assert found["base"] == pytest.approx(np.mean(base))
    assert found["difference"] == pytest.approx(gaps.mean())
    assert found["difference_stderr"] == pytest.approx(gaps.std(ddof=1) / math.sqrt(24))
    assert "tiny_choice" in out
    assert f"{found['chance']:.4g}" in out
    page = tmp_path / "page.html"
    shown = ["report", str(world.policy), "--system", f"A={tmp_path / 'ev'}", "--output", str(page)]
    assert main(shown) == 0
    assert "tiny_choice" in page.read_text()
    assert f"{found['chance']:.3g}" in page.read_text()


def test_a_preserve_clause_is_judged_on_a_benchmark(
    world: World, tasks: Path, other_model: Path, tmp_path: Path, capsys: Captured
) -> None:
    policy = tmp_path / "p.policy"
    (tmp_path / "words.tsv").write_bytes((world.root / "words.tsv").read_bytes())
    text = world.policy.read_text() + "knows: preserve mean(accuracy) >= base - 2% for domain=tiny_choice\n"
    policy.write_text(text)
    given = ["--task_path", str(tasks), "--base", str(other_model), "--limit", "20"]
    assert main(words_of(world, tmp_path, *given, policy=policy)) in (0, 1)
    knows = {c["clause"]: c for c in json.loads((tmp_path / "ev" / "verdict.json").read_text())["clauses"]}[
        "knows"
    ]
    assert (knows["n"], knows["kind"], knows["quantity"]) == (20, "utility", "accuracy")
    assert knows["estimate"] == pytest.approx(np.mean(by_hand(world.model)[:20]))
    assert knows["bound"] == pytest.approx(np.mean(by_hand(other_model)[:20]) - 0.02)
    capsys.readouterr()
    rows = write_jsonl(tmp_path / "rows.jsonl", language.rows(5, 4, language.START, "tiny_choice"))
    assert main(words_of(world, tmp_path, *given, "--rows", f"tiny_choice={rows}", policy=policy)) == 2
    assert "about rows or other tasks too" in capsys.readouterr().err
    assert main(words_of(world, tmp_path, *given[:2], policy=policy)) == 2
    assert "add --base" in capsys.readouterr().err


def test_worked_examples_and_the_model_are_left_as_they_are(
    world: World, tasks: Path, tmp_path: Path
) -> None:
    from constraintlang_runtime.benchmark_tasks import Benchmarks, TaskSettings
    from constraintlang_runtime.loading import load_model, load_tokenizer

    model, tokenizer = load_model(str(world.model)), load_tokenizer(str(world.model))
    tokenizer.pad_token = None
    model.train()
    settings = TaskSettings(("tiny_choice",), str(tasks), num_fewshot=2, limit=5)
    results = Benchmarks.find(settings).run(model, tokenizer, batch_size=4)
    (figure,) = figures(results, None)
    assert (figure.n, figure.num_fewshot, figure.base, figure.difference) == (5, 2, None, None)
    asked = results["tiny_choice"]["samples"]["tiny_choice"][0]["arguments"][0][0]
    assert len(asked.split()) > 3 * 3
    assert model.training
    assert tokenizer.pad_token is None
    assert accuracies(results, None) == {}


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--tasks", "tiny_chioce", "--task_path", "TASKS"], "similar names: tiny_choice"),
        (["--task_path", "TASKS/none"], "is not a folder"),
        (["--task_path", "EMPTY"], "no task of lm-eval stands in"),
        (["--limit", "3"], "--limit: no benchmark is named"),
        (["--num_fewshot", "3"], "--num_fewshot: no benchmark is named"),
        (["--limit", "0", "--task_path", "TASKS"], "expected at least 1 question"),
        (["--num_fewshot", "-1", "--task_path", "TASKS"], "expected at least 0"),
    ],
)
def test_wrong_flags(
    world: World, tasks: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch,
    flags: list[str], part: str,
) -> None:  # fmt: skip
    import lm_eval.tasks

    own = lm_eval.tasks.TaskManager
    monkeypatch.setattr(  # the thousands of tasks that come with lm-eval take seconds to list
        lm_eval.tasks,
        "TaskManager",
        lambda *given, **named: own(*given, **{**named, "include_defaults": False}),
    )
    (tmp_path / "empty").mkdir()
    given = [word.replace("TASKS", str(tasks)).replace("EMPTY", str(tmp_path / "empty")) for word in flags]
    assert main(words_of(world, tmp_path, *given)) == 2
    assert part in capsys.readouterr().err


def test_questions_that_cannot_be_had(world: World, tasks: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "questions.jsonl").unlink()
    assert main(words_of(world, tmp_path, "--task_path", str(tasks))) == 2
    assert "`tiny_choice` cannot be run" in capsys.readouterr().err


def test_without_lm_eval(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from constraintlang_runtime.benchmark_tasks import Benchmarks, TaskSettings

    for name in ("lm_eval", "lm_eval.tasks"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'constraintlang\[lm-eval\]'"):
        Benchmarks.find(TaskSettings(("arc_easy",)))


def test_metrics_that_are_no_means_have_no_paired_error() -> None:
    def results(value: float, answers: list[Any]) -> dict[str, Any]:
        samples = [{"doc_id": i, "filter": "none", "ppl": answer} for i, answer in enumerate(answers)]
        return {"t": {"results": {"t": {"ppl,none": value, "ppl_stderr,none": "N/A", "alias": "t"}},
                      "samples": {"t": samples}, "n-samples": {"t": {"effective": len(answers)}}}}  # fmt: skip

    (figure,) = figures(results(9.0, [(1.0, 2), (2.0, 3)]), results(8.0, [(1.0, 2), (2.0, 3)]))
    assert (figure.difference, figure.difference_stderr, figure.stderr, figure.chance) == (
        1.0,
        None,
        None,
        None,
    )
    (figure,) = figures(results(9.0, [1.0, 2.0]), results(8.0, [1.5, 2.5]))  # e.g. exp of a mean
    assert figure.difference_stderr is None
    (figure,) = figures(results(2.0, [1.0, 3.0]), results(3.0, [3.0, 3.0]))
    assert figure.difference_stderr == pytest.approx(1.0)
    own, base = results(2.0, [1.0, 2.0, 3.0]), results(3.0, [1.0, 2.0, 6.0])
    base["t"]["samples"]["t"].reverse()  # questions are paired by number, in whatever order they are logged
    (figure,) = figures(own, base)
    assert figure.difference_stderr == pytest.approx(1.0)  # sd of (0, 0, -3) over √3
