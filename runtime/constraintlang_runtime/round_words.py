"""How a clause stands, in the numbers of its author: for lines on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from constraintlang_compiler.ir import Clause, Indicator

MOST_SHOWN = 3


def in_words(clause: Clause, value: float) -> str:
    """The mean of a statistic as the author wrote the quantity; the rate of an event in percent."""
    if isinstance(clause.statistic, Indicator):
        return f"{100 * value:.3g}%"
    return f"{float(clause.shown.offset) + clause.shown.scale * value:.4g}"


def demanded(clause: Clause, bound: float) -> str:
    """What is asked of it, such as ``at most 5%``."""
    if clause.hard:
        return "none may"
    most = isinstance(clause.statistic, Indicator) or clause.shown.scale == 1
    return f"at {'most' if most else 'least'} {in_words(clause, bound)}"


def budget_line(report: Mapping[str, Any]) -> str:
    """A `preserve` clause on held-out rows, from the start model to the trained one."""
    if "base" not in report:
        return f"{report['clause']}: not measured"

    def shown(value: float) -> str:
        return f"{value:.4g}" if report["quantity"] == "perplexity" else f"{100 * value:.3g}%"

    asked = f"at {'least' if report['at_least'] else 'most'} {shown(report['bound'])}"
    return f"{report['clause']}: {report['quantity']} {shown(report['base'])} -> {shown(report['value'])} ({asked})"


def excess(value: float, bound: float) -> float:
    """How far a value is above its bound, in bounds: so that rates, scores and numbers of words compare.

    >>> excess(0.25, 0.05) > excess(150.0, 120.0) > excess(0.02, 0.1), excess(0.001, 0.0)
    (True, inf)
    """
    if value == bound:
        return 0.0
    return (value - bound) / abs(bound) if bound else math.copysign(math.inf, value)


def round_line(clauses: Sequence[Clause], record: Mapping[str, Any]) -> str:
    """The clauses of which a round's record has ``value`` and ``bound``, those farthest above their bounds first.

    Clauses that are equally far keep the policy's order.
    """
    found = []
    for clause in clauses:
        value = record.get(f"constraint/{clause.name}/value")
        if value is not None:
            bound = float(record[f"constraint/{clause.name}/bound"])
            verb = "broken by " if isinstance(clause.statistic, Indicator) else ""
            words = f"{clause.name} {verb}{in_words(clause, value)} ({demanded(clause, bound)})"
            found.append((excess(value, bound), words))
    found.sort(key=lambda one: -one[0])
    line = ", ".join(words for _, words in found[:MOST_SHOWN])
    if len(found) > MOST_SHOWN:
        within = sum(above <= 0 for above, _ in found)
        line = f"{within} of {len(found)} within their bounds; {line}, ..."
    return line
