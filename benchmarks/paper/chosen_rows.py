"""Plain fine-tuning from the start model on rows that something chose: what the rows of filtering and projection share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from job import Job, Trained
from ours import train as run_train


@dataclass(frozen=True)
class Choice:
    """What choosing rows took, from the start model on: ``seconds``, ``oracle_calls``, and the ``stages`` before it with
    their ``steps`` and ``tokens``.
    """

    seconds: float
    oracle_calls: int
    steps: int = 0
    tokens: int = 0
    stages: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


def chosen(
    job: Job, name: str, choose: Callable[[], tuple[Sequence[dict[str, Any]], Choice]]
) -> tuple[Path, Choice]:
    """The file of rows that ``choose`` gives, and what it took; chosen once, read again when the row is resumed."""
    rows_path, record = job.folder / f"{name}.jsonl", job.folder / f"{name}.json"
    if not record.exists():
        rows, choice = choose()
        rows_path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        part = record.with_suffix(".part")
        part.write_text(json.dumps(asdict(choice), indent=1))
        part.replace(record)
    found = json.loads(record.read_text())
    return rows_path, Choice(**{**found, "stages": tuple(found["stages"])})


def fine_tuned(job: Job, name: str, rows: Path) -> Trained:
    """The row `plain` on other rows, in the folder ``name`` below the job's own; not repeated when it has ended."""
    own = replace(job, system="plain", work=job.folder / name, rows=rows, options={"method": "plain"})
    if (own.folder / "trained.json").exists():
        return Trained.read(own.folder)
    return run_train(own)


def finish(job: Job, choice: Choice, tuned: Sequence[Trained], details: dict[str, Any]) -> Trained:
    """What the row gave and took: the model of the last fine-tuning, the costs of all and of the choice."""
    seconds = sum(one.seconds for one in tuned) + choice.seconds
    trained = Trained(
        model=tuned[-1].model, seconds=seconds,
        device_seconds=sum(one.device_seconds for one in tuned) + choice.seconds, oracle_calls=choice.oracle_calls,
        steps=sum(one.steps for one in tuned) + choice.steps, tokens=sum(one.tokens for one in tuned) + choice.tokens,
        stages=choice.stages, details=choice.details | details,
    )  # fmt: skip
    trained.write(job.folder)
    return trained
