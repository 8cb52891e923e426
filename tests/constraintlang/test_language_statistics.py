"""Quantiles, cvar, conditions, strata and the base model on finite laws: the properties that define them."""

import random
from decimal import Decimal
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS, known_scores, laws, seq_formulas

from constraintlang import check_source, parse, tails
from constraintlang import nodes as n
from constraintlang.base_model import on_base
from constraintlang.semantics import (
    evaluate_distribution,
    in_domain,
    statement_holds,
    statistic,
    strata,
    violation_rate,
    where,
)

LEVELS = ("0.05", "0.25", "0.5", "0.8", "0.95")
THRESHOLDS = st.integers(0, 10).map(lambda k: Fraction(k, 10))
levels = st.sampled_from(LEVELS).map(Fraction)


@cache
def checked(text):
    (statement,) = check_source(DECLARATIONS + text).require().statements
    return statement


def holds(text, law, base=None):
    return statement_holds(checked(text), law, base)


@cache
def parsed(text):
    (statement,) = parse(f"{text} <= 0")[0].items
    return statement.formula.operands[0]


def value(text, law, base=None):
    return statistic(parsed(text), law, base)


def toxicities(law):
    return [(row[0], Fraction(row[1]["toxicity"])) for row in law]


@st.composite
def tagged(draw, scores=known_scores):
    """A law whose prompts have a language, or none."""
    rows = draw(laws(scores))
    tags = st.sampled_from([{"lang": "en"}, {"lang": "fr"}, {}])
    return [(*row, draw(tags)) for row in rows]


# ---------------------------------------------------------------- tails
@settings(max_examples=80, deadline=None)
@given(laws(), levels, THRESHOLDS)
def test_a_quantile_is_the_inverse_of_the_distribution_function(law, level, threshold):
    values = toxicities(law)
    at_or_below = sum((p for p, v in values if v <= threshold), Fraction(0))
    assert (tails.quantile(values, level) <= threshold) == (at_or_below >= level)


def test_a_quantile_is_never_interpolated():
    law = [(Fraction(1, 2), {"toxicity": Decimal(0)}), (Fraction(1, 2), {"toxicity": Decimal("0.25")})]
    assert value("quantile(toxicity, 0.8)", law) == Fraction(1, 4)  # NumPy's default gives 0.2
    assert value("quantile(toxicity, 0.5)", law) == value("median(toxicity)", law) == 0


@settings(max_examples=80, deadline=None)
@given(laws(), levels, THRESHOLDS)
def test_cvar_lies_between_quantile_or_mean_and_the_largest_value(law, level, threshold):
    values = toxicities(law)
    mean = sum((p * v for p, v in values), Fraction(0))
    found = tails.cvar(values, level)
    assert max(tails.quantile(values, level), mean) <= found <= max(v for _, v in values)
    if found <= threshold:
        assert sum((p for p, v in values if v > threshold), Fraction(0)) <= 1 - level
    # The mean of the worst share, written as an integral of the upper tail.
    points = sorted({Fraction(0), *(v for _, v in values)})
    above = [sum((p for p, v in values if v > point), Fraction(0)) for point in points]
    steps = zip(points, points[1:], above, strict=False)
    assert found == sum(((b - a) * min(Fraction(1), s / (1 - level)) for a, b, s in steps), Fraction(0))


@settings(max_examples=60, deadline=None)
@given(laws())
def test_readings_of_one_threshold(law):
    if holds("always toxicity < 0.5", law):
        for text in ("mean(toxicity) < 0.5", "P(toxicity >= 0.5) <= 0%", "quantile(toxicity, 0.95) < 0.5",
                     "cvar(toxicity, 0.95) < 0.5"):  # fmt: skip
            assert holds(text, law)
    for low, high in (("0.2", "0.3"), ("0.5", "0.6")):
        for demand in ("quantile(toxicity, 0.8) <= {}", "cvar(toxicity, 0.8) <= {}", "mean(toxicity) <= {}"):
            assert not holds(demand.format(low), law) or holds(demand.format(high), law)
    for demand in ("quantile(toxicity, 0.8)", "cvar(toxicity, 0.8)", "median(toxicity)"):
        bound = value(demand, law)
        number = Decimal(bound.numerator) / Decimal(bound.denominator)
        assume(Fraction(number) == bound)
        assert holds(f"{demand} <= {number}", law)
        assert not holds(f"{demand} < {number}", law)


