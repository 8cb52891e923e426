"""The reference meaning against truth tables, laws and a second opinion."""

from decimal import Decimal
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from policy_strategies import DECLARATIONS, dist_formulas, known_scores, laws, scores, seq_formulas

from constraintlang import check_source, parse
from constraintlang import nodes as n
from constraintlang.printer import format_formula
from constraintlang.semantics import (
    compare,
    evaluate,
    evaluate_distribution,
    number,
    probability_bounds,
    rows_hold,
    statement_holds,
    statistic,
    violation_rate,
)

VALUES = {True: Decimal(1), False: Decimal(0), None: None}


def formula(text):
    (statement,) = parse(text)[0].items
    return statement.formula


def checked(text):
    (statement,) = check_source(DECLARATIONS + text).require().statements
    return statement


@pytest.mark.parametrize(
    ("text", "table"),
    [
        # rows: a in (T, F, ?), columns: b in (T, F, ?)
        ("a and b", "TF? FFF ?F?"),
        ("a or b", "TTT TF? T??"),
        ("a implies b", "TF? TTT T??"),
        ("not a", "FFF TTT ???"),
    ],
)
def test_strong_kleene_tables(text, table):
    cells = iter(table.replace(" ", ""))
    for a, b in product([True, False, None], repeat=2):
        expected = {"T": True, "F": False, "?": None}[next(cells)]
        assert evaluate(formula(text), {"a": VALUES[a], "b": VALUES[b]}) is expected


@pytest.mark.parametrize(
    ("operator", "below", "equal", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("==", False, True, False),
        ("!=", True, False, True),
    ],
)
def test_comparisons(operator, below, equal, above):
    node = formula(f"a {operator} 0.1")
    got = [evaluate(node, {"a": Decimal(x)}) for x in ("0.09", "0.1", "0.11")]
    assert got == [below, equal, above]
    assert evaluate(node, {"a": None}) is None
    assert compare(None, operator, Fraction(1)) is None


def test_intervals_include_both_ends_and_chains_are_conjunctions():
    for value, expected in (("0", False), ("1", True), ("2", True), ("3", True), ("4", False)):
        assert evaluate(formula("a in [1, 3]"), {"a": Decimal(value)}) is expected
    assert evaluate(formula("1 < a <= 3"), {"a": Decimal(1)}) is False
    assert evaluate(formula("1 < a <= 3"), {"a": Decimal(3)}) is True


def test_arithmetic_is_exact():
    assert number(
        formula("a + 0.1 * 3 - -b / 3 < 1").operands[0], {"a": Decimal("0.1"), "b": Decimal(1)}
    ) == Fraction(4, 10) + Fraction(1, 3)
    assert number(formula("a / b < 1").operands[0], {"a": Decimal(1), "b": Decimal(0)}) is None
    assert evaluate(formula("a + b == 0.3"), {"a": Decimal("0.1"), "b": Decimal("0.2")}) is True


@settings(max_examples=60, deadline=None)
@given(seq_formulas, scores)
def test_negation_and_de_morgan(node, values):
    truth = evaluate(node, values)
    assert evaluate(n.Not(operand=node), values) is (None if truth is None else not truth)
    left = n.Not(operand=n.And(operands=(node, node)))
    right = n.Or(operands=(n.Not(operand=node), n.Not(operand=node)))
    assert evaluate(left, values) is evaluate(right, values)


@settings(max_examples=60, deadline=None)
@given(seq_formulas, scores, known_scores)
def test_knowing_more_never_flips_a_verdict(node, some, known):
    truth = evaluate(node, some)
    filled = {name: value if value is not None else known[name] for name, value in some.items()}
    assert evaluate(node, filled) is not None
    assert truth is None or evaluate(node, filled) is truth


@settings(max_examples=60, deadline=None)
@given(seq_formulas, known_scores)
def test_against_python(node, values):
    # A second opinion: the canonical text, read by Python itself.
    text = format_formula(node).replace("implies", "<= ")
    if "<= " in text and "implies" in format_formula(node):
        return
    import re

    text = re.sub(r"(\w+) in \[([\d.]+), ([\d.]+)\]", r"(\2 <= \1 <= \3)", text)
    text = re.sub(r"(?<![\w.])(\d+(?:\.\d+)?)", r"Fraction('\1')", text)
    names = {name: Fraction(value) for name, value in values.items()}
    assert bool(eval(text, {"Fraction": Fraction}, names)) is evaluate(node, values)  # noqa: S307


@settings(max_examples=60, deadline=None)
@given(seq_formulas, laws())
def test_chances_add_up(node, law):
    true, true_or_unknown = probability_bounds(node, law)
    negated, _ = probability_bounds(n.Not(operand=node), law)
    assert true == true_or_unknown
    assert true + negated == 1


