"""What the checker hands to the compiler: names resolved, kinds known, defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from constraintlang.nodes import Call, DomainPredicate, Formula, Strength
from constraintlang.source import Span

AttributeType = Literal["score", "real", "int", "count", "flag"]
Reading = Literal["pointwise", "distribution", "rows"]


@dataclass(frozen=True)
class AttributeInfo:
    """A declared attribute, from the file or the prelude, with its range evaluated to exact numbers."""

    name: str
    type: AttributeType
    low: Decimal | None
    high: Decimal | None
    direction: Literal["lower", "higher"] | None
    backend: Call | None
    from_prelude: bool = False
    span: Span | None = None


@dataclass(frozen=True)
class CheckedStatement:
    """A well-typed statement.

    ``formula`` has every ``let`` replaced by its number and, outside rows, every ``base`` written out as
    ``@base``. ``text`` is the canonical source of the statement
    without its label. ``reading`` is ``pointwise`` (kind Seq->Bool, judged by its violation rate against
    ``tolerance``; tolerance is 0 under ``always``), ``distribution`` (kind Dist->Bool) or ``rows``
    (``preserve`` on the user's rows). ``per`` maps the keys of its strata to their declared values, None when these
    are found in the data.
    """

    formula: Formula
    text: str
    label: str | None
    strength: Strength
    always: bool
    reading: Reading
    domain: DomainPredicate | None
    tolerance: Decimal | None
    confidence: Decimal = Decimal("0.95")
    weight: Decimal = Decimal(1)
    priority: int = 0
    sampling: dict[str, Decimal] = field(default_factory=dict)
    per: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    because: str | None = None
    span: Span | None = None


@dataclass(frozen=True)
class CheckedPolicy:
    """A policy without errors: the attributes that its statements use, and the statements in source order."""

    edition: int
    attributes: dict[str, AttributeInfo]
    statements: tuple[CheckedStatement, ...]
