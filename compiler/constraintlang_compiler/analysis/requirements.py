"""A statement as linear rows: what a law of responses must meet so that the statement holds, or fails.

A row bounds a sum over the responses of a domain by 0, so it does not depend on how many prompts the domain
has. ``holds`` and ``fails`` are alternatives of rows (a disjunction of conjunctions). A construct that is not
understood raises ``NotAnalysed``; a new one needs a case in ``_Reader`` and, when it adds a new kind of sum,
a kind of ``Part``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Literal, TypeAlias

from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo, CheckedStatement
from constraintlang_compiler.analysis.atoms import opaque_parts
from constraintlang_compiler.analysis.forms import ONE, ZERO, Form, Variables
from constraintlang_compiler.domains import describe
from constraintlang_compiler.ir import DomainPredicate
from constraintlang_compiler.lower_domains import both, lower_domain

MAX_ALTERNATIVES = 64
NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
EVIDENCE_ONLY = frozenset({"samples"})
"""Settings of ``under`` that say how much is measured, not what."""


class NotAnalysed(Exception):
    """The statement, or a part of it, is not understood here; the text says what."""


# ---------------------------------------------------------------- what one response adds to a sum
@dataclass(frozen=True)
class Mass:
    """``factor`` for every response."""

    factor: Fraction


@dataclass(frozen=True)
class TruthOf:
    """``factor`` where the formula has this truth value (None is unknown)."""

    factor: Fraction
    formula: n.Formula
    truth: bool | None


@dataclass(frozen=True)
class Moment:
    """The value of a linear form."""

    form: Form


Part: TypeAlias = Mass | TruthOf | Moment


@dataclass(frozen=True)
class Row:
    """The sum of the parts over the responses of the domain is at most 0, or below 0 when ``strict``."""

    parts: tuple[Part, ...]
    strict: bool
    domain: DomainPredicate | None


Alternatives: TypeAlias = tuple[tuple[Row, ...], ...]


@dataclass(frozen=True, eq=False)  # one object for each statement
class Requirement:
    """A statement with the rows that say it.

    ``law`` names what is sampled: statements with different laws never meet. ``quantity`` is the measured
    number as a sum over ``domains[0]``, for messages; every domain in ``domains`` must have prompts.
    """

    index: int
    statement: CheckedStatement
    law: tuple[object, ...]
    domains: tuple[DomainPredicate | None, ...]
    holds: Alternatives
    fails: Alternatives
    quantity: tuple[Part, ...] | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row of both sides."""
        return tuple(row for side in (self.holds, self.fails) for rows in side for row in rows)


def requirement(statement: CheckedStatement, index: int, variables: Variables) -> Requirement:
    """The rows of a statement.

    Raises: NotAnalysed for what this analysis does not understand.
    """
    if statement.per:
        raise NotAnalysed("`per` is not analysed")
    try:
        domain = None if statement.domain is None else lower_domain(statement.domain)
        reader = _Reader(statement, domain, variables)
        if statement.reading == "pointwise":
            return reader.pointwise(index)
        return reader.distribution(index)
    except RecursionError as error:
        raise NotAnalysed("the statement is nested too deeply") from error


def law_of(statement: CheckedStatement) -> tuple[object, ...]:
    """What is sampled: the settings that change the law; rows of a domain are their own law."""
    if statement.reading == "rows":
        return (
            "rows",
            describe(None if statement.domain is None else lower_domain(statement.domain)),
        )
    settings = statement.sampling.items()
    return tuple(sorted((key, value) for key, value in settings if key not in EVIDENCE_ONLY))


Goal = Literal["true", "false", "not true", "not false"]
_OPPOSITE: dict[Goal, Goal] = {
    "true": "false",
    "false": "true",
    "not true": "not false",
    "not false": "not true",
}
ROWS_VARIABLES = {
    "perplexity": AttributeInfo("perplexity", "real", Decimal(1), None, "lower", None),
    "accuracy": AttributeInfo("accuracy", "score", Decimal(0), Decimal(1), "higher", None),
}


@dataclass(frozen=True)
class _Sum:
    """A linear functional of the law; ``given`` narrows the domain it is taken over."""

    parts: tuple[Part, ...]
    given: n.DomainPredicate | None = None

    def plus(self, other: _Sum, factor: Fraction = ONE) -> _Sum:
        own, others = self.parts, _scaled(other.parts, factor)
        if self.given != other.given and not (_is_constant(own) or _is_constant(others)):
            raise NotAnalysed("statistics over different prompts in one comparison are not analysed")
        return _Sum(own + others, other.given if _is_constant(own) else self.given)


