"""One checked statement becomes the demands that it makes: each will be a clause, or one for each stratum."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from constraintlang.checked import CheckedStatement
from constraintlang_compiler.expectation import Expectation
from constraintlang_compiler.ir import AnyOf, AttributeRecord, Bound, Choice, Indicator
from constraintlang_compiler.lower_conditions import Link, Tree, condition, conjuncts
from constraintlang_compiler.lower_statistics import lower_bound, lower_comparison
from constraintlang_compiler.lower_terms import lower_predicate


def demands(statement: CheckedStatement, attributes: Mapping[str, AttributeRecord]) -> list[Expectation]:
    """The demands of a statement, in the order in which they are written, without repetition.

    Raises: Rejection for what is not compiled.
    """
    if statement.reading == "pointwise":
        tolerance = Fraction(statement.tolerance if statement.tolerance is not None else Decimal(0))
        violation = Indicator(predicate=lower_predicate(statement.formula, negated=True))
        return [Expectation("violation", violation, tolerance, False)]
    rows = statement.reading == "rows"

    def bound(link: Link) -> Bound:
        span = link.left.span.to(link.right.span)
        return lower_bound(link.left, link.op, link.right, rows=rows, attributes=attributes, span=span)

    def demand(tree: Tree) -> Expectation:
        if isinstance(tree, Link):
            span = tree.left.span.to(tree.right.span)
            return lower_comparison(
                tree.left, tree.op, tree.right, rows=rows, attributes=attributes, span=span
            )
        choice = condition(tree, bound)
        assert isinstance(choice, AnyOf)
        reason = "a choice between requirements has no target"
        return Expectation("choice", Choice(operands=choice.operands), Fraction(0), False, untrained=reason)

    return list(dict.fromkeys(demand(tree) for tree in conjuncts(statement.formula, bound)))
