"""From bounds to a verdict: which side of the clause's bound they are on, and what missing scores change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import Bounds
from constraintlang_compiler.domains import domain_name

from .verdicts import Direction, Verdict, VerdictName

_MAX_UNAVAILABLE = 0.5  # share of prompts without a score above which no verdict is given


def decide(lower: float, upper: float, bound: float, *, strict: bool, direction: Direction) -> VerdictName:
    """The verdict of complete evidence; a strict comparison differs only when a bound equals ``bound``."""
    if direction == "at_least":
        lower, upper, bound = -upper, -lower, -bound
    if upper < bound or (upper == bound and not strict):
        return "holds"
    if lower > bound or (lower == bound and strict):
        return "violated"
    return "inconclusive"


def after_gaps(
    decided: VerdictName, n: int, unavailable: int, *, otherwise: Callable[[], VerdictName],
    certain: bool = False,
) -> tuple[VerdictName, str]:  # fmt: skip
    """The verdict after missing prompts and missing scores, with the reason for people.

    ``otherwise`` is the verdict of the prompts that have scores: only what they would decide alone do missing scores
    stand in the way of. ``certain``: what was seen decides alone, as one violation of ``always`` does; nothing that is
    missing undoes it.
    """
    if n == 0:
        return "vacuous", "no prompt lies in this domain, so nothing was checked"
    if certain:
        return decided, f"{unavailable:,} prompts have no valid score" if unavailable else ""
    if unavailable > _MAX_UNAVAILABLE * n:
        return "error", f"{unavailable:,} of {n:,} prompts have no valid score"
    if unavailable and decided == "inconclusive" and (alone := otherwise()) in ("holds", "violated"):
        reason = f"{unavailable:,} of {n:,} prompts have no valid score; without them it would be `{alone}`"
        return "error", reason
    return (
        decided,
        f"{unavailable:,} prompts without a valid score count against the policy" if unavailable else "",
    )


def make_verdict(clause: ir.Clause, shown: Bounds, *, bound: float, **fields: Any) -> Verdict:
    """The record of a verdict; numbers that are not finite become None."""
    estimate, lower, upper, bound_or_none = (
        float(value) if math.isfinite(value) else None for value in (*shown, bound)
    )
    return Verdict(
        clause=clause.name,
        domain=domain_name(clause.domain),
        kind=clause.kind,
        estimate=estimate,
        lower=lower,
        upper=upper,
        bound=bound_or_none,
        strength=clause.strength,
        strict=fields.pop("strict", clause.strict),
        hard=clause.hard,
        confidence=float(clause.confidence),
        text=clause.text,
        id=clause.id,
        **fields,
    )