class _Reader:
    def __init__(
        self, statement: CheckedStatement, domain: DomainPredicate | None, variables: Variables
    ) -> None:
        self.statement = statement
        self.domain = domain
        self.variables = variables
        self.domains: list[DomainPredicate | None] = [domain]
        self.quantities: list[tuple[Part, ...]] = []

    # ------------------------------------------------------------ one response at a time
    def pointwise(self, index: int) -> Requirement:
        statement = self.statement
        assert statement.tolerance is not None
        broken: tuple[Part, ...] = (
            TruthOf(ONE, statement.formula, False),
            TruthOf(ONE, statement.formula, None),
        )
        within = (*broken, Mass(-Fraction(statement.tolerance)))
        return self._requirement(
            index,
            ((Row(within, False, self.domain),),),
            ((Row(_scaled(within, -ONE), True, self.domain),),),
            broken,
        )

    # ------------------------------------------------------------ the distribution
    def distribution(self, index: int) -> Requirement:
        holds = self.formula(self.statement.formula, "true")
        fails = self.formula(self.statement.formula, "not true")
        quantity = self.quantities[0] if len(set(self.quantities)) == 1 else None
        return self._requirement(index, holds, fails, quantity)

    def _requirement(
        self, index: int, holds: Alternatives, fails: Alternatives, quantity: tuple[Part, ...] | None
    ) -> Requirement:
        domains = tuple(dict.fromkeys(self.domains))
        return Requirement(index, self.statement, law_of(self.statement), domains, holds, fails, quantity)

    def formula(self, node: n.Formula, goal: Goal) -> Alternatives:
        if isinstance(node, n.Truth):
            met = node.value == (goal in ("true", "not false"))
            return ((),) if met else ()
        if isinstance(node, n.Not):
            return self.formula(node.operand, _OPPOSITE[goal])
        if isinstance(node, n.And | n.Or):
            parts = []
            for operand in node.operands:
                parts.append(self.formula(operand, goal))
            together = isinstance(node, n.And) == (goal in ("true", "not false"))
            return _all_of(parts) if together else _any_of(parts)
        if isinstance(node, n.Implies):
            parts = [self.formula(node.left, _OPPOSITE[goal]), self.formula(node.right, goal)]
            return _any_of(parts) if goal in ("true", "not false") else _all_of(parts)
        if isinstance(node, n.Compare):
            links = list(zip(node.operands, node.operators, node.operands[1:], strict=False))
        elif isinstance(node, n.InRange):
            links = [(node.low, "<=", node.operand), (node.operand, "<=", node.high)]
        else:
            raise NotAnalysed("a condition of this form on the distribution is not analysed")
        found = [self.link(left, op, right, goal) for left, op, right in links]
        return _all_of(found) if goal in ("true", "not false") else _any_of(found)

    def link(self, left: n.Expr, op: str, right: n.Expr, goal: Goal) -> Alternatives:
        total = self.total(left, left).plus(self.total(right, left), -ONE)
        domain = self.domain
        if total.given is not None:
            given = lower_domain(total.given)
            domain = given if domain is None else both([domain, given])
            self.domains.append(domain)
        self.quantities.append(tuple(part for part in total.parts if not isinstance(part, Mass)))
        unknown = [
            Row((TruthOf(ONE, part.formula, None),), False, domain)
            for part in total.parts
            if isinstance(part, TruthOf) and opaque_parts(part.formula, self.variables)
        ]
        wanted = op if goal in ("true", "not false") else NEGATED[op]
        rows = _compared(total.parts, wanted, domain)
        if goal in ("true", "false"):
            return tuple((*alternative, *unknown) for alternative in rows)
        return rows + tuple((Row(_scaled(row.parts, -ONE), True, domain),) for row in unknown)

    def total(self, expr: n.Expr, left: n.Expr) -> _Sum:
        if isinstance(expr, n.Number):
            return _Sum((Mass(Fraction(expr.value)),))
        if isinstance(expr, n.Negate):
            return _Sum(()).plus(self.total(expr.operand, left), -ONE)
        if isinstance(expr, n.Arithmetic):
            first, second = self.total(expr.left, left), self.total(expr.right, left)
            if expr.op in "+-":
                return first.plus(second, ONE if expr.op == "+" else -ONE)
            if expr.op == "*" and _is_constant(first.parts):
                first, second = second, first
            if _is_constant(second.parts):
                factor = sum((part.factor for part in second.parts if isinstance(part, Mass)), ZERO)
                if expr.op == "*" or factor != 0:
                    return _Sum(_scaled(first.parts, factor if expr.op == "*" else 1 / factor), first.given)
            raise NotAnalysed("products and quotients of statistics are not analysed")
        if self.statement.reading == "rows":
            return self.rows(expr, left)
        if isinstance(expr, n.Apply) and expr.function == "mean":
            form = self.variables.form(expr.arguments[0])  # type: ignore[arg-type]
            if form is None:
                raise NotAnalysed("the mean of this expression is not analysed")
            return _Sum((Moment(form),), expr.given)
        if isinstance(expr, n.Apply) and expr.function == "P":
            return _Sum((TruthOf(ONE, expr.arguments[0], True),), expr.given)  # type: ignore[arg-type]
        what = f"`{expr.function}`" if isinstance(expr, n.Apply) else "this term"
        raise NotAnalysed(f"{what} is not analysed")

    def rows(self, expr: n.Expr, left: n.Expr) -> _Sum:
        """``perplexity``, ``accuracy`` and ``base``: plain numbers, one for each model."""
        if isinstance(expr, n.Apply) and expr.function == "mean" and expr.given is None:
            return self.total(expr.arguments[0], left)  # type: ignore[arg-type]
        if isinstance(expr, n.Name) and expr.parts == ("base",) and expr.model is None:
            own = self.total(left, left).parts
            return _Sum(tuple(Moment(_on_base(part)) if isinstance(part, Moment) else part for part in own))
        if isinstance(expr, n.Name) and len(expr.parts) == 1 and expr.parts[0] in ROWS_VARIABLES:
            name = expr.parts[0] if expr.model in (None, "self") else f"{expr.parts[0]}@{expr.model}"
            for key in (expr.parts[0], f"{expr.parts[0]}@base"):
                self.variables.declare(ROWS_VARIABLES[expr.parts[0]], key)
            return _Sum((Moment(Form(((name, ONE),))),))
        raise NotAnalysed("this quantity of your rows is not analysed")


