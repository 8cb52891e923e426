"""The abstract syntax of a policy: frozen dataclasses, spans excluded from equality.

Every node carries ``span``. Numbers are exact ``Decimal``: ``1%`` is a ``Number`` of 0.01 with ``percent``.
No node computes anything: kinds, names and readings belong to ``checker.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from constraintlang.source import Span

NO_SPAN = Span(0, 0)

Comparator = Literal["<", "<=", ">", ">=", "==", "!="]
Strength = Literal["require", "prefer", "preserve"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """Base of all nodes; ``span`` is where the node stands in the source."""

    span: Span = field(default=NO_SPAN, compare=False, repr=False)


# ---------------------------------------------------------------- expressions (numbers)
@dataclass(frozen=True, kw_only=True)
class Number(Node):
    """A literal; ``percent`` remembers how it was written."""

    value: Decimal
    percent: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Name(Node):
    """A dotted name, ``toxicity``, ``safety.self_harm``, ``base``; ``model`` is what follows ``@``."""

    parts: tuple[str, ...]
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Negate(Node):
    """Unary minus."""

    operand: Expr


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Node):
    """``left op right``."""

    op: Literal["+", "-", "*", "/"]
    left: Expr
    right: Expr


@dataclass(frozen=True, kw_only=True)
class Apply(Node):
    """A call such as ``mean(toxicity)``, ``P(toxicity >= 0.5 | lang=fr)``, ``quantile(toxicity, 0.95)``."""

    function: str
    arguments: tuple[Formula | Expr, ...]
    keywords: tuple[tuple[str, Scalar], ...] = ()
    given: DomainPredicate | None = None
    function_span: Span | None = field(default=None, compare=False, repr=False)


Expr = Number | Name | Negate | Arithmetic | Apply


# ---------------------------------------------------------------- formulas (truth values)
@dataclass(frozen=True, kw_only=True)
class Truth(Node):
    """``true`` or ``false``."""

    value: bool


@dataclass(frozen=True, kw_only=True)
class Compare(Node):
    """``e0 op1 e1 op2 e2 ...``; ``len(operands) == len(operators) + 1``."""

    operands: tuple[Expr, ...]
    operators: tuple[Comparator, ...]


@dataclass(frozen=True, kw_only=True)
class InRange(Node):
    """``operand in [low, high]``, both ends included."""

    operand: Expr
    low: Expr
    high: Expr


@dataclass(frozen=True, kw_only=True)
class Flag(Node):
    """A truth-valued name that stands alone as a formula."""

    name: Name


@dataclass(frozen=True, kw_only=True)
class Not(Node):
    """Negation."""

    operand: Formula


@dataclass(frozen=True, kw_only=True)
class And(Node):
    """Conjunction of two or more formulas."""

    operands: tuple[Formula, ...]


@dataclass(frozen=True, kw_only=True)
class Or(Node):
    """Disjunction of two or more formulas."""

    operands: tuple[Formula, ...]


@dataclass(frozen=True, kw_only=True)
class Implies(Node):
    """``left implies right``; right associative."""

    left: Formula
    right: Formula


@dataclass(frozen=True, kw_only=True)
class Temporal(Node):
    """A unary temporal operator with optional bounds: ``eventually[0, 2] p``."""

    op: Literal["globally", "eventually", "next", "weak_next"]
    operand: Formula
    bounds: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class TemporalBinary(Node):
    """``left until right`` and its relatives; right associative."""

    op: Literal["until", "weak_until", "release", "before"]
    left: Formula
    right: Formula


@dataclass(frozen=True, kw_only=True)
class Over(Node):
    """``over sentences ( ... )``."""

    level: str
    operand: Formula
    level_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Last(Node):
    """``last``: the final position of a trace."""


Formula = (
    Truth | Compare | InRange | Flag | Not | And | Or | Implies | Temporal | TemporalBinary | Over | Last
)

# ---------------------------------------------------------------- domains
ScalarValue = str | Decimal | bool


@dataclass(frozen=True, kw_only=True)
class Scalar(Node):
    """A bare value: a name or a text (``kind`` tells which), a number, a regular expression, a truth."""

    value: ScalarValue
    kind: Literal["name", "string", "number", "percent", "regex", "truth"]


@dataclass(frozen=True, kw_only=True)
class DomainEquals(Node):
    """``key = value``."""

    key: str
    value: Scalar


@dataclass(frozen=True, kw_only=True)
class DomainIn(Node):
    """``key in {a, b}``."""

    key: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, kw_only=True)
class DomainNot(Node):
    """``not d``."""

    operand: DomainPredicate


@dataclass(frozen=True, kw_only=True)
class DomainAnd(Node):
    """``d1 and d2``."""

    operands: tuple[DomainPredicate, ...]


@dataclass(frozen=True, kw_only=True)
class DomainOr(Node):
    """``d1 or d2``."""

    operands: tuple[DomainPredicate, ...]


DomainPredicate = DomainEquals | DomainIn | DomainNot | DomainAnd | DomainOr


# ---------------------------------------------------------------- clauses
@dataclass(frozen=True, kw_only=True)
class ForClause(Node):
    """``for domain=toxigen``."""

    predicate: DomainPredicate


@dataclass(frozen=True, kw_only=True)
class PerClause(Node):
    """``per target_group, lang``."""

    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UnderClause(Node):
    """``under temperature=0, samples=25``."""

    settings: tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, kw_only=True)
class WeightClause(Node):
    """``weight 0.5``."""

    value: Expr


@dataclass(frozen=True, kw_only=True)
class PriorityClause(Node):
    """``priority 1``."""

    value: int


@dataclass(frozen=True, kw_only=True)
class ConfidenceClause(Node):
    """``confidence 0.99``."""

    value: Number


@dataclass(frozen=True, kw_only=True)
class BecauseClause(Node):
    """``because "counsel 2025-03"``."""

    reason: str


Clause = (
    ForClause | PerClause | UnderClause | WeightClause | PriorityClause | ConfidenceClause | BecauseClause
)


# ---------------------------------------------------------------- items
@dataclass(frozen=True, kw_only=True)
class Statement(Node):
    """``label: strength always formula clauses``."""

    formula: Formula
    label: str | None = None
    label_span: Span | None = field(default=None, compare=False, repr=False)
    strength: Strength = "require"
    always: bool = False
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Edition(Node):
    """``edition 1``."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Import(Node):
    """``import "std/safety.policy" as safety``."""

    path: str
    alias: str | None = None


