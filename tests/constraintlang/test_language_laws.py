"""Properties 16 and 19 to 21 on typed statistics: tails, samples in any order, the base model itself, strata."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_strategies import (
    DECLARATIONS,
    dist_formulas,
    dist_statistics,
    laws,
    score_values,
    seq_formulas,
    seq_terms,
    tail_levels,
)

from constraintlang import check_source
from constraintlang import nodes as n
from constraintlang.base_model import on_base
from constraintlang.checked import CheckedStatement
from constraintlang.semantics import evaluate_distribution, number, statement_holds, statistic, where

many = settings(max_examples=60, deadline=None)
Law = list[Any]
PER = "tag lang in {en, fr}\ntoxicity < 1 per lang\nmean(toxicity) < 1 per lang\n"
POINTWISE, DISTRIBUTION = check_source(DECLARATIONS + PER).require().statements
ENGLISH = n.DomainEquals(key="lang", value=n.Scalar(value="en", kind="name"))
conditions = st.sampled_from([None, ENGLISH, n.DomainNot(operand=ENGLISH)])


def compare(left: n.Expr, operator: Any, right: n.Expr) -> n.Compare:
    return n.Compare(operands=(left, right), operators=(operator,))


@st.composite
def tagged(draw: st.DrawFn) -> Law:
    """A law whose prompts have a language, or none."""
    tags = st.sampled_from([{"lang": "en"}, {"lang": "fr"}, {}])
    return [(*row, draw(tags)) for row in draw(laws())]


# ---------------------------------------------------------------- 16: tails
@settings(max_examples=100, deadline=None)
@given(seq_terms, tail_levels, score_values, laws())
def test_16_cvar_lies_between_quantile_or_mean_and_the_largest_value(
    term: n.Expr, level: Any, threshold: Any, law: Law
) -> None:
    def value(function: str, *more: n.Expr) -> Fraction:
        found = statistic(n.Apply(function=function, arguments=(term, *more)), law)
        assert found is not None
        return found

    found = value("cvar", n.Number(value=level))
    assert max(value("quantile", n.Number(value=level)), value("mean")) <= found
    assert found <= max(Fraction(number(term, row[1]) or 0) for row in law)
    bound = n.Number(value=threshold)
    if found <= Fraction(threshold):
        above = statistic(n.Apply(function="P", arguments=(compare(term, ">", bound),)), law)
        assert above is not None
        assert above <= 1 - Fraction(level)


# ---------------------------------------------------------------- 19: samples
@settings(max_examples=200, deadline=None)
@given(dist_statistics, conditions, tagged(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_19_neither_order_nor_repetition_of_the_samples_matters(
    found: n.Apply, condition: Any, law: Law, times: int, seed: int
) -> None:
    other = [(row[0] / times, *row[1:]) for row in law for _ in range(times)]
    Random(seed).shuffle(other)
    conditional = replace(found, given=condition)
    assert statistic(conditional, other) == statistic(conditional, law)


# ---------------------------------------------------------------- 20: the base model
@many
@given(dist_statistics, conditions, tagged())
def test_20_the_base_model_itself_meets_every_bound_with_equality(
    found: n.Apply, condition: Any, law: Law
) -> None:
    own = replace(found, given=condition)
    assume(statistic(own, law) is not None)
    base = on_base(own)
    assert statistic(base, law, list(law)) == statistic(own, law)
    one = n.Arithmetic(op="*", left=n.Number(value=1), right=base)  # type: ignore[arg-type]
    held = [evaluate_distribution(compare(own, sign, one), law, list(law)) for sign in ("<=", ">=", "<", ">")]
    assert held == [True, True, False, False]


# ---------------------------------------------------------------- 21: strata
@many
@given(seq_formulas | dist_formulas, tagged())
def test_21_a_stratified_statement_holds_when_every_stratum_does(formula: Any, law: Law) -> None:
    is_distribution = isinstance(formula, n.Compare) and isinstance(formula.operands[0], n.Apply)
    of_kind = DISTRIBUTION if is_distribution else POINTWISE
    declared: CheckedStatement = dataclasses.replace(of_kind, formula=formula)
    whole = dataclasses.replace(declared, per={})
    parts = [
        where(law, n.DomainEquals(key="lang", value=n.Scalar(value=v, kind="name"))) for v in ("en", "fr")
    ]
    by_hand = [statement_holds(whole, part) for part in parts if part]
    # A declared stratum without prompts is vacuous; without a declaration the strata are those that are found.
    assert statement_holds(declared, law) == (len(by_hand) == 2 and all(by_hand))
    open_strata = dataclasses.replace(declared, per={"lang": None})
    assert statement_holds(open_strata, law) == (bool(by_hand) and all(by_hand))


def test_a_law_without_tags_has_no_strata() -> None:
    law = [(Fraction(1), dict.fromkeys(("toxicity",), 0))]
    assert not statement_holds(DISTRIBUTION, law)  # type: ignore[arg-type]
    assert statement_holds(dataclasses.replace(DISTRIBUTION, per={}), law)  # type: ignore[arg-type]
