"""Reads ``samples.jsonl`` for a report: violations first, a bounded number of rows, one pass over the file."""

from __future__ import annotations

import heapq
import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import DataError

from .legible import cut
from .thresholds import Threshold

MAX_ROWS = 2000  # in one page, over all systems
NUM_PAIRS = 12
EVENTS = ("violation", "probability", "quantile")  # kinds of clause that single replies can break
Rank = tuple[bool, float, int]


@dataclass
class SampleFile:
    """What a report needs of one evaluation's samples.

    ``rows`` are ranked, the worst first, with the key of their prompt; ``scores`` are those of each clause and
    attribute with a threshold; ``missing`` counts replies without one.
    """

    rows: list[tuple[int, dict[str, Any]]]
    num_rows: int = 0
    num_violations: int = 0
    scores: dict[tuple[str, str], array[float]] = field(default_factory=dict)
    missing: dict[tuple[str, str], int] = field(default_factory=dict)

    def worst_prompts(self) -> list[int]:
        """The keys of the prompts of the first rows."""
        return list(dict.fromkeys(key for key, _ in self.rows))[:NUM_PAIRS]


def read_sample_file(
    path: Path, kinds: Mapping[str, str], thresholds: Sequence[Threshold] = ()
) -> SampleFile:
    """Read a file of ``constraintc eval``. ``kinds`` are those of the clauses, by name.

    Time is linear in the file, memory in the scores and ``MAX_ROWS`` cut rows.
    Raises: DataError naming the line that is no sample.
    """
    found = SampleFile([])
    own: dict[str, list[Threshold]] = {}
    heap: list[tuple[Rank, int, dict[str, Any]]] = []
    for number, record in _records(path):
        clause = record.get("clause", "")
        if clause not in own:
            own[clause] = [t for t in thresholds if t.is_of(clause)]
        row, excess = _row(record, kinds.get(clause, ""), own[clause])
        found.num_rows += 1
        found.num_violations += row["violates"] is True
        for threshold in {t.attribute: t for t in reversed(own[clause])}.values():
            place, score = (clause, threshold.attribute), record["scores"].get(threshold.attribute)
            values = found.scores.setdefault(place, array("d"))
            if score is None:
                found.missing[place] = found.missing.get(place, 0) + 1
            else:
                values.append(score)
        rank = (row["violates"] is True, excess, -number)
        if len(heap) < MAX_ROWS:
            heapq.heappush(heap, (rank, _key(record), row))
        elif rank > heap[0][0]:
            heapq.heapreplace(heap, (rank, _key(record), row))
    found.rows = [(key, row) for _, key, row in sorted(heap, key=lambda entry: entry[0], reverse=True)]
    return found


def replies_to(
    path: Path, prompts: Set[int], kinds: Mapping[str, str], thresholds: Sequence[Threshold] = ()
) -> list[dict[str, Any]]:
    """The worst reply to each of these prompts, in the order of the file."""
    found: dict[int, tuple[Rank, dict[str, Any]]] = {}
    for number, record in _records(path):
        key = _key(record)
        if key in prompts:
            clause = record.get("clause", "")
            row, excess = _row(record, kinds.get(clause, ""), [t for t in thresholds if t.is_of(clause)])
            rank = (row["violates"] is True, excess, -number)
            if key not in found or rank > found[key][0]:
                found[key] = (rank, row)
    return [row for _, row in found.values()]


def shares(total: int, wanted: Sequence[int]) -> list[int]:
    """Divide ``total`` places as evenly as the wishes allow.

    >>> shares(10, [2, 50, 50]), shares(10, [3, 3])
    ([2, 4, 4], [3, 3])
    """
    given = [0] * len(wanted)
    for left, place in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        given[place] = min(wanted[place], total // (len(wanted) - left))
        total -= given[place]
    return given


def chosen_rows(files: Sequence[SampleFile], total: int = MAX_ROWS) -> list[list[dict[str, Any]]]:
    """The rows that one page holds of each file: all violations first, then what is closest to one."""
    bad = [sum(row["violates"] is True for _, row in file.rows) for file in files]
    places = shares(total, bad)
    rest = shares(total - sum(places), [len(file.rows) - b for file, b in zip(files, bad, strict=True)])
    return [
        [row for _, row in (*file.rows[:place], *file.rows[b : b + more])]
        for file, b, place, more in zip(files, bad, places, rest, strict=True)
    ]


# ------------------------------------------------------------ parts
def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered records, checked."""
    again = "run `constraintc eval` again, which writes it whole"
    number = 0
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"line {number} of `{path}` is not JSON: {error}", help=again) from error
                if not _is_sample(record):
                    raise DataError(
                        f"line {number} of `{path}` is no sample of `constraintc eval`", help=again
                    )
                yield number, record
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read `{path}`: {error}", help=again) from error


def _is_sample(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(key, ""), str) for key in ("prompt", "completion", "clause"))
        and {"prompt", "completion"} <= record.keys()
        and isinstance(record.get("domain"), str | None)
        and "statistic" in record
        and _is_number(record["statistic"])
        and isinstance(record.get("scores"), dict)
        and all(_is_number(score) for score in record["scores"].values())
    )


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _row(record: Mapping[str, Any], kind: str, own: Sequence[Threshold]) -> tuple[dict[str, Any], float]:
    """A record as the report shows it, and how far it is on the wrong side."""
    statistic, scores = record["statistic"], record["scores"]
    score = scores.get(own[0].attribute) if own else next(iter(scores.values()), None)
    excess = own[0].excess(score) if own and score is not None else statistic
    if excess is None or not math.isfinite(excess):
        excess = float("-inf")
    prompt, completion = record["prompt"], record["completion"]
    shown: dict[str, Any] = {
        "prompt": cut(prompt),
        "completion": cut(completion),
        "domain": record.get("domain") or "",
        "score": score,
        "violates": None if statistic is None or kind not in EVENTS else statistic > 0,
        "clause": record.get("clause", ""),
    }
    for name, text in (("prompt", prompt), ("completion", completion)):
        if len(shown[name]) < len(text):
            shown[f"{name}_length"] = len(text)
    return shown, excess


def _key(record: Mapping[str, Any]) -> int:
    """What tells prompts apart, without keeping their texts."""
    return hash((record.get("domain"), record["prompt"]))
