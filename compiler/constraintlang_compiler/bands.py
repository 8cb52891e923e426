"""Which clauses bound one number from both sides, and the room that the one leaves to the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.ir import Clause, Indicator, Statistic, Value
from constraintlang_compiler.lower_terms import add, const, negate_term
from constraintlang_compiler.render import negation


def other_ends(clauses: Sequence[Clause]) -> list[tuple[Clause, Fraction] | None]:
    """For each clause ``E[f] <= bound`` the clause that bounds E[f] from below most, and that bound.

    It is a clause ``E[top - f] <= b`` over the same prompts and sampling, with f in [0, top], so ``E[f] >= top - b``;
    None where there is none. A preference bounds nothing for a requirement.
    """
    found: dict[tuple[object, ...], list[Clause]] = {}
    for clause in clauses:
        found.setdefault(_key(clause, clause.statistic), []).append(clause)
    ends: list[tuple[Clause, Fraction] | None] = []
    prompts = Counter(_prompts(clause) for clause in clauses)
    for clause in clauses:
        # An automaton is turned round at some cost, so not where nothing can lie on the other side.
        turned, top = _turned(clause) if prompts[_prompts(clause)] > 1 else (None, Fraction(0))
        others = [
            (other, top - Fraction(other.bound))
            for other in ([] if turned is None else found.get(_key(clause, turned), []))
            if other.base_factor is None and (other.strength != "prefer" or clause.strength == "prefer")
        ]
        ends.append(max(others, key=lambda pair: pair[1], default=None))
    return ends


def _turned(clause: Clause) -> tuple[Indicator | Value | None, Fraction]:
    """The statistic ``top - f`` and the ``top`` of a clause's own f."""
    statistic = clause.statistic
    if clause.base_factor is None and isinstance(statistic, Indicator):
        return Indicator(predicate=negation(statistic.predicate)), Fraction(1)
    if clause.base_factor is None and isinstance(statistic, Value) and statistic.high is not None:
        top = Fraction(statistic.high)
        return Value(term=add([const(top), negate_term(statistic.term)]), high=statistic.high), top
    return None, Fraction(0)


def _key(clause: Clause, statistic: Statistic) -> tuple[object, ...]:
    return sort_key(statistic), *_prompts(clause)


def _prompts(clause: Clause) -> tuple[object, ...]:
    """What is sampled."""
    domain = None if clause.domain is None else sort_key(clause.domain)
    return domain, clause.per, tuple(sorted(clause.sampling.items()))
