"""What verification measures for a clause: one number per response, of which model, for which prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from constraintlang_compiler.attributes import bounds_in
from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.hinges import quantile_bound
from constraintlang_compiler.ir import (
    Choice,
    Clause,
    Combination,
    DomainPredicate,
    Hinge,
    Indicator,
    Part,
    Quantity,
    RowsLoss,
    Share,
    Summary,
    Value,
)


@dataclass(frozen=True)
class Measurement:
    """``quantity`` of each response of ``model`` to the prompts of the clause that lie in ``given``."""

    quantity: Quantity
    model: Literal["self", "base"] = "self"
    given: DomainPredicate | None = None


def measurements(clause: Clause) -> tuple[Measurement, ...]:
    """The measurements of a clause about responses, in the order in which its evidence gives their values.

    One for a plain clause; the model's own and the base model's for a threshold relative to the base; one for each
    part of a combination, and for each part of each bound of a choice. Empty for a utility clause.
    """
    statistic = clause.statistic
    match statistic:
        case RowsLoss():
            return ()
        case Combination(parts=parts):
            return tuple(_of(part) for part in parts)
        case Choice(operands=operands):
            return tuple(_of(part) for bound in bounds_in(operands) for part in bound.parts)
        case Hinge(term=term, level=level, low=low, high=high):
            return (Measurement(Summary(function="cvar", term=term, level=level, low=low, high=high)),)
        case Indicator() if clause.kind == "quantile":
            found = quantile_bound(clause)
            level = decimal_text(found.level)
            return (Measurement(Summary(function="quantile", term=found.term, level=level)),)
        case Indicator(predicate=predicate):
            quantity: Quantity = Share(predicate=predicate)
        case Value(term=term, high=high):
            quantity = Summary(function="mean", term=term, low="0", high=high)
    own = Measurement(quantity)
    return (own,) if clause.base_factor is None else (own, Measurement(quantity, model="base"))


def reads_base_model(clause: Clause) -> bool:
    """Whether responses of the base model are needed."""
    return any(measurement.model == "base" for measurement in measurements(clause))


def _of(part: Part) -> Measurement:
    return Measurement(part.quantity, part.model, part.given)


def value_range(quantity: Quantity) -> tuple[float, float]:
    """The range of the values of a quantity's measurement; infinite where it is open."""
    if isinstance(quantity, Share):
        return 0.0, 1.0
    low = -math.inf if quantity.low is None else float(Fraction(quantity.low))
    return low, math.inf if quantity.high is None else float(Fraction(quantity.high))
