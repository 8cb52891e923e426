"""``over`` becomes a record: a trace formula in negation normal form, the value without parts, the automaton.

A condition has one value on responses without parts; on all others there is a first part, and there a canonical
trace formula says the same. Laws kept, for every assignment of scores, unknown scores included (strong Kleene):
``next[a, b] f`` is ``eventually[a, b] f``, ``weak_next[a, b] f`` is ``globally[a, b] f``, both ``[1, 1]`` when
nothing is written; ``a weak_until b`` is ``b release (a or b)``; ``a before b`` is ``a release not b``; ``last``
is ``weak_next false``; ``not`` moves to the predicates by the duals of the operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from constraintlang import nodes
from constraintlang_compiler.canonical import sort_key
from constraintlang_compiler.ir import All, Any, Over, Predicate
from constraintlang_compiler.ir_monitors import (
    Both,
    Either,
    Eventually,
    Globally,
    Level,
    Now,
    Release,
    TraceFormula,
    Until,
)
from constraintlang_compiler.ir_terms import Comparison, FlagRef, Literally
from constraintlang_compiler.monitors.budget import MAX_STATES, BudgetExceeded
from constraintlang_compiler.operators import NEGATED
from constraintlang_compiler.rejection import Rejection

LowerPart = Callable[[nodes.Formula, bool], Predicate]
"""A formula about one part, or its negation, as a predicate."""

_STEP = (1, 1)


def lower_over(formula: nodes.Over, lower_part: LowerPart, *, negated: bool) -> Predicate:
    """``over level (...)``, or its negation.

    Raises: Rejection PC305 where the automaton outgrows its budget, and what ``lower_part`` raises.
    """
    try:
        trace = lower_trace(formula.operand, lower_part, negated=negated)
        empty = value_without_parts(formula.operand) != negated
        return over_record(formula.level, trace, empty)  # type: ignore[arg-type]  # checked to be a level
    except BudgetExceeded as error:
        raise Rejection(
            "PC305",
            f"the automaton of this condition takes {error}",
            help="use smaller bounds or fewer conditions, or split the statement",
            span=formula.span,
        ) from error


def over_record(level: Level, formula: TraceFormula, empty: bool) -> Predicate:
    """The canonical predicate of a trace formula and a value without parts.

    Raises: BudgetExceeded.
    """
    if formula == Literally(value=empty):
        return formula
    # Imported here: a policy without `over` is checked without numpy.
    from constraintlang_compiler.monitors.trace_monitors import trace_monitor

    return Over(level=level, formula=formula, empty=empty, monitor=trace_monitor(formula, empty).hash)


def value_without_parts(formula: nodes.Formula) -> bool:
    """The value of what stands inside ``over`` on a response that has no parts."""
    match formula:
        case nodes.Truth(value=value):
            return value
        case nodes.Not(operand=operand):
            return not value_without_parts(operand)
        case nodes.And(operands=operands):
            return all(value_without_parts(operand) for operand in operands)
        case nodes.Or(operands=operands):
            return any(value_without_parts(operand) for operand in operands)
        case nodes.Implies(left=left, right=right):
            return not value_without_parts(left) or value_without_parts(right)
        case nodes.Temporal(op=op):
            return op in ("globally", "weak_next")
        case nodes.TemporalBinary(op=op):
            return op != "until"
        case _:
            return False


def lower_trace(formula: nodes.Formula, lower_part: LowerPart, *, negated: bool = False) -> TraceFormula:
    """What stands inside ``over``, or its negation, as a canonical trace formula for traces that have a part.

    Raises: BudgetExceeded for a window that no automaton can hold, and what ``lower_part`` raises.
    """

    def lower(inner: nodes.Formula, flip: bool) -> TraceFormula:
        return lower_trace(inner, lower_part, negated=flip)

    match formula:
        case nodes.Truth(value=value):
            return Literally(value=value != negated)
        case nodes.Not(operand=operand):
            return lower(operand, not negated)
        case nodes.And(operands=operands):
            return join([lower(operand, negated) for operand in operands], conjunctive=not negated)
        case nodes.Or(operands=operands):
            return join([lower(operand, negated) for operand in operands], conjunctive=negated)
        case nodes.Implies(left=left, right=right):
            return join([lower(left, not negated), lower(right, negated)], conjunctive=negated)
        case nodes.Temporal(op=op, operand=operand, bounds=bounds):
            low, high = bounds or (_STEP if op in ("next", "weak_next") else (0, None))
            return window(lower(operand, negated), low, high, some=(op in ("eventually", "next")) != negated)
        case nodes.TemporalBinary():
            return _binary(formula, lower, negated)
        case nodes.Last():
            return window(Literally(value=negated), *_STEP, some=negated)
        case _:
            return _of_predicate(lower_part(formula, negated))


def negated_trace(formula: TraceFormula) -> TraceFormula:
    """The canonical formula that is true on the traces with a part where this one is false.

    INVARIANT: negating twice gives the same record, and lowering a negation gives the negated record.
    """
    match formula:
        case Literally(value=value):
            return Literally(value=not value)
        case Now(predicate=Comparison(op=op, left=left, right=right)):
            return Now(predicate=Comparison(op=NEGATED[op], left=left, right=right))
        case Now(predicate=FlagRef() as flag):
            return Now(predicate=replace(flag, negated=not flag.negated))
        case Both(operands=operands) | Either(operands=operands):
            return join(map(negated_trace, operands), conjunctive=isinstance(formula, Either))
        case Eventually(operand=operand, low=low, high=high):
            return Globally(operand=negated_trace(operand), low=low, high=high)
        case Globally(operand=operand, low=low, high=high):
            return Eventually(operand=negated_trace(operand), low=low, high=high)
        case Until(left=left, right=right):
            return Release(left=negated_trace(left), right=negated_trace(right))
        case Release(left=left, right=right):
            return Until(left=negated_trace(left), right=negated_trace(right))
    raise AssertionError(f"{type(formula).__name__} is no trace formula")


def window(operand: TraceFormula, low: int, high: int | None, *, some: bool) -> TraceFormula:
    """The canonical ``eventually`` (some) or ``globally``; here, position 0, there always is a part."""
    if max(low, high or 0) > MAX_STATES:
        raise BudgetExceeded(f"more than {MAX_STATES:,} states")
    if operand == Literally(value=not some) or (low == 0 and operand == Literally(value=some)):
        return operand
    kind = Eventually if some else Globally
    return kind(operand=operand, low=low, high=high)


def join(operands: Iterable[TraceFormula], *, conjunctive: bool) -> TraceFormula:
    """The canonical ``and`` or ``or``: flattened, constants folded, sorted, each operand once."""
    parts: dict[bytes, TraceFormula] = {}
    for operand in operands:
        flat: tuple[TraceFormula, ...] = (operand,)
        if isinstance(operand, Both if conjunctive else Either):
            flat = operand.operands
        for part in flat:
            if isinstance(part, Literally):
                if part.value != conjunctive:
                    return part
            else:
                parts[sort_key(part)] = part
    ordered = tuple(parts[key] for key in sorted(parts))
    if len(ordered) <= 1:
        return ordered[0] if ordered else Literally(value=conjunctive)
    return Both(operands=ordered) if conjunctive else Either(operands=ordered)


def _binary(
    formula: nodes.TemporalBinary, lower: Callable[[nodes.Formula, bool], TraceFormula], negated: bool
) -> TraceFormula:
    left = lower(formula.left, negated)
    # `before` speaks of the absence of what stands on its right.
    right = lower(formula.right, negated != (formula.op == "before"))
    if formula.op == "weak_until":
        left, right = right, join([left, right], conjunctive=negated)
    if (formula.op == "until") != negated:
        return right if right == Literally(value=False) else Until(left=left, right=right)
    return right if right == Literally(value=True) else Release(left=left, right=right)


def _of_predicate(predicate: Predicate) -> TraceFormula:
    match predicate:
        case Comparison() | FlagRef():
            return Now(predicate=predicate)
        case Literally():
            return predicate
        case All(operands=operands) | Any(operands=operands):
            return join(map(_of_predicate, operands), conjunctive=isinstance(predicate, All))
    raise AssertionError("`over` inside `over`")
