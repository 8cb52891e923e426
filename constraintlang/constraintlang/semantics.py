"""The reference meaning of checked formulas: slow, exact and obviously right; the judge in property tests.

L0: a score is a number or unknown (None); a response has scores of the whole and, for each level that `over`
speaks of, scores of its parts. L1: a formula over one response is true, false or unknown (strong Kleene);
what `over` means is in `traces.py`. L3: a statistic over a finite law of (probability, scores) is a number or unknown.
All arithmetic is in fractions.
It does not sample, bound or approximate anything, and it knows only what this release compiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import traces
from constraintlang.checked import CheckedStatement
from constraintlang.kleene import Truth as Truth
from constraintlang.kleene import kleene_and as kleene_and
from constraintlang.kleene import kleene_not as kleene_not
from constraintlang.kleene import kleene_or as kleene_or

Scores = Mapping[str, Decimal | None]


@dataclass(frozen=True)
class Response:
    """The scores of a response, and by level those of its parts, first part first."""

    scores: Scores = field(default_factory=dict)
    parts: Mapping[str, Sequence[Scores]] = field(default_factory=dict)


Law = Sequence[tuple[Fraction, Scores | Response]]
"""Chances and responses; plain scores are a response of which no part is asked for."""


# ---------------------------------------------------------------- one response
def number(expr: n.Expr, scores: Scores | Response) -> Fraction | None:
    """The value of an expression on one response; None when a score is unknown or a division is by zero.

    >>> number(n.Name(parts=("toxicity",)), {"toxicity": Decimal("0.1")})
    Fraction(1, 10)
    """
    scores = scores.scores if isinstance(scores, Response) else scores
    if isinstance(expr, n.Number):
        return Fraction(expr.value)
    if isinstance(expr, n.Name):
        score = scores.get(".".join(expr.parts))
        return None if score is None else Fraction(score)
    if isinstance(expr, n.Negate):
        operand = number(expr.operand, scores)
        return None if operand is None else -operand
    if isinstance(expr, n.Arithmetic):
        return _arithmetic(expr.op, number(expr.left, scores), number(expr.right, scores))
    raise ValueError(f"{type(expr).__name__} has no value on a single response")


def evaluate(formula: n.Formula, scores: Scores | Response) -> Truth:
    """Whether one response satisfies a formula: True, False, or None for unknown.

    A flag is true when its score is not zero.
    Raises: KeyError when the formula speaks of a level whose parts are not given.
    """
    if isinstance(formula, n.Truth):
        return formula.value
    if isinstance(formula, n.Over):
        parts = scores.parts if isinstance(scores, Response) else {}
        if formula.level not in parts:
            raise KeyError(f"no scores of `{formula.level}`; got {sorted(parts)}")
        trace = parts[formula.level]
        return traces.holds(formula.operand, len(trace), lambda atom, i: evaluate(atom, trace[i]))
    if isinstance(formula, n.Flag):
        whole = scores.scores if isinstance(scores, Response) else scores
        score = whole.get(".".join(formula.name.parts))
        return None if score is None else score != 0
    if isinstance(formula, n.Compare):
        values = [number(operand, scores) for operand in formula.operands]
        return _chain(values, formula.operators)
    if isinstance(formula, n.InRange):
        values = [number(e, scores) for e in (formula.low, formula.operand, formula.high)]
        return _chain(values, ("<=", "<="))
    if isinstance(formula, n.Not):
        return kleene_not(evaluate(formula.operand, scores))
    if isinstance(formula, n.And):
        return kleene_and([evaluate(operand, scores) for operand in formula.operands])
    if isinstance(formula, n.Or):
        return kleene_or([evaluate(operand, scores) for operand in formula.operands])
    if isinstance(formula, n.Implies):
        return kleene_or([kleene_not(evaluate(formula.left, scores)), evaluate(formula.right, scores)])
    raise ValueError(f"{type(formula).__name__} has no truth value on a single response")


def compare(left: Fraction | None, operator: str, right: Fraction | None) -> Truth:
    """One comparison of exact numbers."""
    if left is None or right is None:
        return None
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    if operator == ">":
        return left > right
    if operator == ">=":
        return left >= right
    if operator == "==":
        return left == right
    if operator == "!=":
        return left != right
    raise ValueError(f"no comparison is written {operator!r}")


def _chain(values: Sequence[Fraction | None], operators: Sequence[str]) -> Truth:
    return kleene_and([compare(values[i], operator, values[i + 1]) for i, operator in enumerate(operators)])


def _arithmetic(op: str, left: Fraction | None, right: Fraction | None) -> Fraction | None:
    if left is None or right is None:
        return None
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    return None if right == 0 else left / right


# ---------------------------------------------------------------- a law of responses
def statistic(expr: n.Expr, law: Law) -> Fraction | None:
    """The value of an expression over a law; unknown on any response with mass makes a mean unknown.

    ``P`` is unknown when unknown responses could change it; see ``probability_bounds``.
    """
    if isinstance(expr, n.Number):
        return Fraction(expr.value)
    if isinstance(expr, n.Negate):
        operand = statistic(expr.operand, law)
        return None if operand is None else -operand
    if isinstance(expr, n.Arithmetic):
        return _arithmetic(expr.op, statistic(expr.left, law), statistic(expr.right, law))
    if isinstance(expr, n.Apply) and expr.function == "mean":
        total = Fraction(0)
        for probability, scores in law:
            value = number(expr.arguments[0], scores)  # type: ignore[arg-type]
            if probability and value is None:
                return None
            total += probability * (value or 0)
        return total
    if isinstance(expr, n.Apply) and expr.function == "P":
        low, high = probability_bounds(expr.arguments[0], law)  # type: ignore[arg-type]
        return low if low == high else None
    raise ValueError(f"{type(expr).__name__} is no statistic of this release")


def probability_bounds(formula: n.Formula, law: Law) -> tuple[Fraction, Fraction]:
    """The chance that a formula is true, and that it is not false; equal when nothing is unknown."""
    true = sum((p for p, scores in law if evaluate(formula, scores) is True), Fraction(0))
    false = sum((p for p, scores in law if evaluate(formula, scores) is False), Fraction(0))
    total = sum((p for p, _ in law), Fraction(0))
    return true, total - false


def evaluate_distribution(formula: n.Formula, law: Law) -> Truth:
    """Whether a law satisfies a formula on the distribution: True, False, or None for unknown."""
    if isinstance(formula, n.Truth):
        return formula.value
    if isinstance(formula, n.Compare):
        return _chain([statistic(operand, law) for operand in formula.operands], formula.operators)
    if isinstance(formula, n.InRange):
        parts = (formula.low, formula.operand, formula.high)
        return _chain([statistic(e, law) for e in parts], ("<=", "<="))
    if isinstance(formula, n.Not):
        return kleene_not(evaluate_distribution(formula.operand, law))
    if isinstance(formula, n.And):
        return kleene_and([evaluate_distribution(operand, law) for operand in formula.operands])
    raise ValueError(f"{type(formula).__name__} has no truth value on a distribution in this release")


def violation_rate(statement: CheckedStatement, law: Law) -> Fraction:
    """The mass of the responses that do not satisfy a pointwise statement; unknown counts as violated."""
    if statement.reading != "pointwise":
        raise ValueError(f"only pointwise statements have a violation rate, this one is {statement.reading}")
    return sum((p for p, scores in law if evaluate(statement.formula, scores) is not True), Fraction(0))


def statement_holds(statement: CheckedStatement, law: Law) -> bool:
    """Whether a law, already restricted to the domain, satisfies a statement; unknown fails closed.

    >>> from constraintlang import check_source
    >>> statement = check_source("toxicity < 0.1").require().statements[0]
    >>> good, bad = {"toxicity": Decimal("0.05")}, {"toxicity": Decimal("0.1")}
    >>> statement_holds(statement, [(Fraction(19, 20), good), (Fraction(1, 20), bad)])
    True
    >>> statement_holds(statement, [(Fraction(9, 10), good), (Fraction(1, 10), bad)])
    False
    """
    if statement.reading == "pointwise":
        assert statement.tolerance is not None
        return violation_rate(statement, law) <= Fraction(statement.tolerance)
    if statement.reading == "distribution":
        return evaluate_distribution(statement.formula, law) is True
    raise ValueError("a statement about the user's rows is judged on rows, not on a law of responses")
