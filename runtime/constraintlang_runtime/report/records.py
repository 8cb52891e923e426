"""The base of a report's records; a verdict and a benchmark's figure as records."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from constraintlang_runtime.verdicts import VerdictName


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the report's records: frozen, unknown keys rejected."""


class ClauseResult(Record, frozen=True, kw_only=True):
    """One verdict: the keys of ``Verdict.to_dict()``; the first nine are required."""

    clause: str
    domain: str | None
    kind: str
    n: int
    estimate: float | None
    lower: float | None
    upper: float | None
    bound: float | None
    verdict: VerdictName
    strength: str = "require"
    direction: Literal["at_most", "at_least"] = "at_most"
    strict: bool = False
    hard: bool = False
    soft: bool = False
    confidence: float = 0.95
    alpha: float | None = None
    method: str = ""
    quantity: str = ""
    samples: int | None = None
    unavailable: int = 0
    text: str = ""
    id: str = ""
    note: str = ""
    warnings: tuple[str, ...] = ()


class TaskFigure(Record, frozen=True, kw_only=True):
    """One metric of one task.

    ``stderr`` is lm-eval's. ``chance`` is what guessing gives an accuracy: the mean of 1/(number of choices).
    ``difference`` is model - base with the standard error of the paired differences over the same questions; that is
    None where lm-eval does not say the metric of single questions, or their mean is not the figure. ``n`` questions
    were asked.
    """

    task: str
    metric: str
    value: float
    n: int
    stderr: float | None = None
    num_fewshot: int | None = None
    higher_is_better: bool | None = None
    chance: float | None = None
    base: float | None = None
    base_stderr: float | None = None
    difference: float | None = None
    difference_stderr: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Its entry in ``verdict.json``."""
        return dict(msgspec.to_builtins(self))
