"""Distribution-level arithmetic as exact linear forms: ``2 * mean(toxicity) - 0.1`` is ``{mean(toxicity): 2}
- 0.1``.

Does not decide directions or bounds; that is ``lower_statistics``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from constraintlang import nodes, vocabulary
from constraintlang.base_model import own, reads_base
from constraintlang.constants import fold
from constraintlang_compiler.expectation import finite
from constraintlang_compiler.ir import DomainPredicate, Predicate, Term
from constraintlang_compiler.lower_domains import lower_domain
from constraintlang_compiler.lower_terms import lower_predicate, lower_term
from constraintlang_compiler.rejection import Rejection


@dataclass(frozen=True)
class Mean:
    """``mean(term | given)`` over the responses of the model, or of the base model."""

    term: Term
    given: DomainPredicate | None
    on_base: bool = False


@dataclass(frozen=True)
class Probability:
    """``P(predicate | given)``; ``negation`` is that of the predicate."""

    predicate: Predicate
    negation: Predicate
    given: DomainPredicate | None
    on_base: bool = False


@dataclass(frozen=True)
class Tail:
    """``quantile(term, level | given)`` or ``cvar(term, level | given)``."""

    function: Literal["quantile", "cvar"]
    term: Term
    level: Fraction
    given: DomainPredicate | None
    on_base: bool = False


@dataclass(frozen=True)
class Rows:
    """A property of the model, or of the reference model, on the user's rows."""

    quantity: str
    on_base: bool


Symbol = Mean | Probability | Tail | Rows


@dataclass(frozen=True)
class LinearForm:
    """``sum of coefficient * symbol + constant``; no coefficient is 0."""

    coefficients: dict[Symbol, Fraction]
    constant: Fraction

    def plus(self, other: LinearForm, factor: Fraction = Fraction(1)) -> LinearForm:
        """``self + factor * other``."""
        merged = dict(self.coefficients)
        for symbol, coefficient in other.coefficients.items():
            merged[symbol] = merged.get(symbol, Fraction(0)) + factor * coefficient
        kept = {symbol: coefficient for symbol, coefficient in merged.items() if coefficient != 0}
        return LinearForm(kept, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> LinearForm:
        """``factor * self``."""
        return LinearForm({}, Fraction(0)).plus(self, factor)


def linear_form(expr: nodes.Expr, *, rows: bool, base_of: nodes.Expr | None = None) -> LinearForm:
    """A distribution-level expression as a linear form.

    ``rows`` says that the statement speaks of the user's rows (``perplexity``, ``accuracy``); ``base_of`` is
    what the bare name ``base`` repeats on the reference model there.
    Raises: Rejection (PC120) for what is not linear or no known statistic.
    """
    match expr:
        case nodes.Number(value=value):
            return LinearForm({}, Fraction(value))
        case nodes.Negate(operand=operand):
            return linear_form(operand, rows=rows, base_of=base_of).times(Fraction(-1))
        case nodes.Arithmetic(op=op, left=left_expr, right=right_expr):
            left = linear_form(left_expr, rows=rows, base_of=base_of)
            right = linear_form(right_expr, rows=rows, base_of=base_of)
            if op in ("+", "-"):
                return left.plus(right, Fraction(1 if op == "+" else -1))
            if op == "*" and not left.coefficients:
                return right.times(left.constant)
            if op == "*" and not right.coefficients:
                return left.times(right.constant)
            if op == "/" and not right.coefficients and right.constant != 0:
                return left.times(1 / right.constant)
            raise _not_linear(expr)
        case nodes.Name(parts=("base",), model=None) if base_of is not None:
            return _on_base(linear_form(base_of, rows=True))
        case nodes.Name(parts=(quantity,), model=model) if rows and quantity in vocabulary.ROWS_QUANTITIES:
            return _one(Rows(quantity, model == "base"))
        case nodes.Apply(function="mean", arguments=(argument,), given=None) if rows:
            return linear_form(argument, rows=True, base_of=base_of)  # type: ignore[arg-type]
        case nodes.Apply(function=function, arguments=(argument, *level), given=given):
            on_base = reads_base(argument)
            argument = own(argument)
            domain = None if given is None else lower_domain(given)
            if function == "P":
                negation = lower_predicate(argument, negated=True)
                return _one(Probability(lower_predicate(argument), negation, domain, on_base))
            term = lower_term(argument)
            if function == "mean":
                return _one(Mean(term, domain, on_base))
            if function == "median":
                return _one(Tail("quantile", term, Fraction(1, 2), domain, on_base))
            if function in ("quantile", "cvar"):
                share = fold(level[0], {})  # type: ignore[arg-type]
                assert share is not None
                tail: Literal["quantile", "cvar"] = "quantile" if function == "quantile" else "cvar"
                return _one(Tail(tail, term, finite(share, level[0].span), domain, on_base))
            raise _not_linear(expr)
        case _:
            raise _not_linear(expr)


def _one(symbol: Symbol) -> LinearForm:
    return LinearForm({symbol: Fraction(1)}, Fraction(0))


def _on_base(form: LinearForm) -> LinearForm:
    moved = {replace(symbol, on_base=True): coefficient for symbol, coefficient in form.coefficients.items()}
    return LinearForm(moved, form.constant)


def _not_linear(expr: nodes.Expr) -> Rejection:
    return Rejection(
        "PC120",
        "this is not a number times `mean(...)` or `P(...)` plus a number",
        help="compare one statistic with a number, as in `mean(toxicity) <= 0.1`",
        span=expr.span,
    )
