"""What a training run spends: texts that its scorer was given, seconds and processor seconds, over restarts too."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class CountedScorer:
    """A scorer that writes every text it is given to ``path``, a line each: prompt, completion, score.

    Texts that the caller remembers are not asked for again, so that the lines are the oracle calls that were paid.
    """

    def __init__(self, scorer: Any, path: Path) -> None:
        self._scorer, self._path = scorer, path
        self._lock = threading.Lock()  # the lanes of a parallel run share their scorer
        self.terms = getattr(scorer, "terms", None)

    def __call__(self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[Any]:
        """The scores, kept."""
        scores = list(self._scorer(prompts=prompts, completions=completions, **columns))
        with self._lock, self._path.open("a", encoding="utf-8") as lines:
            for prompt, completion, score in zip(prompts, completions, scores, strict=True):
                record = {"prompt": prompt, "completion": completion, "score": score}
                lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        return scores


def count_lines(path: Path) -> int:
    """Lines of a file; 0 when there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


class Stopwatch:
    """Wall-clock and processor seconds since its start, added to what ``path`` holds of an earlier, killed process.

    It is a progress callable: every call may write the file, at most once in two seconds.
    """

    def __init__(self, path: Path, *, fresh: bool, also: Any = None) -> None:
        self._path, self._also = path, also
        before = {} if fresh or not path.exists() else json.loads(path.read_text())
        self._wall, self._processor = before.get("seconds", 0.0), before.get("processor_seconds", 0.0)
        self._started = time.perf_counter(), time.process_time()
        self._written = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report ``done`` of ``total``."""
        if time.monotonic() - self._written > 2:
            self.write()
        if self._also is not None:
            self._also(what, done, total)

    @property
    def seconds(self) -> float:
        """Wall-clock."""
        return float(self._wall + time.perf_counter() - self._started[0])

    @property
    def processor_seconds(self) -> float:
        """Of all threads of this process."""
        return float(self._processor + time.process_time() - self._started[1])

    def write(self) -> None:
        """Keep the seconds."""
        self._written = time.monotonic()
        text = json.dumps({"seconds": self.seconds, "processor_seconds": self.processor_seconds})
        part = self._path.with_suffix(".part")
        part.write_text(text)
        part.replace(self._path)


def trained_tokens(record: dict[str, Any], micro_batches: int = 1) -> int:
    """Tokens that the optimizer steps of a run saw, samples included, from its ``run.json``.

    Its history has the mean over the micro-batches since the last entry; steps after the last entry count as its own.
    """
    total, last, mean = 0.0, 0, 0.0
    for entry in record["history"]:
        if "tokens_per_micro_batch" in entry:
            mean = entry["tokens_per_micro_batch"]
            total += mean * (entry["step"] - last)
            last = entry["step"]
    return round((total + mean * (record["steps"] - last)) * micro_batches)
