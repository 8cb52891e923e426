"""Distribution-level arithmetic as exact linear forms: ``2 * mean(toxicity) - 0.1`` is ``{mean(toxicity): 2}
- 0.1``.

Does not decide directions or bounds; that is ``lower_statistics``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from msgspec.structs import asdict

from constraintlang import nodes
from constraintlang_compiler.ir import DomainPredicate, Predicate, Term
from constraintlang_compiler.lower_domains import lower_domain
from constraintlang_compiler.lower_terms import lower_predicate, lower_term
from constraintlang_compiler.rejection import Rejection

ROWS_QUANTITIES = ("perplexity", "accuracy")


@dataclass(frozen=True)
class Mean:
    """``mean(term | given)`` over the responses."""

    term: Term
    given: DomainPredicate | None


@dataclass(frozen=True)
class Probability:
    """``P(predicate | given)`` over the responses; ``negation`` is that of the predicate."""

    predicate: Predicate
    negation: Predicate
    given: DomainPredicate | None


@dataclass(frozen=True)
class Rows:
    """A property of the model, or of the reference model, on the user's rows."""

    quantity: str
    on_base: bool


Symbol = Mean | Probability | Rows


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
    what the bare name ``base`` repeats on the reference model.
    Raises: Rejection (PC120) for what is not linear or no known statistic, (PC120) for the reference model's
    samples.
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
        case nodes.Name(parts=("base",), model=None):
            if rows and base_of is not None:
                return _on_base(linear_form(base_of, rows=True))
            raise _base_of_samples(expr)
        case nodes.Name(parts=(quantity,), model=model) if rows and quantity in ROWS_QUANTITIES:
            return LinearForm({Rows(quantity, model == "base"): Fraction(1)}, Fraction(0))
        case nodes.Apply(function="mean", arguments=(argument,), given=None) if rows:
            return linear_form(argument, rows=True, base_of=base_of)  # type: ignore[arg-type]
        case nodes.Apply(function="mean" | "P", arguments=(argument,), given=given):
            if _reads_base(argument):
                raise _base_of_samples(expr)
            domain = None if given is None else lower_domain(given)
            if expr.function == "mean":
                symbol: Symbol = Mean(lower_term(argument), domain)  # type: ignore[arg-type]
            else:
                symbol = Probability(
                    lower_predicate(argument),  # type: ignore[arg-type]
                    lower_predicate(argument, negated=True),  # type: ignore[arg-type]
                    domain,
                )
            return LinearForm({symbol: Fraction(1)}, Fraction(0))
        case _:
            raise _not_linear(expr)


def _on_base(form: LinearForm) -> LinearForm:
    moved = {
        Rows(symbol.quantity, True) if isinstance(symbol, Rows) else symbol: coefficient
        for symbol, coefficient in form.coefficients.items()
    }
    return LinearForm(moved, form.constant)


def _reads_base(node: nodes.Node) -> bool:
    """Whether a formula or an expression mentions the reference model anywhere."""
    if isinstance(node, nodes.Name):
        return node.model == "base" or node.parts == ("base",)
    children = (value for value in asdict(node).values() if isinstance(value, (nodes.Node, tuple)))
    return any(
        _reads_base(child)
        for value in children
        for child in (value if isinstance(value, tuple) else (value,))
        if isinstance(child, nodes.Node)
    )


def _not_linear(expr: nodes.Expr) -> Rejection:
    return Rejection(
        "PC120",
        "this is not a number times `mean(...)` or `P(...)` plus a number",
        help="compare one statistic with a number, as in `mean(toxicity) <= 0.1`",
        span=expr.span,
    )


def _base_of_samples(expr: nodes.Expr) -> Rejection:
    return Rejection(
        "PC120",
        "a statistic of the reference model's own responses is not compiled in this version",
        help="measure it once with `constraintc eval` on the reference model and write the number",
        span=expr.span,
    )
