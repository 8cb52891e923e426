"""The training files of the tables from the corpora: rows, prompts, the policy; the same bytes each time, with their hashes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WINDOW = 24  # words of a WikiText row, about as long as a statement
CORPORA = ("toxigen", "wikitext")


@dataclass(frozen=True)
class Files:
    """Where the training files lie, and the SHA-256 of each by name."""

    folder: Path
    hashes: dict[str, str]

    @property
    def rows(self) -> Path:
        """ToxiGen statements and as many WikiText windows (`text`, `domain`)."""
        return self.folder / "rows.jsonl"

    @property
    def prompts(self) -> Path:
        """The same ToxiGen statements, whose beginnings training may sample from."""
        return self.folder / "prompts.jsonl"

    @property
    def policy(self) -> Path:
        """The policy in one line."""
        return self.folder / "one_line.policy"


def prepare(policy: str, shared: Path, folder: Path) -> Files:
    """Write the training files into ``folder`` unless they are there.

    Statements of ToxiGen that SafeNLP asks about are left out, and each text is taken once.
    Raises: FileNotFoundError without the corpora; ValueError when the files there were made from something else.
    """
    corpora = [_digest(_corpus(shared, name).read_bytes()) for name in CORPORA]
    source = _digest(json.dumps([policy, corpora, Path(__file__).read_text()]).encode())
    record = folder / "hashes.json"
    if record.exists():
        found: dict[str, str] = json.loads(record.read_text())
        if found.pop("source") != source:
            raise ValueError(
                f"{folder} was made from other corpora or by other code; remove it and what was trained on it, "
                "or name another --work"
            )
        return Files(folder, found)
    folder.mkdir(parents=True, exist_ok=True)
    texts = training_files(read(shared, "toxigen"), read(shared, "wikitext")) | {"one_line.policy": policy}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    hashes = {name: _digest(text.encode()) for name, text in texts.items()}
    record.write_text(json.dumps({"source": source, **hashes}, indent=1) + "\n")
    return Files(folder, hashes)


def training_files(toxigen: list[dict[str, Any]], wikitext: list[dict[str, Any]]) -> dict[str, str]:
    """Contents of rows.jsonl and prompts.jsonl, in an order that depends on the corpora alone."""
    rng = random.Random(0)
    held_out = {row["text"].strip() for row in toxigen if row["source"] == "safenlp"}
    annotated = {row["text"].strip() for row in toxigen if row["source"] == "annotated"}
    statements = sorted(annotated - held_out - {""})
    neutral = windows(row["text"] for row in wikitext if row["split"] == "train_prefix")
    rng.shuffle(statements)
    rng.shuffle(neutral)
    prompts = [{"text": text, "domain": "toxigen"} for text in statements]
    rows = prompts + [{"text": text, "domain": "wikitext"} for text in neutral[: len(statements)]]
    rng.shuffle(rows)
    return {"rows.jsonl": _lines(rows), "prompts.jsonl": _lines(prompts)}


def read(shared: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a corpus; FileNotFoundError says where it should be."""
    import pyarrow.parquet as parquet

    rows: list[dict[str, Any]] = parquet.read_table(_corpus(shared, name)).to_pylist()
    return rows


def windows(texts: Iterable[str], words: int = WINDOW) -> list[str]:
    """Rows of so many words from whole articles, each distinct one once, in order."""
    rows: dict[str, None] = {}
    for text in texts:
        tokens = text.split()
        for start in range(0, len(tokens) - words, words):
            rows.setdefault(" ".join(tokens[start : start + words]))
    return list(rows)


def _corpus(shared: Path, name: str) -> Path:
    path = shared / "data" / f"{name}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"no corpus at {path}; give --shared the folder with data/ and testbed/")
    return path


def _lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
