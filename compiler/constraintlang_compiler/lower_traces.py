"""Formulas over the parts of a response become canonical trace formulas in negation normal form.

Laws kept, for every trace and every assignment of scores, unknown scores included (strong Kleene):
``next[a, b] f`` is ``eventually[a, b] f``, ``weak_next[a, b] f`` is ``globally[a, b] f``, both ``[1, 1]`` when
nothing is written; ``a weak_until b`` is ``b release (a or b)``; ``a before b`` is ``a release not b``; ``last``
is ``eventually true and weak_next false``; ``not`` moves to the predicates by the duals of the operators.
A predicate asks for a part, so at the top, where the trace may be empty, its negation is ``not p or globally
false``. Below an operator there always is a part, and ``not p`` is a predicate again.
"""

from __future__ import annotations

from collections.abc import Iterable

from constraintlang import nodes
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.ir import All, Any, Literally, Predicate
from constraintlang_compiler.ir_monitors import (
    Eventually,
    Globally,
    Now,
    Release,
    TraceAll,
    TraceAny,
    TraceFormula,
    TraceTruth,
    Until,
)
from constraintlang_compiler.lower_terms import lower_predicate
from constraintlang_compiler.monitors.budget import MAX_STATES, BudgetExceeded

SOME: TraceFormula = Eventually(operand=TraceTruth(value=True))
EMPTY: TraceFormula = Globally(operand=TraceTruth(value=False))
_STEP = (1, 1)


def lower_trace(formula: nodes.Formula, *, negated: bool = False) -> TraceFormula:
    """What stands inside ``over``, or its negation, as a canonical trace formula.

    Raises: Rejection as ``lower_predicate``; BudgetExceeded for a window that no automaton can hold.
    """
    return _lower(formula, negated, inside=False)


def _lower(formula: nodes.Formula, negated: bool, *, inside: bool) -> TraceFormula:
    """``inside`` says that the rest is known to have a part."""
    match formula:
        case nodes.Truth(value=value):
            return TraceTruth(value=value != negated)
        case nodes.Not(operand=operand):
            return _lower(operand, not negated, inside=inside)
        case nodes.And(operands=operands):
            return _join([_lower(part, negated, inside=inside) for part in operands], conjunctive=not negated)
        case nodes.Or(operands=operands):
            return _join([_lower(part, negated, inside=inside) for part in operands], conjunctive=negated)
        case nodes.Implies(left=left, right=right):
            sides = [_lower(left, not negated, inside=inside), _lower(right, negated, inside=inside)]
            return _join(sides, conjunctive=negated)
        case nodes.Temporal(op=op, operand=operand, bounds=bounds):
            low, high = bounds or (_STEP if op in ("next", "weak_next") else (0, None))
            some = (op in ("eventually", "next")) != negated
            return _window(_lower(operand, negated, inside=True), low, high, some=some, inside=inside)
        case nodes.TemporalBinary():
            return _binary(formula, negated)
        case nodes.Last():
            step = _window(TraceTruth(value=negated), *_STEP, some=negated, inside=inside)
            if inside:
                return step
            return _join([EMPTY if negated else SOME, step], conjunctive=not negated)
        case _:
            found = _of_predicate(lower_predicate(formula, negated=negated))
            if inside:
                return found
            if negated:
                return _join([found, EMPTY], conjunctive=False)
            return SOME if found == TraceTruth(value=True) else found


def _window(operand: TraceFormula, low: int, high: int | None, *, some: bool, inside: bool) -> TraceFormula:
    if max(low, high or 0) > MAX_STATES:
        raise BudgetExceeded(f"more than {MAX_STATES:,} states")
    if operand == TraceTruth(value=not some) or (inside and low == 0 and operand == TraceTruth(value=some)):
        return operand
    return Eventually(operand=operand, low=low, high=high) if some else Globally(operand=operand, low=low, high=high)


def _binary(formula: nodes.TemporalBinary, negated: bool) -> TraceFormula:
    left = _lower(formula.left, negated, inside=True)
    # `before` speaks of the absence of what stands on its right.
    right = _lower(formula.right, negated != (formula.op == "before"), inside=True)
    if formula.op == "weak_until":
        left, right = right, _join([left, right], conjunctive=negated)
    if (formula.op == "until") != negated:
        return right if right == TraceTruth(value=False) else Until(left=left, right=right)
    return right if right == TraceTruth(value=True) else Release(left=left, right=right)


def _of_predicate(predicate: Predicate) -> TraceFormula:
    match predicate:
        case Literally(value=value):
            return TraceTruth(value=value)
        case All(operands=operands) | Any(operands=operands):
            return _join([_of_predicate(part) for part in operands], conjunctive=isinstance(predicate, All))
        case _:
            return Now(predicate=predicate)


def _join(operands: Iterable[TraceFormula], *, conjunctive: bool) -> TraceFormula:
    """The canonical ``and`` or ``or``: flattened, constants folded, sorted, each operand once."""
    parts: dict[bytes, TraceFormula] = {}
    for operand in operands:
        flat: tuple[TraceFormula, ...] = (operand,)
        if isinstance(operand, TraceAll if conjunctive else TraceAny):
            flat = operand.operands
        for part in flat:
            if isinstance(part, TraceTruth):
                if part.value != conjunctive:
                    return part
            else:
                parts[sort_key(part)] = part
    ordered = tuple(parts[key] for key in sorted(parts))
    if len(ordered) <= 1:
        return ordered[0] if ordered else TraceTruth(value=conjunctive)
    return TraceAll(operands=ordered) if conjunctive else TraceAny(operands=ordered)
