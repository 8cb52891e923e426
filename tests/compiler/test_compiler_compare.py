"""Two policies compared: every weakening is found with a sample law that shows it; equal means equal."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from analysis_strategies import DECLARATIONS, policies_of, random_samples, rich_texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from work_count import counted

from constraintlang import check_source
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.tree import names_in
from constraintlang_compiler.analysis.compare import Change, compare
from constraintlang_compiler.analysis.match import Pair, pairs_of
from constraintlang_compiler.analysis.requirements import law_of
from constraintlang_compiler.analysis.subjects import subjects_of
from constraintlang_compiler.analysis.witness import meets
from constraintlang_compiler.bounds import clopper_pearson_upper
from constraintlang_compiler.domains import matches

FULL = """cap: toxicity < 0.1 for domain=chat
mild: toxicity < 0.5 for domain=chat and lang=en under tolerance=1%
avg: mean(toxicity) < 0.1 for domain=chat
rare: P(toxicity >= 0.5 and slur) < 0.1% for domain=chat
guard: always slur implies refusal
both: always not ssn and words < 300
kind: mean(empathy) >= 0.6 confidence 0.99
brief: words in [5, 200] under tolerance=10%
fluent: preserve mean(perplexity) <= 1.02 * base for domain=wiki
right: preserve mean(accuracy) >= base - 1% for domain=mmlu
tail: quantile(toxicity, 0.99) < 0.6 for domain=news
worst: cvar(toxicity, 0.9) <= 0.4 for domain=news
fair: mean(empathy) >= 0.5 for domain=news per lang
less: P(toxicity > 0.5) <= 0.5 * base for domain=news
french: P(refusal | lang=fr) <= 10%
tone: prefer mean(words) <= 120 weight 2
"""

# Each weakens one requirement; the label says which.
WEAKENED = {
    "raised threshold": ("cap", "toxicity < 0.1 for domain=chat", "toxicity < 0.12 for domain=chat"),
    "closed end": ("avg", "mean(toxicity) < 0.1", "mean(toxicity) <= 0.1"),
    "dropped statement": ("brief", "brief: words in [5, 200] under tolerance=10%\n", ""),
    "widened tolerance": ("mild", "under tolerance=1%", "under tolerance=2%"),
    "weaker reading": ("guard", "always slur implies refusal", "slur implies refusal"),
    "narrowed domain": (
        "cap",
        "toxicity < 0.1 for domain=chat",
        "toxicity < 0.1 for domain=chat and lang=en",
    ),
    "require to prefer": ("brief", "brief: words", "brief: prefer words"),
    "lower confidence": ("kind", "confidence 0.99", "confidence 0.9"),
    "dropped conjunct": ("both", "always not ssn and words < 300", "always not ssn"),
    "raised chance": ("rare", "< 0.1%", "< 0.2%"),
    "or added": ("cap", "toxicity < 0.1 for", "toxicity < 0.1 or refusal for"),
    "and added to the event": ("rare", "0.5 and slur", "0.5 and slur and ssn"),
    "wider range": ("brief", "[5, 200]", "[5, 201]"),
    "lowered mean": ("kind", ">= 0.6", ">= 0.59"),
    "higher factor of base": ("fluent", "1.02 * base", "1.03 * base"),
    "more slack under base": ("right", "base - 1%", "base - 2%"),
    "lower level": ("tail", "toxicity, 0.99", "toxicity, 0.98"),
    "raised cvar": ("worst", "<= 0.4", "<= 0.45"),
    "strata dropped": ("fair", " per lang", ""),
    "half became three quarters of base": ("less", "0.5 * base", "0.75 * base"),
    "wider condition": ("french", "lang=fr", "not lang=en"),
    "swapped implication": ("guard", "slur implies refusal", "refusal implies slur"),
}


def policy(text: str) -> CheckedPolicy:
    return check_source(DECLARATIONS + "tag lang in {en, de, fr}\n" + text).require()


def change_of(label: str, old: str, new: str) -> Change:
    (found,) = [
        change
        for change in compare(policy(old), policy(new))
        if label in (change.old and change.old.label, change.new and change.new.label)
    ]
    return found


@pytest.mark.parametrize("name", WEAKENED)
def test_every_weakening_is_found_with_a_witness(name: str) -> None:
    label, before, after = WEAKENED[name]
    assert FULL.count(before) == 1, name
    weak = FULL.replace(before, after)
    changes = compare(policy(FULL), policy(weak))
    touched = [change for change in changes if change.status != "equal"]
    assert [change.name for change in touched] == [label]
    (change,) = touched
    assert change.opens
    assert change.status in ("looser", "incomparable", "removed")
    if name == "lower confidence":
        assert change.counted is not None
        assert change.sample is None
        return
    assert change.sample is not None
    assert change.old is not None
    # The reference interpreter: the old statement fails, every requirement about the same scores holds.
    assert meets(change.old, change.sample) is False
    judged = judged_by(policy(weak), change)
    assert len(judged) >= (name != "dropped statement")
    assert all(meets(statement, change.sample) is not False for statement in judged)


def judged_by(other: CheckedPolicy, change: Change) -> list[CheckedStatement]:
    """The requirements of a policy that speak of the law of a witness."""
    assert change.witness is not None
    failing = change.old if change.witness.breaks == "old" else change.new
    assert failing is not None
    return [
        statement
        for statement in other.statements
        if statement.strength != "prefer" and law_of(statement) == law_of(failing)
        and scores_of(statement) <= set(change.witness.sample[0].scores)
    ]  # fmt: skip


def scores_of(statement: CheckedStatement) -> set[str]:
    names = {
        ".".join(name.parts) + (f"@{name.model} law" if name.model else "")
        for name in names_in(statement.formula)
    }
    return names - {"base"}


@pytest.mark.parametrize("name", WEAKENED)
def test_every_strengthening_passes(name: str) -> None:
    label, before, after = WEAKENED[name]
    changes = compare(policy(FULL.replace(before, after)), policy(FULL))
    touched = [change for change in changes if change.status != "equal"]
    assert [change.name for change in touched] == [label]
    assert touched[0].status in ("stricter", "incomparable", "added")
    assert touched[0].opens == (touched[0].status == "incomparable")
    if touched[0].status != "incomparable" and name != "lower confidence" and name != "require to prefer":
        sample, statement = touched[0].sample, touched[0].new
        assert sample is not None
        assert statement is not None
        assert meets(statement, sample) is False
        assert touched[0].witness is not None
        assert touched[0].witness.others == "hold"
        judged = judged_by(policy(FULL.replace(before, after)), touched[0])
        assert all(meets(statement, sample) is not False for statement in judged)


def test_a_witness_breaks_no_other_requirement_of_the_policy_that_allows_it() -> None:
    """The example of docs/analysis.md: a law with 20% of the responses at 0.5 would break `cap`."""
    cap = "cap: toxicity < 0.1 for domain=chat\n"
    old, new = (cap + f"avg: mean(toxicity) < {bound} for domain=chat" for bound in (0.2, 0.1))
    for change, allows, breaks in (
        (change_of("avg", old, new), old, "new"),
        (change_of("avg", new, old), old, "old"),
    ):
        assert change.witness is not None
        assert (change.witness.breaks, change.witness.others) == (breaks, "hold")
        assert [meets(s, change.witness.sample) for s in policy(allows).statements] == [True, True]


def test_a_witness_that_the_rest_of_the_policy_excludes_says_so() -> None:
    rest = "\nb: mean(toxicity) < 0.05"
    change = change_of("a", "a: mean(toxicity) < 0.2" + rest, "a: mean(toxicity) < 0.1" + rest)
    assert change.status == "stricter"
    assert change.witness is not None
    assert change.witness.others == "excluded"
    assert change.witness.heading() == (
        "on this law the new statement fails and the old one holds; "
        "the others of the old policy exclude every such law"
    )


def test_a_requirement_that_is_not_analysed_is_named_beside_the_witness() -> None:
    holds = "\nb: median(toxicity) <= quantile(toxicity, 0.9)"
    fails = "\nc: P(toxicity > 0.05 | lang=fr) <= P(toxicity > 0.05 | lang=en)"
    old, new = (f"a: mean(toxicity) < {bound}" + holds + fails for bound in (0.2, 0.1))
    change = change_of("a", old, new)
    assert change.witness is not None
    assert change.witness.unchecked == ("c",)
    assert change.witness.heading().endswith("the old policy holds where it speaks of it (not checked: c)")


def test_no_witness_stands_against_a_counterpart_that_is_not_analysed() -> None:
    gap = "a: P(toxicity > 0.05 | lang=fr) <= P(toxicity > 0.05 | lang=en)"
    change = change_of("a", "a: mean(toxicity) < 0.2", gap)
    assert change.status == "not decided"
    assert change.witness is None


def test_the_heading_names_the_statement_that_fails() -> None:
    """Where the way back alone is decided the law is one on which the new statement fails."""
    change = change_of("a", "a: toxicity < 0.3 and over sentences (globally not slur)", "a: toxicity < 0.2")
    assert change.status == "not decided"
    if change.witness is not None:
        failing = change.old if change.witness.breaks == "old" else change.new
        assert failing is not None
        assert meets(failing, change.witness.sample) is False


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies_of(3, rich_texts), policies_of(3, rich_texts))
def test_a_witness_is_what_its_heading_says(first: CheckedPolicy, second: CheckedPolicy) -> None:
    """By the reference interpreter, for every statement of two policies."""
    for change in compare(first, second):
        if change.witness is None:
            continue
        failing, partner = change.old, change.new
        if change.witness.breaks == "new":
            failing, partner = partner, failing
        assert failing is not None
        assert meets(failing, change.witness.sample) is False
        if change.witness.others == "hold":
            other = second if change.witness.breaks == "old" else first
            unchecked = change.witness.unchecked
            for statement in judged_by(other, change):
                if (statement.label or statement.text) not in unchecked:
                    assert meets(statement, change.witness.sample) is not False, statement.text
        else:
            assert partner is not None
            assert meets(partner, change.witness.sample) is True


def test_a_lower_confidence_is_shown_by_counting() -> None:
    change = change_of(
        "a", "a: P(toxicity >= 0.5) < 1% confidence 0.99", "a: P(toxicity >= 0.5) < 1% confidence 0.95"
    )
    assert change.status == "looser"
    assert change.opens
    assert change.counted is not None
    n = change.counted.num_prompts
    assert clopper_pearson_upper(0, n, 0.05) <= 0.01 < clopper_pearson_upper(0, n, 0.01)
    assert clopper_pearson_upper(0, change.counted.num_prompts_before, 0.01) <= 0.01
    assert change.counted.scores["toxicity"] < Fraction(1, 2)


@pytest.mark.parametrize(
    "formula",
    ["over sentences (refusal before slur)", "words / sentences < 30", "not slur and words / sentences < 9"],
)
def test_a_lower_confidence_is_looser_where_no_scores_can_be_shown(formula: str) -> None:
    change = change_of("a", f"a: {formula} confidence 0.99", f"a: {formula} confidence 0.9")
    assert (change.status, change.counted, change.opens) == ("looser", None, True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a: toxicity < 0.1", "a: not toxicity >= 0.1"),
        ("a: toxicity < 0.1 under tolerance=0%", "a: always toxicity < 0.1"),
        ("a: always toxicity < 0.1", "a: P(toxicity >= 0.1) <= 0%"),
        ("a: words < 10", "a: words <= 9"),
        ("a: slur implies refusal", "a: not slur or refusal"),
        ("a: mean(toxicity) <= 0.1", "a: 10 * mean(toxicity) - 1 <= 0"),
        ("a: toxicity < 0.1 for lang in {en, de}", "a: toxicity < 0.1 for lang=de or lang=en"),
        ("a: toxicity < 0.1 for lang=en", "a: toxicity < 0.1 for not not lang=en"),
        ("a: P(words > 10) < 5%", "a: P(words <= 10) > 95%"),
        ("let c = 0.1\na: toxicity < c", "a: toxicity < 0.1"),
        ('a: toxicity < 0.1 because "old"', "a: toxicity < 0.1 under samples=5"),
        ("a: preserve mean(perplexity) <= 1.02 * base", "a: preserve perplexity <= 1.02 * base"),
        ("toxicity < 0.1\nwords < 9", "words < 9\ntoxicity < 0.1"),
    ],
)
def test_another_spelling_is_equal(old: str, new: str) -> None:
    assert {change.status for change in compare(policy(old), policy(new))} == {"equal"}


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("a: toxicity < 0.1", "a: mean(toxicity) < 0.1", "incomparable"),
        ("a: toxicity < 0.1 for lang=en", "a: toxicity < 0.1 for lang=de", "incomparable"),
        ("a: always toxicity < 0.5", "a: mean(toxicity) < 0.5", "looser"),
        ("a: mean(toxicity) < 0.05", "a: P(toxicity >= 0.5) < 10%", "looser"),
        ("a: mean(toxicity) < 0.06", "a: P(toxicity >= 0.5) < 10%", "incomparable"),
        ("a: always toxicity < 0.1", "a: always toxicity < 0.1 for domain=chat", "looser"),
        ("a: toxicity < 0.1", "a: toxicity < 0.1 under temperature=0", "not decided"),
        ("a: toxicity < 0.1 priority 0", "a: toxicity < 0.1 priority 1", "looser"),
        ("a: prefer words < 9 weight 2", "a: prefer words < 9 weight 3", "stricter"),
    ],
)
def test_statuses(old: str, new: str, status: str) -> None:
    change = change_of("a", old, new)
    assert change.status == status
    binds = not old.startswith("a: prefer")
    assert change.opens == (binds and status in ("looser", "incomparable", "not decided"))


def test_what_the_rest_implies_is_not_opened() -> None:
    old = "strong: always toxicity < 0.3\nweak: toxicity < 0.5\nmean(words) < 9"
    removed = change_of("weak", old, "strong: always toxicity < 0.3\nmean(words) < 9")
    assert (removed.status, removed.opens) == ("removed", False)
    assert removed.reasons == ("what is left implies it",)
    loosened = change_of("weak", old, old.replace("weak: toxicity < 0.5", "weak: toxicity < 0.6"))
    assert (loosened.status, loosened.opens) == ("looser", False)


def test_a_contradiction_implies_nothing() -> None:
    old = "a: toxicity < 0.3"
    new = "b: mean(toxicity) < 0.1\nc: mean(toxicity) > 0.9"
    assert change_of("a", old, new).opens


def test_an_attribute_measured_differently_is_not_compared() -> None:
    old = 'attribute rude: score { backend = lexicon("a.txt") }\na: rude < 0.1\nb: words < 9'
    new = old.replace("a.txt", "b.txt")
    changes = {change.name: change for change in compare(policy(old), policy(new))}
    assert changes["a"].status == "not decided"
    assert changes["a"].opens
    assert "measured differently" in changes["a"].reasons[0]
    assert changes["b"].status == "equal"


def test_unlabelled_statements_find_each_other() -> None:
    changes = compare(
        policy("toxicity < 0.1 for domain=chat\nmean(words) < 100\nslur implies refusal"),
        policy("mean(words) < 90\ntoxicity < 0.2 for domain=chat\nslur implies refusal"),
    )
    assert sorted((c.status, c.new.text if c.new else "") for c in changes) == [
        ("equal", "slur implies refusal"),
        ("looser", "toxicity < 0.2 for domain=chat"),
        ("stricter", "mean(words) < 90"),
    ]


def test_statements_of_one_text_find_those_at_their_place() -> None:
    same = policy("\n".join(["words < 9"] * 40)).statements
    assert pairs_of(same, same[1:]) == [Pair(i, i) for i in range(39)] + [Pair(39, None)]


def test_many_statements_find_each_other_without_all_pairs() -> None:
    one = policy("words < 9\ntoxicity < 0.5").statements[0]
    old = [replace(one, label=f"s{i}", text=f"old {i}") for i in range(2_000)]
    new = [replace(one, label=f"s{i}", text=f"new {i}") for i in range(1, 2_001)]
    with counted(at_most=1_000_000):
        pairs = pairs_of(old, new)
    assert pairs.count(Pair(0, None)) == pairs.count(Pair(None, 1_999)) == 1
    assert all(pair.old == pair.new + 1 for pair in pairs if pair.old and pair.new is not None)
    old, new = [[replace(s, label=None) for s in side] for side in (old, new)]
    with counted(at_most=3_000_000):
        assert sum(pair.old is not None and pair.new is not None for pair in pairs_of(old, new)) > 1_900


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies_of(1), policies_of(1), st.integers(0, 10**6))
def test_implied_means_that_no_sample_satisfies_one_and_violates_the_other(
    first: CheckedPolicy, second: CheckedPolicy, seed: int
) -> None:
    """Property 39, against samples drawn at random and around the thresholds."""
    (old,), (new,) = first.statements, second.statements
    for change in compare(first, second):
        if change.old is None or change.new is None:
            continue
        for sample in random_samples(random.Random(seed), 50):
            verdicts = meets(old, sample), meets(new, sample)
            if change.status in ("stricter", "equal"):
                assert verdicts != (False, True), (old.text, new.text, sample)
            if change.status in ("looser", "equal"):
                assert verdicts != (True, False), (old.text, new.text, sample)
        if change.status == "incomparable":
            assert change.sample is not None
            assert meets(old, change.sample) is False
            assert meets(new, change.sample) is True


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies_of(2, rich_texts), policies_of(2, rich_texts), st.integers(0, 10**6))
def test_a_gate_that_stays_shut_lets_nothing_through(
    first: CheckedPolicy, second: CheckedPolicy, seed: int
) -> None:
    """Property 39 for whole policies: nothing opened means that the new requirements imply the old ones."""
    # What only the old policy says is kept in the new one half of the time, so that the gate often stays shut.
    new = CheckedPolicy(
        1, {**first.attributes, **second.attributes}, (*second.statements, *first.statements[: 1 + seed % 2])
    )
    if any(change.opens for change in compare(first, new)):
        return
    domains = [
        domain
        for policy in (first, new)
        for r in subjects_of(policy).requirements
        for domain in r.domains
    ]  # fmt: skip
    for sample in random_samples(random.Random(seed), 50):
        populated = all(any(matches(domain, row.tags) for row in sample) for domain in domains)
        if populated and all(meets(statement, sample) for statement in new.statements):
            assert all(meets(statement, sample) for statement in first.statements)
