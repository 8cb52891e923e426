"""Sums over the responses of a law, bounded by 0: the rows that statements become, and how they combine.

A new kind of sum is a new kind of ``Part``; ``Column.adds`` and ``Trial.adds`` say what a response adds to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TypeAlias

from constraintlang import nodes as n
from constraintlang_compiler.analysis.forms import ONE, Form
from constraintlang_compiler.ir import DomainPredicate

MAX_ALTERNATIVES = 64


class NotAnalysed(Exception):
    """The statement, or a part of it, is not understood here; the text says what."""


@dataclass(frozen=True)
class Mass:
    """``factor`` for every response."""

    factor: Fraction


@dataclass(frozen=True)
class TruthOf:
    """``factor`` where the formula has this truth value (None is unknown)."""

    factor: Fraction
    formula: n.Formula
    truth: bool | None


@dataclass(frozen=True)
class Moment:
    """The value of a linear form."""

    form: Form


@dataclass(frozen=True)
class Excess:
    """``factor`` times what a linear form has above a threshold, 0 where it is below."""

    factor: Fraction
    form: Form
    threshold: Fraction

    def over(self, value: Fraction) -> Fraction:
        """The part at a value of the form."""
        return self.factor * max(value - self.threshold, Fraction(0))


Part: TypeAlias = Mass | TruthOf | Moment | Excess


@dataclass(frozen=True)
class Row:
    """The sum of the parts over the responses of the domain is at most 0, or below 0 when ``strict``."""

    parts: tuple[Part, ...]
    strict: bool
    domain: DomainPredicate | None


@dataclass(frozen=True)
class TailBound:
    """A bound on a number that rows say imperfectly; two of them on one number may exclude each other."""

    number: tuple[object, ...]
    operator: str
    bound: Fraction
    parts: tuple[Part, ...] = ()


Alternatives: TypeAlias = tuple[tuple[Row | TailBound, ...], ...]
"""A disjunction of conjunctions: empty is false, one without rows is true."""


def contradict(bounds: Sequence[TailBound]) -> bool:
    """Whether two bounds on one number exclude each other."""
    uppers = [b for b in bounds if b.operator in ("<", "<=")]
    lowers = [b for b in bounds if b.operator in (">", ">=")]
    return any(
        low.number == up.number
        and (
            low.bound > up.bound
            or (low.bound == up.bound and not (low.operator == ">=" and up.operator == "<="))
        )
        for low in lowers
        for up in uppers
    )


def scaled(parts: Sequence[Part], factor: Fraction) -> tuple[Part, ...]:
    """Every part times a factor."""
    return tuple(_scale(part, factor) for part in parts)


def _scale(part: Part, factor: Fraction) -> Part:
    if isinstance(part, Moment):
        return Moment(part.form.times(factor))
    if isinstance(part, TruthOf):
        return TruthOf(part.factor * factor, part.formula, part.truth)
    if isinstance(part, Excess):
        return Excess(part.factor * factor, part.form, part.threshold)
    return Mass(part.factor * factor)


def compared(parts: tuple[Part, ...], op: str, domain: DomainPredicate | None) -> Alternatives:
    """The alternatives of ``sum of the parts op 0``."""
    negative = scaled(parts, -ONE)
    at_most, at_least = Row(parts, False, domain), Row(negative, False, domain)
    below, above = Row(parts, True, domain), Row(negative, True, domain)
    table: dict[str, Alternatives] = {
        "<": ((below,),),
        "<=": ((at_most,),),
        ">": ((above,),),
        ">=": ((at_least,),),
        "==": ((at_most, at_least),),
        "!=": ((below,), (above,)),
    }
    return table[op]


def any_of(parts: Sequence[Alternatives]) -> Alternatives:
    """The disjunction. Raises: NotAnalysed when it has too many alternatives."""
    return _capped(tuple(dict.fromkeys(rows for alternatives in parts for rows in alternatives)))


def all_of(parts: Sequence[Alternatives]) -> Alternatives:
    """The conjunction. Raises: NotAnalysed when it has too many alternatives."""
    found: Alternatives = ((),)
    for alternatives in parts:
        joined = (a + b for a, b in product(found, alternatives))
        found = _capped(tuple(dict.fromkeys(joined)))
    return found


def _capped(found: Alternatives) -> Alternatives:
    if len(found) > MAX_ALTERNATIVES:
        raise NotAnalysed(f"the statement has more than {MAX_ALTERNATIVES} alternatives")
    return found
