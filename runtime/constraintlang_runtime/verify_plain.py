"""Verdicts on the mean of a statistic of single responses, from its values or from counts of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import (
    Bounds,
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    student_t_bounds,
)

from .bet_order import Keys
from .deciding import after_gaps, decide, make_verdict
from .verdicts import Quantity, Verdict, VerdictName
from .verify_sums import is_sum
from .verify_tails import is_tail

Statistics = NDArray[Any] | Sequence[ArrayLike]  # [n], [n, samples], or n arrays of samples
_RANGE_SLACK = 1e-6  # relative: rounding of a float32 score at the end of its range is not an error


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Arguments of ``verify_clause`` for one clause; ``keys`` [n] by which ``bet_order`` orders the prompts."""

    statistic_per_prompt: Statistics
    single_sample: bool
    keys: Keys | None = None


@dataclass(frozen=True, kw_only=True)
class CountEvidence:
    """Arguments of ``verify_counts`` for one clause: responses of as many prompts, counted as they came."""

    clean: int
    violating: int
    unavailable: int = 0


def verify_clause(
    clause: ir.Clause,
    statistic_per_prompt: Statistics,
    *,
    alpha: float,
    single_sample: bool,
) -> Verdict:
    """Verdict of a clause ``E[f] <= bound`` from the statistic of the samples of each prompt in its domain.

    Method: an indicator with one sample per prompt gives a count, bounded by Clopper-Pearson; per-prompt
    means and other values of known range are bounded by betting, in the order of the prompts, which must not
    depend on their values (``bet_order``); values of open range by Student-t, which is asymptotic and says so.
    ``always`` is violated by the first violation, whatever other scores are missing, and otherwise prints the bound
    that n clean prompts have earned.
    Shapes: ``statistic_per_prompt`` [n] (f, or its mean over the samples of the prompt), or n arrays of
    samples.
    nan and values outside the range are unavailable; each keeps its place.
    Raises: ValueError for a clause on the model's rows, or ``single_sample`` with an indicator other than 0
    or 1.
    Source: docs/method.md, "Verification"; the compiler's ``bounds.py`` for the bounds.
    """
    if isinstance(clause.statistic, ir.RowsLoss):
        raise ValueError(
            f"clause `{clause.name}` is about the model's rows: use verify_utility or verify_accuracy"
        )
    if not isinstance(clause.statistic, (ir.Indicator, ir.Value)) or not is_plain(clause):
        raise ValueError(f"clause `{clause.name}` ({clause.kind}) is judged by verify_tail or verify_sum")
    indicator = isinstance(clause.statistic, ir.Indicator)
    high = _high(clause.statistic)
    means, samples = per_prompt_means(statistic_per_prompt, high)
    usable = np.isfinite(means)
    values = means[usable]
    n, unavailable = means.size, int((~usable).sum())
    if single_sample and indicator and not np.isin(values, (0.0, 1.0)).all():
        raise ValueError(
            "got indicators other than 0 and 1 with single_sample=True; pass single_sample=False"
        )

    num_violating = num_seen_violating(statistic_per_prompt, high)
    if indicator and single_sample:
        counts = CountEvidence(
            clean=values.size - num_violating, violating=num_violating, unavailable=unavailable
        )
        return verify_counts(clause, counts, alpha=alpha)
    if clause.hard and num_violating == 0 and math.isfinite(high):
        # high * P(any sample of a prompt violates) >= E[f]: its exact bound serves, and is the tighter one
        lower, upper = 0.0, high * clopper_pearson_upper(unavailable, n, alpha)
        method = "clopper-pearson"
    elif math.isfinite(high):
        clean, worst = (np.where(usable, means / high, end) for end in (0.0, 1.0))
        lower, upper = high * betting_lower(clean, alpha), high * betting_upper(worst, alpha)
        method = "betting"
    else:
        lower = max(0.0, student_t_bounds(np.concatenate([values, np.zeros(unavailable)]), alpha).lower)
        upper = math.inf if unavailable else student_t_bounds(values, alpha).upper
        method = "student-t (asymptotic)"

    estimate = float(values.mean()) if values.size else math.nan
    found = samples or _planned_samples(clause)
    if single_sample:
        found = 1
    return plain_verdict(
        clause, Bounds(estimate, lower, upper), n=n, num_violating=num_violating, unavailable=unavailable,
        alpha=alpha, method=method, samples=found,
        otherwise=lambda: verify_clause(clause, values, alpha=alpha, single_sample=single_sample).verdict,
    )  # fmt: skip


def verify_counts(clause: ir.Clause, counts: CountEvidence, *, alpha: float) -> Verdict:
    """Verdict of a clause on a share of responses, from counts of one response per prompt (Clopper-Pearson).

    The same as ``verify_clause`` on the indicators themselves, for data that are too many to be kept.
    Raises: ValueError for a clause whose statistic is not an indicator.
    """
    if not is_indicator(clause):
        raise ValueError(
            f"clause `{clause.name}` ({clause.kind}) is no share of responses: use verify_clause"
        )
    known = counts.clean + counts.violating
    n = known + counts.unavailable
    lower = clopper_pearson_lower(counts.violating, n, alpha)
    upper = clopper_pearson_upper(counts.violating + counts.unavailable, n, alpha)
    return plain_verdict(
        clause, Bounds(counts.violating / known if known else math.nan, lower, upper), n=n,
        num_violating=counts.violating, unavailable=counts.unavailable, alpha=alpha, method="clopper-pearson",
        samples=1, otherwise=lambda: verify_counts(clause, replace(counts, unavailable=0), alpha=alpha).verdict,
    )  # fmt: skip


