"""Terms and single conditions of the IR: what is measured on one text, and how it compares; nothing computes.

Numbers are decimal strings in plain notation without trailing zeros ("0.1", "1", "-3"), so that the canonical
JSON of equal policies is byte-equal.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

END = r"$(?!\n)"  # Python's `$` alone also matches before a last newline
DecimalText = Annotated[str, Meta(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?" + END)]
Hash = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}" + END)]
SafeInt = Annotated[int, Meta(ge=-(2**53) + 1, le=2**53 - 1)]  # what canonical JSON can hold


class Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records: frozen. What is read from a file is checked, unknown fields are rejected."""


class Variant(Record, frozen=True, kw_only=True, tag_field="kind"):
    """Base of the members of a union: the field ``kind`` tells them apart in JSON."""


# ------------------------------------------------------------ terms: one sequence -> number
class Const(Variant, frozen=True, kw_only=True, tag="const"):
    """An exact number."""

    value: DecimalText


class AttributeRef(Variant, frozen=True, kw_only=True, tag="attribute"):
    """The score of an attribute; ``model="base"`` is the same attribute on the reference model."""

    name: str
    model: Literal["self", "base"] = "self"


class Sum(Variant, frozen=True, kw_only=True, tag="sum"):
    """Sum of two or more terms."""

    terms: tuple[Term, ...]


class Product(Variant, frozen=True, kw_only=True, tag="product"):
    """Product of two or more terms."""

    terms: tuple[Term, ...]


class Quotient(Variant, frozen=True, kw_only=True, tag="quotient"):
    """``numerator / denominator``; unknown where the denominator is 0."""

    numerator: Term
    denominator: Term


Term = Const | AttributeRef | Sum | Product | Quotient


# ------------------------------------------------------------ predicates: one sequence -> truth value
Op = Literal["lt", "le", "gt", "ge", "eq", "ne"]


class Literally(Variant, frozen=True, kw_only=True, tag="literal"):
    """A constant truth value."""

    value: bool


class Comparison(Variant, frozen=True, kw_only=True, tag="comparison"):
    """``left op right``; unknown where either side is unknown."""

    op: Op
    left: Term
    right: Term


class FlagRef(Variant, frozen=True, kw_only=True, tag="flag"):
    """An attribute of type flag, true where its score is not 0; ``model`` as in ``AttributeRef``."""

    name: str
    negated: bool = False
    model: Literal["self", "base"] = "self"