@dataclass(frozen=True, kw_only=True)
class Let(Node):
    """``let cap = 0.1``."""

    name: str
    value: Expr
    name_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Call(Node):
    """A field value such as ``classifier("path", label="toxic")``: positional then keyword arguments."""

    function: str
    arguments: tuple[Scalar, ...] = ()
    keywords: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, kw_only=True)
class SetValue(Node):
    """A field value such as ``{sequence, sentences}``."""

    values: tuple[Scalar, ...]


@dataclass(frozen=True, kw_only=True)
class Field(Node):
    """``name = value`` inside braces."""

    name: str
    value: Call | SetValue | Scalar


@dataclass(frozen=True, kw_only=True)
class Attribute(Node):
    """``attribute toxicity: score in [0, 1] lower_is_better { ... }``."""

    name: str
    type: str
    low: Expr | None = None
    high: Expr | None = None
    flags: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    name_span: Span | None = field(default=None, compare=False, repr=False)
    type_span: Span | None = field(default=None, compare=False, repr=False)
    flag_spans: tuple[Span, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Domain(Node):
    """``domain support { source = ..., tags = {...} }``."""

    name: str
    fields: tuple[Field, ...] = ()
    name_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Tag(Node):
    """``tag lang in {en, de}``."""

    key: str
    values: tuple[Scalar, ...]
    name_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Group(Node):
    """``group name clauses { items }``."""

    name: str
    clauses: tuple[Clause, ...] = ()
    items: tuple[Item, ...] = ()
    name_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Given(Node):
    """``given toxicity = 0.1`` or ``= [0.0, 0.9]`` in a test."""

    name: str
    value: Decimal | tuple[Decimal, ...]
    model: str | None = None
    name_span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Expect(Node):
    """``fail "text" on cap`` in a test."""

    outcome: str
    text: str | None = None
    on: str | None = None


@dataclass(frozen=True, kw_only=True)
class Test(Node):
    """``test "name" { given ... expect ... }``."""

    name: str
    clauses: tuple[Clause, ...] = ()
    items: tuple[Given | Expect, ...] = ()


Item = Edition | Import | Let | Attribute | Domain | Tag | Group | Test | Statement


@dataclass(frozen=True, kw_only=True)
class Comment(Node):
    """A comment with its ``#``, or an empty line (``text`` is empty): what the formatter keeps."""

    text: str
    own_line: bool = True


@dataclass(frozen=True, kw_only=True)
class Policy(Node):
    """A whole file: its items in order; comments and empty lines in order, excluded from equality."""

    items: tuple[Item, ...] = ()
    comments: tuple[Comment, ...] = field(default=(), compare=False, repr=False)
