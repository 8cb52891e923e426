"""Sequence-level checkers: truth values, terms and statistics of a batch of scored responses, in numpy.

Inputs are float64 arrays of one score per response; ``nan`` is an unknown score. Where a predicate speaks of
parts (``over``), their scores come by level (``parts.py``). Truth values are 1, 0 and ``nan``, joined by the
strong Kleene tables. Scores are not validated here: call ``validate_scores`` once per
batch of raw scores.

Where floats meet decimals: an attribute is compared with ``float(threshold)``, so a score that was written as
the decimal ``0.1`` and the threshold ``0.1`` are equal. A comparison that does arithmetic (``a + 0.2 <= 0.3``),
or whose threshold has more digits than a float, is decided in float64 unless both sides agree to a part in
10^9; then it is decided exactly, each score read as the shortest decimal that rounds to it. So the checkers
agree with the reference interpreter on every score of at most 15 significant digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import prod

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.attributes import keys_of, score_key
from constraintlang_compiler.errors import ScoreRangeError, TargetError
from constraintlang_compiler.intervals import attribute_interval
from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRecord,
    AttributeRef,
    Clause,
    Comparison,
    Const,
    FlagRef,
    Hinge,
    Indicator,
    Literally,
    Op,
    Over,
    Predicate,
    Product,
    Quantity,
    Quotient,
    Share,
    Sum,
    Term,
    Value,
)
from constraintlang_compiler.measurements import Measurement
from constraintlang_compiler.operators import HOLDS
from constraintlang_compiler.parts import NO_PARTS, Parts

Floats = NDArray[np.float64]
Scores = Mapping[str, Floats]

COMPARE: dict[Op, np.ufunc] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
NEAR_TIE = 1e-9  # far above the rounding of a few float64 operations, far below what a score can mean


def evaluate_term(term: Term, scores: Scores) -> Floats:
    """The value of a term for every response.

    Shapes: each score [n]; result [n], ``nan`` where a score is unknown or a denominator is 0.
    Raises: KeyError for a missing attribute (the key is ``name`` or ``name@base``), ValueError for unequal
    lengths.
    """
    with _quiet():
        return _term(term, scores, _length(scores))


def evaluate_predicate(predicate: Predicate, scores: Scores, parts: Parts = NO_PARTS) -> Floats:
    """The truth value of a predicate for every response: 1 true, 0 false, ``nan`` unknown.

    Shapes: each score [n], the parts of n responses at each level; result [n].
    Raises: KeyError for a missing attribute or level, ValueError for unequal lengths.
    """
    with _quiet():
        return _predicate(predicate, scores, _length(scores, parts), parts)


def statistics(clauses: Sequence[Clause], scores: Scores, parts: Parts = NO_PARTS) -> Floats:
    """The statistics of the clauses, small is good; of a hinge whose eta is not chosen yet, the term.

    Shapes: each score [n], the parts of n responses at each level; result [n, K], column k for ``clauses[k]``;
    ``nan`` where unknown.
    Raises: TargetError for a clause that is about no single response; KeyError for a missing attribute or level.
    """
    num_responses = _length(scores, parts)
    result = np.empty((num_responses, len(clauses)), dtype=np.float64)
    for column, clause in enumerate(clauses):
        statistic = clause.statistic
        if not isinstance(statistic, (Indicator, Value, Hinge)):
            raise TargetError(
                f"got the {clause.kind} clause `{clause.name}`, expected clauses about single responses",
                help="pass `sample_clauses(ir)`",
            )
        with _quiet():
            result[:, column] = _statistic(statistic, scores, num_responses, parts)
    return result


def quantity_values(quantity: Quantity, scores: Scores, parts: Parts = NO_PARTS) -> Floats:
    """What a quantity is taken of, for every response: truth values, or the values of the term.

    Shapes: each score [n], the parts of n responses at each level; result [n], ``nan`` where unknown.
    Raises: as ``evaluate_predicate``.
    """
    if isinstance(quantity, Share):
        return evaluate_predicate(quantity.predicate, scores, parts)
    return evaluate_term(quantity.term, scores)


def measure(clause: Clause, measurement: Measurement, scores: Scores, parts: Parts = NO_PARTS) -> Floats:
    """The values of one measurement, for every response.

    Shapes: each score [n], the parts of n responses at each level; result [n], ``nan`` where unknown.
    Raises: KeyError for a missing attribute or level.
    """
    if isinstance(clause.statistic, (Indicator, Value)) and clause.kind != "quantile":
        return statistics([clause], scores, parts)[:, 0]
    return quantity_values(measurement.quantity, scores, parts)


def validate_scores(
    attributes: Sequence[AttributeRecord], scores: Scores, *, allow_unknown: bool = True
) -> None:
    """Check raw scores against the declarations: in range, integral for int and count, 0 or 1 for a flag.

    ``name@base`` is checked like ``name``. Unknown (``nan``) passes unless ``allow_unknown`` is false.
    Raises: ScoreRangeError naming attribute, index, value and what was declared.
    """
    declared = {attribute.name: attribute for attribute in attributes}
    for key, values in scores.items():
        attribute = declared.get(key.removesuffix("@base"))
        if attribute is None:
            continue
        interval = attribute_interval(attribute)
        low = -np.inf if interval.low is None else float(interval.low)
        high = np.inf if interval.high is None else float(interval.high)
        values = np.asarray(values, dtype=np.float64)
        unknown = np.isnan(values)
        with np.errstate(invalid="ignore"):
            bad = ~((values >= low) & (values <= high) & np.isfinite(values))
            if attribute.type in ("int", "count", "flag"):
                bad |= values != np.rint(values)
        bad = (bad & ~unknown) | (unknown & (not allow_unknown))
        if bad.any():
            index = int(np.argmax(bad))
            raise ScoreRangeError(key, index, float(values[index]), _expected(attribute, low, high))


def _expected(attribute: AttributeRecord, low: float, high: float) -> str:
    if attribute.type == "flag":
        return "0 or 1 (declared a flag)"
    noun = {"int": "an integer", "count": "an integer"}.get(attribute.type, "a finite number")
    if np.isinf(low) and np.isinf(high):
        return f"{noun} (declared {attribute.type} without a range)"
    ends = ("-inf" if np.isinf(low) else f"{low:g}", "inf" if np.isinf(high) else f"{high:g}")
    return f"{noun} in [{ends[0]}, {ends[1]}] (declared {attribute.type})"


def _quiet() -> np.errstate:
    # Overflow gives an infinity or nan, which a comparison then decides exactly: nothing to warn of.
    return np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")


def _statistic(
    statistic: Indicator | Value | Hinge, scores: Scores, num_responses: int, parts: Parts
) -> Floats:
    if isinstance(statistic, Indicator):
        return _predicate(statistic.predicate, scores, num_responses, parts)
    if isinstance(statistic, Hinge):
        return _term(statistic.term, scores, num_responses)
    high = np.inf if statistic.high is None else float(statistic.high)
    # A sum such as 0.3 - 0.1 - 0.2 may leave the range by a rounding error; the range is exact.
    return np.clip(_term(statistic.term, scores, num_responses), 0.0, high)


def _length(scores: Scores, parts: Parts = NO_PARTS) -> int:
    lengths = {key: len(values) for key, values in scores.items()}
    lengths |= {f"over {level}": len(found.lengths) for level, found in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"got scores of unequal lengths {lengths}, expected one score per response")
    return next(iter(lengths.values()), 0)


def _scores_of(scores: Scores, key: str) -> Floats:
    if key not in scores:
        raise KeyError(f"no scores of `{key}`; got {sorted(scores)}")
    return np.asarray(scores[key], dtype=np.float64)


def _term(term: Term, scores: Scores, num_responses: int) -> Floats:
    match term:
        case Const(value=value):
            return np.full(num_responses, float(value))
        case AttributeRef():
            return _scores_of(scores, score_key(term))
        case Sum(terms=terms):
            return np.sum([_term(part, scores, num_responses) for part in terms], axis=0, dtype=np.float64)
        case Product(terms=terms):
            return np.prod([_term(part, scores, num_responses) for part in terms], axis=0, dtype=np.float64)
        case Quotient(numerator=numerator_term, denominator=denominator_term):
            numerator = _term(numerator_term, scores, num_responses)
            denominator = _term(denominator_term, scores, num_responses)
            return np.divide(numerator, np.where(denominator == 0, np.nan, denominator))


def _predicate(predicate: Predicate, scores: Scores, num_responses: int, parts: Parts) -> Floats:
    match predicate:
        case Literally(value=value):
            return np.full(num_responses, float(value))
        case FlagRef(negated=negated):
            flag = _scores_of(scores, score_key(predicate))
            return _truth((flag == 0) if negated else (flag != 0), np.isnan(flag))
        case Comparison():
            return _comparison(predicate, scores, num_responses)
        case All(operands=operands):
            # Kleene: false wins over unknown, unknown over true. `minimum` alone would let nan win.
            values = np.stack([_predicate(part, scores, num_responses, parts) for part in operands])
            return _truth(
                ~(values == 0).any(axis=0), np.isnan(values).any(axis=0) & ~(values == 0).any(axis=0)
            )
        case Any(operands=operands):
            values = np.stack([_predicate(part, scores, num_responses, parts) for part in operands])
            return _truth(
                (values == 1).any(axis=0), np.isnan(values).any(axis=0) & ~(values == 1).any(axis=0)
            )
        case Over():
            return _over(predicate, parts)


def _over(over: Over, parts: Parts) -> Floats:
    from constraintlang_compiler.monitors.trace_monitors import trace_monitor

    if over.level not in parts:
        raise KeyError(f"no scores of `{over.level}`; got {sorted(parts)}")
    found = parts[over.level]
    total = int(found.lengths.sum())

    def evaluate(predicate: Comparison | FlagRef) -> Floats:
        return _predicate(predicate, found.scores, total, NO_PARTS)

    truth = trace_monitor(over.formula, over.empty).truth(evaluate, found.lengths)
    truth[list(found.unknown)] = np.nan
    return truth


def _truth(value: NDArray[np.bool_], unknown: NDArray[np.bool_]) -> Floats:
    return np.where(unknown, np.nan, value.astype(np.float64))


def _comparison(predicate: Comparison, scores: Scores, num_responses: int) -> Floats:
    left = _term(predicate.left, scores, num_responses)
    right = _term(predicate.right, scores, num_responses)
    result = _truth(COMPARE[predicate.op](left, right), np.isnan(left) | np.isnan(right))
    if _is_plain(predicate.left) and _is_plain(predicate.right):
        return result
    known = ~np.isnan([_scores_of(scores, key) for key in keys_of(predicate)]).any(axis=0)
    scale = _magnitude(predicate.left, scores, num_responses)
    scale = scale + _magnitude(predicate.right, scores, num_responses)
    decided = np.abs(left - right) > NEAR_TIE * scale
    for index in np.flatnonzero(known & ~decided):
        exact_left = _exact(predicate.left, scores, int(index))
        exact_right = _exact(predicate.right, scores, int(index))
        if exact_left is None or exact_right is None:
            result[index] = np.nan
        else:
            result[index] = HOLDS[predicate.op](exact_left, exact_right)
    return result


def _magnitude(term: Term, scores: Scores, num_responses: int) -> Floats:
    """A number [n] to which the rounding error of the term is proportional: nothing cancels in it."""
    match term:
        case Const() | AttributeRef():
            return np.abs(_term(term, scores, num_responses))
        case Sum(terms=terms):
            return np.sum(
                [_magnitude(part, scores, num_responses) for part in terms], axis=0, dtype=np.float64
            )
        case Product(terms=terms):
            return np.prod(
                [_magnitude(part, scores, num_responses) for part in terms], axis=0, dtype=np.float64
            )
        case Quotient(numerator=numerator, denominator=denominator):
            bottom = _term(denominator, scores, num_responses)
            top = _magnitude(numerator, scores, num_responses) * _magnitude(
                denominator, scores, num_responses
            )
            return np.divide(top, np.where(bottom == 0, np.nan, bottom) ** 2)


def _is_plain(term: Term) -> bool:
    """Whether a term is compared as a float: a score, or a number that its float gives back."""
    if isinstance(term, Const):
        return Decimal(repr(float(term.value))) == Decimal(term.value)
    return isinstance(term, AttributeRef)


def _exact(term: Term, scores: Scores, index: int) -> Fraction | None:
    """The term for one response in exact arithmetic; ``None`` where it divides by 0. Its scores are known."""
    match term:
        case Const(value=value):
            return Fraction(value)
        case AttributeRef():
            return Fraction(repr(float(_scores_of(scores, score_key(term))[index])))
        case Sum(terms=terms) | Product(terms=terms):
            parts = [_exact(part, scores, index) for part in terms]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            return sum(known, Fraction(0)) if isinstance(term, Sum) else prod(known, start=Fraction(1))
        case Quotient(numerator=numerator, denominator=denominator):
            top, bottom = _exact(numerator, scores, index), _exact(denominator, scores, index)
            return None if top is None or not bottom else top / bottom
