"""The value of a formula over the parts of a response at every rest of the trace: time linear in the trace.

``traces.py`` says what the words of order mean; here the same is computed from the last part backwards. Strong Kleene
logic distributes `and` over `or`, so a step back needs only the value of the rest that is shorter by one part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constraintlang import nodes as n
from constraintlang.kleene import Truth, kleene_and, kleene_not, kleene_or
from constraintlang.traces import Atom

Values = list[Truth]
"""One value for each rest of the trace; the last one is that of the empty rest."""
Join = Callable[[Sequence[Truth]], Truth]


def holds(formula: n.Formula, length: int, atom: Atom) -> Truth:
    """``traces.holds``, for traces of any length.

    >>> holds(n.Temporal(op="eventually", operand=n.Last()), 1000, lambda formula, position: None)
    True
    """
    return _values(formula, length, atom)[0]


def _values(formula: n.Formula, length: int, atom: Atom) -> Values:
    def of(inner: n.Formula) -> Values:
        return _values(inner, length, atom)

    match formula:
        case n.Truth(value=value):
            return [value] * (length + 1)
        case n.Not(operand=operand):
            return [kleene_not(value) for value in of(operand)]
        case n.And(operands=operands):
            return [kleene_and(values) for values in zip(*map(of, operands), strict=True)]
        case n.Or(operands=operands):
            return [kleene_or(values) for values in zip(*map(of, operands), strict=True)]
        case n.Implies(left=left, right=right):
            pairs = zip(of(left), of(right), strict=True)
            return [kleene_or([kleene_not(before), after]) for before, after in pairs]
        case n.Last():
            return [start == length - 1 for start in range(length + 1)]
        case n.Temporal(op="eventually" | "next", operand=operand):
            return _windows(formula, of(operand), kleene_or, length)
        case n.Temporal(operand=operand):  # globally, weak_next
            return _windows(formula, of(operand), kleene_and, length)
        case n.TemporalBinary(left=left, right=right):
            return _pairs(formula.op, of(left), of(right), length)
        case n.Over():
            raise ValueError("`over` stands inside `over`")
        case _:  # about one part: false where there is none
            return [*(atom(formula, position) for position in range(length)), False]


def _pairs(op: str, left: Values, right: Values, length: int) -> Values:
    if op in ("until", "weak_until"):
        return _back(
            length,
            op == "weak_until",
            lambda i, rest: kleene_or([right[i], kleene_and([left[i], rest])]),
        )
    kept = [kleene_not(value) for value in right] if op == "before" else right
    return _back(length, True, lambda i, rest: kleene_and([kept[i], kleene_or([left[i], rest])]))


def _windows(formula: n.Temporal, inner: Values, join: Join, length: int) -> Values:
    bounds = formula.bounds or ((1, 1) if formula.op in ("next", "weak_next") else None)
    if bounds is None:
        return _back(length, join([]), lambda i, rest: join([inner[i], rest]))
    parts = inner[:length]
    return [join(parts[start + bounds[0] : start + bounds[1] + 1]) for start in range(length + 1)]


def _back(length: int, empty: Truth, step: Callable[[int, Truth], Truth]) -> Values:
    """The values from the empty rest backwards."""
    found = [empty] * (length + 1)
    for start in reversed(range(length)):
        found[start] = step(start, found[start + 1])
    return found