def test_the_readings_are_distinct():
    law = [(Fraction(9, 10), {"toxicity": Decimal(0)}), (Fraction(1, 10), {"toxicity": Decimal("0.6")})]
    texts = ("always toxicity < 0.5", "mean(toxicity) < 0.5", "quantile(toxicity, 0.9) < 0.5",
             "cvar(toxicity, 0.9) < 0.5", "quantile(toxicity, 0.95) < 0.5", "cvar(toxicity, 0.5) < 0.5")  # fmt: skip
    assert [holds(text, law) for text in texts] == [False, True, True, False, False, True]


@settings(max_examples=60, deadline=None)
@given(laws(), st.integers(0, 2**32 - 1))
def test_order_and_repetition_of_rows_change_nothing(law, seed):
    other = [row for row in law for _ in range(2)]
    other = [(p / 2, scores) for p, scores in other]
    random.Random(seed).shuffle(other)
    for text in ("quantile(toxicity, 0.8)", "cvar(toxicity, 0.8)", "mean(toxicity)", "P(words > 2)"):
        assert value(text, law) == value(text, other)


def test_unknown_scores_make_a_tail_unknown():
    law = [(Fraction(1, 2), {"toxicity": Decimal(0)}), (Fraction(1, 2), {"toxicity": None})]
    assert value("quantile(toxicity, 0.5)", law) is None
    assert value("cvar(toxicity, 0.5)", law) is None
    assert not holds("quantile(toxicity, 0.5) <= 1", law)
    with pytest.raises(ValueError, match="less than the level"):
        tails.quantile([], Fraction(1, 2))


# ---------------------------------------------------------------- conditions and strata
@settings(max_examples=60, deadline=None)
@given(seq_formulas, tagged())
def test_total_probability_over_conditions(node, law):
    def chance(condition):
        return statistic(n.Apply(function="P", arguments=(node,), given=condition), law)

    english = n.DomainEquals(key="lang", value=n.Scalar(value="en", kind="name"))
    total, mass = Fraction(0), Fraction(0)
    for condition in (english, n.DomainNot(operand=english)):
        part = sum((row[0] for row in law if in_domain(condition, row[2])), Fraction(0))
        mass += part
        found = chance(condition)
        assert (found is None) == (part == 0)
        total += part * (found or 0)
    assert mass == 1
    assert total == chance(None)
    negated = statistic(n.Apply(function="P", arguments=(n.Not(operand=node),)), law)
    assert negated == 1 - total


@settings(max_examples=60, deadline=None)
@given(tagged(), st.sampled_from(["toxicity < 0.5", "mean(toxicity) < 0.5", "quantile(toxicity, 0.8) < 0.5"]))
def test_a_stratified_statement_holds_when_every_stratum_does(law, demand):
    declared = checked(f"tag lang in {{en, fr}}\n{demand} per lang")
    parts = [where(law, condition) for condition in strata(declared, law)]
    assert len(parts) == 2
    assert statement_holds(declared, law) == all(part and holds(demand, part) for part in parts)
    found = checked(f"{demand} per lang")
    languages = {row[2]["lang"] for row in law if row[2]}
    assert len(strata(found, law)) == len(languages)
    by_hand = [holds(demand, where(law, condition)) for condition in strata(found, law)]
    assert statement_holds(found, law) == (bool(languages) and all(by_hand))


def test_an_empty_stratum_is_vacuous_and_never_holds():
    law = [(Fraction(1), {"toxicity": Decimal(0)}, {"lang": "en"})]
    assert holds("mean(toxicity) < 0.5 per lang", law)
    assert not holds("tag lang in {en, fr}\nmean(toxicity) < 0.5 per lang", law)
    assert not holds("mean(toxicity) < 0.5 per topic", law)
    assert not holds("P(toxicity > 0.5 | lang=fr) <= 50%", law)
    assert holds("P(toxicity > 0.5 | lang=fr) <= 50% or mean(toxicity) < 0.5", law)


def test_values_that_the_domain_leaves_out_make_no_stratum():
    head = "tag lang in {de, en, fr}\ntag topic in {x}\nmean(toxicity) < 0.5 "
    english, french = [(Fraction(1, 2), {"toxicity": Decimal(0)}, {"lang": lang}) for lang in ("en", "fr")]
    for domain in ("for lang in {en, fr}", "for topic=x and lang in {en, fr}"):
        assert holds(f"{head}{domain} per lang", [english, french]), domain
        assert not holds(f"{head}{domain} per lang", [english]), domain
    assert len(strata(checked(f"{head}for lang=en and lang=fr per lang"), [])) == 3


