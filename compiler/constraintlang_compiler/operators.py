"""The comparison operators: how they are written, negated, mirrored and decided."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction

from constraintlang import normal_form
from constraintlang_compiler.ir import Op

OP_OF: dict[str, Op] = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
SIGN_OF: dict[Op, str] = {op: sign for sign, op in OP_OF.items()}
NEGATED: dict[Op, Op] = {op: OP_OF[normal_form.NEGATED[sign]] for op, sign in SIGN_OF.items()}
MIRRORED: dict[Op, Op] = {op: OP_OF[normal_form.TURNED[sign]] for op, sign in SIGN_OF.items()}
HOLDS: dict[Op, Callable[[Fraction, Fraction], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
}


def bound_sign(*, at_least: bool, strict: bool) -> str:
    """The sign between a quantity and its bound.

    >>> bound_sign(at_least=True, strict=False)
    '>='
    """
    return (">" if at_least else "<") + ("" if strict else "=")