def plain_verdict(
    clause: ir.Clause, found: Bounds, *, n: int, num_violating: int, unavailable: int, alpha: float, method: str,
    samples: int | None, otherwise: Callable[[], VerdictName],
) -> Verdict:  # fmt: skip
    """The verdict of a clause on single responses, shown in the quantity that its author wrote.

    ``otherwise``: see ``after_gaps``.
    """
    bound = float(clause.bound)
    lower, upper = found.lower, found.upper
    if clause.hard:
        decided: VerdictName = "violated" if num_violating else "inconclusive"
    else:
        decided = decide(lower, upper, bound, strict=clause.strict, direction="at_most")
    certain = clause.hard and num_violating > 0
    verdict, note = after_gaps(decided, n, unavailable, otherwise=otherwise, certain=certain)
    if clause.hard and verdict == "inconclusive" and unavailable:
        verdict, note = "error", f"{unavailable:,} of {n:,} prompts have no valid score, and may violate it"
    elif clause.hard and verdict == "inconclusive":
        note = f"no violation in {n:,} prompts; samples alone cannot show that there is none"
    offset, scale = float(clause.shown.offset), clause.shown.scale
    low, top = (lower, upper) if scale == 1 else (upper, lower)
    return make_verdict(
        clause,
        Bounds(offset + scale * found.estimate, offset + scale * low, offset + scale * top),
        bound=offset + scale * bound,
        n=n,
        verdict=verdict,
        direction="at_most" if scale == 1 else "at_least",
        alpha=alpha,
        method=method,
        quantity=_quantity(clause),
        samples=samples,
        unavailable=unavailable,
        note=note,
    )


def is_plain(clause: ir.Clause) -> bool:
    """Whether the clause bounds the mean of its statistic by a number: it is judged by ``verify_clause``."""
    return not isinstance(clause.statistic, ir.RowsLoss) and not is_sum(clause) and not is_tail(clause)


def is_indicator(clause: ir.Clause) -> bool:
    """Whether the clause bounds the share of responses that do something: ``verify_counts`` judges it, too."""
    return is_plain(clause) and isinstance(clause.statistic, ir.Indicator)


def _quantity(clause: ir.Clause) -> Quantity:
    if clause.kind == "violation":
        return "violation rate"
    return "probability" if isinstance(clause.statistic, ir.Indicator) else "mean"


def num_seen_violating(statistic: Statistics, high: float) -> int:
    """How many prompts have a sample with a valid score above 0, whatever their other samples lack."""
    if isinstance(statistic, np.ndarray):
        found = _in_range(statistic.astype(np.float64), high) > 0
        return int((found if found.ndim == 1 else found.any(axis=1)).sum())
    return sum(bool((_in_range(np.asarray(row, dtype=np.float64), high) > 0).any()) for row in statistic)


def per_prompt_means(statistic: Statistics, high: float) -> tuple[NDArray[np.float64], int | None]:
    """Per-prompt means [n], nan where a sample has no valid score, and the number of samples per prompt.

    ``high`` is the upper end of a score's range. The number is None when the prompts came as numbers, or with arrays
    of different sizes.
    """
    if isinstance(statistic, np.ndarray):
        if statistic.ndim not in (1, 2):
            raise ValueError(f"got shape {statistic.shape}; expected [prompts] or [prompts, samples]")
        if statistic.ndim == 1:
            return _in_range(statistic.astype(np.float64), high), None
    rows = [np.asarray(row, dtype=np.float64) for row in statistic]
    if any(row.ndim > 1 or row.size == 0 for row in rows):
        raise ValueError("got a prompt without samples; leave it out and count it in `unavailable`")
    sizes = {row.size for row in rows if row.ndim == 1}
    means = np.array([_in_range(row, high).mean() for row in rows], dtype=np.float64)
    return means, sizes.pop() if len(sizes) == 1 else None


def _in_range(values: NDArray[np.float64], high: float) -> NDArray[np.float64]:
    """``values`` with nan for everything outside [0, high]: such a score is an error, never a number."""
    slack = _RANGE_SLACK * (high if math.isfinite(high) else 1.0)
    valid = np.isfinite(values) & (values >= -slack) & (values <= high + slack)
    return np.where(valid, np.clip(values, 0.0, high), np.nan)


def _high(statistic: ir.Indicator | ir.Value) -> float:
    if isinstance(statistic, ir.Indicator):
        return 1.0
    return math.inf if statistic.high is None else float(statistic.high)


def _planned_samples(clause: ir.Clause) -> int | None:
    planned = clause.sampling.get("samples")
    return None if planned is None else int(float(planned))
