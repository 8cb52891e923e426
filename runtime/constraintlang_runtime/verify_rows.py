"""Verdicts on the model's loss and accuracy on rows, relative to those of the base model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import Bounds, betting_lower, betting_upper, ratio_bounds

from .deciding import after_gaps, decide, make_verdict
from .verdicts import Direction, Verdict, VerdictName

Floats = NDArray[np.float64]
ASYMPTOTIC = "paired ratio estimator (asymptotic)"


@dataclass(frozen=True, kw_only=True)
class UtilityEvidence:
    """Arguments of ``verify_utility``, or of ``verify_accuracy``, for one clause.

    The rows stand in an order that does not depend on the values (``bet_order``).
    """

    model_sums: ArrayLike
    base_sums: ArrayLike
    counts: ArrayLike


def verify_utility(
    clause: ir.Clause, nll_model: ArrayLike, nll_base: ArrayLike, token_counts: ArrayLike, *, alpha: float
) -> Verdict:
    """Verdict of ``perplexity <= factor * base + offset`` from paired sums of NLL per row.

    Equation: with A, B the mean NLL per token of model and base, ``estimate = exp(A)``,
    ``bound = factor * exp(B) + offset`` and ``lower, upper = exp(A -+ h)``, h the half-width of the paired
    ratio estimator of ``A - w B``, ``w = d log(bound)/dB`` (1 when the offset is 0: the log ratio of the
    perplexities). So the interval holds what the comparison is uncertain about, not the difficulty of the
    rows, which both share.
    Shapes: [rows] each. Units: nats per row; tokens per row. Asymptotic in the number of rows; rows are
    clusters. A row whose sum is not finite is unavailable: then no bound is known.
    A bound that is not > 0 is below every perplexity: the verdict is ``error``.
    Raises: ValueError for another kind of clause or unequal shapes.
    """
    _expect_rows(clause, "perplexity")
    factor, offset = float(clause.base_factor or 0), float(clause.bound)
    own, theirs, counts, unavailable = _known_rows(nll_model, nll_base, token_counts)
    n, mean_model, mean_base = _row_means(own, theirs, counts)
    # exp(700) is near the largest float: with such a base there is no number to compare with
    base = factor * math.exp(mean_base) if n and mean_base <= 700.0 else math.nan
    impossible = base + offset <= 0
    weight = 1.0 if impossible or math.isnan(base) else base / (base + offset)
    paired = ratio_bounds(own, counts, alpha, base_sums=theirs, base_weight=weight)
    half_width = paired.upper - paired.estimate if n > 1 else math.inf
    if _is_none(half_width, mean_model) and not np.array_equal(own, theirs):
        half_width = math.inf  # differences that are all the same say nothing of how they spread
    shown = Bounds(*map(_exp, (mean_model, mean_model - half_width, mean_model + half_width)))
    return _verify_rows(
        clause, shown, base + offset, n=n, alpha=alpha, quantity="perplexity", method=ASYMPTOTIC,
        unavailable=unavailable,
        problem=f"its bound is {base + offset:.4g}, and a perplexity is at least 1" if impossible else None,
    )  # fmt: skip


def verify_accuracy(
    clause: ir.Clause,
    right_model: ArrayLike,
    right_base: ArrayLike,
    question_counts: ArrayLike,
    *,
    alpha: float,
) -> Verdict:
    """Verdict of ``accuracy >= factor * base + offset`` from paired counts of right answers per row.

    Equation: with A, B the shares of right answers, ``estimate = A``, ``bound = factor * B + offset``, and
    ``lower, upper`` are A moved by what ``A - factor * B`` is uncertain about: its betting bounds over the
    rows' differences in [-factor, 1] where every row has as many questions, valid for any number of rows;
    else A -+ the half-width of the paired ratio estimator, infinite while all rows say the same.
    Shapes: [rows] each; a row is one question, or several that belong together.
    Raises: ValueError for another kind of clause or unequal shapes.
    """
    _expect_rows(clause, "accuracy")
    factor, offset = float(clause.base_factor or 0), float(clause.bound)
    own, base, counts, unavailable = _known_rows(right_model, right_base, question_counts)
    n, mean_model, mean_base = _row_means(own, base, counts)
    method = "betting on differences"
    if n and (counts == counts[0]).all():
        between = (own - factor * base) / counts
        high = 1.0 + factor
        scaled = np.clip((between + factor) / high, 0.0, 1.0)
        low, top = (high * bound(scaled, alpha) - factor for bound in (betting_lower, betting_upper))
        moved = mean_model - float(between.mean())
        shown = Bounds(mean_model, moved + low, moved + top)
    else:
        method = ASYMPTOTIC
        paired = ratio_bounds(own, counts, alpha, base_sums=base, base_weight=factor)
        half_width = paired.upper - paired.estimate if n > 1 else math.inf
        half_width = math.inf if _is_none(half_width, mean_model) else half_width
        shown = Bounds(mean_model, mean_model - half_width, mean_model + half_width)
    return _verify_rows(
        clause, shown, factor * mean_base + offset, n=n, alpha=alpha, quantity="accuracy", method=method,
        unavailable=unavailable,
    )  # fmt: skip


def _expect_rows(clause: ir.Clause, quantity: str) -> None:
    statistic = clause.statistic
    found = statistic.quantity if isinstance(statistic, ir.RowsLoss) else "single responses"
    if found != quantity:
        raise ValueError(f"clause `{clause.name}` is about {found}; expected {quantity}")


def _known_rows(model: ArrayLike, base: ArrayLike, counts: ArrayLike) -> tuple[Floats, Floats, Floats, int]:
    """The rows whose sums are finite, and how many are not."""
    arrays = [np.asarray(values, dtype=np.float64) for values in (model, base, counts)]
    if len({values.shape for values in arrays}) > 1 or arrays[0].ndim != 1:
        shapes = ", ".join(str(values.shape) for values in arrays)
        raise ValueError(f"got shapes {shapes}; expected three equal shapes [rows]")
    usable = np.isfinite(arrays[0]) & np.isfinite(arrays[1])
    own, theirs, number = (values[usable] for values in arrays)
    return own, theirs, number, int((~usable).sum())


def _row_means(model: ArrayLike, base: ArrayLike, counts: ArrayLike) -> tuple[int, float, float]:
    """Number of rows and the two ratios; nan without rows."""
    first, second = ratio_bounds(model, counts, 0.5), ratio_bounds(base, counts, 0.5)
    return np.asarray(counts).size, first.estimate, second.estimate


def _is_none(half_width: float, mean: float) -> bool:
    """Whether a spread is no more than what rounding leaves of none."""
    return half_width <= 1e-9 * max(1.0, abs(mean))


def _exp(value: float) -> float:
    return math.inf if value > 700.0 else math.exp(value)


def _verify_rows(
    clause: ir.Clause,
    shown: Bounds,
    bound: float,
    *,
    n: int,
    alpha: float,
    quantity: Literal["perplexity", "accuracy"],
    method: str,
    unavailable: int,
    problem: str | None = None,
) -> Verdict:
    direction: Direction = "at_least" if clause.at_least else "at_most"
    alone = decide(shown.lower, shown.upper, bound, strict=clause.strict, direction=direction)
    if unavailable:  # a loss without an end may be anything, so that the other rows bound nothing
        shown = Bounds(shown.estimate, -math.inf, math.inf)
    decided: VerdictName = "inconclusive" if unavailable else alone
    verdict, note = after_gaps(decided, n + unavailable, unavailable, otherwise=lambda: alone)
    if (
        quantity == "accuracy"
    ):  # after the decision: an end beyond the range is no evidence against a bound there
        shown = Bounds(shown.estimate, max(0.0, shown.lower), min(1.0, shown.upper))
    if problem is not None:
        verdict, note = "error", problem
    return make_verdict(
        clause,
        shown,
        bound=bound,
        n=n + unavailable,
        verdict=verdict,
        direction=direction,
        alpha=alpha,
        method=method,
        quantity=quantity,
        samples=None,
        unavailable=unavailable,
        note=note,
    )
