"""The reference meaning of checked formulas: slow, exact and obviously right; the judge in property tests.

L0: a score is a number or unknown (None); a response has scores of the whole and, for each level that `over`
speaks of, scores of its parts. L1: a formula over one response is true, false or unknown (strong Kleene);
what `over` means is in `traces.py`. L3: a statistic over a finite law of (probability, response, tags of the
prompt) is a number or unknown. All arithmetic is in fractions.
It does not sample, bound or approximate anything, and it knows only what this release compiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from constraintlang import nodes as n
from constraintlang import tails, traces
from constraintlang.base_model import own, reads_base
from constraintlang.checked import CheckedStatement
from constraintlang.constants import fold
from constraintlang.kleene import Truth as Truth
from constraintlang.kleene import kleene_and as kleene_and
from constraintlang.kleene import kleene_not as kleene_not
from constraintlang.kleene import kleene_or as kleene_or
from constraintlang.printer import plain_text

Scores = Mapping[str, Decimal | None]
Tags = Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """The scores of a response, and by level those of its parts, first part first."""

    scores: Scores = field(default_factory=dict)
    parts: Mapping[str, Sequence[Scores]] = field(default_factory=dict)


Law = Sequence[tuple[Fraction, Scores | Response] | tuple[Fraction, Scores | Response, Tags]]
"""Probabilities, responses (plain scores where no part is asked for), and the tags of the prompt where a statement
asks for them."""


# ---------------------------------------------------------------- one response
def score_key(name: n.Name) -> str:
    """Where the score of a name is found: ``a``, or ``a@base`` for the same text under the base model."""
    return ".".join(name.parts) + ("" if name.model is None else f"@{name.model}")


def number(expr: n.Expr, scores: Scores | Response) -> Fraction | None:
    """The value of an expression on one response; None when a score is unknown or a division is by zero.

    >>> number(n.Name(parts=("toxicity",)), {"toxicity": Decimal("0.1")})
    Fraction(1, 10)
    """
    scores = scores.scores if isinstance(scores, Response) else scores
    if isinstance(expr, n.Number):
        return Fraction(expr.value)
    if isinstance(expr, n.Name):
        score = scores.get(score_key(expr))
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
        score = whole.get(score_key(formula.name))
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
def statistic(expr: n.Expr, law: Law, base: Law | None = None) -> Fraction | None:
    """The value of an expression over a law; an unknown number on a response with mass makes it unknown.

    A statistic whose argument reads ``@base`` is taken over ``base``, the base model's own responses. ``P`` is
    unknown when unknown responses could change it; see ``probability_bounds``. A statistic of nothing, because no
    prompt fulfils its condition, is unknown.
    """
    if isinstance(expr, n.Number):
        return Fraction(expr.value)
    if isinstance(expr, n.Negate):
        operand = statistic(expr.operand, law, base)
        return None if operand is None else -operand
    if isinstance(expr, n.Arithmetic):
        return _arithmetic(expr.op, statistic(expr.left, law, base), statistic(expr.right, law, base))
    if not isinstance(expr, n.Apply):
        raise ValueError(f"{type(expr).__name__} is no statistic of this release")
    argument: Any = expr.arguments[0]
    rows = law
    if reads_base(argument):
        if base is None:
            raise ValueError(
                "the statement speaks of the base model's responses, and no law of them is given"
            )
        argument, rows = own(argument), base
    if expr.given is not None:
        rows = where(rows, expr.given)
    if not rows:
        return None
    if expr.function == "P":
        low, high = probability_bounds(argument, rows)
        return low if low == high else None
    values = [(row[0], number(argument, row[1])) for row in rows if row[0]]
    known = [(probability, value) for probability, value in values if value is not None]
    if len(known) < len(values):
        return None
    if expr.function == "mean":
        return sum((probability * value for probability, value in known), Fraction(0))
    if expr.function == "median":
        return tails.quantile(known, Fraction(1, 2))
    if expr.function in ("quantile", "cvar"):
        level = fold(expr.arguments[1], {})  # type: ignore[arg-type]
        assert level is not None
        return tails.quantile(known, level) if expr.function == "quantile" else tails.cvar(known, level)
    raise ValueError(f"`{expr.function}` is no statistic of this release")


def where(law: Law, condition: n.DomainPredicate) -> Law:
    """The law given that the prompt fulfils a condition; empty when no prompt with mass does."""
    kept = [row for row in law if row[0] and in_domain(condition, row[2] if len(row) > 2 else {})]
    mass = sum((row[0] for row in kept), Fraction(0))
    return [(row[0] / mass, *row[1:]) for row in kept]


def in_domain(condition: n.DomainPredicate, tags: Tags) -> bool:
    """Whether a prompt with these tags fulfils a condition; a missing tag equals nothing."""
    if isinstance(condition, n.DomainNot):
        return not in_domain(condition.operand, tags)
    if isinstance(condition, n.DomainAnd):
        return all(in_domain(operand, tags) for operand in condition.operands)
    if isinstance(condition, n.DomainOr):
        return any(in_domain(operand, tags) for operand in condition.operands)
    values = (condition.value,) if isinstance(condition, n.DomainEquals) else condition.values
    return tags.get(condition.key) in [plain_text(value) for value in values]


def probability_bounds(formula: n.Formula, law: Law) -> tuple[Fraction, Fraction]:
    """The chance that a formula is true, and that it is not false; equal when nothing is unknown."""
    true = sum((row[0] for row in law if evaluate(formula, row[1]) is True), Fraction(0))
    false = sum((row[0] for row in law if evaluate(formula, row[1]) is False), Fraction(0))
    total = sum((row[0] for row in law), Fraction(0))
    return true, total - false


def evaluate_distribution(formula: n.Formula, law: Law, base: Law | None = None) -> Truth:
    """Whether a law satisfies a formula on the distribution: True, False, or None for unknown."""
    if isinstance(formula, n.Truth):
        return formula.value
    if isinstance(formula, n.Compare):
        return _chain([statistic(operand, law, base) for operand in formula.operands], formula.operators)
    if isinstance(formula, n.InRange):
        parts = (formula.low, formula.operand, formula.high)
        return _chain([statistic(e, law, base) for e in parts], ("<=", "<="))
    if isinstance(formula, n.Not):
        return kleene_not(evaluate_distribution(formula.operand, law, base))
    if isinstance(formula, n.And):
        return kleene_and([evaluate_distribution(operand, law, base) for operand in formula.operands])
    if isinstance(formula, n.Or):
        return kleene_or([evaluate_distribution(operand, law, base) for operand in formula.operands])
    if isinstance(formula, n.Implies):
        premise = kleene_not(evaluate_distribution(formula.left, law, base))
        return kleene_or([premise, evaluate_distribution(formula.right, law, base)])
    raise ValueError(f"{type(formula).__name__} has no truth value on a distribution in this release")


def violation_rate(statement: CheckedStatement, law: Law) -> Fraction:
    """The mass of the responses that do not satisfy a pointwise statement; unknown counts as violated."""
    if statement.reading != "pointwise":
        raise ValueError(f"only pointwise statements have a violation rate, this one is {statement.reading}")
    return sum((row[0] for row in law if evaluate(statement.formula, row[1]) is not True), Fraction(0))


def strata(statement: CheckedStatement, law: Law) -> list[n.DomainPredicate]:
    """The conditions of the strata of a statement with ``per``: values as declared, else as found in the law.

    Where the domain names the values of a key outright, the others make no stratum, unless none is left. Of keys
    without declared values the combinations that occur count, in each stratum of those with; where one has none,
    nothing is found at all.
    """
    declared: list[dict[str, str]] = [{}]
    for key, values in statement.per.items():
        if values is not None:
            declared = [{**stratum, key: value} for stratum in declared for value in values]
    domain = statement.domain
    possible = declared if domain is None else [one for one in declared if _leaves_room(domain, one)]
    open_keys = [key for key, values in statement.per.items() if values is None]
    found: list[dict[str, str]] = []
    for stratum in possible or declared:
        tags = [row[2] for row in law if row[0] and len(row) > 2 and stratum.items() <= row[2].items()]
        combinations = {tuple(one[key] for key in open_keys) for one in tags if one.keys() >= set(open_keys)}
        if open_keys and not combinations:
            return []
        found += [
            {**stratum, **dict(zip(open_keys, values, strict=True))}
            for values in sorted(combinations) or [()]
        ]
    return [
        n.DomainAnd(
            operands=tuple(
                n.DomainEquals(key=key, value=n.Scalar(value=value, kind="string"))
                for key, value in stratum.items()
            )
        )
        for stratum in found
    ]


def _leaves_room(domain: n.DomainPredicate, stratum: Tags) -> bool:
    if isinstance(domain, n.DomainAnd):
        return all(_leaves_room(operand, stratum) for operand in domain.operands)
    named = isinstance(domain, n.DomainEquals | n.DomainIn) and domain.key in stratum
    return not named or in_domain(domain, stratum)


def statement_holds(statement: CheckedStatement, law: Law, base: Law | None = None) -> bool:
    """Whether a law, already restricted to the domain, satisfies a statement; unknown fails closed.

    A statement with ``per`` holds when it holds in every stratum; one without prompts is vacuous, and so is a key
    of which no prompt has a value.

    >>> from constraintlang import check_source
    >>> statement = check_source("toxicity < 0.1").require().statements[0]
    >>> good, bad = {"toxicity": Decimal("0.05")}, {"toxicity": Decimal("0.1")}
    >>> statement_holds(statement, [(Fraction(19, 20), good), (Fraction(1, 20), bad)])
    True
    >>> statement_holds(statement, [(Fraction(9, 10), good), (Fraction(1, 10), bad)])
    False
    """
    if statement.per:
        whole = replace(statement, per={})
        conditions = strata(statement, law)
        return bool(conditions) and all(
            bool(part) and statement_holds(whole, part, None if base is None else where(base, condition))
            for condition in conditions
            for part in [where(law, condition)]
        )
    if statement.reading == "pointwise":
        assert statement.tolerance is not None
        return violation_rate(statement, law) <= Fraction(statement.tolerance)
    if statement.reading == "distribution":
        return evaluate_distribution(statement.formula, law, base) is True
    raise ValueError("a statement about the user's rows is judged on rows, not on a law of responses")


# ---------------------------------------------------------------- the user's rows
def rows_hold(statement: CheckedStatement, values: Mapping[str, Fraction]) -> bool:
    """Whether measured quantities satisfy a statement about the user's rows.

    ``values`` holds ``perplexity`` or ``accuracy`` of the model, and ``perplexity@base`` or ``accuracy@base``
    of the start model.
    """
    if statement.reading != "rows":
        raise ValueError(f"only statements about rows are judged so, this one is {statement.reading}")
    return _rows_truth(statement.formula, values) is True


def _rows_truth(formula: n.Formula, values: Mapping[str, Fraction]) -> Truth:
    if isinstance(formula, n.Not):
        return kleene_not(_rows_truth(formula.operand, values))
    if isinstance(formula, n.And):
        return kleene_and([_rows_truth(operand, values) for operand in formula.operands])
    if isinstance(formula, n.InRange):
        # The operand stands on the left, because `base` repeats what stands there.
        links = [(formula.operand, ">=", formula.low), (formula.operand, "<=", formula.high)]
        return kleene_and([_rows_link(left, op, right, values) for left, op, right in links])
    if isinstance(formula, n.Compare):
        pairs = zip(formula.operands, formula.operators, formula.operands[1:], strict=False)
        return kleene_and([_rows_link(left, op, right, values) for left, op, right in pairs])
    raise ValueError(f"{type(formula).__name__} has no truth value on rows in this release")


def _rows_link(left: n.Expr, operator: str, right: n.Expr, values: Mapping[str, Fraction]) -> Truth:
    base = {key.removesuffix("@base"): value for key, value in values.items() if key.endswith("@base")}
    repeated = _rows_number(left, base, None)
    return compare(_rows_number(left, values, repeated), operator, _rows_number(right, values, repeated))


def _rows_number(expr: n.Expr, values: Mapping[str, Fraction], base: Fraction | None) -> Fraction | None:
    """A quantity of the model; ``base`` is the left side of the comparison on the start model."""
    if isinstance(expr, n.Number):
        return Fraction(expr.value)
    if isinstance(expr, n.Name):
        if expr.parts == ("base",):
            return base
        return values.get(".".join(expr.parts) + (f"@{expr.model}" if expr.model else ""))
    if isinstance(expr, n.Negate):
        operand = _rows_number(expr.operand, values, base)
        return None if operand is None else -operand
    if isinstance(expr, n.Arithmetic):
        left, right = _rows_number(expr.left, values, base), _rows_number(expr.right, values, base)
        return _arithmetic(expr.op, left, right)
    if isinstance(expr, n.Apply) and expr.function == "mean":
        return _rows_number(expr.arguments[0], values, base)  # type: ignore[arg-type]
    raise ValueError(f"`{expr.function}` is no statistic of rows in this release")
