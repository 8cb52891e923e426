"""The smallest conditions of a formula over one response: a linear form against a number, or an opaque text.

Opaque is whatever has no linear form: temporal formulas, quotients that may be by 0. An opaque part is true,
false or unknown, independently of everything but itself; so what is proved holds whatever it means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang.normal_form import NEGATED, TURNED
from constraintlang.printer import format_formula
from constraintlang.semantics import compare
from constraintlang_compiler.analysis.forms import ZERO, Form, Variables


@dataclass(frozen=True)
class Threshold:
    """``direction operator value``; the first coefficient of the direction is 1, it has no constant."""

    direction: Form
    operator: str
    value: Fraction


@dataclass(frozen=True)
class Opaque:
    """A part that is not understood, by its canonical text; its opposite is the same part, negated."""

    text: str
    negated: bool = False


Atom = Threshold | Opaque | bool
Link = tuple[n.Expr, str, n.Expr]


def links_of(formula: n.Compare | n.InRange) -> list[Link]:
    """The single comparisons of a chain or a range."""
    if isinstance(formula, n.InRange):
        return [(formula.low, "<=", formula.operand), (formula.operand, "<=", formula.high)]
    return list(zip(formula.operands, formula.operators, formula.operands[1:], strict=False))


def atom_of(link: Link, variables: Variables) -> Atom:
    """One comparison as an atom; a comparison of constants is already decided."""
    left, operator, right = link
    first, second = variables.form(left), variables.form(right)
    if first is None or second is None:
        # `a >= b` is unknown exactly where `a < b` is, and else its opposite.
        opposite = NEGATED[operator] if operator in (">=", ">", "!=") else None
        node = n.Compare(operands=(left, right), operators=(opposite or operator,))  # type: ignore[arg-type]
        return Opaque(format_formula(node), negated=opposite is not None)
    form = first.plus(second, Fraction(-1))
    if not form.coefficients:
        return compare(form.constant, operator, ZERO) is True
    direction, scale = form.direction()
    return Threshold(direction, operator if scale > 0 else TURNED[operator], -form.constant / scale)


def flag_atom(node: n.Flag, variables: Variables) -> Atom:
    """A flag is true where its score is not 0."""
    form = variables.flag(node.name)
    return Opaque(format_formula(node)) if form is None else Threshold(form, "!=", ZERO)


def atoms_in(formula: n.Formula, variables: Variables) -> Iterator[Atom]:
    """Every atom of a formula."""
    stack = [formula]
    while stack:
        node = stack.pop()
        if isinstance(node, n.Truth):
            yield node.value
        elif isinstance(node, n.Flag):
            yield flag_atom(node, variables)
        elif isinstance(node, n.Compare | n.InRange):
            for link in links_of(node):
                yield atom_of(link, variables)
        elif isinstance(node, n.Not):
            stack.append(node.operand)
        elif isinstance(node, n.And | n.Or):
            stack.extend(node.operands)
        elif isinstance(node, n.Implies):
            stack.extend((node.left, node.right))
        else:
            yield Opaque(format_formula(node))


def opaque_parts(formula: n.Formula, variables: Variables) -> tuple[str, ...]:
    """The texts of the parts of a formula that are not understood, sorted."""
    return tuple(sorted({atom.text for atom in atoms_in(formula, variables) if isinstance(atom, Opaque)}))
