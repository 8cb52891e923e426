"""Properties 11 to 18 on typed formulas: looser thresholds, strict signs, and the readings of one threshold."""

import dataclasses
from decimal import Decimal
from fractions import Fraction
from itertools import cycle, pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_strategies import (
    COUNTS,
    DECLARATIONS,
    SCORES,
    count_values,
    dist_formulas,
    known_scores,
    laws,
    score_values,
    scores,
    seq_formulas,
    seq_terms,
)

from constraintlang import check_source
from constraintlang import nodes as n
from constraintlang.margins import CRISP, atom_margin, margin
from constraintlang.normal_form import Link, atoms, normal_form, on_response
from constraintlang.scales import scales_of
from constraintlang.semantics import (
    evaluate,
    evaluate_distribution,
    number,
    statement_holds,
    statistic,
    violation_rate,
)

many = settings(max_examples=60, deadline=None)
ATTRIBUTES = (
    check_source(
        DECLARATIONS + "toxicity + empathy < 2 and words + sentences < 9 and slur and refusal and ssn"
    )
    .require()
    .attributes
)
STRICT = {"<=": "<", ">=": ">"}
SLACK = {"<": "<=", ">": ">="}
levels = st.sampled_from(["0.25", "0.5", "0.8", "0.95"]).map(Decimal)
tolerances = st.sampled_from(["0", "0.1", "0.25", "0.5"]).map(Decimal)


def name(text):
    return n.Name(parts=(text,))


def literal(value):
    return n.Number(value=Decimal(value))


def compare(left, operator, right):
    return n.Compare(operands=(left, right), operators=(operator,))


def apply(function, *arguments):
    return n.Apply(function=function, arguments=arguments)


POINTWISE, DISTRIBUTION = (
    check_source(DECLARATIONS + "toxicity < 1\nmean(toxicity) < 1\n").require().statements
)


def pointwise(formula, tolerance):
    return dataclasses.replace(
        POINTWISE, formula=formula, always=tolerance == 0, tolerance=Decimal(tolerance)
    )


def distribution(formula):
    return dataclasses.replace(DISTRIBUTION, formula=formula)


# ---------------------------------------------------------------- 11: loosening
def moved(end, up, steps):
    """A threshold moved up or down by the next step."""
    return literal(end.value + next(steps) * (1 if up else -1))


def loosened(formula, steps, wanted=True):
    """The formula with every threshold moved so that it is easier to satisfy; harder where ``wanted`` is False."""
    match formula:
        case n.Not(operand=operand):
            return n.Not(operand=loosened(operand, steps, not wanted))
        case n.And(operands=operands) | n.Or(operands=operands):
            return type(formula)(operands=tuple(loosened(part, steps, wanted) for part in operands))
        case n.Implies(left=left, right=right):
            return n.Implies(left=loosened(left, steps, not wanted), right=loosened(right, steps, wanted))
        case n.Compare(operands=(left, right), operators=(operator,)) if operator not in ("==", "!="):
            return compare(left, operator, moved(right, (operator in ("<", "<=")) == wanted, steps))
        case n.InRange(operand=operand, low=low, high=high):
            return n.InRange(
                operand=operand, low=moved(low, not wanted, steps), high=moved(high, wanted, steps)
            )
        case _:
            return formula


steps = st.lists(st.integers(0, 6).map(lambda k: Decimal(k) / 10), min_size=1, max_size=6)


@many
@given(seq_formulas, steps, laws(scores), tolerances, tolerances)
def test_11_a_looser_threshold_never_turns_holds_into_violated(formula, by, law, tolerance, other):
    loose = loosened(formula, cycle(by))
    for _, values in law:
        assert evaluate(formula, values) is not True or evaluate(loose, values) is True
        assert evaluate(loose, values) is not False or evaluate(formula, values) is False
    low, high = sorted((tolerance, other))
    tight, easier = pointwise(formula, low), pointwise(loose, high)
    # The rate is what training pays for: it never rises.
    assert violation_rate(easier, law) <= violation_rate(tight, law)
    assert not statement_holds(tight, law) or statement_holds(easier, law)
    assert not statement_holds(tight, law) or statement_holds(pointwise(formula, high), law)


@settings(max_examples=200, deadline=None)
@given(dist_formulas, steps, laws())
def test_11_on_the_distribution(formula, by, law):
    assert evaluate_distribution(formula, law) is not True or (
        evaluate_distribution(loosened(formula, cycle(by)), law) is True
    )


# ---------------------------------------------------------------- 12: strict and not strict
def turned(formula, table):
    """The formula with comparison signs exchanged."""
    match formula:
        case n.Not(operand=operand):
            return n.Not(operand=turned(operand, table))
        case n.And(operands=operands) | n.Or(operands=operands):
            return type(formula)(operands=tuple(turned(part, table) for part in operands))
        case n.Implies(left=left, right=right):
            return n.Implies(left=turned(left, table), right=turned(right, table))
        case n.Compare(operators=operators):
            return replace(formula, operators=tuple(table.get(sign, sign) for sign in operators))
        case _:
            return formula


def margin_of(formula, values):
    scales, valuation = scales_of(formula, ATTRIBUTES), on_response(values)
    return margin(normal_form(formula), CRISP, lambda atom: atom_margin(atom, valuation, scales, ATTRIBUTES))


