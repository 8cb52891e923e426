"""Which numbers can be a score of an attribute: nothing that is not finite, in range and of its type."""

from __future__ import annotations

from decimal import Decimal

from constraintlang.checked import AttributeInfo
from constraintlang.printer import format_number


def score_problem(info: AttributeInfo, value: Decimal) -> str | None:
    """What is wrong with a score, in words that follow "`toxicity`"; None when it can be one.

    >>> from constraintlang import check_source
    >>> score_problem(check_source("toxicity < 0.1").require().attributes["toxicity"], Decimal(2))
    'lies in [0, 1]'
    """
    if info.type == "flag":
        return None if value in (0, 1) else "is a flag: 0 or 1"
    low, high = (None if end is None or end.is_infinite() else end for end in (info.low, info.high))
    outside = (
        not value.is_finite() or (low is not None and value < low) or (high is not None and value > high)
    )
    if not outside and info.type in ("int", "count") and value != value.to_integral_value():
        return "takes whole numbers"
    if not outside:
        return None
    if low is not None and high is not None:
        return f"lies in [{format_number(low)}, {format_number(high)}]"
    if low is not None:
        return f"is at least {format_number(low)}"
    return "is a finite number" if high is None else f"is at most {format_number(high)}"
