"""The typed intermediate representation of a policy: frozen, hashable records; nothing here computes.

Numbers are decimal strings in plain notation without trailing zeros ("0.1", "1", "-3"), so that the canonical
JSON of equal policies is byte-equal. A *clause* is the unit that the runtime trains on and verifies: an
expectation ``E[f] <= bound`` of a statistic ``f >= 0`` of one sequence, "small is good", over the prompts of
its domain (``design/method.md``, section 1). One statement lowers to one or more clauses.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DecimalText = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$")]


class Record(BaseModel):
    """Base of all records: frozen, unknown fields rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ------------------------------------------------------------ terms: one sequence -> number
class Const(Record):
    """An exact number."""

    kind: Literal["const"] = "const"
    value: DecimalText


class AttributeRef(Record):
    """The score of an attribute; ``model="base"`` is the same attribute on the reference model."""

    kind: Literal["attribute"] = "attribute"
    name: str
    model: Literal["self", "base"] = "self"


class Sum(Record):
    """Sum of two or more terms."""

    kind: Literal["sum"] = "sum"
    terms: tuple[Term, ...]


class Product(Record):
    """Product of two or more terms."""

    kind: Literal["product"] = "product"
    terms: tuple[Term, ...]


class Quotient(Record):
    """``numerator / denominator``; unknown where the denominator is 0."""

    kind: Literal["quotient"] = "quotient"
    numerator: Term
    denominator: Term


Term = Annotated[Const | AttributeRef | Sum | Product | Quotient, Field(discriminator="kind")]


# ------------------------------------------------------------ predicates: one sequence -> truth value
class Literally(Record):
    """A constant truth value."""

    kind: Literal["literal"] = "literal"
    value: bool


class Comparison(Record):
    """``left op right``; unknown where either side is unknown."""

    kind: Literal["comparison"] = "comparison"
    op: Literal["lt", "le", "gt", "ge", "eq", "ne"]
    left: Term
    right: Term


class FlagRef(Record):
    """An attribute of type flag, true where its score is not 0."""

    kind: Literal["flag"] = "flag"
    name: str
    negated: bool = False


class All(Record):
    """Strong Kleene conjunction."""

    kind: Literal["all"] = "all"
    operands: tuple[Predicate, ...]


class Any(Record):
    """Strong Kleene disjunction."""

    kind: Literal["any"] = "any"
    operands: tuple[Predicate, ...]


Predicate = Annotated[Literally | Comparison | FlagRef | All | Any, Field(discriminator="kind")]


# ------------------------------------------------------------ domains: row tags -> truth value
class DomainIs(Record):
    """The row's tag ``key`` is one of ``values`` (sorted)."""

    kind: Literal["is"] = "is"
    key: str
    values: tuple[str, ...]


class DomainNot(Record):
    """Complement."""

    kind: Literal["not"] = "not"
    operand: DomainPredicate


class DomainAll(Record):
    """Conjunction."""

    kind: Literal["all"] = "all"
    operands: tuple[DomainPredicate, ...]


class DomainAny(Record):
    """Disjunction."""

    kind: Literal["any"] = "any"
    operands: tuple[DomainPredicate, ...]


DomainPredicate = Annotated[DomainIs | DomainNot | DomainAll | DomainAny, Field(discriminator="kind")]


# ------------------------------------------------------------ statistics
class Indicator(Record):
    """``f = 1`` where the predicate is true, else 0."""

    kind: Literal["indicator"] = "indicator"
    predicate: Predicate


class Value(Record):
    """``f = term``, known to lie in ``[0, high]``; ``high`` is None when the attribute's range is open."""

    kind: Literal["value"] = "value"
    term: Term
    high: DecimalText | None = None


class RowsLoss(Record):
    """A property of the model on the user's rows, not of its samples; perplexity is exp of the mean NLL."""

    kind: Literal["rows"] = "rows"
    quantity: Literal["perplexity", "accuracy"]


Statistic = Annotated[Indicator | Value | RowsLoss, Field(discriminator="kind")]


class Shown(Record):
    """How to show ``E[f]`` to people: the quantity they wrote is ``offset + scale * E[f]``."""

    offset: DecimalText = "0"
    scale: Literal[1, -1] = 1


class Clause(Record):
    """One verifiable expectation ``E[statistic] < or <= bound`` over a domain.

    ``kind`` is what the user wrote: ``violation`` (pointwise: the rate of ``not phi``; bound is the
    tolerance), ``mean``, ``probability``, ``utility``. ``hard`` is ``always``: bound 0, no mass at all on
    violations. For ``utility`` the bound is relative: ``factor * base + offset`` with ``bound = offset``, and
    ``at_least`` says that large is good.
    """

    id: str  # "sha256:" of the canonical JSON of this record with id, label and text left out
    label: str | None
    text: str  # canonical source text of the statement, without its label
    kind: Literal["violation", "mean", "probability", "utility"]
    strength: Literal["require", "prefer", "preserve"] = "require"
    domain: DomainPredicate | None = None
    statistic: Statistic
    bound: DecimalText
    strict: bool
    hard: bool = False
    shown: Shown = Shown()
    base_factor: DecimalText | None = None  # utility only
    at_least: bool = False  # utility only
    weight: DecimalText = "1"
    priority: int = 0
    confidence: DecimalText = "0.95"
    sampling: dict[str, DecimalText] = {}

    @property
    def name(self) -> str:
        """The label, else the canonical text."""
        return self.label if self.label is not None else self.text


class Backend(Record):
    """What computes an attribute; arguments are strings and decimal strings exactly as written."""

    kind: Literal["classifier", "lexicon", "regex", "length", "python", "logprob"]
    arguments: tuple[str, ...] = ()
    keywords: dict[str, str] = {}


class AttributeRecord(Record):
    """A declared attribute."""

    name: str
    type: Literal["score", "real", "int", "count", "flag"]
    low: DecimalText | None
    high: DecimalText | None
    direction: Literal["lower", "higher"] | None
    backend: Backend | None  # None: must be bound on the command line with --scorer


class PolicyIR(Record):
    """A whole compiled policy: sample clauses, then utility, by (priority, id); attributes used."""

    edition: int
    attributes: tuple[AttributeRecord, ...]
    clauses: tuple[Clause, ...]

    def attribute(self, name: str) -> AttributeRecord:
        """The attribute of this name; KeyError when the policy does not use it."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(name)
