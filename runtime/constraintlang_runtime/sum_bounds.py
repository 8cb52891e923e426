"""Confidence bounds of a sum of statistics: paired over prompts where they are means of the same prompts.

Means and chances over the same prompts, of one model or of two, are added up prompt by prompt first: what is common
to both, such as how hard a prompt is, then cancels. The groups that remain, and every quantile and cvar, get bounds
of their own at ``alpha`` divided by their number; the sum of these is a bound of the sum (union bound).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.bounds import (
    Bounds,
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    student_t_bounds,
)
from constraintlang_compiler.ir import Quantity, Share, Summary
from constraintlang_compiler.measurements import value_range

from .tail_bounds import cvar_bounds, quantile_bounds, quantile_method
from .verify_tails import usable_prompts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """``factor * quantity`` with its evidence: ``values`` [n, m] of the prompts of the clause, ``inside`` [n].

    The prompts stand in an order that does not depend on the values.
    """

    factor: float
    quantity: Quantity
    values: Floats
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class SumBounds:
    """Bounds of the sum, the prompts that it rests on, and how they were found; ``empty``: a part has no prompts."""

    bounds: Bounds
    num_prompts: int
    unavailable: int
    method: str
    empty: bool


def sum_bounds(pieces: Sequence[Piece], alpha: float) -> SumBounds:
    """Bounds of the sum of the pieces, each one-sided at ``alpha``."""
    used = np.logical_or.reduce([piece.inside for piece in pieces])
    if any(not piece.inside.any() for piece in pieces):
        return SumBounds(Bounds(math.nan, -math.inf, math.inf), int(used.sum()), 0, "", True)
    groups: dict[bytes, list[Piece]] = {}
    tails = [piece for piece in pieces if _is_tail(piece.quantity)]
    for piece in pieces:
        if not _is_tail(piece.quantity):
            groups.setdefault(piece.inside.tobytes(), []).append(piece)
    share = alpha / (len(groups) + len(tails))
    found = [_paired(group, share) for group in groups.values()] + [_tail(piece, share) for piece in tails]
    missing = np.zeros(len(used), dtype=bool)
    for piece in pieces:
        missing |= piece.inside & ~usable_prompts(piece.values, *value_range(piece.quantity))
    total = Bounds(*(float(sum(bounds[k] for bounds, _ in found)) for k in range(3)))
    methods = sorted({method for _, method in found})
    return SumBounds(total, int(used.sum()), int(missing.sum()), " + ".join(methods), False)


def without_gaps(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces on the prompts that have a score in all of them."""
    whole = np.logical_and.reduce(
        [~piece.inside | usable_prompts(piece.values, *value_range(piece.quantity)) for piece in pieces]
    )
    return [replace(piece, inside=piece.inside & whole) for piece in pieces]


def _is_tail(quantity: Quantity) -> bool:
    return isinstance(quantity, Summary) and quantity.function != "mean"


def paired_total(group: Sequence[Piece]) -> tuple[Floats, float, float]:
    """The sum over the pieces of each prompt's means [n], nan where one is unknown, and the range of such sums.

    The pieces speak of the same prompts, n of them.
    """
    inside = group[0].inside
    ranges = [tuple(sorted(piece.factor * end for end in value_range(piece.quantity))) for piece in group]
    total = np.zeros(int(inside.sum()))
    for piece in group:
        values = piece.values[inside]
        usable = usable_prompts(values, *value_range(piece.quantity))
        with np.errstate(invalid="ignore"):
            total += np.where(usable, piece.factor * values.mean(axis=1), np.nan)
    return total, sum(r[0] for r in ranges), sum(r[1] for r in ranges)


def _paired(group: Sequence[Piece], alpha: float) -> tuple[Bounds, str]:
    """Bounds of the mean over prompts of the sum of several means of the same prompts."""
    total, low, high = paired_total(group)
    usable = np.isfinite(total)
    known, unavailable = total[usable], int((~usable).sum())
    estimate = float(known.mean()) if known.size else math.nan
    is_count = len(group) == 1 and isinstance(group[0].quantity, Share) and group[0].values.shape[1] == 1
    if is_count:
        factor = group[0].factor
        count, n = round(float(known.sum()) / factor), len(usable)
        ends = sorted(
            factor * end
            for end in (
                clopper_pearson_lower(count, n, alpha),
                clopper_pearson_upper(count + unavailable, n, alpha),
            )
        )
        return Bounds(estimate, ends[0], ends[1]), "clopper-pearson"
    if not (math.isfinite(low) and math.isfinite(high)):
        bounds = student_t_bounds(known, alpha)
        lower, upper = (low, high) if unavailable else (max(low, bounds.lower), min(high, bounds.upper))
        return Bounds(estimate, lower, upper), "student-t (asymptotic)"
    if high <= low:
        return Bounds(estimate, low, high), "exact"
    scaled = np.clip((total - low) / (high - low), 0.0, 1.0)
    clean, worst = (np.where(usable, scaled, end) for end in (0.0, 1.0))
    return (
        Bounds(
            estimate,
            low + (high - low) * betting_lower(clean, alpha),
            low + (high - low) * betting_upper(worst, alpha),
        ),
        "betting",
    )


def _tail(piece: Piece, alpha: float) -> tuple[Bounds, str]:
    """Bounds of a quantile or cvar times its factor."""
    quantity = piece.quantity
    assert isinstance(quantity, Summary)
    low, high = value_range(quantity)
    values = piece.values[piece.inside]
    usable = usable_prompts(values, low, high)
    known, level = np.where(usable[:, None], np.clip(values, low, high), np.nan), float(quantity.level or 0)
    if quantity.function == "quantile":
        bounds = quantile_bounds(known, level, alpha, low=low, high=high)
        method = quantile_method(values.shape[1])
    else:
        bounds = cvar_bounds(known, level, alpha, low=low, high=high)
        is_open = not (math.isfinite(low) and math.isfinite(high))
        method = "student-t (asymptotic)" if is_open else "betting on hinges"
    ends = sorted((piece.factor * bounds.lower, piece.factor * bounds.upper))
    return Bounds(piece.factor * bounds.estimate, ends[0], ends[1]), method