@settings(max_examples=200, deadline=None)
@given(seq_formulas, known_scores)
def test_12_strict_and_not_strict_differ_only_at_equality(formula, values):
    strict, slack = turned(formula, STRICT), turned(formula, SLACK)
    links = [atom for atom in atoms(normal_form(formula)) if isinstance(atom, Link)]
    meets = any(number(link.left, values) == number(link.right, values) for link in links)
    assert evaluate(strict, values) is evaluate(slack, values) or meets
    # The margin does not tell them apart: the verdict beside it does.
    assert margin_of(strict, values) == margin_of(slack, values)


@many
@given(st.sampled_from([*SCORES, *COUNTS]), known_scores, laws())
def test_12_at_equality_the_verdict_shows_it(attribute, values, law):
    at, mean = literal(values[attribute]), statistic(apply("mean", name(attribute)), law)
    for slack, strict in (("<=", "<"), (">=", ">")):
        assert evaluate(compare(name(attribute), slack, at), values) is True
        assert evaluate(compare(name(attribute), strict, at), values) is False
        exact = Decimal(mean.numerator) / Decimal(mean.denominator)
        if Fraction(exact) == mean:
            bounds = [
                compare(apply("mean", name(attribute)), sign, literal(exact)) for sign in (slack, strict)
            ]
            assert [evaluate_distribution(bound, law) for bound in bounds] == [True, False]


# ---------------------------------------------------------------- 13, 14: the readings of one threshold
def readings(attribute, operator, threshold, level):
    """What follows from ``always attribute operator threshold``, by name."""
    bound, score = literal(threshold), name(attribute)
    broken = n.Not(operand=compare(score, operator, bound))
    found = {
        "mean": compare(apply("mean", score), operator, bound),
        "P": compare(apply("P", broken), "<=", literal(0)),
        "quantile": compare(apply("quantile", score, literal(level)), operator, bound),
        "cvar": compare(apply("cvar", score, literal(level)), operator, bound),
    }
    return {key: distribution(formula) for key, formula in found.items()}


@many
@given(
    st.sampled_from([*SCORES, *COUNTS]),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.integers(0, 6),
    levels,
    laws(),
)
def test_13_always_implies_every_reading(attribute, operator, k, level, law):
    threshold = Decimal(k) if attribute in COUNTS else Decimal(k) / 6
    threshold = threshold.quantize(Decimal("0.1"))
    values = [row[1][attribute] for row in law]
    # Half of the thresholds are made true of the law, so that the property often says something.
    if k % 2:
        threshold = max(values) if operator[0] == "<" else min(values)
    always = pointwise(compare(name(attribute), operator, literal(threshold)), 0)
    for key, found in readings(attribute, operator, threshold, level).items():
        assert not statement_holds(always, law) or statement_holds(found, law), key


@many
@given(
    st.sampled_from(SCORES),
    st.integers(1, 10).map(lambda k: Decimal(k) / 10),
    levels,
    st.integers(1, 9).map(lambda k: Fraction(k, 10)),
    known_scores,
)
def test_14_no_reading_implies_always(attribute, threshold, level, share, values):
    """Of a law with a small enough mass on the threshold, and else 0, the mean and the tails stay below it."""
    mass = share * (1 - Fraction(level))
    law = [(1 - mass, {**values, attribute: Decimal(0)}), (mass, {**values, attribute: threshold})]
    held = {
        key: statement_holds(found, law) for key, found in readings(attribute, "<", threshold, level).items()
    }
    assert held == {"mean": True, "P": False, "quantile": True, "cvar": True}
    formula = compare(name(attribute), "<", literal(threshold))
    assert not statement_holds(pointwise(formula, 0), law)
    assert statement_holds(pointwise(formula, "0.05"), law) == (mass <= Fraction(1, 20))


# ---------------------------------------------------------------- 15, 17, 18: chances and quantiles
@st.composite
def round_laws(draw):
    """Laws in fifths, whose distribution functions often meet a level exactly."""
    cuts = sorted(draw(st.sets(st.integers(1, 4), max_size=4)))
    ends = [0, *cuts, 5]
    return [(Fraction(high - low, 5), draw(known_scores)) for low, high in pairwise(ends)]


fifths = st.integers(1, 4).map(lambda k: Decimal(k) / 5)


@settings(max_examples=200, deadline=None)
@given(seq_terms, fifths, score_values | count_values, round_laws())
def test_15_a_quantile_bound_is_a_bound_on_a_chance(term, level, threshold, law):
    bound = literal(threshold)
    tail = compare(apply("quantile", term, literal(level)), "<=", bound)
    chance = compare(apply("P", compare(term, "<=", bound)), ">=", literal(level))
    assert evaluate_distribution(tail, law) is evaluate_distribution(chance, law)


@many
@given(seq_terms, st.integers(1, 10).map(lambda k: Decimal(k) / 10), laws())
def test_17_markov(term, threshold, law):
    assume(all(number(term, values) >= 0 for _, values in law))
    chance = statistic(apply("P", compare(term, ">=", literal(threshold))), law)
    assert chance * Fraction(threshold) <= statistic(apply("mean", term), law)


@many
@given(seq_formulas, seq_formulas, laws())
def test_18_chances_add_up_and_are_monotone(one, other, law):
    def chance(formula):
        return statistic(apply("P", formula), law)

    assert chance(one) + chance(n.Not(operand=one)) == 1
    both, either = n.And(operands=(one, other)), n.Or(operands=(one, other))
    assert chance(both) <= chance(one) <= chance(either)
    assert chance(both) + chance(either) == chance(one) + chance(other)
