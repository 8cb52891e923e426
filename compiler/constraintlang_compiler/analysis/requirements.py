"""A statement as linear rows: what a law of responses must meet so that the statement holds, or fails.

A row bounds a sum over the responses of a domain by 0, so it does not depend on how many prompts the domain
has. A construct that is not understood raises ``NotAnalysed``; a new one needs a case in ``_Reader``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any, Literal

from constraintlang import nodes as n
from constraintlang.checked import AttributeInfo, CheckedStatement
from constraintlang.normal_form import NEGATED, TURNED
from constraintlang_compiler.analysis.atoms import Opaque, Threshold, atoms_in, opaque_parts
from constraintlang_compiler.analysis.base_law import on_base_law
from constraintlang_compiler.analysis.forms import ONE, ZERO, Form, Variables
from constraintlang_compiler.analysis.rows import (
    Alternatives,
    Excess,
    Mass,
    Moment,
    NotAnalysed,
    Part,
    Row,
    TruthOf,
    all_of,
    any_of,
    compared,
    scaled,
)
from constraintlang_compiler.analysis.tail_rows import Tail, tail_of, tail_rows
from constraintlang_compiler.domains import describe
from constraintlang_compiler.ir import DomainPredicate
from constraintlang_compiler.lower_domains import both, lower_domain
from constraintlang_compiler.strata import in_stratum, is_possible

EVIDENCE_ONLY = frozenset({"samples"})
"""Settings of ``under`` that say how much is measured, not what."""


@dataclass(frozen=True)
class Side:
    """What must be met: ``proof`` leaves no law out, ``trial`` lets none in wrongly; mostly they are one."""

    proof: Alternatives
    trial: Alternatives


@dataclass(frozen=True, eq=False)  # one object for each statement
class Requirement:
    """A statement with the rows that say it.

    ``law`` names what is sampled: statements with different laws never meet. ``quantity`` is the measured
    number as a sum over the last of ``domains``, for messages; every domain must have prompts. ``variables`` are
    the scores and the opaque parts that it speaks of.
    """

    index: int
    statement: CheckedStatement
    law: tuple[object, ...]
    domains: tuple[DomainPredicate | None, ...]
    holds: Side
    fails: Side
    quantity: tuple[Part, ...] | None
    variables: frozenset[str]

    def says_what(self, other: Requirement) -> bool:
        """Whether two statements are the same but for their standing: nothing has to be worked out then."""
        mine, theirs = self.statement, other.statement
        return (
            self.law == other.law
            and self.domains == other.domains
            and mine.formula == theirs.formula
            and mine.tolerance == theirs.tolerance
            and mine.per == theirs.per
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row."""
        sides = (self.holds.proof, self.holds.trial, self.fails.proof, self.fails.trial)
        found = dict.fromkeys(row for side in sides for rows in side for row in rows)
        return tuple(row for row in found if isinstance(row, Row))


def requirement(statement: CheckedStatement, index: int, variables: Variables) -> Requirement:
    """The rows of a statement.

    Raises: NotAnalysed for what this analysis does not understand.
    """
    try:
        own = None if statement.domain is None else lower_domain(statement.domain)
        parts = [_Reader(statement, domain, variables) for domain in _strata(statement, own)]
        holds = Side(
            all_of([part.side("true", for_proof=True) for part in parts]),
            all_of([part.side("true", for_proof=False) for part in parts]),
        )
        fails = Side(
            any_of([part.side("not true", for_proof=True) for part in parts]),
            any_of([part.side("not true", for_proof=False) for part in parts]),
        )
    except RecursionError as error:
        raise NotAnalysed("the statement is nested too deeply") from error
    domains = tuple(dict.fromkeys(domain for part in parts for domain in part.domains))
    quantities = {quantity for part in parts for quantity in part.quantities}
    quantity = next(iter(quantities)) if len(quantities) == len(parts) == 1 else None
    return Requirement(
        index,
        statement,
        law_of(statement),
        domains,
        holds,
        fails,
        quantity,
        _touched(holds, fails, variables),
    )


def _touched(holds: Side, fails: Side, variables: Variables) -> frozenset[str]:
    sides = (holds.proof, holds.trial, fails.proof, fails.trial)
    parts = {part for side in sides for rows in side for row in rows for part in row.parts}
    found: set[str] = set()
    for part in parts:
        if isinstance(part, Moment | Excess):
            found.update(part.form.variables)
        elif isinstance(part, TruthOf):
            for atom in atoms_in(part.formula, variables):
                if isinstance(atom, Threshold):
                    found.update(atom.direction.variables)
                elif isinstance(atom, Opaque):
                    found.add(atom.text)
    # A product of two scores may not be parted from the scores themselves.
    names = [name for name in found if name in variables.found]
    return frozenset(
        {name for name in found if name not in variables.found}
        | {part for name in names for part in variables.attributes_of(name)}
    )