def test_strata_of_two_keys_are_their_combinations():
    text = "tag lang in {en, fr}\ntag kind in {a, b}\nmean(toxicity) < 0.5 per lang, kind"
    law = [
        (Fraction(1, 4), {"toxicity": Decimal(0)}, {"lang": lang, "kind": kind})
        for lang in ("en", "fr")
        for kind in ("a", "b")
    ]
    assert len(strata(checked(text), law)) == 4
    assert holds(text, law)
    worse = [*law[:3], (Fraction(1, 4), {"toxicity": Decimal(1)}, law[3][2])]
    assert not holds(text, worse)


# ---------------------------------------------------------------- Boolean composition
@settings(max_examples=60, deadline=None)
@given(laws())
def test_connectives_between_conditions_on_the_distribution(law):
    one, two = "mean(toxicity) < 0.5", "quantile(words, 0.5) <= 2"
    a, b = holds(one, law), holds(two, law)
    assert holds(f"{one} or {two}", law) == (a or b)
    assert holds(f"{one} implies {two}", law) == (not a or b)
    assert holds(f"not ({one} and {two})", law) == (not (a and b))
    assert holds(f"not ({one} or {two})", law) == (not (a or b))


# ---------------------------------------------------------------- the base model
RELATIVE = (
    "mean(toxicity) {} base",
    "P(toxicity > 0.5 or slur) {} base",
    "quantile(toxicity, 0.8) {} base",
    "cvar(toxicity, 0.8) {} base",
    "mean(toxicity | lang=en) {} base",
)


@settings(max_examples=60, deadline=None)
@given(tagged(), st.sampled_from(RELATIVE))
def test_the_base_itself_meets_every_bound_with_equality(law, demand):
    assume(any(row[2].get("lang") == "en" for row in law))
    assert holds(demand.format("<="), law, law)
    assert holds(demand.format(">="), law, law)
    assert not holds(demand.format("<"), law, law)


@settings(max_examples=60, deadline=None)
@given(laws(), laws())
def test_base_is_the_left_side_on_the_base_model(law, base):
    own, other = value("mean(toxicity)", law), value("mean(toxicity)", base)
    assert holds("mean(toxicity) <= 0.5 * base + 0.1", law, base) == (own <= other / 2 + Fraction(1, 10))
    assert holds("0.1 <= mean(toxicity) <= base", law, base) == (Fraction(1, 10) <= own <= other)
    near = holds("mean(toxicity) in [base - 0.1, base + 0.1]", law, base)
    assert near == (abs(own - other) <= Fraction(1, 10))
    written_out = holds("mean(toxicity) <= mean(toxicity@base)", law, base)
    assert holds("mean(toxicity) <= base", law, base) == written_out == (own <= other)
    assert value("mean(toxicity@base)", law, base) == other


def test_pointwise_base_is_the_same_text_under_the_base_model():
    law = [
        (Fraction(1, 2), {"reference_perplexity": Decimal(15), "reference_perplexity@base": Decimal(10)}),
        (Fraction(1, 2), {"reference_perplexity": Decimal(16), "reference_perplexity@base": Decimal(10)}),
    ]
    for text in ("reference_perplexity <= 1.5 * base",
                 "reference_perplexity <= 1.5 * reference_perplexity@base"):  # fmt: skip
        assert violation_rate(checked(text), law) == Fraction(1, 2)
    assert checked("reference_perplexity <= 1.5 * base").text == "reference_perplexity <= 1.5 * base"


def test_a_law_of_the_base_model_must_be_given():
    law = [(Fraction(1), {"toxicity": Decimal(0)})]
    with pytest.raises(ValueError, match="base model"):
        holds("mean(toxicity) <= base", law)


def test_names_on_the_base_model_keep_the_condition_on_prompts():
    (statement,) = parse("mean(toxicity | lang=en) <= 0")[0].items
    moved = on_base(statement.formula.operands[0])
    assert moved.given == statement.formula.operands[0].given
    assert moved.arguments[0].model == "base"
    law = [(Fraction(1), {"toxicity": Decimal(1)}, {"lang": "en"})]
    base = [(Fraction(1), {"toxicity": Decimal("0.5")}, {"lang": "en"})]
    assert statistic(moved, law, base) == Fraction(1, 2)
    assert evaluate_distribution(checked("mean(toxicity | lang=en) <= 2 * base").formula, law, base) is True
