"""The reference meaning of formulas over the parts of a response: linear time on finite traces, by recursion.

A trace is the list of the scores of the parts, first part first; it may be empty. A formula is judged on a
*rest* of the trace, the whole of it to begin with. Values are true, false and unknown (strong Kleene), every
``there is`` an or, every ``for all`` an and; nothing is shared, simplified or remembered between positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from constraintlang import nodes as n
from constraintlang.kleene import Truth, kleene_and, kleene_not, kleene_or

Atom = Callable[[n.Formula, int], Truth]
"""The truth of a formula without words of order at a position."""


def holds(formula: n.Formula, length: int, atom: Atom) -> Truth:
    """Whether a trace of ``length`` parts satisfies a formula.

    >>> from constraintlang import parse
    >>> def value(text: str, trace: str) -> Truth:
    ...     (statement,) = parse(text)[0].items
    ...     return holds(statement.formula, len(trace), lambda f, i: trace[i] in ".".join(f.name.parts))
    >>> value("globally a", "aab"), value("eventually b", "aab"), value("a until b", "aab")
    (False, True, True)
    >>> value("globally a", ""), value("eventually a", ""), value("next a", "a"), value("weak_next a", "a")
    (True, False, False, True)
    """
    return _rest(formula, 0, length, atom)


def _rest(formula: n.Formula, start: int, length: int, atom: Atom) -> Truth:
    """The value on the rest of the trace that begins at ``start``; the rest is empty when start is length."""

    def at(inner: n.Formula, position: int) -> Truth:
        return _rest(inner, position, length, atom)

    positions = range(start, length)
    match formula:
        case n.Truth(value=value):
            return value
        case n.Not(operand=operand):
            return kleene_not(at(operand, start))
        case n.And(operands=operands):
            return kleene_and([at(operand, start) for operand in operands])
        case n.Or(operands=operands):
            return kleene_or([at(operand, start) for operand in operands])
        case n.Implies(left=left, right=right):
            return kleene_or([kleene_not(at(left, start)), at(right, start)])
        case n.Last():
            return start == length - 1
        case n.Temporal(op="eventually" | "next", operand=operand):
            return kleene_or([at(operand, i) for i in _window(formula, positions)])
        case n.Temporal(operand=operand):  # globally, weak_next
            return kleene_and([at(operand, i) for i in _window(formula, positions)])
        case n.TemporalBinary(op="until", left=left, right=right):
            return _until(left, right, positions, at)
        case n.TemporalBinary(op="weak_until", left=left, right=right):
            always = kleene_and([at(left, i) for i in positions])
            return kleene_or([_until(left, right, positions, at), always])
        case n.TemporalBinary(op="release", left=left, right=right):
            return _release(left, right, positions, at)
        case n.TemporalBinary(op="before", left=left, right=right):
            return _release(left, n.Not(operand=right), positions, at)
        case n.Over():
            raise ValueError("`over` stands inside `over`")
        case _:  # about one part: false where there is none
            return atom(formula, start) if start < length else False


def _window(formula: n.Temporal, positions: Sequence[int]) -> Sequence[int]:
    """The positions that a formula with or without bounds speaks of, as far as they exist."""
    step = (1, 1) if formula.op in ("next", "weak_next") else None
    bounds = formula.bounds or step
    return positions if bounds is None else positions[bounds[0] : bounds[1] + 1]


def _until(
    left: n.Formula, right: n.Formula, positions: Sequence[int], at: Callable[[n.Formula, int], Truth]
) -> Truth:
    """There is a position with ``right``, and ``left`` at every position before it."""
    return kleene_or(
        [
            kleene_and([at(right, i), *(at(left, j) for j in positions[:count])])
            for count, i in enumerate(positions)
        ]
    )


def _release(
    left: n.Formula, right: n.Formula, positions: Sequence[int], at: Callable[[n.Formula, int], Truth]
) -> Truth:
    """Every position has ``right``, unless ``left`` came strictly before it."""
    return kleene_and(
        [
            kleene_or([at(right, i), *(at(left, j) for j in positions[:count])])
            for count, i in enumerate(positions)
        ]
    )
