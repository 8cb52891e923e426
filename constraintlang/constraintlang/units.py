"""Units of measured quantities: products of powers of counts, score points and attributes of their own."""

from __future__ import annotations

from constraintlang.checked import AttributeInfo

Unit = tuple[tuple[str, int], ...]


def unit_of(attribute: AttributeInfo) -> Unit:
    """Scores share a unit, counts share a unit, every real number has its own."""
    shared = {"score": "score", "int": "count", "count": "count"}
    return ((shared.get(attribute.type, attribute.name), 1),)


def multiply(left: Unit | None, right: Unit | None, sign: int) -> Unit | None:
    """The unit of a product (``sign`` 1) or quotient (-1); None, a plain number, changes nothing."""
    if left is None and right is None:
        return None
    powers: dict[str, int] = dict(left or ())
    for name, power in right or ():
        powers[name] = powers.get(name, 0) + sign * power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def unit_words(unit: Unit | None) -> str:
    """A unit for people."""
    words = {"count": "counts", "score": "score points"}
    if not unit:
        return "plain numbers"
    return " * ".join(words.get(name, f"units of `{name}`") for name, _ in unit)
