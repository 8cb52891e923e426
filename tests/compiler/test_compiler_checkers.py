"""The batched checkers say what the reference interpreter says, unknown scores and exact ties included."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from compiler_strategies import ATTRIBUTES, expressions, formulas, scores_with_unknown
from hypothesis import example, given
from hypothesis import strategies as st

from constraintlang import nodes, semantics
from constraintlang_compiler.checkers import evaluate_predicate, evaluate_term, statistics, validate_scores
from constraintlang_compiler.errors import ScoreRangeError, TargetError
from constraintlang_compiler.ir import (
    AttributeRecord,
    AttributeRef,
    Clause,
    Comparison,
    Const,
    Indicator,
    Product,
    Quotient,
    RowsLoss,
    Sum,
    Value,
)
from constraintlang_compiler.lower_terms import lower_predicate, lower_term
from constraintlang_compiler.render import negation

Row = dict[str, Decimal | None]


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    return {
        name: np.array([np.nan if row[name] is None else float(row[name]) for row in rows], dtype=np.float64)  # type: ignore[arg-type]
        for name in ATTRIBUTES
    }


def truth(value: float) -> bool | None:
    assert np.isnan(value) or value in (0.0, 1.0)
    return None if np.isnan(value) else bool(value)


rows_of_scores = st.lists(scores_with_unknown, min_size=1, max_size=5)


@given(formulas, rows_of_scores, st.booleans())
def test_predicates_agree_with_the_reference(formula: nodes.Formula, rows: list[Row], negated: bool) -> None:
    got = [truth(v) for v in evaluate_predicate(lower_predicate(formula, negated=negated), columns(rows))]
    expected = [semantics.evaluate(formula, row) for row in rows]
    if negated:
        expected = [semantics.kleene_not(value) for value in expected]
    assert got == expected


@given(formulas, rows_of_scores)
def test_the_negation_of_a_lowered_predicate_is_the_lowered_negation(
    formula: nodes.Formula, rows: list[Row]
) -> None:
    lowered = lower_predicate(formula)
    assert negation(negation(lowered)) == lowered
    np.testing.assert_array_equal(
        evaluate_predicate(negation(lowered), columns(rows)), 1.0 - evaluate_predicate(lowered, columns(rows))
    )


@given(expressions(), rows_of_scores)
def test_terms_agree_with_the_reference(expr: nodes.Expr, rows: list[Row]) -> None:
    got = evaluate_term(lower_term(expr), columns(rows))
    for value, row in zip(got, rows, strict=True):
        expected = semantics.number(expr, row)
        if expected is None:
            # A denominator that is 0 exactly may be 1e-17 in floats: a huge number, or unknown.
            assert np.isnan(value) or abs(value) > 1e9
        elif not np.isnan(value) and abs(value) < 1e9:
            assert value == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


def score(name: str) -> nodes.Expr:
    return nodes.Name(parts=(name,))


def number(text: str) -> nodes.Expr:
    return nodes.Number(value=Decimal(text))


def compare(left: nodes.Expr, op: str, right: nodes.Expr) -> nodes.Formula:
    return nodes.Compare(operands=(left, right), operators=(op,))  # type: ignore[arg-type]


def arithmetic(left: nodes.Expr, op: str, right: nodes.Expr) -> nodes.Expr:
    return nodes.Arithmetic(op=op, left=left, right=right)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("formula", "toxicity", "expected"),
    [
        (compare(arithmetic(score("toxicity"), "+", number("0.2")), "<=", number("0.3")), "0.1", 1.0),
        (compare(arithmetic(score("toxicity"), "+", number("0.2")), ">", number("0.3")), "0.1", 0.0),
        (compare(arithmetic(number("3"), "*", score("toxicity")), "==", number("0.3")), "0.1", 1.0),
        (compare(arithmetic(score("toxicity"), "/", number("3")), "<", number("0.1")), "0.3", 0.0),
        # A threshold with more digits than a float has.
        (compare(score("toxicity"), "<", number("0.10000000000000000001")), "0.1", 1.0),
        (compare(score("toxicity"), ">=", number("0.10000000000000000001")), "0.1", 0.0),
        (compare(score("toxicity"), "<", number("0.10000000000000000001")), "0.2", 0.0),
        # Cancellation under a large factor: far from a tie in floats, a tie in truth.
        (
            compare(
                arithmetic(
                    number("1e15"),
                    "*",
                    arithmetic(arithmetic(score("toxicity"), "+", number("0.2")), "-", number("0.3")),
                ),
                ">",
                number("0"),
            ),
            "0.1",
            0.0,
        ),
        # A denominator that is exactly 0 and not 0 in floats.
        (
            compare(
                arithmetic(
                    number("1"),
                    "/",
                    arithmetic(arithmetic(score("toxicity"), "+", number("0.2")), "-", number("0.3")),
                ),
                ">",
                number("0"),
            ),
            "0.1",
            np.nan,
        ),
    ],
)
def test_ties_are_decided_exactly(formula: nodes.Formula, toxicity: str, expected: float) -> None:
    result = evaluate_predicate(lower_predicate(formula), {"toxicity": np.array([float(toxicity)])})
    np.testing.assert_array_equal(result, [expected])


def test_overflow_is_decided_exactly_and_without_a_warning() -> None:
    square = arithmetic(score("grade"), "*", score("grade"))
    formula = compare(square, ">", arithmetic(number("2"), "*", square))
    result = evaluate_predicate(lower_predicate(formula), {"grade": np.array([1e200, 0.0])})
    np.testing.assert_array_equal(result, [0.0, 0.0])


def test_floats_alone_would_decide_a_tie_wrongly() -> None:
    assert not 0.1 + 0.2 <= 0.3  # what the exact path of the checkers is for


def test_unknown_is_absorbed_by_a_deciding_operand_only() -> None:
    scores = {"toxicity": np.array([np.nan] * 4), "slur": np.array([0.0, 1.0, np.nan, np.nan])}
    unknown = compare(score("toxicity"), "<", number("0.5"))
    slur = nodes.Flag(name=nodes.Name(parts=("slur",)))
    conjunction = evaluate_predicate(lower_predicate(nodes.And(operands=(unknown, slur))), scores)
    disjunction = evaluate_predicate(lower_predicate(nodes.Or(operands=(unknown, slur))), scores)
    np.testing.assert_array_equal(conjunction, [0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(disjunction, [np.nan, 1, np.nan, np.nan])


# ------------------------------------------------------------------ statistics
def clause(statistic: Indicator | Value | RowsLoss) -> Clause:
    kind = "utility" if isinstance(statistic, RowsLoss) else "mean"
    return Clause(id="", label="c", text="", kind=kind, statistic=statistic, bound="0", strict=False)


TOXIC = Comparison(op="ge", left=AttributeRef(name="toxicity"), right=Const(value="0.5"))


def test_statistics_are_columns_in_the_order_of_the_clauses() -> None:
    flipped = Sum(terms=(Const(value="1"), Product(terms=(AttributeRef(name="toxicity"), Const(value="-1")))))
    clauses = [
        clause(Indicator(predicate=TOXIC)),
        clause(Value(term=AttributeRef(name="toxicity"), high="1")),
        clause(Value(term=flipped, high="1")),
    ]
    got = statistics(clauses, {"toxicity": np.array([0.25, 0.5, np.nan])})
    np.testing.assert_array_equal(got, [[0, 0.25, 0.75], [1, 0.5, 0.5], [np.nan] * 3])


def test_statistics_stay_in_their_range_despite_rounding() -> None:
    term = Sum(terms=(Const(value="-0.3"), AttributeRef(name="a"), AttributeRef(name="b")))
    got = statistics(
        [clause(Value(term=term, high="1"))], {"a": np.array([0.1]), "b": np.array([0.2 - 1e-17])}
    )
    assert got[0, 0] >= 0.0


def test_base_scores_have_a_key_of_their_own() -> None:
    ratio = Quotient(numerator=AttributeRef(name="a"), denominator=AttributeRef(name="a", model="base"))
    got = evaluate_term(ratio, {"a": np.array([1.0, 2.0]), "a@base": np.array([2.0, 0.0])})
    np.testing.assert_array_equal(got, [0.5, np.nan])


def test_utility_clauses_have_no_column() -> None:
    with pytest.raises(TargetError, match="utility clause `c`"):
        statistics([clause(RowsLoss(quantity="perplexity"))], {})


def test_missing_and_unequal_scores() -> None:
    with pytest.raises(KeyError, match="no scores of `toxicity`"):
        evaluate_predicate(TOXIC, {"words": np.zeros(2)})
    with pytest.raises(ValueError, match="unequal lengths"):
        evaluate_predicate(TOXIC, {"toxicity": np.zeros(2), "words": np.zeros(3)})


def test_no_responses_give_no_rows() -> None:
    clauses = [
        clause(Indicator(predicate=TOXIC)),
        clause(Value(term=AttributeRef(name="toxicity"), high="1")),
    ]
    assert statistics(clauses, {"toxicity": np.zeros(0)}).shape == (0, 2)


# ------------------------------------------------------------------ validation
def record(name: str, kind: str, low: str | None = None, high: str | None = None) -> AttributeRecord:
    return AttributeRecord(name=name, type=kind, low=low, high=high, direction=None, backend=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        (record("a", "score", "0", "1"), 1.5, r"a finite number in \[0, 1\] \(declared score\)"),
        (record("a", "score", "0", "1"), -0.1, r"in \[0, 1\]"),
        (record("a", "real", "1"), 0.5, r"in \[1, inf\]"),
        (record("a", "real"), np.inf, "a finite number"),
        (record("a", "count"), -1.0, r"an integer in \[0, inf\]"),
        (record("a", "count"), 1.5, "an integer"),
        (record("a", "int", "-3", "3"), 0.5, r"an integer in \[-3, 3\]"),
        (record("a", "flag"), 0.5, "0 or 1"),
        (record("a", "flag"), 2.0, "0 or 1"),
    ],
)
def test_scores_outside_the_declaration_are_named(
    attribute: AttributeRecord, value: float, expected: str
) -> None:
    scores = {"a": np.array([1.0, 1.0, value, 1.0])}
    with pytest.raises(ScoreRangeError, match=f"`a` at index 2, expected .*{expected}") as caught:
        validate_scores([attribute], scores)
    assert (caught.value.attribute, caught.value.index) == ("a", 2)


@example(0.0)
@example(1.0)
@given(st.floats(0, 1))
def test_scores_inside_pass(value: float) -> None:
    validate_scores([record("a", "score", "0", "1")], {"a": np.array([value]), "a@base": np.array([value])})


def test_unknown_passes_unless_it_is_forbidden() -> None:
    scores = {"a": np.array([0.5, np.nan])}
    validate_scores([record("a", "score", "0", "1")], scores)
    with pytest.raises(ScoreRangeError, match=r"got nan .* index 1"):
        validate_scores([record("a", "score", "0", "1")], scores, allow_unknown=False)


def test_the_base_score_is_checked_like_the_attribute() -> None:
    with pytest.raises(ScoreRangeError, match="`a@base`"):
        validate_scores([record("a", "score", "0", "1")], {"a@base": np.array([2.0])})
