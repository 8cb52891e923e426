"""Nodes of what a file holds: statements with their clauses, declarations, groups, tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from constraintlang.nodes.base import Node
from constraintlang.nodes.formulas import DomainPredicate, Expr, Formula, Number, Scalar
from constraintlang.source import Span

Strength = Literal["require", "prefer", "preserve"]


# ---------------------------------------------------------------- clauses
class ForClause(Node, frozen=True, kw_only=True):
    """``for domain=toxigen``."""

    predicate: DomainPredicate


class PerClause(Node, frozen=True, kw_only=True):
    """``per target_group, lang``."""

    keys: tuple[str, ...]


class UnderClause(Node, frozen=True, kw_only=True):
    """``under temperature=0, samples=25``."""

    settings: tuple[tuple[str, Scalar], ...]
    key_spans: tuple[Span, ...] = ()


class WeightClause(Node, frozen=True, kw_only=True):
    """``weight 0.5``."""

    value: Expr


class PriorityClause(Node, frozen=True, kw_only=True):
    """``priority 1``."""

    value: int


class ConfidenceClause(Node, frozen=True, kw_only=True):
    """``confidence 0.99``."""

    value: Number


class BecauseClause(Node, frozen=True, kw_only=True):
    """``because "counsel 2025-03"``."""

    reason: str


Clause = (
    ForClause | PerClause | UnderClause | WeightClause | PriorityClause | ConfidenceClause | BecauseClause
)


# ---------------------------------------------------------------- items
class Statement(Node, frozen=True, kw_only=True):
    """``label: strength always formula clauses``."""

    formula: Formula
    label: str | None = None
    label_span: Span | None = None
    strength: Strength = "require"
    always: bool = False
    clauses: tuple[Clause, ...] = ()


class Edition(Node, frozen=True, kw_only=True):
    """``edition 1``."""

    number: int


class Import(Node, frozen=True, kw_only=True):
    """``import "std/safety.policy" as safety``."""

    path: str
    alias: str | None = None


class Let(Node, frozen=True, kw_only=True):
    """``let cap = 0.1``."""

    name: str
    value: Expr
    name_span: Span | None = None


class Call(Node, frozen=True, kw_only=True):
    """A field value such as ``classifier("path", label="toxic")``: positional then keyword arguments."""

    function: str
    arguments: tuple[Scalar, ...] = ()
    keywords: tuple[tuple[str, Scalar], ...] = ()
    key_spans: tuple[Span, ...] = ()


class SetValue(Node, frozen=True, kw_only=True):
    """A field value such as ``{sequence, sentences}``."""

    values: tuple[Scalar, ...]


class Field(Node, frozen=True, kw_only=True):
    """``name = value`` inside braces."""

    name: str
    value: Call | SetValue | Scalar


class Attribute(Node, frozen=True, kw_only=True):
    """``attribute toxicity: score in [0, 1] lower_is_better { ... }``."""

    name: str
    type: str
    low: Expr | None = None
    high: Expr | None = None
    flags: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    name_span: Span | None = None
    type_span: Span | None = None
    flag_spans: tuple[Span, ...] = ()


class Domain(Node, frozen=True, kw_only=True):
    """``domain support { source = ..., tags = {...} }``."""

    name: str
    fields: tuple[Field, ...] = ()
    name_span: Span | None = None


class Tag(Node, frozen=True, kw_only=True):
    """``tag lang in {en, de}``."""

    key: str
    values: tuple[Scalar, ...]
    name_span: Span | None = None


class Group(Node, frozen=True, kw_only=True):
    """``group name clauses { items }``."""

    name: str
    clauses: tuple[Clause, ...] = ()
    items: tuple[Item, ...] = ()
    name_span: Span | None = None


class Given(Node, frozen=True, kw_only=True):
    """``given toxicity = 0.1`` or ``= [0.0, 0.9]`` in a test."""

    name: str
    value: Decimal | tuple[Decimal, ...]
    model: str | None = None
    name_span: Span | None = None


class Expect(Node, frozen=True, kw_only=True):
    """``fail "text" on cap`` in a test."""

    outcome: str
    text: str | None = None
    on: str | None = None


class Test(Node, frozen=True, kw_only=True):
    """``test "name" { given ... expect ... }``; a ``partial`` one holds the entries that could be read, and no more."""

    name: str
    clauses: tuple[Clause, ...] = ()
    items: tuple[Given | Expect, ...] = ()
    partial: bool = False


Item = Edition | Import | Let | Attribute | Domain | Tag | Group | Test | Statement


class Comment(Node, frozen=True, kw_only=True):
    """A comment with its ``#``, or an empty line (``text`` is empty): what the formatter keeps."""

    text: str
    own_line: bool = True


class Policy(Node, frozen=True, kw_only=True):
    """A whole file: its items in order; comments and empty lines in order, excluded from equality."""

    items: tuple[Item, ...] = ()
    comments: tuple[Comment, ...] = ()
