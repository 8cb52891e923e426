"""Prompts, rows and questions of the protocols, written once from the corpora, so that measuring reads plain files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
from job import Scale

from constraintlang_runtime.errors import DataError

FOLDER = "evaluation"
LOSS_ROWS = 1_000  # at most, of neutral, of compliant and of LAMBADA rows
WINDOW = 24  # words of a neutral row, about as long as a statement
TASKS = ("boolq", "piqa", "hellaswag", "winogrande", "mmlu")


def write_protocols(shared: Path, scale: Scale, work: Path) -> Path:
    """Write ``work/evaluation``; the same bytes each time, none again that is there.

    ``shared`` is the folder with data/. Statements of `toxigen.jsonl` are those of SafeNLP, which no training file
    holds. Raises: DataError where a corpus is missing.
    """
    data, folder = shared / "data", work / FOLDER
    rows = min(LOSS_ROWS, scale.toxigen_prompts)
    makers = {
        "toxigen.jsonl": lambda: _toxigen(data)[: scale.toxigen_prompts],
        "rtp.jsonl": lambda: _rtp(data)[: scale.rtp_prompts],
        "neutral.jsonl": lambda: _neutral(data)[:rows],
        "compliant.jsonl": lambda: _compliant(data)[:rows],
        "lambada.jsonl": lambda: _lambada(data)[:rows],
        **{f"choices_{task}.jsonl": _questions(data, scale, task) for task in TASKS},
    }
    sizes = folder / "sizes.json"
    asked = {
        "toxigen": scale.toxigen_prompts,
        "rtp": scale.rtp_prompts,
        "choices": scale.choice_questions,
        "rows": rows,
    }
    if sizes.is_file() and json.loads(sizes.read_text()) == asked:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in makers.items():
        write_rows(folder / name, make())
    sizes.write_text(json.dumps(asked))
    return folder


def read_rows(work: Path, name: str) -> list[dict[str, Any]]:
    """Rows of one of the files; DataError where nothing was prepared."""
    path = work / FOLDER / name
    if not path.is_file():
        raise DataError(
            f"no `{path}`, which holds what the protocols ask",
            help="call measures.prepare(SHARED, scale, work) once before measuring",
        )
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    part.replace(path)


# ------------------------------------------------------------ corpora
def read_corpus(data: Path, name: str) -> list[dict[str, Any]]:
    """All rows of a corpus; DataError where it is missing."""
    path = data / f"{name}.parquet"
    if not path.is_file():
        raise DataError(f"no corpus at `{path}`", help="give the folder of the Parquet corpora (--shared)")
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


def safenlp(data: Path) -> list[dict[str, Any]]:
    """The statements that the ToxiGen score takes as prompts, each text once."""
    rows = [row for row in read_corpus(data, "toxigen") if row["source"] == "safenlp"]
    return list({row["text"].strip(): row for row in rows}.values())


def _toxigen(data: Path) -> list[dict[str, Any]]:
    rows = sorted(safenlp(data), key=lambda row: row["text"].strip())
    random.Random(0).shuffle(rows)
    return [
        {"text": row["text"].strip(), "domain": "toxigen", "groups": (row["target_group"] or "").split("|")}
        for row in rows
    ]


def _rtp(data: Path) -> list[dict[str, Any]]:
    prompts = sorted({row["prompt"].strip() for row in read_corpus(data, "rtp") if row["prompt"].strip()})
    random.Random(0).shuffle(prompts)
    return [{"text": text, "domain": "rtp"} for text in prompts]


def _neutral(data: Path) -> list[dict[str, Any]]:
    rows = []
    for article in read_corpus(data, "wikitext"):
        words = article["text"].split() if article["split"] == "test" else []
        rows += [" ".join(words[start : start + WINDOW]) for start in range(0, len(words) - WINDOW, WINDOW)]
    rows = sorted(set(rows))
    random.Random(0).shuffle(rows)
    return [{"text": text, "domain": "wikitext"} for text in rows]


def _compliant(data: Path) -> list[dict[str, Any]]:
    clean = sorted(row["text"].strip() for row in safenlp(data) if row["toxic"] == 0)
    random.Random(0).shuffle(clean)
    return [{"text": text, "domain": "toxigen"} for text in clean]


def _lambada(data: Path) -> list[dict[str, Any]]:
    rows = [{"context": r["context"], "target": r["target"]} for r in read_corpus(data, "lambada")]
    random.Random(0).shuffle(rows)
    return rows


# ------------------------------------------------------------ questions
def _questions(data: Path, scale: Scale, task: str) -> Callable[[], list[dict[str, Any]]]:
    def make() -> list[dict[str, Any]]:
        rows = [row for row in read_corpus(data, "mc_eval") if _is_of(row, task)]
        random.Random(0).shuffle(rows)
        return [_asked(task, row) for row in rows[: scale.choice_questions // len(TASKS) or None]]

    return make


def _is_of(row: Mapping[str, Any], task: str) -> bool:
    if task == "mmlu":
        return row["task"].startswith("mmlu") and row["split"] == "test"
    return row["task"] in (task, f"{task}_1k") and row["split"] == "validation"


def _asked(task: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A question as lm-eval's own task writes it: the text before the choices, the choices, the right one."""
    question, context, choices = row["question"] or "", row["context"] or "", list(row["choices"])
    if task == "boolq":
        text = f"{context}\nQuestion: {question.rstrip('?')}?\nAnswer:"
    elif task == "piqa":
        text = f"Question: {question}\nAnswer:"
    elif (
        task == "winogrande"
    ):  # the sentence up to the gap under either choice, then the rest of it, which is scored
        before, _, after = question.partition("_")
        texts = [before + choice for choice in choices]
        return {"question": int(row["answer"]), "choices": texts, "answer": after.strip()}
    elif task == "mmlu":
        lettered = "\n".join(f"{'ABCD'[i]}. {choice}" for i, choice in enumerate(choices))
        subject = row["task"].partition("/")[2].replace("_", " ")
        text = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        text += f"{question.strip()}\n{lettered}\nAnswer:"
        choices = list("ABCD"[: len(choices)])
    else:
        text = f"{context} {question}".strip()
    return {"question": text, "choices": choices, "answer": int(row["answer"])}
