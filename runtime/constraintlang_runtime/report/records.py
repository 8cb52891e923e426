"""The base of a report's records, and one verdict as a record."""

from __future__ import annotations

from typing import Literal

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
