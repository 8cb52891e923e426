"""Exact decimals, exact intervals and sample plans."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.clean_bounds import clean_samples_needed
from constraintlang_compiler.decimals import decimal_text, is_finite_decimal, round_outwards
from constraintlang_compiler.intervals import Interval, term_interval
from constraintlang_compiler.ir import (
    AttributeRecord,
    AttributeRef,
    Const,
    Product,
    Quotient,
    Sum,
    Term,
)

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)


@given(decimals)
def test_decimal_text_is_exact_and_unique(value: Decimal) -> None:
    text = decimal_text(value)
    assert Fraction(text) == Fraction(value)
    assert "e" not in text.lower()
    assert decimal_text(Decimal(text)) == text
    assert decimal_text(Fraction(value)) == text
    assert Const(value=text).value == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("0", "0"), ("-0.00", "0"), ("1E+3", "1000"), ("0.10", "0.1"), ("-2.50", "-2.5"), ("1e-7", "0.0000001")],
)
def test_decimal_text_examples(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal("1e5000"), Fraction(1, 3)])
def test_numbers_without_a_plain_text_are_refused(value: Decimal | Fraction) -> None:
    with pytest.raises(ValueError, match="expected"):
        decimal_text(value)


@given(st.fractions(max_denominator=10**6), st.booleans())
def test_rounding_outwards_goes_the_right_way(value: Fraction, up: bool) -> None:
    rounded = round_outwards(value, up=up)
    assert is_finite_decimal(rounded)
    assert rounded >= value if up else rounded <= value
    assert abs(rounded - value) <= abs(value) * Fraction(1, 10**12)


def test_canonical_bytes_refuse_floats_at_any_depth() -> None:
    assert canonical_bytes({"b": [1, "x"], "a": None}) == b'{"a":null,"b":[1,"x"]}'
    with pytest.raises(TypeError, match="float"):
        canonical_bytes({"a": [{"b": 0.5}]})


# ------------------------------------------------------------------ intervals
RANGES = {"a": (0, 1), "b": (-2, 3), "c": (1, None), "d": (None, -1), "e": (None, None)}
RECORDS = {
    key: AttributeRecord(
        name=key,
        type="real",
        low=None if low is None else str(low),
        high=None if high is None else str(high),
        direction=None,
        backend=None,
    )
    for key, (low, high) in RANGES.items()
}
terms: st.SearchStrategy[Term] = st.recursive(
    st.one_of(
        st.integers(-3, 3).map(lambda value: Const(value=str(value))),
        st.sampled_from("abcde").map(lambda key: AttributeRef(name=key)),
    ),
    lambda inner: st.one_of(
        st.builds(Sum, terms=st.tuples(inner, inner)),
        st.builds(Product, terms=st.tuples(inner, inner)),
        st.builds(Quotient, numerator=inner, denominator=inner),
    ),
    max_leaves=5,
)


def value_of(term: Term, point: dict[str, Fraction]) -> Fraction | None:
    match term:
        case Const(value=value):
            return Fraction(value)
        case AttributeRef(name=key):
            return point[key]
        case Sum(terms=parts) | Product(terms=parts):
            values = [value_of(part, point) for part in parts]
            if any(value is None for value in values):
                return None
            known = [value for value in values if value is not None]
            return sum(known, Fraction(0)) if isinstance(term, Sum) else math.prod(known, start=Fraction(1))
        case Quotient(numerator=numerator, denominator=denominator):
            top, bottom = value_of(numerator, point), value_of(denominator, point)
            return None if top is None or bottom is None or bottom == 0 else top / bottom


points = st.fixed_dictionaries(
    {
        key: st.fractions(
            min_value=-50 if low is None else low, max_value=50 if high is None else high, max_denominator=8
        )
        for key, (low, high) in RANGES.items()
    }
)


@given(terms, points)
def test_the_interval_contains_every_value(term: Term, point: dict[str, Fraction]) -> None:
    value = value_of(term, point)
    interval = term_interval(term, RECORDS)
    if value is not None:
        assert interval.low is None or interval.low <= value
        assert interval.high is None or value <= interval.high


def test_intervals_are_tight_where_each_attribute_occurs_once() -> None:
    a, b, c = (AttributeRef(name=key) for key in "abc")
    assert term_interval(Sum(terms=(a, b)), RECORDS) == Interval(Fraction(-2), Fraction(4))
    assert term_interval(Product(terms=(a, b)), RECORDS) == Interval(Fraction(-2), Fraction(3))
    assert term_interval(Product(terms=(Const(value="-2"), c)), RECORDS) == Interval(None, Fraction(-2))
    assert term_interval(Quotient(numerator=a, denominator=c), RECORDS) == Interval(Fraction(0), Fraction(1))
    assert term_interval(Product(terms=(Const(value="0"), c)), RECORDS) == Interval(Fraction(0), Fraction(0))


def test_counts_and_flags_have_a_range_without_writing_it() -> None:
    count = AttributeRecord(name="n", type="count", low=None, high=None, direction=None, backend=None)
    flag = replace(count, type="flag")
    assert term_interval(AttributeRef(name="n"), {"n": count}) == Interval(Fraction(0), None)
    assert term_interval(AttributeRef(name="n"), {"n": flag}) == Interval(Fraction(0), Fraction(1))


# ------------------------------------------------------------------ plans
@given(st.floats(1e-4, 0.9), st.floats(0.001, 0.5))
def test_the_plan_is_the_smallest_that_suffices(bound: float, alpha: float) -> None:
    n = clean_samples_needed(bound, alpha)
    assert (1 - bound) ** n <= alpha * (1 + 1e-6)
    if n > 1:
        assert (1 - bound) ** (n - 1) > alpha * (1 - 1e-6)


@pytest.mark.parametrize(
    ("bound", "alpha", "n"),
    [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.001, 0.05, 2995), (0.5, 0.25, 2), (0.5, 2.0**-80, 80)],
)
def test_known_plans(bound: float, alpha: float, n: int) -> None:
    assert clean_samples_needed(bound, alpha) == n


@pytest.mark.parametrize(("bound", "alpha"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0)])
def test_plans_outside_the_open_interval_are_refused(bound: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="expected numbers between 0 and 1"):
        clean_samples_needed(bound, alpha)