def law_of(statement: CheckedStatement) -> tuple[object, ...]:
    """What is sampled: the settings that change the law; rows of a domain are their own law."""
    if statement.reading == "rows":
        domain = None if statement.domain is None else lower_domain(statement.domain)
        return ("rows", describe(domain))
    settings = statement.sampling.items()
    return tuple(sorted((key, value) for key, value in settings if key not in EVIDENCE_ONLY))


def _strata(statement: CheckedStatement, domain: DomainPredicate | None) -> list[DomainPredicate | None]:
    """The domain, or its part for each combination of declared values of ``per`` that it leaves room for."""
    per: object = statement.per
    if not per:
        return [domain]
    if not isinstance(per, Mapping) or not all(per.values()):
        raise NotAnalysed("strata without declared values are not analysed")
    strata = [dict(zip(per, chosen, strict=True)) for chosen in product(*per.values())]
    possible = [stratum for stratum in strata if is_possible(domain, stratum)]
    return [in_stratum(domain, stratum) for stratum in possible or strata]  # as in lowering


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
    """A linear functional of the law, and perhaps one tail; ``given`` narrows the domain it is taken over."""

    parts: tuple[Part, ...]
    given: n.DomainPredicate | None = None
    tail: Tail | None = None

    @property
    def is_constant(self) -> bool:
        """Whether it is a number."""
        return self.tail is None and all(isinstance(part, Mass) for part in self.parts)

    def times(self, factor: Fraction) -> _Sum:
        tail = None if self.tail is None else replace(self.tail, factor=self.tail.factor * factor)
        return _Sum(scaled(self.parts, factor), self.given, tail)

    def plus(self, other: _Sum, factor: Fraction = ONE) -> _Sum:
        added = other.times(factor)
        if self.given != other.given and not (self.is_constant or other.is_constant):
            raise NotAnalysed("statistics over different prompts in one comparison are not analysed")
        if self.tail is not None and added.tail is not None:
            raise NotAnalysed("two quantiles in one comparison are not analysed")
        given = other.given if self.is_constant else self.given
        return _Sum(self.parts + added.parts, given, self.tail or added.tail)


