"""Bounds on quantiles and on the cvar as the runtime needs them: the threshold again, the hinge at an eta."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from msgspec.structs import replace

from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.ir import Clause, Comparison, Const, Hinge, Indicator, Term, Value
from constraintlang_compiler.lower_terms import add, const

GRID = 16  # etas of a verification on either side of the threshold, or twice as many over the range
NUM_ETAS = 2 * GRID + 1


@dataclass(frozen=True)
class QuantileBound:
    """What a clause of kind ``quantile`` demands, as it was written: ``quantile(term, level)`` against a number."""

    term: Term
    level: Fraction
    threshold: Fraction
    at_least: bool
    strict: bool


def quantile_bound(clause: Clause) -> QuantileBound:
    """The quantile and its threshold, from the chance that the clause bounds (see ``lower_tails``)."""
    assert clause.kind == "quantile"
    assert isinstance(clause.statistic, Indicator)
    beyond = clause.statistic.predicate
    assert isinstance(beyond, Comparison)
    assert isinstance(beyond.right, Const)
    at_least = beyond.op in ("lt", "le")
    share = Fraction(clause.bound)
    return QuantileBound(
        term=beyond.left,
        level=share if at_least else 1 - share,
        threshold=Fraction(beyond.right.value),
        at_least=at_least,
        strict=beyond.op in ("le", "ge"),
    )


def at_eta(clause: Clause, eta: Fraction) -> Clause:
    """A cvar clause as a bound on the mean of its hinge: ``E[(term - eta)+] <= (1 - level) (bound - eta)``.

    A law that meets it meets the clause; the eta for which nothing is lost is the quantile of the law wanted.
    """
    hinge = clause.statistic
    assert isinstance(hinge, Hinge)
    high = None if hinge.high is None else decimal_text(max(Fraction(hinge.high) - eta, Fraction(0)))
    # A Value is cut at 0, which makes it the hinge.
    return replace(
        clause,
        statistic=Value(term=add([hinge.term, const(-eta)]), high=high),
        bound=decimal_text((1 - Fraction(hinge.level)) * (Fraction(clause.bound) - eta)),
    )
