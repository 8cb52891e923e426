"""Property 10: a number that no declared attribute can have is named as a mistake, and everything else is a score."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from constraintlang.checked import AttributeInfo
from constraintlang.scores import score_problem

TYPES = ("flag", "score", "real", "int", "count")
ends = (
    st.none() | st.integers(-3, 3).map(Decimal) | st.sampled_from([Decimal("-Infinity"), Decimal("Infinity")])
)
values = st.decimals(-5, 5, places=1) | st.sampled_from(
    [Decimal(text) for text in ("NaN", "-NaN", "Infinity", "-Infinity", "0", "1", "0.5", "-3", "3", "3.01")]
)


def possible(info: AttributeInfo, value: Decimal) -> bool:
    """A second opinion, in fractions of a finite number."""
    if value.is_nan() or value.is_infinite():
        return False
    exact = value.as_integer_ratio()
    if info.type == "flag":
        return exact in ((0, 1), (1, 1))
    if info.type in ("int", "count") and exact[1] != 1:
        return False
    low = None if info.low is None or info.low.is_infinite() else info.low
    high = None if info.high is None or info.high.is_infinite() else info.high
    return (low is None or low <= value) and (high is None or value <= high)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(TYPES), ends, ends, values)
def test_10_only_finite_numbers_in_range_are_scores(
    kind: str, low: Decimal | None, high: Decimal | None, value: Decimal
) -> None:
    info = AttributeInfo("a", kind, low, high, None, None)  # type: ignore[arg-type]
    problem = score_problem(info, value)
    assert (problem is None) == possible(info, value), problem
    assert problem is None or problem.startswith(("is ", "lies in ", "takes "))
