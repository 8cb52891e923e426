"""Between which values the number that a statement measures can lie while other statements hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.analysis.decide import Decider
from constraintlang_compiler.analysis.forms import ONE
from constraintlang_compiler.analysis.limits import TooLarge
from constraintlang_compiler.analysis.requirements import Requirement
from constraintlang_compiler.analysis.rows import Mass, Row
from constraintlang_compiler.analysis.space import Space

Floats = NDArray[np.float64]
CLOSE = 1e-7


@dataclass(frozen=True)
class Range:
    """The least and the largest value, infinite where there is none."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{_number(self.low, False)}, {_number(self.high, False)}]"

    def words(self, free: Range, *, percent: bool) -> str | None:
        """The range in words, without the ends that hold anyway; None when it says nothing."""
        low = self.low > free.low + CLOSE
        high = self.high < free.high - CLOSE
        if low and high:
            return f"between {_number(self.low, percent)} and {_number(self.high, percent)}"
        if low:
            return f"at least {_number(self.low, percent)}"
        return f"at most {_number(self.high, percent)}" if high else None


def range_of(subject: Requirement, others: Sequence[Requirement], decider: Decider) -> Range | None:
    """The range of the number that ``subject`` measures under ``others``, in floating point.

    For messages only. None when the others have alternatives, or nothing is found in time.
    """
    if subject.quantity is None or any(len(other.holds.proof) != 1 for other in others):
        return None
    try:
        space = decider.space([subject, *others])
        rows = [row for other in others for row in other.holds.proof[0] if isinstance(row, Row)]
        domain = subject.domains[-1]
        objective = _floats(space, Row(subject.quantity, False, domain))
        mass = _floats(space, Row((Mass(ONE),), False, domain))
        limits = np.array([_floats(space, row) for row in rows]).reshape(len(rows), len(mass))
        ends = [_end(sign * objective, limits, mass, decider) for sign in (1.0, -1.0)]
    except TooLarge:
        return None
    if ends[0] is None or ends[1] is None:
        return None
    return Range(ends[0], -ends[1])


def _floats(space: Space, row: Row) -> Floats:
    return np.array([float(value) for value in space.adds(row)])


def _end(objective: Floats, limits: Floats, mass: Floats, decider: Decider) -> float | None:
    from scipy.optimize import linprog

    result = linprog(
        objective,
        A_ub=limits if len(limits) else None,
        b_ub=np.zeros(len(limits)) if len(limits) else None,
        A_eq=mass[None],
        b_eq=[1.0],
        method="highs",
        options={"time_limit": decider.budget.left},
    )
    if result.status == 3:
        return float("-inf")
    return float(result.fun) if result.status == 0 else None


def _number(value: float, percent: bool) -> str:
    text = f"{100 * value if percent else value:.4g}"
    return f"{'0' if text == '-0' else text}{'%' if percent else ''}"
