"""Which rows a clause speaks of: domain predicates over the tags of a row."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from constraintlang.nodes import Scalar
from constraintlang.printer import format_scalar
from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.ir import DomainAll, DomainAny, DomainIs, DomainNot, DomainPredicate


def tag_text(value: object) -> str | None:
    """A tag of a row as the text that policies compare: ``true``/``false``, canonical numbers, strings as
    they are.

    A number or a string of numpy is read as Python's. ``None`` and values of other types (lists, dictionaries) have no
    text: they equal nothing.
    """
    if type(value).__module__ == "numpy" and (item := getattr(value, "item", None)) is not None:
        value = item() if getattr(value, "size", 1) == 1 else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal)):
        try:
            return decimal_text(Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
        except (InvalidOperation, ValueError):
            return None
    return None


def matches(predicate: DomainPredicate | None, row: Mapping[str, object]) -> bool:
    """Whether a row lies in the domain; ``None`` is every row.

    A missing key makes ``key = value`` false, so ``not key = value`` holds for rows without the key.

    >>> matches(DomainIs(key="domain", values=("toxigen",)), {"domain": "toxigen", "lang": "en"})
    True
    """
    match predicate:
        case None:
            return True
        case DomainIs(key=key, values=values):
            return key in row and tag_text(row[key]) in values
        case DomainNot(operand=operand):
            return not matches(operand, row)
        case DomainAll(operands=operands):
            return all(matches(part, row) for part in operands)
        case DomainAny(operands=operands):
            return any(matches(part, row) for part in operands)


def describe(predicate: DomainPredicate | None) -> str:
    """The predicate as canonical policy text, ``every prompt`` when there is none.

    >>> describe(DomainNot(operand=DomainIs(key="lang", values=("de", "en"))))
    'not lang in {de, en}'
    """
    return "every prompt" if predicate is None else _text(predicate, inside=None)


def domain_name(predicate: DomainPredicate | None) -> str | None:
    """The value of a single ``domain=value``, else the canonical text; ``None`` when there is no domain."""
    if predicate is None:
        return None
    if isinstance(predicate, DomainIs) and predicate.key == "domain" and len(predicate.values) == 1:
        return predicate.values[0]
    return describe(predicate)


def _text(predicate: DomainPredicate, inside: type | None) -> str:
    match predicate:
        case DomainIs(key=key, values=(value,)):
            return f"{key}={_scalar(value)}"
        case DomainIs(key=key, values=values):
            return f"{key} in {{{', '.join(map(_scalar, values))}}}"
        case DomainNot(operand=operand):
            return f"not {_text(operand, DomainNot)}"
        case DomainAll(operands=operands) | DomainAny(operands=operands):
            word = " and " if isinstance(predicate, DomainAll) else " or "
            text = word.join(_text(part, type(predicate)) for part in operands)
            return text if inside is None or (inside is DomainAny and word == " and ") else f"({text})"


def _scalar(value: str) -> str:
    return format_scalar(Scalar(value=value, kind="name"))
