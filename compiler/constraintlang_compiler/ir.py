"""The typed intermediate representation of a policy: frozen, hashable records; nothing here computes.

Numbers are decimal strings in plain notation without trailing zeros ("0.1", "1", "-3"), so that the canonical
JSON of equal policies is byte-equal. A *clause* is the unit that the runtime trains on and verifies: an
expectation ``E[f] <= bound`` of a statistic ``f >= 0`` of one sequence, "small is good", over the prompts of
its domain (docs/method.md, "The target"). One statement lowers to one or more clauses.
"""

from __future__ import annotations

from typing import Literal

from constraintlang_compiler.ir_monitors import Over as Over
from constraintlang_compiler.ir_terms import END as END
from constraintlang_compiler.ir_terms import AttributeRef as AttributeRef
from constraintlang_compiler.ir_terms import Comparison as Comparison
from constraintlang_compiler.ir_terms import Const as Const
from constraintlang_compiler.ir_terms import DecimalText as DecimalText
from constraintlang_compiler.ir_terms import FlagRef as FlagRef
from constraintlang_compiler.ir_terms import Hash as Hash
from constraintlang_compiler.ir_terms import Literally as Literally
from constraintlang_compiler.ir_terms import Op as Op
from constraintlang_compiler.ir_terms import Product as Product
from constraintlang_compiler.ir_terms import Quotient as Quotient
from constraintlang_compiler.ir_terms import Record as Record
from constraintlang_compiler.ir_terms import SafeInt as SafeInt
from constraintlang_compiler.ir_terms import Sum as Sum
from constraintlang_compiler.ir_terms import Term as Term
from constraintlang_compiler.ir_terms import Variant as Variant


# ------------------------------------------------------------ predicates: one sequence -> truth value
class All(Variant, frozen=True, kw_only=True, tag="all"):
    """Strong Kleene conjunction."""

    operands: tuple[Predicate, ...]


class Any(Variant, frozen=True, kw_only=True, tag="any"):
    """Strong Kleene disjunction."""

    operands: tuple[Predicate, ...]


Predicate = Literally | Comparison | FlagRef | All | Any | Over


# ------------------------------------------------------------ domains: row tags -> truth value
class DomainIs(Variant, frozen=True, kw_only=True, tag="is"):
    """The row's tag ``key`` is one of ``values`` (sorted)."""

    key: str
    values: tuple[str, ...]


class DomainNot(Variant, frozen=True, kw_only=True, tag="not"):
    """Complement."""

    operand: DomainPredicate


class DomainAll(Variant, frozen=True, kw_only=True, tag="all"):
    """Conjunction."""

    operands: tuple[DomainPredicate, ...]


class DomainAny(Variant, frozen=True, kw_only=True, tag="any"):
    """Disjunction."""

    operands: tuple[DomainPredicate, ...]


DomainPredicate = DomainIs | DomainNot | DomainAll | DomainAny


# ------------------------------------------------------------ statistics
class Indicator(Variant, frozen=True, kw_only=True, tag="indicator"):
    """``f = 1`` where the predicate is true, else 0."""

    predicate: Predicate


class Value(Variant, frozen=True, kw_only=True, tag="value"):
    """``f = term``, known to lie in ``[0, high]``; ``high`` is None when the attribute's range is open."""

    term: Term
    high: DecimalText | None = None


class Hinge(Variant, frozen=True, kw_only=True, tag="hinge"):
    """The conditional value at risk of ``term``: the mean of its worst share ``1 - level``.

    For every number eta it is at most ``eta + E[(term - eta)+] / (1 - level)``, and equal for the best one, so
    training bounds the mean of the hinge ``f = (term - eta)+ >= 0`` at an eta of its own choice.
    The term lies in ``[low, high]``; None is an open end.
    """

    term: Term
    level: DecimalText
    low: DecimalText | None = None
    high: DecimalText | None = None


class RowsLoss(Variant, frozen=True, kw_only=True, tag="rows"):
    """A property of the model on the user's rows, not of its samples; perplexity is exp of the mean NLL."""

    quantity: Literal["perplexity", "accuracy"]


# ------------------------------------------------------------ quantities: a law of the responses -> number
class Share(Variant, frozen=True, kw_only=True, tag="share"):
    """The chance that a response fulfils the predicate."""

    predicate: Predicate


class Summary(Variant, frozen=True, kw_only=True, tag="summary"):
    """The mean, a quantile or the conditional value at risk of a term that lies in ``[low, high]``."""

    function: Literal["mean", "quantile", "cvar"]
    term: Term
    level: DecimalText | None = None  # None for the mean
    low: DecimalText | None = None
    high: DecimalText | None = None


