"""Exact numbers and their one canonical decimal text."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

MAX_DIGITS = 100  # as in a policy, so that every number of the IR can be written in one


class TooManyDigits(ValueError):
    """A number that would be longer, written out, than a policy may write it."""


def decimal_text(value: Decimal | Fraction | int, *, max_digits: int = MAX_DIGITS) -> str:
    """The plain notation without exponent, without trailing zeros and without negative zero.

    Raises: ValueError when the number is not finite or is no finite decimal (1/3); TooManyDigits, which is one,
    when it has more than ``max_digits`` digits written out.

    >>> decimal_text(Decimal("1.50")), decimal_text(Decimal("-0")), decimal_text(Fraction(1, 8))
    ('1.5', '0', '0.125')
    """
    too_long = f"got a number of more than {max_digits} digits, expected at most {max_digits}"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"got {value}, expected a finite number")
        if value and abs(value.adjusted()) > max_digits:
            raise TooManyDigits(too_long)
    numerator, denominator = Fraction(value).as_integer_ratio()
    if max(numerator.bit_length(), denominator.bit_length()) > 4 * max_digits:
        raise TooManyDigits(too_long)  # before the loops below, whose time grows with the digits
    twos, fives, rest = 0, 0, denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        raise ValueError(f"got {numerator}/{denominator}, expected a finite decimal")
    places = max(twos, fives)
    digits = str(abs(numerator) * 10**places // denominator).zfill(places + 1)
    if len(digits) > max_digits:
        raise TooManyDigits(too_long)
    text = digits if places == 0 else f"{digits[:-places]}.{digits[-places:]}"
    return f"-{text}" if numerator < 0 else text


def is_finite_decimal(value: Fraction) -> bool:
    """Whether the number has a finite decimal expansion: its denominator has no prime factor but 2 and 5."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def round_outwards(value: Fraction, *, up: bool, digits: int = 15) -> Fraction:
    """The nearest finite decimal at or above (``up``) or at or below the number; itself when it is one.

    Used for ranges only, where a slightly wider range is as true as the exact one.
    """
    if is_finite_decimal(value):
        return value
    scale = 10**digits
    while abs(value) * scale < 10 ** (digits - 1):
        scale *= 10
    scaled = value * scale
    return Fraction(
        -((-scaled.numerator) // scaled.denominator) if up else scaled.numerator // scaled.denominator, scale
    )
