"""Verdicts on quantiles and on the conditional value at risk, from the values of the term on the samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import Bounds
from constraintlang_compiler.hinges import quantile_bound

from .anytime import anytime_quantile_bounds
from .deciding import after_gaps, decide, make_verdict
from .tail_bounds import cvar_bounds, quantile_bounds, quantile_estimate, quantile_method
from .verdicts import Direction, Verdict

Floats = NDArray[np.float64]


def is_tail(clause: ir.Clause) -> bool:
    """Whether the clause is judged by ``verify_tail``."""
    quantile = clause.kind == "quantile" and isinstance(clause.statistic, ir.Indicator)
    return quantile or isinstance(clause.statistic, ir.Hinge)


def verify_tail(clause: ir.Clause, values: Floats, *, alpha: float, anytime: bool = False) -> Verdict:
    """Verdict of a bound on a quantile, or of an upper bound on a cvar.

    Shapes: ``values`` [n] or [n, m], the term's value on the samples of each prompt. A prompt with a value that is
    missing or outside the range counts as unavailable. The verdict on a quantile is that of the chance which the
    clause bounds: both invert the same binomial law. ``anytime`` bounds of a quantile hold whenever one stops; the
    prompts are then bet on in their order.
    """
    values = as_samples(values)
    if isinstance(clause.statistic, ir.Hinge):
        low, high = _end(clause.statistic.low, -math.inf), _end(clause.statistic.high, math.inf)
        bound, at_least, strict = float(clause.bound), False, clause.strict
        level = float(clause.statistic.level)
    else:
        found = quantile_bound(clause)
        low, high, level = -math.inf, math.inf, float(found.level)
        bound, at_least, strict = float(found.threshold), found.at_least, found.strict
    usable = usable_prompts(values, low, high)
    unavailable = int((~usable).sum())
    known = np.where(usable[:, None], np.clip(values, low, high), np.nan)
    if isinstance(clause.statistic, ir.Hinge):
        bounds = cvar_bounds(known, level, alpha, low=low, high=high, threshold=bound)
        is_open = not (math.isfinite(low) and math.isfinite(high))
        method = "student-t (asymptotic)" if is_open else "betting on hinges"
    elif anytime:
        bounds = _anytime_bounds(known, level, float(clause.bound), at_least, alpha)
        method = "betting on counts (anytime)"
    else:
        bounds = quantile_bounds(known, level, alpha)
        method = quantile_method(values.shape[1])
    direction: Direction = "at_least" if at_least else "at_most"
    n = len(known)
    decided = decide(bounds.lower, bounds.upper, bound, strict=strict, direction=direction)
    verdict, note = after_gaps(
        decided, n, unavailable,
        otherwise=lambda: verify_tail(clause, values[usable], alpha=alpha, anytime=anytime).verdict,
    )  # fmt: skip
    return make_verdict(
        clause,
        bounds if n else Bounds(math.nan, math.nan, math.nan),
        bound=bound,
        strict=strict,
        n=n,
        verdict=verdict,
        direction=direction,
        alpha=alpha,
        method=method,
        quantity="cvar" if isinstance(clause.statistic, ir.Hinge) else "quantile",
        samples=values.shape[1],
        unavailable=unavailable,
        note=note,
    )


def _anytime_bounds(values: Floats, level: float, share: float, at_least: bool, alpha: float) -> Bounds:
    """The bets are on the ``share`` that the clause bounds: beyond an upper threshold, or short of a lower one."""
    kept = values[np.isfinite(values).all(axis=1)]
    if not len(kept):
        return Bounds(math.nan, -math.inf, math.inf)
    estimate = quantile_estimate(kept, level)
    if at_least:
        lower, upper = anytime_quantile_bounds(-values, share, alpha)
        return Bounds(estimate, -upper, -lower)
    return Bounds(estimate, *anytime_quantile_bounds(values, share, alpha))


def as_samples(values: Floats) -> Floats:
    """[n] or [n, m] as float64 [n, m].

    Raises: ValueError for another shape, or prompts with different numbers of samples.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim not in (1, 2) or (found.ndim == 2 and found.shape[1] == 0):
        raise ValueError(f"got values of shape {found.shape}; expected [prompts] or [prompts, samples]")
    return found[:, None] if found.ndim == 1 else found


def usable_prompts(values: Floats, low: float, high: float) -> NDArray[np.bool_]:
    """Which prompts [n] have a known value in the range for every sample; a rounding error outside is no error."""
    width = high - low if math.isfinite(low) and math.isfinite(high) else 1.0
    slack = 1e-6 * width
    with np.errstate(invalid="ignore"):
        good = np.isfinite(values) & (values >= low - slack) & (values <= high + slack)
    return np.asarray(good.all(axis=1))


def _end(text: str | None, missing: float) -> float:
    return missing if text is None else float(text)