Quantity = Share | Summary


class Part(Record, frozen=True, kw_only=True):
    """``factor * quantity``, over the responses of one model to the prompts of the clause that are in ``given``."""

    factor: DecimalText
    quantity: Quantity
    given: DomainPredicate | None = None
    model: Literal["self", "base"] = "self"


class Combination(Variant, frozen=True, kw_only=True, tag="combination"):
    """The sum of the parts; verified, never trained on."""

    parts: tuple[Part, ...]


class Bound(Variant, frozen=True, kw_only=True, tag="bound"):
    """The sum of the parts is at most (below, when strict) a number."""

    parts: tuple[Part, ...]
    bound: DecimalText
    strict: bool


class AllOf(Variant, frozen=True, kw_only=True, tag="all"):
    """Every condition is met."""

    operands: tuple[Condition, ...]


class AnyOf(Variant, frozen=True, kw_only=True, tag="any"):
    """At least one condition is met."""

    operands: tuple[Condition, ...]


Condition = Bound | AllOf | AnyOf


class Choice(Variant, frozen=True, kw_only=True, tag="choice"):
    """One of several conditions on the distribution; verified, never trained on. The clause's bound is 0."""

    operands: tuple[Condition, ...]


Statistic = Indicator | Value | Hinge | RowsLoss | Combination | Choice
ClauseKind = Literal[
    "violation", "mean", "probability", "quantile", "cvar", "difference", "choice", "utility"
]


class Shown(Record, frozen=True, kw_only=True):
    """How to show ``E[f]`` to people: the quantity they wrote is ``offset + scale * E[f]``."""

    offset: DecimalText = "0"
    scale: Literal[1, -1] = 1


class ClauseMeaning(Record, frozen=True, kw_only=True):
    """One verifiable demand over a domain: ``E[statistic] < or <= bound``, where the statistic is of one response.

    ``kind`` is what the user wrote: ``violation`` (pointwise: the rate of ``not phi``; bound is the
    tolerance), ``mean``, ``probability``, ``quantile`` (the statistic is the indicator of the values beyond the
    threshold), ``cvar`` (of a hinge; the bound is that of the cvar), ``difference`` (of several quantities),
    ``choice``, ``utility``. ``hard`` is ``always``: bound 0, no mass at all on violations.
    With ``base_factor`` the bound is relative: with S the quantity as shown, on the base model, it is
    ``bound + shown.scale * base_factor * S``. For ``utility`` it is ``factor * base + offset`` with
    ``bound = offset``, and ``at_least`` says that large is good.
    A clause with ``per`` speaks of every stratum by itself, one for each value of these keys that the data have.
    """

    id: Hash  # of the canonical JSON of this record with the id left out
    kind: ClauseKind
    strength: Literal["require", "prefer", "preserve"] = "require"
    domain: DomainPredicate | None = None
    per: tuple[str, ...] = ()
    statistic: Statistic
    bound: DecimalText
    strict: bool
    hard: bool = False
    shown: Shown = Shown()
    base_factor: DecimalText | None = None
    at_least: bool = False  # utility only
    weight: DecimalText = "1"
    priority: SafeInt = 0
    confidence: DecimalText = "0.95"
    sampling: dict[str, DecimalText] = {}


class Clause(ClauseMeaning, frozen=True, kw_only=True):
    """A clause, and what people call it; ``stratum`` is the one of a statement with ``per`` that it speaks of."""

    label: str | None
    text: str  # canonical source text of the statement, without its label
    stratum: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The label, else the canonical text."""
        return self.label if self.label is not None else self.text


class Backend(Record, frozen=True, kw_only=True):
    """What computes an attribute; arguments are strings and decimal strings exactly as written.

    ``kind`` is a name of ``constraintlang.vocabulary.BACKENDS``.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    keywords: dict[str, str] = {}


class AttributeRecord(Record, frozen=True, kw_only=True):
    """A declared attribute."""

    name: str
    type: Literal["score", "real", "int", "count", "flag"]
    low: DecimalText | None
    high: DecimalText | None
    direction: Literal["lower", "higher"] | None
    backend: Backend | None  # None: must be bound on the command line with --scorer


class PolicyIR(Record, frozen=True, kw_only=True):
    """A whole compiled policy: sample clauses, then utility, by (priority, id); attributes used."""

    edition: SafeInt
    attributes: tuple[AttributeRecord, ...]
    clauses: tuple[Clause, ...]

    def attribute(self, name: str) -> AttributeRecord:
        """The attribute of this name; KeyError when the policy does not use it."""
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(name)
