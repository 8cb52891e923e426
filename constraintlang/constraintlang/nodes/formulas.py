"""Nodes of what a statement says: numbers, truth values, predicates over prompts."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from constraintlang.nodes.base import Node
from constraintlang.source import Span

Comparator = Literal["<", "<=", ">", ">=", "==", "!="]


# ---------------------------------------------------------------- expressions (numbers)
class Number(Node, frozen=True, kw_only=True):
    """A literal; ``percent`` remembers how it was written."""

    value: Decimal
    percent: bool = False


class Name(Node, frozen=True, kw_only=True):
    """A dotted name, ``toxicity``, ``safety.self_harm``, ``base``; ``model`` is what follows ``@``."""

    parts: tuple[str, ...]
    model: str | None = None


class Negate(Node, frozen=True, kw_only=True):
    """Unary minus."""

    operand: Expr


class Arithmetic(Node, frozen=True, kw_only=True):
    """``left op right``."""

    op: Literal["+", "-", "*", "/"]
    left: Expr
    right: Expr


class Apply(Node, frozen=True, kw_only=True):
    """A call such as ``mean(toxicity)``, ``P(toxicity >= 0.5 | lang=fr)``, ``quantile(toxicity, 0.95)``."""

    function: str
    arguments: tuple[Formula | Expr, ...]
    keywords: tuple[tuple[str, Scalar], ...] = ()
    given: DomainPredicate | None = None
    function_span: Span | None = None


Expr = Number | Name | Negate | Arithmetic | Apply


# ---------------------------------------------------------------- formulas (truth values)
class Truth(Node, frozen=True, kw_only=True):
    """``true`` or ``false``."""

    value: bool


class Compare(Node, frozen=True, kw_only=True):
    """``e0 op1 e1 op2 e2 ...``; ``len(operands) == len(operators) + 1``."""

    operands: tuple[Expr, ...]
    operators: tuple[Comparator, ...]


class InRange(Node, frozen=True, kw_only=True):
    """``operand in [low, high]``, both ends included."""

    operand: Expr
    low: Expr
    high: Expr


class Flag(Node, frozen=True, kw_only=True):
    """A truth-valued name that stands alone as a formula."""

    name: Name


class Not(Node, frozen=True, kw_only=True):
    """Negation."""

    operand: Formula


class And(Node, frozen=True, kw_only=True):
    """Conjunction of two or more formulas."""

    operands: tuple[Formula, ...]


class Or(Node, frozen=True, kw_only=True):
    """Disjunction of two or more formulas."""

    operands: tuple[Formula, ...]


class Implies(Node, frozen=True, kw_only=True):
    """``left implies right``; right associative."""

    left: Formula
    right: Formula


class Temporal(Node, frozen=True, kw_only=True):
    """A unary temporal operator with optional bounds: ``eventually[0, 2] p``."""

    op: Literal["globally", "eventually", "next", "weak_next"]
    operand: Formula
    bounds: tuple[int, int] | None = None


class TemporalBinary(Node, frozen=True, kw_only=True):
    """``left until right`` and its relatives; right associative."""

    op: Literal["until", "weak_until", "release", "before"]
    left: Formula
    right: Formula


class Over(Node, frozen=True, kw_only=True):
    """``over sentences ( ... )``."""

    level: str
    operand: Formula


class Last(Node, frozen=True, kw_only=True):
    """``last``: the final position of a trace."""


Formula = (
    Truth | Compare | InRange | Flag | Not | And | Or | Implies | Temporal | TemporalBinary | Over | Last
)

# ---------------------------------------------------------------- domains
ScalarValue = str | Decimal | bool


class Scalar(Node, frozen=True, kw_only=True):
    """A bare value: a name or a text (``kind`` tells which), a number, a regular expression, a truth."""

    value: ScalarValue
    kind: Literal["name", "string", "number", "percent", "regex", "truth"]


class DomainEquals(Node, frozen=True, kw_only=True):
    """``key = value``."""

    key: str
    value: Scalar


class DomainIn(Node, frozen=True, kw_only=True):
    """``key in {a, b}``."""

    key: str
    values: tuple[Scalar, ...]


class DomainNot(Node, frozen=True, kw_only=True):
    """``not d``."""

    operand: DomainPredicate


class DomainAnd(Node, frozen=True, kw_only=True):
    """``d1 and d2``."""

    operands: tuple[DomainPredicate, ...]


class DomainOr(Node, frozen=True, kw_only=True):
    """``d1 or d2``."""

    operands: tuple[DomainPredicate, ...]


DomainPredicate = DomainEquals | DomainIn | DomainNot | DomainAnd | DomainOr
