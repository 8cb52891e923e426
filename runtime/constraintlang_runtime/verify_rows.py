"""Verdicts on the model's loss and accuracy on rows, relative to those of the base model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import Bounds, ratio_bounds

from .deciding import after_gaps, decide, make_verdict
from .verdicts import Direction, Verdict


@dataclass(frozen=True, kw_only=True)
class UtilityEvidence:
    """Arguments of ``verify_utility``, or of ``verify_accuracy``, for one clause."""

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
    clusters.
    Raises: ValueError for another kind of clause, unequal shapes, entries not finite, or a bound that is not
    > 0.
    """
    _expect_rows(clause, "perplexity")
    factor, offset = float(clause.base_factor or 0), float(clause.bound)
    n, mean_model, mean_base = _row_means(nll_model, nll_base, token_counts)
    base = factor * math.exp(mean_base) if n else math.nan
    if n and base + offset <= 0:
        raise ValueError(
            f"got the bound {base + offset:g} for a perplexity, which is at least 1; loosen the clause"
        )
    weight = base / (base + offset) if n else 1.0
    paired = ratio_bounds(nll_model, token_counts, alpha, base_sums=nll_base, base_weight=weight)
    half_width = paired.upper - paired.estimate if n > 1 else math.inf
    shown = Bounds(math.exp(mean_model), math.exp(mean_model - half_width), _exp(mean_model + half_width))
    return _verify_rows(clause, shown, base + offset, n=n, alpha=alpha, quantity="perplexity")


def verify_accuracy(
    clause: ir.Clause,
    right_model: ArrayLike,
    right_base: ArrayLike,
    question_counts: ArrayLike,
    *,
    alpha: float,
) -> Verdict:
    """Verdict of ``accuracy >= factor * base + offset`` from paired counts of right answers per row.

    Equation: ``estimate = A``, ``bound = factor * B + offset`` and the interval ``A -+ h``, h the half-width
    of the paired ratio estimator of ``A - factor * B``, with A, B the shares of right answers.
    Shapes: [rows] each; a row is one question, or several that belong together. Asymptotic in the number of
    rows.
    Raises: ValueError for another kind of clause, unequal shapes, or entries not finite.
    """
    _expect_rows(clause, "accuracy")
    factor, offset = float(clause.base_factor or 0), float(clause.bound)
    n, mean_model, mean_base = _row_means(right_model, right_base, question_counts)
    paired = ratio_bounds(right_model, question_counts, alpha, base_sums=right_base, base_weight=factor)
    half_width = paired.upper - paired.estimate if n > 1 else math.inf
    shown = Bounds(mean_model, mean_model - half_width, mean_model + half_width)
    return _verify_rows(clause, shown, factor * mean_base + offset, n=n, alpha=alpha, quantity="accuracy")


def _expect_rows(clause: ir.Clause, quantity: str) -> None:
    statistic = clause.statistic
    found = statistic.quantity if isinstance(statistic, ir.RowsLoss) else "single responses"
    if found != quantity:
        raise ValueError(f"clause `{clause.name}` is about {found}; expected {quantity}")


def _row_means(model: ArrayLike, base: ArrayLike, counts: ArrayLike) -> tuple[int, float, float]:
    """Number of rows and the two ratios; nan without rows."""
    first, second = ratio_bounds(model, counts, 0.5), ratio_bounds(base, counts, 0.5)
    return np.asarray(counts).size, first.estimate, second.estimate


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf


def _verify_rows(
    clause: ir.Clause,
    shown: Bounds,
    bound: float,
    *,
    n: int,
    alpha: float,
    quantity: Literal["perplexity", "accuracy"],
) -> Verdict:
    direction: Direction = "at_least" if clause.at_least else "at_most"
    decided = decide(shown.lower, shown.upper, bound, strict=clause.strict, direction=direction)
    verdict, note = after_gaps(decided, n, 0)
    return make_verdict(
        clause,
        shown,
        bound=bound,
        n=n,
        verdict=verdict,
        direction=direction,
        alpha=alpha,
        method="paired ratio estimator (asymptotic)",
        quantity=quantity,
        samples=None,
        unavailable=0,
        note=note,
    )
