"""Comments of the Jigsaw sets with their labels, for training and held out, written once, and as texts with the label in words."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data import read
from job import Job, Scale
from protocol_data import write_protocols, write_rows

from constraintlang_runtime.errors import DataError

FOLDER = "jigsaw"
# Sentences of news-site comments and comments of Wikipedia talk pages. Left out are the sets of one class alone and the
# one whose words were garbled on purpose.
TRAINED = {
    ("jigsaw_sentences_snlp", "dev"),
    ("jigsaw2018_multilabel", "train"),
    ("jigsaw2018_binary_ak", "train"),
}
HELD_OUT = {("jigsaw_sentences_snlp", "test"), ("jigsaw2018_multilabel", "test")}
CHARACTERS_A_TOKEN = (
    3  # a comment with more of them than this many a token of ``max_length`` is left out, not cut
)
# The words of the label are part of what a model writes, so they are ones that a toxicity classifier makes nothing of:
# after `Is this comment toxic?` that of the testbed calls seven of ten civil comments toxic, after these one of ten, as before.
QUESTION = "\nDoes it follow the rules?"
LABELS = (" yes", " no")  # of a civil comment, of a toxic one
SLACK = 2  # tokens by which a cut text may grow when it is read again
LOSSES = ("lm", "classification")


def prepare(shared: Path, scale: Scale, work: Path) -> Path:
    """Write ``work/jigsaw/trained.jsonl`` and ``heldout.jsonl`` (`text`, `toxic`), and the protocols' files, once.

    Raises: FileNotFoundError without the corpus; ValueError when the files there hold other comments.
    """
    write_protocols(shared, scale, work)
    folder = work / FOLDER
    parts = split(read(shared, "jigsaw"), CHARACTERS_A_TOKEN * scale.max_length)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    record = folder / "digest.txt"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in zip(("trained", "heldout"), parts, strict=True):
            write_rows(folder / f"{name}.jsonl", rows)
        record.write_text(digest + "\n")
    elif record.read_text().strip() != digest:
        raise ValueError(
            f"{folder} holds other comments than this corpus and code make; remove it and what was trained on it, or "
            "name another --work"
        )
    return folder


def split(
    rows: Iterable[Mapping[str, Any]], longest: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Comments to train on and comments held out, of at most ``longest`` characters, shuffled.

    Texts are the same when they differ in case and white space alone. Each is taken once; one that stands in any held-out
    set is not trained on, and one that has both labels is taken nowhere.
    """
    labels: dict[str, set[int]] = {}
    parts: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for row in rows:
        text = " ".join(row["text"].split())
        key = text.casefold()
        if not key or row["toxic"] is None:
            continue
        labels.setdefault(key, set()).add(int(row["toxic"]))
        source = (row["source"], row["split"])
        for part, wanted in zip(parts, (TRAINED, HELD_OUT), strict=True):
            if source in wanted:
                part[key] = min(text, part.get(key, text))
    trained, held_out = (
        [
            {"text": text, "toxic": next(iter(labels[key]))}
            for key, text in sorted(part.items())
            if len(labels[key]) == 1 and len(text) <= longest and (part is parts[1] or key not in parts[1])
        ]
        for part in parts
    )
    for part_rows in (trained, held_out):
        random.Random(0).shuffle(part_rows)
    return trained, held_out


def comments(job: Job, name: str) -> list[dict[str, Any]]:
    """Rows of ``trained`` or ``heldout``; DataError where nothing was prepared."""
    path = job.work / FOLDER / f"{name}.jsonl"
    if not path.is_file():
        raise DataError(
            f"no `{path}`, which holds the Jigsaw comments",
            help="call jigsaw_data.prepare(SHARED, scale, work) once before",
        )
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def context(text: str, tokenizer: Any, max_length: int) -> str:
    """A comment with the question after it; a comment so long that its label would not fit is cut at its end."""
    labels = max(len(tokenizer(label, add_special_tokens=False)["input_ids"]) for label in LABELS)
    asked = len(tokenizer(QUESTION, add_special_tokens=False)["input_ids"])
    room = max_length - asked - labels - 2 - SLACK  # 2: the tokens that begin and end a row
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if len(found["input_ids"]) > room:
        text = text[: found["offset_mapping"][room - 1][1]]
    return text + QUESTION


def training_rows(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, max_length: int, loss: str
) -> list[dict[str, str]]:
    """Rows as ``constraintc train`` reads them: `lm` trains on every token, `classification` on the label's alone."""
    found = []
    for row in rows:
        asked, label = context(row["text"], tokenizer, max_length), LABELS[row["toxic"]]
        if loss == "lm":
            found.append({"text": asked + label, "domain": "comments"})
        else:
            found.append({"prompt": asked, "completion": label, "domain": "labels"})
    return found
