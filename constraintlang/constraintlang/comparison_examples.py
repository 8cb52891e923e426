"""What to compare a number with that stands where a condition belongs."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.tree import dotted, names_in


def compared(expression: n.Expr) -> tuple[str, str]:
    """The message and the help about an expression that stands alone."""
    if isinstance(expression, n.Apply) and expression.function in v.BACKENDS:
        message = f"`{expression.function}` is a backend, not a condition"
        return message, v.backend_help(expression.function)
    rows = [name for name in map(dotted, names_in(expression)) if name in v.ROWS_QUANTITIES]
    example = f"mean({rows[0]}) {v.ROWS_QUANTITIES[rows[0]].usual}" if rows else "mean(toxicity) < 0.1"
    return "this is a number, not a condition", f"compare it with something, for example `{example}`"
