"""Why a formula is true or false on some scores: its parts with values and margins, and what decides it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo
from constraintlang.constants import exact_decimal
from constraintlang.margins import CRISP, Logic, Margin, atom_margin, influences, margin
from constraintlang.normal_form import Atom, Junction, NormalForm, Valuation, atoms, normal_form, truth
from constraintlang.printer import format_formula, format_number
from constraintlang.scales import Scales, scales_of
from constraintlang.semantics import Truth
from constraintlang.source import Span

Value = tuple[str, Fraction | None]


@dataclass(frozen=True)
class Reason:
    """One sub-formula as written: its truth value (None is unknown), its margin, the values that it read.

    ``decides``: the margin of the whole formula is that of this part, so nothing changes before it does.
    ``fails``: it is one of the parts that alone keep the formula from being true.
    """

    text: str
    span: Span
    truth: Truth
    margin: Margin | None
    values: tuple[Value, ...] = ()
    parts: tuple[Reason, ...] = ()
    decides: bool = False
    fails: bool = False

    def leaves(self) -> Iterator[Reason]:
        """The sub-formulas without parts, in order."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def to_json(self) -> dict[str, Any]:
        """The tree as plain data; an infinite margin (nothing can change the value) is a text."""
        return {
            "text": self.text,
            "truth": self.truth,
            "margin": margin_json(self.margin),
            "values": {name: None if value is None else float(value) for name, value in self.values},
            "decides": self.decides,
            "fails": self.fails,
            "parts": [part.to_json() for part in self.parts],
        }


def reasons(
    formula: n.Formula,
    valuation: Valuation,
    attributes: Mapping[str, AttributeInfo],
    *,
    logic: Logic = CRISP,
) -> Reason:
    """The tree of a formula's parts, with what decides it and a smallest set of parts that make it fail.

    >>> from constraintlang import check_source
    >>> from decimal import Decimal
    >>> from constraintlang.normal_form import on_response
    >>> policy = check_source("toxicity < 0.1 and words < 200").require()
    >>> scores = on_response({"toxicity": Decimal("0.3"), "words": Decimal(20)})
    >>> [leaf.text for leaf in reasons(policy.statements[0].formula, scores, policy.attributes).leaves() if leaf.fails]
    ['toxicity < 0.1']
    """
    reader = _Reader(valuation, scales_of(formula, attributes), attributes, logic)
    form = normal_form(formula)
    shares = influences(form, CRISP, reader.of_atom)
    decisive = [atom for atom, share in zip(atoms(form), shares, strict=bool(shares)) if share]
    return _marked(reader.read(formula), decisive, failing_atoms(form, valuation, reader.of_atom))


def failing_atoms(
    form: NormalForm, valuation: Valuation, of_atom: Callable[[Atom], Margin | None] = lambda atom: None
) -> list[Atom]:
    """The fewest atoms that, false or unknown as they are, keep a normal form from being true whatever the rest.

    Of equally few, those that are furthest off. Empty when it is true, or false without any atom.
    """
    if truth(form, valuation) is True:
        return []
    if not isinstance(form, Junction):
        return [form]
    parts = [(part, truth(part, valuation), failing_atoms(part, valuation, of_atom)) for part in form.parts]
    if not form.all:
        return [atom for _, _, found in parts for atom in found]

    def rank(entry: tuple[NormalForm, Truth, list[Atom]]) -> tuple[bool, int, Margin]:
        # What is known to be false says more than what is unknown.
        distance = margin(entry[0], CRISP, of_atom)
        return entry[1] is None, len(entry[2]), math.inf if distance is None else distance

    failing = [entry for entry in parts if entry[1] is not True]  # one of them is enough
    return min(failing, key=rank)[2] if failing else []


@dataclass(frozen=True)
class _Reader:
    valuation: Valuation
    scales: Scales
    attributes: Mapping[str, AttributeInfo]
    logic: Logic

    def of_atom(self, atom: Atom) -> Margin | None:
        return atom_margin(atom, self.valuation, self.scales, self.attributes)

    def read(self, formula: n.Formula) -> Reason:
        children: tuple[n.Formula, ...] = ()
        if isinstance(formula, n.And | n.Or):
            children = formula.operands
        elif isinstance(formula, n.Implies):
            children = (formula.left, formula.right)
        elif isinstance(formula, n.Not) and isinstance(formula.operand, n.And | n.Or | n.Implies | n.Not):
            children = (formula.operand,)
        return Reason(
            text=format_formula(formula),
            span=formula.span,
            truth=self.valuation.truth(formula),
            margin=margin(normal_form(formula), self.logic, self.of_atom),
            values=() if children else tuple(self.values(formula)),
            parts=tuple(map(self.read, children)),
        )

    def values(self, formula: n.Formula) -> Iterator[Value]:
        """What was read: the names of a leaf, and the terms that are more than a name or a number."""
        if isinstance(formula, n.Not):
            yield from self.values(formula.operand)
            return
        if isinstance(formula, n.Flag):
            value = self.valuation.truth(formula)
            yield format_formula(formula), None if value is None else Fraction(value)
            return
        if not isinstance(formula, n.Compare | n.InRange):
            return
        operands = formula.operands if isinstance(formula, n.Compare) else (formula.operand,)
        seen: set[str] = set()
        for operand in operands:
            for expr in _read_from(operand):
                text = format_formula(expr)
                if text not in seen:
                    seen.add(text)
                    yield text, self.valuation.value(expr)


def _read_from(expr: n.Expr) -> Iterator[n.Expr]:
    """An expression, unless it is a constant, and the names and statistics in it."""
    inner = list(_measured(expr))
    if inner and inner != [expr]:
        yield expr
    yield from inner


def _measured(expr: n.Expr) -> Iterator[n.Expr]:
    if isinstance(expr, n.Name | n.Apply):
        yield expr
    elif isinstance(expr, n.Negate):
        yield from _measured(expr.operand)
    elif isinstance(expr, n.Arithmetic):
        yield from _measured(expr.left)
        yield from _measured(expr.right)


def _marked(root: Reason, decisive: list[Atom], failing: list[Atom]) -> Reason:
    if root.parts:
        return replace(root, parts=tuple(_marked(part, decisive, failing) for part in root.parts))
    decides, fails = (any(_inside(atom.span, root.span) for atom in found) for found in (decisive, failing))
    return replace(root, decides=decides, fails=fails)


def _inside(inner: Span, outer: Span) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


# ---------------------------------------------------------------- numbers for people
def margin_json(value: Margin | None) -> float | str | None:
    """A margin as plain data: JSON has no infinity."""
    if value is None or not math.isinf(value):
        return None if value is None else float(value)
    return "inf" if value > 0 else "-inf"


def margin_text(value: Margin | None) -> str:
    """A margin for people, with its sign."""
    if value is None:
        return "?"
    if value == 0:
        return "0"
    return f"{float(value):+.3g}" if not math.isinf(value) else ("always" if value > 0 else "never")


def value_text(value: Fraction | None) -> str:
    """A value for people: exact when it is short."""
    if value is None:
        return "unknown"
    decimal = exact_decimal(value)
    text = format_number(decimal) if decimal is not None else ""
    return text if text and len(text) <= 12 else f"{float(value):.6g}"
