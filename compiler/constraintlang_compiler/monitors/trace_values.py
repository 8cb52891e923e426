"""The value of a trace formula on one trace with unknown scores, from the end of the trace to its beginning.

Truth values are 1, 0 and 0.5 for unknown, so that strong Kleene ``and`` is the minimum and ``or`` the maximum.
Every formula has a value for each rest of the trace that is not empty; an empty trace has no unknown score.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir_monitors import (
    Both,
    Either,
    Eventually,
    Globally,
    Now,
    Release,
    TraceFormula,
    Until,
)
from constraintlang_compiler.ir_terms import Comparison, FlagRef, Literally

Floats = NDArray[np.float64]
Truths = Mapping[Comparison | FlagRef, Floats]
UNKNOWN = 0.5


def trace_value(formula: TraceFormula, truths: Truths, length: int) -> float:
    """The value on a trace of at least one part: 1, 0, or 0.5 for unknown.

    ``truths`` has for each predicate one value per part [length].
    """
    return float(_values(formula, truths, length)[0])


def _values(formula: TraceFormula, truths: Truths, length: int) -> Floats:
    """The value on the rest from every position [length]."""
    match formula:
        case Literally(value=value):
            return np.full(length, float(value))
        case Now(predicate=predicate):
            return truths[predicate]
        case Both(operands=operands):
            return np.min([_values(part, truths, length) for part in operands], axis=0)
        case Either(operands=operands):
            return np.max([_values(part, truths, length) for part in operands], axis=0)
        case Eventually(operand=operand, low=low, high=high):
            return _window(_values(operand, truths, length), low, high)
        case Globally(operand=operand, low=low, high=high):
            return 1.0 - _window(1.0 - _values(operand, truths, length), low, high)
        case Until(left=left, right=right):
            return _until(_values(left, truths, length), _values(right, truths, length))
        case Release(left=left, right=right):
            return 1.0 - _until(1.0 - _values(left, truths, length), 1.0 - _values(right, truths, length))


def _window(values: Floats, low: int, high: int | None) -> Floats:
    """The largest value at the positions ``low`` to ``high`` ahead that exist, else 0, from every position."""
    length = len(values)
    last = length if high is None else high
    windows = (values[i + low : i + last + 1] for i in range(length))
    return np.array([window.max(initial=0.0) for window in windows])


def _until(left: Floats, right: Floats) -> Floats:
    result = np.empty(len(left))
    rest = 0.0
    for i in reversed(range(len(left))):
        rest = result[i] = max(right[i], min(left[i], rest))
    return result