@settings(max_examples=40, deadline=None)
@given(laws())
def test_readings_imply_each_other_one_way(law):
    always = checked("always toxicity < 0.5")
    mean, chance = checked("mean(toxicity) < 0.5"), checked("P(toxicity >= 0.5) <= 0%")
    assert statement_holds(always, law) == statement_holds(chance, law)
    if statement_holds(always, law):
        assert statement_holds(mean, law)
    threshold = Fraction(1, 2)
    mass = violation_rate(always, law)
    average = statistic(mean.formula.operands[0], law)
    assert average >= threshold * mass  # Markov


def test_the_readings_are_distinct():
    low, high = {"toxicity": Decimal(0)}, {"toxicity": Decimal("0.6")}
    law = [(Fraction(9, 10), low), (Fraction(1, 10), high)]
    held = {
        text: statement_holds(checked(text), law)
        for text in (
            "always toxicity < 0.5",
            "toxicity < 0.5",
            "mean(toxicity) < 0.5",
            "P(toxicity < 0.5) >= 90%",
        )
    }
    assert held == {
        "always toxicity < 0.5": False,
        "toxicity < 0.5": False,
        "mean(toxicity) < 0.5": True,
        "P(toxicity < 0.5) >= 90%": True,
    }


def test_tolerance_is_reached_not_passed():
    statement = checked("toxicity < 0.5 under tolerance=10%")
    low, high = {"toxicity": Decimal(0)}, {"toxicity": Decimal("0.5")}
    assert statement_holds(statement, [(Fraction(9, 10), low), (Fraction(1, 10), high)])
    assert not statement_holds(statement, [(Fraction(89, 100), low), (Fraction(11, 100), high)])


def test_unknown_fails_closed():
    law = [(Fraction(1, 2), {"toxicity": Decimal(0)}), (Fraction(1, 2), {"toxicity": None})]
    assert violation_rate(checked("toxicity < 0.5"), law) == Fraction(1, 2)
    assert not statement_holds(checked("mean(toxicity) < 0.5"), law)
    assert not statement_holds(checked("P(toxicity > 0.5) < 1%"), law)
    assert evaluate_distribution(checked("P(toxicity > 0.5) < 60%").formula, law) is None


@settings(max_examples=40, deadline=None)
@given(dist_formulas, laws())
def test_validated_statements_evaluate(node, law):
    statement = checked(format_formula(node))
    assert statement.reading == "distribution"
    assert statement_holds(statement, law) is evaluate_distribution(node, law)


@settings(max_examples=40, deadline=None)
@given(seq_formulas, laws())
def test_validated_pointwise_statements_evaluate(node, law):
    statement = checked(format_formula(node))
    assert statement.reading == "pointwise"
    assert statement.tolerance == Decimal("0.05")
    assert 0 <= violation_rate(statement, law) <= 1


def test_rows_are_not_judged_on_laws():
    with pytest.raises(ValueError, match="rows"):
        statement_holds(checked("preserve mean(perplexity) <= 1.02 * base"), [])
    with pytest.raises(ValueError, match="pointwise"):
        violation_rate(checked("mean(toxicity) < 1"), [])


@pytest.mark.parametrize(
    ("text", "model", "base", "expected"),
    [
        ("preserve mean(perplexity) <= 1.02 * base", "10.2", "10", True),
        ("preserve mean(perplexity) <= 1.02 * base", "10.21", "10", False),
        ("preserve perplexity < base + 1", "11", "10", False),
        ("preserve not perplexity > base", "10", "10", True),
        ("preserve mean(perplexity) <= 12 and mean(perplexity) <= 2 * base", "11", "5", False),
        ("preserve mean(perplexity) in [5, 12]", "12", "1", True),
        ("preserve mean(perplexity) in [base - 1, base + 1]", "9", "10", True),
        ("preserve mean(perplexity) in [base - 1, base + 1]", "8.9", "10", False),
        ("preserve mean(perplexity) in [base - 1, base + 1]", "11.1", "10", False),
        (
            "preserve 2 * mean(perplexity) - 1 <= 0.5 * base",
            "5.25",
            "10",
            True,
        ),  # base is the whole left side
        ("preserve 2 * mean(perplexity) - 1 <= 0.5 * base", "5.26", "10", False),
        ("preserve -mean(perplexity) >= -12 / 2", "6", "10", True),
    ],
)
def test_statements_about_rows(text, model, base, expected):
    values = {"perplexity": Fraction(model), "perplexity@base": Fraction(base)}
    assert rows_hold(checked(text), values) is expected


def test_only_statements_about_rows_are_judged_on_quantities():
    with pytest.raises(ValueError, match="only statements about rows"):
        rows_hold(checked("mean(toxicity) < 1"), {})
    assert rows_hold(checked("preserve mean(accuracy) >= base - 1%"), {"accuracy": Fraction(1)}) is False