def _on_base(part: Moment) -> Form:
    return Form(tuple((f"{name}@base", value) for name, value in part.form.coefficients), part.form.constant)


def _scaled(parts: Sequence[Part], factor: Fraction) -> tuple[Part, ...]:
    def scale(part: Part) -> Part:
        if isinstance(part, Moment):
            return Moment(part.form.times(factor))
        if isinstance(part, TruthOf):
            return TruthOf(part.factor * factor, part.formula, part.truth)
        return Mass(part.factor * factor)

    return tuple(scale(part) for part in parts)


def _is_constant(parts: Sequence[Part]) -> bool:
    return all(isinstance(part, Mass) for part in parts)


def _compared(parts: tuple[Part, ...], op: str, domain: DomainPredicate | None) -> Alternatives:
    """The alternatives of ``sum of the parts op 0``."""
    negative = _scaled(parts, -ONE)
    at_most, at_least = Row(parts, False, domain), Row(negative, False, domain)
    below, above = Row(parts, True, domain), Row(negative, True, domain)
    table: dict[str, Alternatives] = {
        "<": ((below,),),
        "<=": ((at_most,),),
        ">": ((above,),),
        ">=": ((at_least,),),
        "==": ((at_most, at_least),),
        "!=": ((below,), (above,)),
    }
    return table[op]


def _any_of(parts: Sequence[Alternatives]) -> Alternatives:
    return _capped(tuple(dict.fromkeys(rows for alternatives in parts for rows in alternatives)))


def _all_of(parts: Sequence[Alternatives]) -> Alternatives:
    found: Alternatives = ((),)
    for alternatives in parts:
        joined = (a + b for a, b in product(found, alternatives))
        found = _capped(tuple(dict.fromkeys(joined)))
    return found


def _capped(found: Alternatives) -> Alternatives:
    if len(found) > MAX_ALTERNATIVES:
        raise NotAnalysed(f"the statement has more than {MAX_ALTERNATIVES} alternatives")
    return found
