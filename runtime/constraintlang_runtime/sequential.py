"""One clause judged while its prompts come in: bets on both sides of its bound, and its verdict at any time.

Each bound is taken at the clause's Bonferroni share of the error, as in the fixed mode. The evidence is valid
whenever one stops (``anytime.py``), so a clause may stop as soon as it is decided and the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import Bounds
from constraintlang_compiler.hinges import quantile_bound
from constraintlang_compiler.measurements import measurements, value_range

from .anytime import Capital, anytime_lower, anytime_upper
from .deciding import decide
from .errors import ConfigError
from .evidence import joined
from .sum_bounds import Piece, SumBounds, paired_total
from .verdicts import Verdict, VerdictName
from .verify_plain import Evidence, num_seen_violating, per_prompt_means, plain_verdict
from .verify_sums import SumEvidence, pieces_and_limit, verify_sum
from .verify_tails import as_samples, is_tail, usable_prompts, verify_tail

Floats = NDArray[np.float64]
METHOD = "betting (anytime)"
_FIRST, _GROWTH = 16, 8  # the smallest batch; every later one is an eighth of what was seen


def require_sequential(clauses: Sequence[ir.Clause]) -> None:
    """Raise ConfigError naming the clauses about responses that cannot be judged while prompts come in.

    No fixed bound takes their place: it would be wrong for a run that stops when the other clauses, which read the
    same responses, are decided.
    """
    found = [f"`{clause.name}` ({reason})" for clause in clauses if (reason := _not_treated(clause))]
    if found:
        raise ConfigError(
            f"--sequential cannot judge {', '.join(found)}",
            help="leave out --sequential, or give these clauses a policy of their own",
        )


def next_batch(seen: int) -> int:
    """How many prompts to take next: batches grow with what was seen, so that few prompts are drawn in vain.

    >>> [next_batch(seen) for seen in (0, 16, 160, 1000)]
    [16, 16, 20, 125]
    """
    return max(_FIRST, seen // _GROWTH)


class Track:
    """The state of one clause: what its prompts have said so far, and whether that decides it."""

    def __init__(self, clause: ir.Clause, alpha: float) -> None:
        self.clause, self.alpha = clause, alpha
        self.decided = False
        self._parts: list[Evidence | SumEvidence] = []
        self._below: Capital | None = None
        self._above: Capital | None = None

    def add(self, part: Evidence | SumEvidence) -> None:
        """Take in further prompts, in their order. Cost: prompts times bets."""
        self._parts.append(part)
        values, threshold = _reduced(self.clause, part)
        if self._below is None or self._above is None:
            self._below, self._above = Capital(threshold, "below"), Capital(threshold, "above")
        known = np.isfinite(values)
        if self.clause.hard:
            self.decided = self.decided or _num_violating(part) > 0
            return
        self._below.add(np.where(known, values, 1.0))
        self._above.add(np.where(known, values, 0.0))
        self.decided = bool(
            self.decided or self._below.rejects(self.alpha) or self._above.rejects(self.alpha)
        )

    def verdict(self) -> Verdict:
        """The verdict on everything so far, with the bounds of the confidence sequence."""
        clause, evidence = self.clause, joined(self._parts, clause=self.clause)
        if isinstance(evidence, SumEvidence):
            limit = pieces_and_limit(clause, evidence)[1]
            return verify_sum(clause, evidence, alpha=self.alpha, bounds_of=partial(_sum_bounds, limit=limit))
        values = _samples_of(clause, evidence)
        if is_tail(clause):
            return verify_tail(clause, values, alpha=self.alpha, anytime=True)
        scaled, threshold = _reduced(clause, evidence)
        known = np.isfinite(scaled)
        lower, upper = _ends(scaled, self.alpha, threshold)
        high = _high(clause)
        estimate = high * float(scaled[known].mean()) if known.any() else math.nan
        bound = float(clause.bound)
        # a rounding of `high * upper` must not undo what the bets decided
        upper = min(high * upper, bound) if upper < threshold else high * upper
        lower = max(high * lower, bound) if lower > threshold else high * lower
        return plain_verdict(
            clause, Bounds(estimate, lower, upper), n=len(scaled), num_violating=_num_violating(evidence),
            unavailable=int((~known).sum()), alpha=self.alpha, method=METHOD, samples=values.shape[1] or None,
            otherwise=lambda: _decided_by(clause, scaled[known], threshold, self.alpha),
        )  # fmt: skip


def _sum_bounds(pieces: Sequence[Piece], alpha: float, *, limit: float) -> SumBounds:
    """The sum of pieces about the same prompts, as ``sum_bounds`` gives it, from the confidence sequence."""
    if not pieces[0].inside.any():
        return SumBounds(Bounds(math.nan, -math.inf, math.inf), 0, 0, "", True)
    total, low, high = paired_total(pieces)
    known = np.isfinite(total)
    gaps = int((~known).sum())
    estimate = float(total[known].mean()) if known.any() else math.nan
    if high <= low:
        return SumBounds(Bounds(estimate, low, high), len(total), gaps, "exact", False)
    at = (limit - low) / (high - low)
    lower, upper = _ends(np.clip((total - low) / (high - low), 0.0, 1.0), alpha, at)
    first, last = low + (high - low) * lower, low + (high - low) * upper
    found = Bounds(
        estimate, max(first, limit) if lower > at else first, min(last, limit) if upper < at else last
    )
    return SumBounds(found, len(total), gaps, METHOD, False)


def _decided_by(clause: ir.Clause, scaled: Floats, threshold: float, alpha: float) -> VerdictName:
    """The verdict of values without gaps."""
    lower, upper = _ends(scaled, alpha, threshold)
    return decide(lower, upper, threshold, strict=clause.strict, direction="at_most")


def _ends(scaled: Floats, alpha: float, at: float) -> tuple[float, float]:
    """Both ends of the confidence sequence of values in [0, 1] with gaps, which count against either end."""
    known = np.isfinite(scaled)
    lower = anytime_lower(np.where(known, scaled, 0.0), alpha, at=at)
    return lower, anytime_upper(np.where(known, scaled, 1.0), alpha, at=at)


def _reduced(clause: ir.Clause, evidence: Evidence | SumEvidence) -> tuple[Floats, float]:
    """One number in [0, 1] for each prompt, nan where it is unknown, whose mean the clause keeps to a threshold."""
    if isinstance(evidence, SumEvidence):
        pieces, limit = pieces_and_limit(clause, evidence)
        total, low, high = paired_total(pieces)
        if high <= low:
            return np.zeros(len(total)), 1.0 if limit >= low else 0.0
        return np.clip((total - low) / (high - low), 0.0, 1.0), (limit - low) / (high - low)
    values = _samples_of(clause, evidence)
    if is_tail(clause):
        known = np.isfinite(values).all(axis=1)
        found = quantile_bound(clause)
        threshold = float(found.threshold)
        compare = {
            (False, False): np.greater, (False, True): np.greater_equal,
            (True, False): np.less, (True, True): np.less_equal,
        }[found.at_least, found.strict]  # fmt: skip
        with np.errstate(invalid="ignore"):
            beyond = compare(values, threshold).mean(axis=1)
        return np.where(known, beyond, np.nan), float(clause.bound)
    high = _high(clause)
    usable = usable_prompts(values, 0.0, high)
    with np.errstate(invalid="ignore"):
        means = np.clip(values.mean(axis=1) / high, 0.0, 1.0)
    return np.where(usable, means, np.nan), float(clause.bound) / high


def _num_violating(evidence: Evidence | SumEvidence) -> int:
    return 0 if isinstance(evidence, SumEvidence) else num_seen_violating(evidence.statistic_per_prompt, 1.0)


def _samples_of(clause: ir.Clause, evidence: Evidence) -> Floats:
    """The samples of each prompt, or their mean where prompts have different numbers of them."""
    if isinstance(evidence.statistic_per_prompt, np.ndarray):
        return as_samples(evidence.statistic_per_prompt)
    return as_samples(per_prompt_means(evidence.statistic_per_prompt, _high(clause))[0])


def _high(clause: ir.Clause) -> float:
    statistic = clause.statistic
    return float(statistic.high or 1.0) if isinstance(statistic, ir.Value) else 1.0


def _not_treated(clause: ir.Clause) -> str | None:
    """Why bets cannot be placed on the clause, or None."""
    statistic = clause.statistic
    if isinstance(statistic, ir.RowsLoss) or (is_tail(clause) and not isinstance(statistic, ir.Hinge)):
        return None
    if isinstance(statistic, ir.Hinge):
        return "a conditional value at risk"
    if isinstance(statistic, ir.Choice):
        return "a choice between statements"
    wanted = measurements(clause)
    if any(isinstance(one.quantity, ir.Summary) and one.quantity.function != "mean" for one in wanted):
        return "a quantile or conditional value at risk in a comparison"
    if len({one.given for one in wanted}) > 1:
        return "a comparison of different prompts"
    if not all(math.isfinite(end) for one in wanted for end in value_range(one.quantity)):
        return "an open range of values"
    return None
