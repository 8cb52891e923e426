"""Trace formulas of the IR as what stands inside ``over``; parsing and lowering the text gives them back."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from constraintlang_compiler.ir_monitors import (
    Both,
    Either,
    Eventually,
    Globally,
    Now,
    Over,
    Release,
    TraceFormula,
    Until,
)
from constraintlang_compiler.ir_terms import Comparison, FlagRef, Literally
from constraintlang_compiler.lower_traces import negated_trace

PartText = Callable[[Comparison | FlagRef], str]


def over_text(over: Over, part_text: PartText) -> str:
    """The predicate as policy text; ``part_text`` writes the conditions on one part."""
    text = _text(over.formula, part_text)
    # What is written has a value without parts of its own; where that is not meant, it is said.
    if _value_without_parts(over.formula) != over.empty:
        opposite = negated_trace(over.formula)
        if _value_without_parts(opposite) != over.empty:
            return f"not over {over.level} ({_text(opposite, part_text)})"
        if over.empty:
            text = f"globally false or {text}"
        else:
            shown = f"({text})" if isinstance(over.formula, Either) else text
            text = f"eventually true and {shown}"
    return f"over {over.level} ({text})"


def _text(formula: TraceFormula, part_text: PartText) -> str:
    def operand(inner: TraceFormula) -> str:
        text = _text(inner, part_text)
        return f"({text})" if isinstance(inner, (Both, Either, Until, Release)) else text

    def opposite(inner: Now) -> str:
        return part_text(replace(inner.predicate, negated=False))

    match formula:
        case Literally(value=value):
            return "true" if value else "false"
        case Now(predicate=predicate):
            return part_text(predicate)
        case Both(operands=operands):
            return " and ".join(map(operand, operands))
        case Either(operands=operands):
            return " or ".join(map(operand, operands))
        case Eventually(operand=inner, low=1, high=1):
            return f"next {operand(inner)}"
        case Globally(operand=inner, low=1, high=1):
            return f"weak_next {operand(inner)}"
        case Eventually(operand=inner, low=low, high=high):
            return f"eventually{_bounds(low, high)} {operand(inner)}"
        case Globally(operand=inner, low=low, high=high):
            return f"globally{_bounds(low, high)} {operand(inner)}"
        case Until(left=left, right=right):
            return f"{operand(left)} until {operand(right)}"
        case Release(left=left, right=Now(predicate=FlagRef(negated=True)) as right):
            return f"{operand(left)} before {opposite(right)}"
        case Release(left=left, right=Either(operands=operands)) if left in operands and len(operands) == 2:
            (other,) = (part for part in operands if part != left)
            return f"{operand(other)} weak_until {operand(left)}"
        case Release(left=left, right=right):
            return f"{operand(left)} release {operand(right)}"


def _bounds(low: int, high: int | None) -> str:
    return "" if high is None else f"[{low}, {high}]"


def _value_without_parts(formula: TraceFormula) -> bool:
    """The value that the text of a formula has on a response without parts."""
    match formula:
        case Literally(value=value):
            return value
        case Now(predicate=predicate):
            return isinstance(predicate, FlagRef) and predicate.negated  # written as a negation
        case Both(operands=operands):
            return all(map(_value_without_parts, operands))
        case Either(operands=operands):
            return any(map(_value_without_parts, operands))
        case _:
            return isinstance(formula, (Globally, Release))