class _Reader:
    """Reads one statement over one domain."""

    def __init__(
        self, statement: CheckedStatement, domain: DomainPredicate | None, variables: Variables
    ) -> None:
        self.statement = statement
        self.domain = domain
        self.variables = variables
        self.for_proof = True
        self.domains: list[DomainPredicate | None] = [domain]
        self.quantities: set[tuple[Part, ...] | None] = set()  # None: not a sum

    def side(self, goal: Goal, *, for_proof: bool) -> Alternatives:
        """The alternatives of the statement being true, or not true."""
        self.for_proof = for_proof
        if self.statement.reading == "pointwise":
            return self.pointwise(goal)
        return self.formula(self.statement.formula, goal)

    def pointwise(self, goal: Goal) -> Alternatives:
        statement = self.statement
        assert statement.tolerance is not None
        broken: tuple[Part, ...] = (
            TruthOf(ONE, statement.formula, False),
            TruthOf(ONE, statement.formula, None),
        )
        self.quantities.add(broken)
        within = (*broken, Mass(-Fraction(statement.tolerance)))
        return compared(within, "<=" if goal == "true" else ">", self.domain)

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
            return all_of(parts) if together else any_of(parts)
        if isinstance(node, n.Implies):
            parts = [self.formula(node.left, _OPPOSITE[goal]), self.formula(node.right, goal)]
            return any_of(parts) if goal in ("true", "not false") else all_of(parts)
        if isinstance(node, n.Compare):
            links = list(zip(node.operands, node.operators, node.operands[1:], strict=False))
        elif isinstance(node, n.InRange):
            # The operand stands on the left, because `base` repeats what stands there.
            links = [(node.operand, ">=", node.low), (node.operand, "<=", node.high)]
        else:
            raise NotAnalysed("a condition of this form on the distribution is not analysed")
        found = [self.link(left, op, right, goal) for left, op, right in links]
        return all_of(found) if goal in ("true", "not false") else any_of(found)

    def link(self, left: n.Expr, op: str, right: n.Expr, goal: Goal) -> Alternatives:
        total = self.total(left, left).plus(self.total(right, left), -ONE)
        domain = self.domain
        if total.given is not None:
            given = lower_domain(total.given)
            domain = given if domain is None else both([domain, given])
            self.domains.append(domain)
        wanted = op if goal in ("true", "not false") else NEGATED[op]
        if total.tail is not None:
            return self.tail(total, wanted, domain)
        self.quantities.add(tuple(part for part in total.parts if not isinstance(part, Mass)))
        unknown = [
            Row((TruthOf(ONE, part.formula, None),), False, domain)
            for part in total.parts
            if isinstance(part, TruthOf) and opaque_parts(part.formula, self.variables)
        ]
        rows = compared(total.parts, wanted, domain)
        if goal in ("true", "false"):
            return tuple((*alternative, *unknown) for alternative in rows)
        return (*rows, *((Row(scaled(row.parts, -ONE), True, domain),) for row in unknown))

    def tail(self, total: _Sum, op: str, domain: DomainPredicate | None) -> Alternatives:
        """A quantile or a cvar beside numbers only."""
        tail = total.tail
        assert tail is not None
        if tail.factor == 0 or not all(isinstance(part, Mass) for part in total.parts):
            raise NotAnalysed("a quantile beside another statistic is not analysed")
        constant = sum((part.factor for part in total.parts if isinstance(part, Mass)), ZERO)
        self.quantities.add(None)
        side = op if tail.factor > 0 else TURNED[op]
        bound = -constant / tail.factor
        return tail_rows(tail, side, bound, domain, self.variables, for_proof=self.for_proof)

    def total(self, expr: n.Expr, left: n.Expr) -> _Sum:
        if isinstance(expr, n.Number):
            return _Sum((Mass(Fraction(expr.value)),))
        if isinstance(expr, n.Negate):
            return _Sum(()).plus(self.total(expr.operand, left), -ONE)
        if isinstance(expr, n.Arithmetic):
            return self.arithmetic(expr, self.total(expr.left, left), self.total(expr.right, left))
        if self.statement.reading == "rows":
            return self.rows(expr, left)
        if not isinstance(expr, n.Apply):
            raise NotAnalysed("this term is not analysed")
        call: n.Apply = on_base_law(expr)
        argument: Any = call.arguments[0]
        if call.function == "mean":
            form = self.variables.form(argument)
            if form is None:
                raise NotAnalysed("the mean of this expression is not analysed")
            return _Sum((Moment(form),), call.given)
        if call.function == "P":
            return _Sum((TruthOf(ONE, argument, True),), call.given)
        tail = tail_of(call, self.variables)
        if tail is None:
            raise NotAnalysed(f"`{call.function}` is not analysed")
        return _Sum((), call.given, tail)

    def arithmetic(self, expr: n.Arithmetic, first: _Sum, second: _Sum) -> _Sum:
        if expr.op in "+-":
            return first.plus(second, ONE if expr.op == "+" else -ONE)
        if expr.op == "*" and first.is_constant:
            first, second = second, first
        if second.is_constant:
            factor = sum((part.factor for part in second.parts if isinstance(part, Mass)), ZERO)
            if expr.op == "*" or factor != 0:
                return first.times(factor if expr.op == "*" else 1 / factor)
        raise NotAnalysed("products and quotients of statistics are not analysed")

    def rows(self, expr: n.Expr, left: n.Expr) -> _Sum:
        """``perplexity``, ``accuracy`` and ``base``: plain numbers, one for each model."""
        if isinstance(expr, n.Apply) and expr.function == "mean" and expr.given is None:
            return self.total(expr.arguments[0], left)  # type: ignore[arg-type]
        if isinstance(expr, n.Name) and expr.parts == ("base",) and expr.model is None:
            own = self.total(left, left).parts
            return _Sum(tuple(Moment(_on_base(part)) if isinstance(part, Moment) else part for part in own))
        if isinstance(expr, n.Name) and len(expr.parts) == 1 and expr.parts[0] in ROWS_VARIABLES:
            name = expr.parts[0] if expr.model is None else f"{expr.parts[0]}@{expr.model}"
            for key in (expr.parts[0], f"{expr.parts[0]}@base"):
                self.variables.declare(ROWS_VARIABLES[expr.parts[0]], key)
            return _Sum((Moment(Form(((name, ONE),))),))
        raise NotAnalysed("this quantity of your rows is not analysed")


def _on_base(part: Moment) -> Form:
    return Form(tuple((f"{name}@base", value) for name, value in part.form.coefficients), part.form.constant)
