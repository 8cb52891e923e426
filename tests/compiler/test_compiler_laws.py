"""Lowering of several statistics, conditions, both models and `or` keeps the meaning: judged on finite laws."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import prod

import numpy as np
import pytest
from compiler_strategies import (
    any_demands,
    plain_demands,
    plain_differences,
    policy,
    relative_demands,
    statement,
    tagged_laws,
    toxicity_laws,
)
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from constraintlang import SourceFile, check_source, nodes, semantics, tails
from constraintlang.diagnostics import PolicyError
from constraintlang.vocabulary import BACKENDS
from constraintlang_compiler.artifact_format import semantics_json
from constraintlang_compiler.checkers import evaluate_predicate
from constraintlang_compiler.domains import matches
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.errors import StratumError
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.hinges import at_eta, quantile_bound
from constraintlang_compiler.ir import (
    AllOf,
    AttributeRef,
    Bound,
    Choice,
    Clause,
    Combination,
    Condition,
    Const,
    DomainPredicate,
    Hinge,
    Indicator,
    Part,
    PolicyIR,
    Predicate,
    Product,
    Quotient,
    Share,
    Sum,
    Term,
    Value,
)
from constraintlang_compiler.lower import lower
from constraintlang_compiler.strata import expand_strata

Row = dict[str, Decimal]
Law = list[tuple[Fraction, Row, dict[str, str]]]


# ------------------------------------------------------------------ an exact judge of clauses
def value_of(term: Term, row: Row) -> Fraction:
    match term:
        case Const(value=value):
            return Fraction(value)
        case AttributeRef(name=name):
            return Fraction(row[name])
        case Sum(terms=terms):
            return sum((value_of(part, row) for part in terms), Fraction(0))
        case Product(terms=terms):
            return prod((value_of(part, row) for part in terms), start=Fraction(1))
        case Quotient(numerator=numerator, denominator=denominator):
            return value_of(numerator, row) / value_of(denominator, row)


def truth(predicate: Predicate, row: Row) -> Fraction | None:
    scores = {name: np.array([float(value)]) for name, value in row.items()}
    found = evaluate_predicate(predicate, scores)[0]
    return None if np.isnan(found) else Fraction(int(found))


def within(law: Law, domain: DomainPredicate | None) -> Law:
    rows = [row for row in law if matches(domain, row[2])]
    mass = sum((row[0] for row in rows), Fraction(0))
    return [(p / mass, row, tags) for p, row, tags in rows]


def mean(values: list[tuple[Fraction, Fraction]]) -> Fraction:
    return sum((p * v for p, v in values), Fraction(0))


def part_value(part: Part, law: Law, base: Law) -> Fraction | None:
    rows = within(law if part.model == "self" else base, part.given)
    if not rows:
        return None
    quantity = part.quantity
    if isinstance(quantity, Share):
        truths = [(p, truth(quantity.predicate, row)) for p, row, _ in rows]
        known = [(p, t) for p, t in truths if t is not None]
        return Fraction(part.factor) * mean(known) if len(known) == len(truths) else None
    values = [(p, value_of(quantity.term, row)) for p, row, _ in rows]
    if quantity.function == "mean":
        found = mean(values)
    else:
        found = getattr(tails, quantity.function)(values, Fraction(quantity.level or 0))
    return Fraction(part.factor) * found


def meets(condition: Condition, law: Law, base: Law) -> bool:
    if not isinstance(condition, Bound):
        judge = all if isinstance(condition, AllOf) else any
        return judge([meets(operand, law, base) for operand in condition.operands])
    values = [part_value(part, law, base) for part in condition.parts]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return False
    total, bound = sum(known, Fraction(0)), Fraction(condition.bound)
    return total < bound if condition.strict else total <= bound


def clause_holds(clause: Clause, law: Law, base: Law) -> bool:
    law, base = within(law, clause.domain), within(base, clause.domain)
    if not law:
        return False
    statistic = clause.statistic
    if isinstance(statistic, Choice):
        return any([meets(operand, law, base) for operand in statistic.operands])
    if isinstance(statistic, Combination):
        return meets(Bound(parts=statistic.parts, bound=clause.bound, strict=clause.strict), law, base)
    bound = Fraction(clause.bound)
    if isinstance(statistic, Hinge):
        values = [(p, value_of(statistic.term, row)) for p, row, _ in law]
        total = tails.cvar(values, Fraction(statistic.level))
    else:
        found = expectation(statistic, law)
        if found is None:
            return False
        total = found
        if clause.base_factor is not None:
            own = expectation(statistic, base)
            if own is None:
                return False
            shown = Fraction(clause.shown.offset) + clause.shown.scale * own
            bound += clause.shown.scale * Fraction(clause.base_factor) * shown
    return total < bound if clause.strict else total <= bound


def expectation(statistic: object, law: Law) -> Fraction | None:
    if not law:
        return None
    if isinstance(statistic, Value):
        return mean([(p, value_of(statistic.term, row)) for p, row, _ in law])
    assert isinstance(statistic, Indicator)
    truths = [(p, truth(statistic.predicate, row)) for p, row, _ in law]
    known = [(p, t) for p, t in truths if t is not None]
    return mean(known) if len(known) == len(truths) else None


# ------------------------------------------------------------------ meaning
EXPECTED = {"PC210", "PC223", "PC226", "PC120"}


def lowered_or_skipped(formula: nodes.Formula) -> PolicyIR:
    """The clauses of a random demand; what is refused for a known reason is skipped."""
    try:
        return lower(policy(statement(formula, "distribution")))
    except PolicyError as error:
        unexpected = {d.code for d in error.diagnostics} - EXPECTED
    assume(unexpected)
    raise AssertionError(f"rejected with {unexpected}")


def judged_alike(formula: nodes.Formula, law: Law, base: Law) -> None:
    clauses = lowered_or_skipped(formula).clauses
    expected = semantics.evaluate_distribution(formula, law, base) is True
    assert all([clause_holds(clause, law, base) for clause in clauses]) == expected


@settings(max_examples=150, deadline=None)
@given(any_demands | any_demands.map(lambda f: nodes.Not(operand=f)), tagged_laws(), tagged_laws())
def test_demands_keep_their_meaning(formula: nodes.Formula, law: Law, base: Law) -> None:
    judged_alike(formula, law, base)


@settings(max_examples=200, deadline=None)
@given(plain_demands, toxicity_laws)
def test_plain_demands_keep_their_meaning(formula: nodes.Formula, law: Law) -> None:
    judged_alike(formula, law, law)


@settings(max_examples=150, deadline=None)
@given(relative_demands, toxicity_laws, toxicity_laws)
def test_demands_relative_to_the_base_keep_their_meaning(formula: nodes.Formula, law: Law, base: Law) -> None:
    judged_alike(formula, law, base)


@settings(max_examples=150, deadline=None)
@given(plain_differences, toxicity_laws)
def test_differences_keep_their_meaning(formula: nodes.Formula, law: Law) -> None:
    judged_alike(formula, law, law)


@settings(max_examples=60, deadline=None)
@given(any_demands)
def test_the_canonical_text_of_a_demand_has_the_same_hash(formula: nodes.Formula) -> None:
    ir = lowered_or_skipped(formula)
    front = check_and_lower(SourceFile(canonical_policy(ir)))
    # The strategies know no units and no ranges.
    assume(not {"PC204", "PC205"} & {d.code for d in front.diagnostics})
    assert front.lowered is not None, [d.message for d in front.diagnostics if d.is_error]
    assert [clause.id for clause in front.lowered.ir.clauses] == [clause.id for clause in ir.clauses]


BACKEND_TEXTS = [
    *(shape.example for shape in BACKENDS.values()),
    'classifier("m", label="1", revision="1234567")',
    'classifier("true", label="true", revision="0.5")',
    'python("a:b", deterministic=false)',
    'lexicon("a \\"b\\" \\\\ \\u200b.txt")',
]


@pytest.mark.parametrize("backend", BACKEND_TEXTS)
def test_the_canonical_text_of_a_backend_has_the_same_hash(backend: str) -> None:
    type = BACKENDS[backend.partition("(")[0]].types[0]
    demand = {"flag": "a", "int": "a < 5", "count": "a < 5"}.get(type, "a < 0.5")
    front = check_and_lower(SourceFile(f"attribute a: {type} {{ backend = {backend} }}\n{demand}"))
    assert front.lowered is not None, [d.message for d in front.diagnostics]
    ir = front.lowered.ir
    again = check_and_lower(SourceFile(canonical_policy(ir)))
    assert again.lowered is not None, [d.message for d in again.diagnostics]
    assert semantics_json(again.lowered.ir) == semantics_json(ir)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["0.1", "0.3", "0.5"]),
    st.sampled_from(["0.5", "0.8", "0.9"]),
    tagged_laws(),
    st.integers(0, 10).map(lambda k: Fraction(k, 10)),
)
def test_the_hinge_at_an_eta_is_sound_and_at_the_best_one_exact(
    threshold: str, level: str, law: Law, eta: Fraction
) -> None:
    (clause,) = compiled(f"cvar(toxicity, {level}) <= {threshold}").clauses
    held = clause_holds(clause, law, law)
    values = [(p, Fraction(row["toxicity"])) for p, row, _ in law]
    best = tails.quantile(values, Fraction(level))
    assert hinge_holds(at_eta(clause, best), law) == held
    if hinge_holds(at_eta(clause, eta), law):
        assert held


def hinge_holds(clause: Clause, law: Law) -> bool:
    assert isinstance(clause.statistic, Value)
    total = mean([(p, max(value_of(clause.statistic.term, row), Fraction(0))) for p, row, _ in law])
    return total <= Fraction(clause.bound)


def compiled(text: str) -> PolicyIR:
    return lower(check_source(text).require())


# ------------------------------------------------------------------ examples
def only(text: str) -> Clause:
    (clause,) = compiled(text).clauses
    return clause


@pytest.mark.parametrize(
    ("text", "bound", "strict", "op"),
    [
        ("quantile(toxicity, 0.95) <= 0.3", "0.05", False, "gt"),
        ("quantile(toxicity, 0.95) < 0.3", "0.05", False, "ge"),
        ("quantile(toxicity, 0.95) >= 0.3", "0.95", True, "lt"),
        ("quantile(toxicity, 0.95) > 0.3", "0.95", True, "le"),
        ("median(toxicity) <= 0.3", "0.5", False, "gt"),
        ("0.9 - 2 * quantile(toxicity, 0.95) >= 0.3", "0.05", False, "gt"),
        ("not quantile(toxicity, 0.95) > 0.3", "0.05", False, "gt"),
    ],
)
def test_a_quantile_is_a_chance(text: str, bound: str, strict: bool, op: str) -> None:
    clause = only(text)
    assert (clause.kind, clause.bound, clause.strict, clause.hard) == ("quantile", bound, strict, False)
    assert isinstance(clause.statistic, Indicator)
    assert clause.statistic.predicate.op == op  # type: ignore[union-attr]
    found = quantile_bound(clause)
    assert found.threshold == Fraction(3, 10)
    assert found.at_least == (op in ("lt", "le"))
    assert found.strict == (op in ("ge", "le"))
    assert found.level == (Fraction(1, 2) if "median" in text else Fraction(19, 20))


def test_a_cvar_from_above_is_a_hinge_and_from_below_a_combination() -> None:
    clause = only("cvar(toxicity, 0.9) <= 0.4")
    assert (clause.kind, clause.bound) == ("cvar", "0.4")
    assert isinstance(clause.statistic, Hinge)
    assert (clause.statistic.level, clause.statistic.low, clause.statistic.high) == ("0.9", "0", "1")
    settled = at_eta(clause, Fraction(3, 10))
    assert settled.bound == "0.01"
    assert isinstance(settled.statistic, Value)
    assert settled.statistic.high == "0.7"
    below = only("cvar(words, 0.9) >= 40")
    assert (below.kind, below.bound, below.shown.scale) == ("cvar", "-40", -1)
    assert isinstance(below.statistic, Combination)


def test_a_condition_on_the_prompts_is_a_domain() -> None:
    assert only("P(toxicity > 0.5 | lang=fr) <= 1%").id == only("P(toxicity > 0.5) <= 1% for lang=fr").id
    one, other = "cvar(toxicity, 0.9 | lang=fr) <= 0.4", "cvar(toxicity, 0.9) <= 0.4 for lang=fr"
    assert only(one).id == only(other).id


def test_thresholds_relative_to_the_base_model() -> None:
    less = only("mean(toxicity) <= 0.9 * base - 0.01")
    assert (less.kind, less.base_factor, less.bound, less.shown.scale) == ("mean", "0.9", "-0.01", 1)
    assert only("mean(toxicity) + 0.01 <= 0.9 * mean(toxicity@base)").id == less.id
    more = only("attribute mood: real in [-1, 1]\npreserve mean(mood) >= base + 0.1")
    assert (more.base_factor, more.bound, more.shown.offset, more.shown.scale) == ("1", "0.9", "1", -1)
    never = only("P(toxicity > 0.5) <= base")
    assert (never.kind, never.base_factor, never.bound, never.hard) == ("probability", "1", "0", False)
    tail = only("quantile(toxicity, 0.9) <= base")
    assert (tail.kind, tail.bound) == ("quantile", "0")
    assert isinstance(tail.statistic, Combination)


def test_spellings_of_differences_and_choices() -> None:
    gap = "P(toxicity > 0.5 | lang=fr) <= 1.2 * P(toxicity > 0.5 | lang=en)"
    other = "-1.2 * P(toxicity > 0.5 | lang=en) + P(toxicity > 0.5 | lang=fr) <= 0"
    assert only(gap).kind == "difference"
    assert only(gap).id == only(other).id
    one = "mean(toxicity) < 0.1 or mean(words) <= 10"
    assert only(one).id == only("mean(words) > 10 implies mean(toxicity) < 0.1").id
    assert only(one).id == only("not (mean(words) > 10 and not mean(toxicity) < 0.1)").id
    assert only("mean(toxicity) < 0.1 or 0.1 > mean(toxicity)").kind == "mean"
    assert [
        c.kind for c in compiled("(mean(toxicity) < 1 or mean(words) < 9) and mean(words) < 7").clauses
    ] == [
        "mean",
        "choice",
    ]


def test_what_training_does_not_act_on_draws_a_warning() -> None:
    trained = ("quantile(toxicity, 0.9) >= 0.3", "cvar(toxicity, 0.9) < 0.3", "mean(toxicity) <= base",
               "toxicity < 0.1 per lang", "P(toxicity > 0.1 | lang=fr) <= 1%")  # fmt: skip
    for text in trained:
        assert "PC603" not in {d.code for d in check_and_lower(SourceFile(text)).diagnostics}
    verified = {
        "cvar(words, 0.9) >= 40": "cvar from below",
        "quantile(toxicity, 0.9) <= base": "quantile relative to the base model",
        "mean(toxicity) <= P(toxicity > 0.5)": "several statistics",
        "mean(toxicity) < 0.1 or mean(words) < 9": "choice",
    }
    for text, reason in verified.items():
        found = [d for d in check_and_lower(SourceFile(text)).diagnostics if d.code == "PC603"]
        assert [d.severity for d in found] == ["warning"]
        assert reason in found[0].message


def test_nothing_about_the_model_is_an_error() -> None:
    for text in ("mean(toxicity@base) <= 0.3", "mean(toxicity) <= mean(toxicity)"):
        with pytest.raises(PolicyError) as caught:
            compiled(text)
        assert [d.code for d in caught.value.diagnostics if d.is_error] == ["PC226"]


# ------------------------------------------------------------------ strata
def test_declared_strata_are_clauses() -> None:
    ir = compiled("tag lang in {en, fr}\ntag topic in {x}\nfair: mean(toxicity) < 0.1 for topic=x per lang")
    assert sorted((c.label or "", c.stratum["lang"]) for c in ir.clauses) == [
        ("fair[lang=en]", "en"),
        ("fair[lang=fr]", "fr"),
    ]
    for clause in ir.clauses:
        assert matches(clause.domain, {"topic": "x", **clause.stratum})
        assert not matches(clause.domain, {"topic": "x"})
        assert not matches(clause.domain, clause.stratum)
    by_hand = compiled("tag lang in {en, fr}\ntag topic in {x}\nmean(toxicity) < 0.1 for topic=x and lang=fr")
    assert by_hand.clauses[0].id in {clause.id for clause in ir.clauses}
    narrowed = compiled("tag lang in {en, fr}\nmean(toxicity) < 0.1 for lang=en per lang")
    assert [clause.stratum for clause in narrowed.clauses] == [{"lang": "en"}]


def test_open_strata_come_from_the_data() -> None:
    ir = compiled("fair: mean(toxicity) < 0.1 for topic=x per lang\nwords < 9")
    rows = [
        {"topic": "x", "lang": "en"},
        {"topic": "x", "lang": 2},
        {"topic": "y", "lang": "fr"},
        {"topic": "x"},
    ]
    expanded = expand_strata(ir, rows)
    fair = [c for c in expanded.clauses if c.label is not None]
    assert [c.label for c in fair] == ["fair[lang=2]", "fair[lang=en]"]
    assert len({c.id for c in expanded.clauses}) == 3
    assert all(not c.per for c in expanded.clauses)
    assert expand_strata(compiled("words < 9"), rows) == compiled("words < 9")
    assert expand_strata(ir, [{"topic": "y", "lang": "en"}]) == ir  # it lacks prompts, not their key
    with pytest.raises(StratumError, match="`fair` is judged per `lang`, and no prompt"):
        expand_strata(ir, [{"topic": "x"}])
    with pytest.raises(StratumError, match="at most 1000"):
        expand_strata(ir, [{"topic": "x", "lang": str(i)} for i in range(1001)])


@settings(max_examples=40, deadline=None)
@given(
    tagged_laws(), st.sampled_from(["mean(toxicity) <= 0.5", "quantile(grade, 0.8) <= 1", "toxicity < 0.5"])
)
def test_strata_keep_their_meaning(law: Law, demand: str) -> None:
    attribute = "attribute grade: real in [-2.5, 4]\n"
    checked = check_source(f"edition 1\n{attribute}{demand} per lang").require()
    rows = [{key: str(value) for key, value in tags.items()} for _, _, tags in law]
    assume(any(rows))
    clauses = expand_strata(lower(checked), rows).clauses
    expected = semantics.statement_holds(checked.statements[0], law)
    assert all([clause_holds(clause, law, law) for clause in clauses]) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(["0", "0.5", "1"]),
            st.dictionaries(st.sampled_from(["lang", "topic"]), st.sampled_from(["x", "y"])),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(
        [
            "",
            "tag lang in {x, y}\ndomain d { tags = {topic} }\n",
            "tag lang in {x, y}\ntag topic in {x, y}\n",
        ]
    ),
)
@example([(1, "0", {"lang": "x", "topic": "y"}), (1, "0", {"lang": "y", "topic": "x"})], "")
def test_strata_of_two_keys_keep_their_meaning(
    rows: list[tuple[int, str, dict[str, str]]], tags: str
) -> None:
    total = sum(weight for weight, _, _ in rows)
    law = [(Fraction(w, total), {"toxicity": Decimal(score)}, dict(tags)) for w, score, tags in rows]
    checked = check_source(f"edition 1\n{tags}mean(toxicity) < 0.6 per lang, topic").require()
    expected = semantics.statement_holds(checked.statements[0], law)
    try:
        clauses = expand_strata(lower(checked), [tags for _, _, tags in rows]).clauses
    except StratumError:
        assert not expected
        return
    assert all([clause_holds(clause, law, law) for clause in clauses]) == expected
