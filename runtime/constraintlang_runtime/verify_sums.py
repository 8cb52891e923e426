"""Verdicts on comparisons of several statistics: relative to the base model, differences, and choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler import ir
from constraintlang_compiler.bounds import Bounds
from constraintlang_compiler.lower_combinations import same_quantity
from constraintlang_compiler.measurements import measurements
from constraintlang_compiler.render_parts import condition_text

from .bet_order import Keys
from .deciding import after_gaps, decide, make_verdict
from .sum_bounds import Piece, SumBounds, sum_bounds, without_gaps
from .verdicts import Direction, Quantity, Verdict, VerdictName
from .verify_tails import as_samples

Floats = NDArray[np.float64]
Bounder = Callable[[Sequence[Piece], float], SumBounds]
NO_BOUNDS = Bounds(math.nan, math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class SumEvidence:
    """What is known for each of ``measurements(clause)``, over the n prompts of the clause.

    ``values`` are [n, m], the samples of each prompt, nan where a score is missing; ``inside`` [n] says of which
    prompts the measurement speaks. ``keys`` [n] by which ``bet_order`` orders the prompts.
    """

    values: tuple[Floats, ...]
    inside: tuple[NDArray[np.bool_], ...]
    keys: Keys | None = None


def is_sum(clause: ir.Clause) -> bool:
    """Whether the clause is judged by ``verify_sum``."""
    if isinstance(clause.statistic, (ir.Combination, ir.Choice)):
        return True
    return clause.base_factor is not None and isinstance(clause.statistic, (ir.Indicator, ir.Value))


def verify_sum(
    clause: ir.Clause, evidence: SumEvidence, *, alpha: float, bounds_of: Bounder = sum_bounds
) -> Verdict:
    """Verdict of a comparison of statistics from the values of each of them on the same prompts.

    Relative to the base model, ``bound`` is the number that the base model gives it, and ``lower`` and ``upper`` are
    the estimate moved by what the difference is uncertain about. ``bounds_of`` are the bounds of a sum.
    Raises: ValueError when the evidence does not fit the measurements of the clause.
    """
    wanted = measurements(clause)
    shapes = {values.shape[:1] for values in evidence.values} | {i.shape for i in evidence.inside}
    if not len(wanted) == len(evidence.values) == len(evidence.inside) or len(shapes) > 1:
        raise ValueError(
            f"got {len(evidence.values)} series with prompts {sorted(shapes)} for clause `{clause.name}`; "
            f"expected {len(wanted)} series of one number of prompts"
        )
    if isinstance(clause.statistic, ir.Choice):
        return _verify_choice(clause, clause.statistic, evidence, alpha)
    if isinstance(clause.statistic, ir.Combination):
        return _verify_combination(clause, clause.statistic, evidence, alpha, bounds_of)
    return _verify_relative(clause, evidence, alpha, bounds_of)


def _verify_relative(clause: ir.Clause, evidence: SumEvidence, alpha: float, bounds_of: Bounder) -> Verdict:
    """``E_self[f] - c E_base[f] <= bound + scale * c * offset``, shown in the unit of ``offset + scale * f``."""
    offset, scale = float(clause.shown.offset), clause.shown.scale
    factor = float(clause.base_factor or 0)
    pieces, limit = pieces_and_limit(clause, evidence)
    found = bounds_of(pieces, alpha)
    decided, otherwise = _decided(found, pieces, limit, clause.strict, alpha, bounds_of)
    first, second = (offset + scale * _mean(piece) for piece in pieces)
    low, high = found.bounds.lower - found.bounds.estimate, found.bounds.upper - found.bounds.estimate
    ends = (first + low, first + high) if scale == 1 else (first - high, first - low)
    is_share = isinstance(clause.statistic, ir.Indicator)
    return _finish(
        clause,
        found,
        decided,
        otherwise,
        Bounds(first, *ends),
        offset + scale * float(clause.bound) + factor * second,
        "at_most" if scale == 1 else "at_least",
        "probability" if is_share else "mean",
        evidence,
        alpha,
        f"the base model reaches {second:.4g}",
    )


def pieces_and_limit(clause: ir.Clause, evidence: SumEvidence) -> tuple[list[Piece], float]:
    """The sum that a clause bounds from above, and its limit; not of a choice, which has several."""
    if isinstance(clause.statistic, ir.Combination):
        series = zip(evidence.values, evidence.inside, strict=True)
        return _pieces(clause.statistic.parts, series), float(clause.bound)
    factor = float(clause.base_factor or 0)
    own, base = measurements(clause)
    pieces = [
        Piece(1.0, own.quantity, as_samples(evidence.values[0]), evidence.inside[0]),
        Piece(-factor, base.quantity, as_samples(evidence.values[1]), evidence.inside[1]),
    ]
    return pieces, float(clause.bound) + clause.shown.scale * factor * float(clause.shown.offset)


def _mean(piece: Piece) -> float:
    means = piece.values[piece.inside].mean(axis=1)
    known = means[np.isfinite(means)]
    return float(known.mean()) if known.size else math.nan


def _verify_combination(
    clause: ir.Clause, statistic: ir.Combination, evidence: SumEvidence, alpha: float, bounds_of: Bounder
) -> Verdict:
    pieces, bound = pieces_and_limit(clause, evidence)
    found = bounds_of(pieces, alpha)
    scale = clause.shown.scale
    decided, otherwise = _decided(found, pieces, bound, clause.strict, alpha, bounds_of)
    shown, shown_bound = found.bounds, bound
    if scale == -1:
        shown, shown_bound = Bounds(-shown.estimate, -shown.upper, -shown.lower), -bound
    parts = {part.model: k for k, part in enumerate(statistic.parts)}
    if same_quantity(statistic.parts) and set(parts) == {"self", "base"} and not found.empty:
        # In the unit of the quantity itself, the base model's share of the sum on the side of the bound.
        own = float(statistic.parts[parts["self"]].factor)
        base = scale * sum_bounds([pieces[parts["base"]]], 0.5).bounds.estimate
        shown = Bounds(*((value - base) / abs(own) for value in shown))
        shown_bound = (shown_bound - base) / abs(own)
    quantity: Quantity = "difference" if clause.kind == "difference" else "quantile"
    if clause.kind == "cvar":
        quantity = "cvar"
    direction: Direction = "at_most" if scale == 1 else "at_least"
    return _finish(
        clause, found, decided, otherwise, shown, shown_bound, direction, quantity, evidence, alpha
    )


def _decided(
    found: SumBounds, pieces: Sequence[Piece], limit: float, strict: bool, alpha: float, bounds_of: Bounder
) -> tuple[VerdictName, Callable[[], VerdictName]]:
    """The verdict of bounds of a sum, and how to get that of the prompts without gaps."""

    def of(one: SumBounds) -> VerdictName:
        if one.empty:
            return "vacuous"
        return decide(one.bounds.lower, one.bounds.upper, limit, strict=strict, direction="at_most")

    return of(replace(found, empty=False)), lambda: of(bounds_of(without_gaps(pieces), alpha))


def _verify_choice(clause: ir.Clause, choice: ir.Choice, evidence: SumEvidence, alpha: float) -> Verdict:
    """One alternative that holds is enough; every bound in it is judged at ``alpha`` over their number."""
    series = zip(evidence.values, evidence.inside, strict=True)
    share = alpha / max(1, _count(choice.operands))
    prompts, missing, notes = 0, 0, []
    verdicts: list[VerdictName] = []
    for operand in choice.operands:
        verdict, found = _judge(operand, series, share)
        prompts = max([prompts, *(one.num_prompts for one in found)])
        missing = max([missing, *(one.unavailable for one in found)])
        verdicts.append(verdict)
        notes.append(f"`{condition_text(operand)}` {verdict}")
    verdict = "vacuous" if prompts == 0 else _any_of(verdicts)
    return make_verdict(
        clause,
        NO_BOUNDS,
        bound=math.nan,
        n=prompts,
        verdict=verdict,
        direction="at_most",
        alpha=alpha,
        method="each bound by itself",
        quantity="choice",
        samples=_samples(evidence),
        unavailable=missing,
        note="; ".join(notes),
    )


Series = Iterator[tuple[Floats, NDArray[np.bool_]]]


def _judge(condition: ir.Condition, series: Series, alpha: float) -> tuple[VerdictName, list[SumBounds]]:
    if isinstance(condition, ir.Bound):
        pieces = _pieces(condition.parts, series)
        found = sum_bounds(pieces, alpha)
        limit = float(condition.bound)
        decided, otherwise = _decided(found, pieces, limit, condition.strict, alpha, sum_bounds)
        verdict, _ = after_gaps(decided, found.num_prompts, found.unavailable, otherwise=otherwise)
        return "vacuous" if found.empty else verdict, [found]
    judged = [_judge(operand, series, alpha) for operand in condition.operands]
    names = [verdict for verdict, _ in judged]
    verdict = _any_of(names) if isinstance(condition, ir.AnyOf) else _all_of(names)
    return verdict, [one for _, found in judged for one in found]


def _any_of(verdicts: Sequence[VerdictName]) -> VerdictName:
    if "holds" in verdicts:
        return "holds"
    return _doubt(verdicts) or ("violated" if set(verdicts) == {"violated"} else "inconclusive")


def _all_of(verdicts: Sequence[VerdictName]) -> VerdictName:
    if "violated" in verdicts:
        return "violated"
    return _doubt(verdicts) or ("holds" if set(verdicts) == {"holds"} else "inconclusive")


def _doubt(verdicts: Sequence[VerdictName]) -> VerdictName | None:
    if "error" in verdicts:
        return "error"
    return "vacuous" if "vacuous" in verdicts else None


def _count(conditions: Sequence[ir.Condition]) -> int:
    return sum(1 if isinstance(c, ir.Bound) else _count(c.operands) for c in conditions)


def _pieces(parts: Sequence[ir.Part], series: Series) -> list[Piece]:
    return [
        Piece(float(part.factor), part.quantity, as_samples(values), inside)
        for part, (values, inside) in zip(parts, series, strict=False)
    ]


def _samples(evidence: SumEvidence) -> int | None:
    counts = {as_samples(values).shape[1] for values in evidence.values}
    return counts.pop() if len(counts) == 1 else None


def _finish(
    clause: ir.Clause,
    found: SumBounds,
    decided: VerdictName,
    otherwise: Callable[[], VerdictName],
    shown: Bounds,
    bound: float,
    direction: Direction,
    quantity: Quantity,
    evidence: SumEvidence,
    alpha: float,
    remark: str = "",
) -> Verdict:
    verdict, note = after_gaps(decided, found.num_prompts, found.unavailable, otherwise=otherwise)
    if found.empty and found.num_prompts:
        verdict, note = "vacuous", "no prompt lies in the condition of one of the statistics"
    return make_verdict(
        clause,
        NO_BOUNDS if found.empty else shown,
        bound=bound,
        n=found.num_prompts,
        verdict=verdict,
        direction=direction,
        alpha=alpha,
        method=found.method,
        quantity=quantity,
        samples=_samples(evidence),
        unavailable=found.unavailable,
        note="; ".join(text for text in (note, "" if found.empty else remark) if text),
    )
