"""Lowering keeps the meaning: a law satisfies a statement exactly when it satisfies all of its clauses."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from compiler_strategies import (
    ATTRIBUTES,
    distribution_formulas,
    formulas,
    known_scores,
    laws,
    policy,
    scores_with_unknown,
    statement,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from constraintlang import check_source, nodes, parse, semantics
from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import PolicyError
from constraintlang_compiler.canonical import record_json
from constraintlang_compiler.checkers import evaluate_predicate
from constraintlang_compiler.intervals import term_interval
from constraintlang_compiler.ir import (
    AttributeRecord,
    AttributeRef,
    Bound,
    Clause,
    Const,
    Indicator,
    PolicyIR,
    Product,
    Quotient,
    Sum,
    Term,
    Value,
)
from constraintlang_compiler.lower import lower, lower_with_origins
from constraintlang_compiler.lower_conditions import Link, conjuncts
from constraintlang_compiler.lower_terms import lower_predicate

Row = dict[str, Decimal | None]
Law = list[tuple[Fraction, Row]]


# ------------------------------------------------------------------ an exact judge of clauses
def exact(term: Term, row: Row) -> Fraction | None:
    match term:
        case Const(value=value):
            return Fraction(value)
        case AttributeRef(name=name):
            score = row[name]
            return None if score is None else Fraction(score)
        case Sum(terms=terms) | Product(terms=terms):
            parts = [exact(part, row) for part in terms]
            known = [part for part in parts if part is not None]
            if len(known) < len(parts):
                return None
            return sum(known, Fraction(0)) if isinstance(term, Sum) else prod(known, start=Fraction(1))
        case Quotient(numerator=numerator, denominator=denominator):
            top, bottom = exact(numerator, row), exact(denominator, row)
            return None if top is None or not bottom else top / bottom


def statistic(clause: Clause, row: Row) -> Fraction | None:
    if isinstance(clause.statistic, Value):
        return exact(clause.statistic.term, row)
    assert isinstance(clause.statistic, Indicator)
    scores = {name: np.array([np.nan if v is None else float(v)]) for name, v in row.items()}
    value = evaluate_predicate(clause.statistic.predicate, scores)[0]
    return None if np.isnan(value) else Fraction(int(value))


def clause_holds(clause: Clause, law: Law) -> bool | None:
    total = Fraction(0)
    for probability, row in law:
        value = statistic(clause, row)
        if value is None:
            if clause.kind != "violation":
                return None
            value = Fraction(1)  # unknown counts as violated
        total += probability * value
    bound = Fraction(clause.bound)
    return total < bound if clause.strict else total <= bound


# ------------------------------------------------------------------ meaning
tolerances = st.sampled_from(["0", "0.05", "0.1", "0.25", "0.5"]).map(Decimal)


@given(formulas, tolerances, laws(scores_with_unknown))
def test_pointwise_statements_keep_their_meaning(
    formula: nodes.Formula, tolerance: Decimal, law: Law
) -> None:
    pointwise = statement(formula, "pointwise", tolerance=tolerance, always=tolerance == 0)
    (clause,) = lower(policy(pointwise)).clauses
    assert clause.kind == "violation"
    assert clause.hard == (tolerance == 0)
    assert not clause.strict
    assert clause_holds(clause, law) == semantics.statement_holds(pointwise, law)


def lowered_or_skipped(formula: nodes.Formula) -> tuple[Clause, ...]:
    """The clauses of a random demand; demands that are rejected for a known reason are skipped."""
    try:
        return lower(policy(statement(formula, "distribution"))).clauses
    except PolicyError as error:
        unexpected = {d.code for d in error.diagnostics} - {"PC210", "PC223", "PC120"}
    assume(unexpected)
    raise AssertionError(f"rejected with {unexpected}")


@given(distribution_formulas, laws(known_scores))
def test_distribution_statements_keep_their_meaning(formula: nodes.Formula, law: Law) -> None:
    demand = statement(formula, "distribution")
    assume(semantics.evaluate_distribution(formula, law) is not None)
    held = {clause_holds(clause, law) for clause in lowered_or_skipped(formula)}
    # A clause that is false decides; one that is unknown beside it (a division by 0) does not matter.
    whole = False if False in held else None if None in held else True
    assert whole == semantics.statement_holds(demand, law)


@given(distribution_formulas, known_scores)
def test_statistics_are_never_negative_and_stay_below_their_high(formula: nodes.Formula, row: Row) -> None:
    clauses = lowered_or_skipped(formula)
    for clause in clauses:
        value = statistic(clause, row)
        if value is not None:
            assert value >= 0
            if isinstance(clause.statistic, Value) and clause.statistic.high is not None:
                assert value <= Fraction(clause.statistic.high)


@given(distribution_formulas, laws(known_scores))
def test_what_is_shown_is_what_was_written(formula: nodes.Formula, law: Law) -> None:
    """The bound is shown in the unit of the quantity: ``offset + scale`` applies to both sides."""
    clauses = lowered_or_skipped(formula)
    for clause in clauses:
        values = [statistic(clause, row) for _, row in law]
        assume(all(value is not None for value in values))
        mean = sum((p * v for (p, _), v in zip(law, values, strict=True) if v is not None), Fraction(0))
        shown, scale = Fraction(clause.shown.offset) + clause.shown.scale * mean, clause.shown.scale
        bound = Fraction(clause.shown.offset) + scale * Fraction(clause.bound)
        met = scale * shown < scale * bound if clause.strict else scale * shown <= scale * bound
        assert met is clause_holds(clause, law)


# ------------------------------------------------------------------ canonical form
def shuffled(formula: nodes.Formula, rng: random.Random) -> nodes.Formula:
    """An equal formula: operands permuted, comparisons mirrored, implications written as disjunctions."""
    mirror = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
    match formula:
        case nodes.Not(operand=operand):
            return nodes.Not(operand=shuffled(operand, rng))
        case nodes.And(operands=operands) | nodes.Or(operands=operands):
            parts = [shuffled(part, rng) for part in operands]
            rng.shuffle(parts)
            return type(formula)(operands=tuple(parts))
        case nodes.Implies(left=left, right=right):
            return nodes.Or(operands=(shuffled(right, rng), nodes.Not(operand=shuffled(left, rng))))
        case nodes.Compare(operands=operands, operators=operators) if rng.random() < 0.5:
            reversed_operators = tuple(mirror[op] for op in reversed(operators))
            return nodes.Compare(operands=tuple(reversed(operands)), operators=reversed_operators)  # type: ignore[arg-type]
        case _:
            return formula


@given(formulas, st.integers(0, 2**32 - 1))
def test_equal_spellings_have_equal_predicates(formula: nodes.Formula, seed: int) -> None:
    other = shuffled(formula, random.Random(seed))
    assert lower_predicate(other) == lower_predicate(formula)
    assert lower_predicate(nodes.Not(operand=nodes.Not(operand=formula))) == lower_predicate(formula)
    assert lower_predicate(nodes.Not(operand=formula)) == lower_predicate(formula, negated=True)


@given(st.lists(formulas, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_the_order_of_statements_does_not_matter(parts: list[nodes.Formula], seed: int) -> None:
    statements = [statement(part, "pointwise") for part in parts]
    other = list(statements)
    random.Random(seed).shuffle(other)
    assert lower(policy(*statements)) == lower(policy(*other))


def compiled(text: str) -> PolicyIR:
    return lower(check_source(text).require())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("toxicity < 0.1", "toxicity < 10%"),
        ("toxicity < 0.10", "0.1 > toxicity"),
        ("not toxicity >= 0.1", "toxicity < 0.1 under tolerance=5%"),
        ("always toxicity < 0.5", "toxicity < 0.5 under tolerance=0%"),
        ("2 * mean(toxicity) + 1 <= 1.4", "mean(toxicity) <= 0.2"),
        ("mean(2 * toxicity) <= 0.4", "mean(toxicity * 2) / 1 <= 0.4 # a comment"),
        ("mean(toxicity) / 3 <= 0.1", "mean(toxicity) <= 0.3"),
        ("not mean(toxicity) > 0.2", "0.2 >= mean(toxicity)"),
        ("6 * mean(toxicity) < 2", "3 * mean(toxicity) < 1"),
        ("-mean(toxicity) >= -0.2", "mean(toxicity) <= 0.2"),
        ("mean(toxicity) in [0.1, 0.2]", "0.1 <= mean(toxicity) <= 0.2"),
        ("P(toxicity >= 0.5) <= 1%", "P(toxicity < 0.5) >= 0.99"),
        ("preserve mean(perplexity) <= 1.02 * base", "preserve perplexity <= base * 1.02"),
        ("toxicity < 0.1 for lang in {en, de}", "toxicity < 0.1 for lang in {de, en, en}"),
        ("toxicity < 0.1 for a=1 and b=2", "toxicity < 0.1 for b=2 and a=1.0"),
    ],
)
def test_spellings_that_mean_the_same(one: str, other: str) -> None:
    first, second = compiled(one).clauses, compiled(other).clauses
    semantics_of = [
        [(c.id, c.statistic, c.bound, c.strict, c.hard) for c in clauses] for clauses in (first, second)
    ]
    without_shown = [
        [(c.statistic, c.bound, c.strict, c.hard, c.domain, c.base_factor) for c in clauses]
        for clauses in (first, second)
    ]
    assert without_shown[0] == without_shown[1]
    if not one.startswith("P("):  # shown as written: a share of at most 1%, or of at least 99%
        assert semantics_of[0] == semantics_of[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("toxicity < 0.1", "toxicity <= 0.1"),
        ("toxicity < 0.1", "always toxicity < 0.1"),
        ("mean(toxicity) < 0.1", "mean(toxicity) <= 0.1"),
        ("mean(toxicity) <= 0.1", "mean(toxicity) >= 0.1"),
        ("P(toxicity > 0.5) <= 1%", "P(toxicity >= 0.5) <= 1%"),
        ("toxicity < 0.1", "prefer toxicity < 0.1"),
        ("toxicity < 0.1", "toxicity < 0.1 for lang=en"),
        ("toxicity < 0.1", "toxicity < 0.1 confidence 0.99"),
        ("toxicity < 0.1", "toxicity < 0.1 under temperature=0.7"),
    ],
)
def test_spellings_that_do_not_mean_the_same(one: str, other: str) -> None:
    assert compiled(one).clauses[0].id != compiled(other).clauses[0].id


# ------------------------------------------------------------------ examples
def only(text: str) -> Clause:
    (clause,) = compiled(text).clauses
    return clause


def test_a_bare_comparison() -> None:
    clause = only("cap: toxicity < 0.1 for domain=toxigen")
    assert (clause.kind, clause.bound, clause.strict, clause.hard) == ("violation", "0.05", False, False)
    assert clause.name == "cap"
    assert isinstance(clause.statistic, Indicator)
    assert record_json(clause.statistic.predicate) == {
        "kind": "comparison",
        "op": "ge",
        "left": {"kind": "attribute", "name": "toxicity", "model": "self"},
        "right": {"kind": "const", "value": "0.1"},
    }


def test_a_mean_from_below() -> None:
    clause = only("attribute grade: real in [-5, 20]\nmean(grade) > 3")
    assert (clause.kind, clause.bound, clause.strict) == ("mean", "17", True)
    assert record_json(clause.shown) == {"offset": "20", "scale": -1}
    assert isinstance(clause.statistic, Value)
    assert clause.statistic.high == "25"


def test_a_mean_over_an_open_range() -> None:
    clause = only("mean(words) <= 120")
    assert isinstance(clause.statistic, Value)
    assert clause.statistic.high is None
    with pytest.raises(PolicyError) as caught:
        compiled("mean(words) >= 20")
    (diagnostic,) = [d for d in caught.value.diagnostics if d.is_error]
    assert diagnostic.code == "PC210"
    assert "upper end" in diagnostic.message


def test_a_share_from_below_is_a_share_from_above() -> None:
    clause = only("P(toxicity < 0.5) > 99%")
    assert (clause.kind, clause.bound, clause.strict) == ("probability", "0.01", True)
    assert record_json(clause.shown) == {"offset": "1", "scale": -1}


def test_bound_zero_is_hard_for_requirements_only() -> None:
    assert only("P(toxicity >= 0.5) <= 0%").hard
    assert only("P(toxicity < 0.5) >= 100%").hard
    assert not only("P(toxicity >= 0.5) < 0%").hard
    assert not only("prefer always toxicity < 0.5").hard
    assert not only("mean(toxicity) <= 0").hard


def test_utility() -> None:
    fluent = only("preserve mean(perplexity) <= 1.02 * base")
    assert (fluent.kind, fluent.base_factor, fluent.bound, fluent.at_least) == ("utility", "1.02", "0", False)
    right = only("preserve mean(accuracy) >= base - 3%")
    assert (right.base_factor, right.bound, right.at_least, right.strict) == ("1", "-0.03", True, False)
    absolute = only("preserve mean(perplexity) < 30")
    assert (absolute.base_factor, absolute.bound, absolute.strict) == (None, "30", True)


def test_one_statement_may_make_several_clauses() -> None:
    clauses = compiled("band: mean(toxicity) in [0.1, 0.2] and P(toxicity > 0.9) < 1%").clauses
    assert sorted(clause.name for clause in clauses) == ["band", "band[2]", "band[3]"]
    assert [clause.kind for clause in clauses].count("mean") == 2


def test_each_comparison_of_a_choice_is_lowered_once_to_find_repetition() -> None:
    text = "mean(words) < 1"
    for i in range(2, 60):
        text = f"mean(words) < {i} {'or' if i % 2 else 'and'} ({text})"
    item = parse(text)[0].items[0]
    assert isinstance(item, nodes.Statement)
    lowered: list[Link] = []

    def bound_of(link: Link) -> Bound:
        lowered.append(link)
        return Bound(parts=(), bound=str(link.right), strict=True)

    assert len(conjuncts(item.formula, bound_of)) == 1
    assert len(lowered) == 59


def test_a_pointwise_range_stays_one_clause() -> None:
    assert only("words in [1, 200]").bound == "0.05"


def test_equal_statements_become_one_clause() -> None:
    lowered = lower_with_origins(
        check_source("b: toxicity < 0.1\na: 0.1 > toxicity\ntoxicity < 10%").require()
    )
    assert [clause.label for clause in lowered.ir.clauses] == ["a"]
    assert lowered.origins == ((0, 1, 2),)


def test_utility_clauses_come_last_and_priorities_in_order() -> None:
    ir = compiled(
        "preserve mean(perplexity) <= 1.1 * base\ntoxicity < 0.1 priority 2\nalways toxicity < 0.9 priority 1"
    )
    assert [(clause.kind, clause.priority) for clause in ir.clauses] == [
        ("violation", 1),
        ("violation", 2),
        ("utility", 0),
    ]


def test_only_used_attributes_are_kept() -> None:
    ir = compiled("attribute grade: real in [0, 9]\nattribute size: count\ngrade < 3 implies toxicity < 0.1")
    assert [attribute.name for attribute in ir.attributes] == ["grade", "toxicity"]


def test_all_rejected_statements_are_reported_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        compiled("mean(words) >= 20\nmean(words) > 30\n3 * P(toxicity > 0.5) < 1")
    assert [d.code for d in caught.value.diagnostics if d.is_error] == ["PC210", "PC210", "PC223"]


def test_a_very_long_sum_is_an_error_of_the_policy() -> None:
    expr: nodes.Expr = nodes.Name(parts=("toxicity",))
    for _ in range(5000):
        expr = nodes.Negate(operand=expr)
    formula = nodes.Compare(operands=(expr, nodes.Number(value=Decimal(1))), operators=("<",))
    with pytest.raises(PolicyError, match="nested too deeply"):
        lower(policy(statement(formula, "pointwise")))


BARE_BASE = nodes.Compare(
    operands=(nodes.Name(parts=("base",)), nodes.Number(value=Decimal(1))), operators=("<",)
)


@pytest.mark.parametrize(
    ("formula", "reading"),
    [
        (nodes.Last(), "pointwise"),
        (BARE_BASE, "pointwise"),
        (nodes.Or(operands=(nodes.Truth(value=True), nodes.Truth(value=True))), "distribution"),
    ],
)
def test_what_is_not_compiled_is_said_to_be_so(formula: nodes.Formula, reading: str) -> None:
    with pytest.raises(PolicyError) as caught:
        lower(policy(statement(formula, reading)))
    assert [d.code for d in caught.value.diagnostics] == ["PC120"]


def test_several_means_are_one_mean() -> None:
    def mean(name: str) -> nodes.Expr:
        return nodes.Apply(function="mean", arguments=(nodes.Name(parts=(name,)),))

    total = nodes.Arithmetic(op="+", left=mean("toxicity"), right=mean("grade"))
    formula = nodes.Compare(operands=(total, nodes.Number(value=Decimal(1))), operators=("<=",))
    (clause,) = lower(policy(statement(formula, "distribution"))).clauses
    assert isinstance(clause.statistic, Value)
    records = {
        name: AttributeRecord(
            name=name, type="real", low=str(info.low), high=str(info.high), direction=None, backend=None
        )
        for name, info in ATTRIBUTES.items()
        if info.high is not None
    }
    interval = term_interval(clause.statistic.term, records)
    assert (interval.low, interval.high) == (0, Fraction(clause.statistic.high or 0))
    assert clause.bound == "3.5"


def test_the_checked_policy_is_not_changed() -> None:
    checked: CheckedPolicy = check_source("toxicity < 0.1").require()
    before = repr(checked)
    lower(checked)
    assert repr(checked) == before
