"""Can statements hold together: "possible" carries a law that the reference accepts, "impossible" is proved."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from analysis_strategies import DECLARATIONS, policies_of, random_samples, rich_texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constraintlang import check_source, parse
from constraintlang import nodes as n
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang_compiler.analysis.cells import CUTS, cells_of
from constraintlang_compiler.analysis.decide import Answer, Decider
from constraintlang_compiler.analysis.exact import orthogonal, solve
from constraintlang_compiler.analysis.forms import Variables
from constraintlang_compiler.analysis.limits import Budget
from constraintlang_compiler.analysis.requirements import Requirement, requirement
from constraintlang_compiler.analysis.subjects import subjects_of
from constraintlang_compiler.analysis.witness import Response, Sample, meets
from constraintlang_compiler.domains import matches

MORE = """attribute grade: real { backend = python("acme:grade") }
attribute mood: real in [0, 20] { backend = python("acme:mood") }
attribute age: int in [0, 9] { backend = python("acme:age") }
"""


def policy(text: str) -> CheckedPolicy:
    return check_source(DECLARATIONS + MORE + "tag lang in {en, de}\n" + text.replace("; ", "\n")).require()


def ask(found: CheckedPolicy, *, failing_last: bool = False) -> tuple[Answer, Sequence[Requirement]]:
    subjects = subjects_of(found)
    assert subjects.skipped == ()
    requirements = subjects.requirements
    decider = Decider(subjects.variables, Budget(30.0))
    if failing_last:
        return decider.ask(requirements[:-1], requirements[-1]), requirements
    return decider.ask(requirements), requirements


def verdict(text: str) -> str:
    """The answer; a sample law is checked against the reference interpreter."""
    answer, requirements = ask(policy(text))
    if answer.sample is not None:
        assert all(meets(r.statement, answer.sample) is True for r in requirements)
        assert sum(row.weight for row in answer.sample) == 1
        # What a sample law shows to be possible is never excluded by a proof.
        subjects = subjects_of(policy(text))
        proof = Decider(subjects.variables, Budget(30.0)).ask(subjects.requirements, want_sample=False)
        assert not proof.is_impossible
    assert (answer.sample is not None) == (answer.verdict == "possible")
    return answer.verdict


# ------------------------------------------------------------ against known truths
POSSIBLE_IMPOSSIBLE = [
    # Markov, to the digit
    ("mean(toxicity) <= 0.1; P(toxicity >= 0.5) >= 20%", "mean(toxicity) < 0.1; P(toxicity >= 0.5) >= 20%"),
    ("mean(toxicity) <= 0.1; P(toxicity > 0.5) >= 19.999%", "mean(toxicity) <= 0.1; P(toxicity > 0.5) >= 20%"),
    ("mean(words) <= 10; P(words > 100) >= 9%", "mean(words) <= 10; P(words > 100) >= 10%"),
    # an end that no response reaches
    ("always toxicity <= 0.5; mean(toxicity) >= 0.5", "always toxicity < 0.5; mean(toxicity) >= 0.5"),
    ("always toxicity < 0.5; mean(toxicity) > 0.499999", "always toxicity < 0.5; P(toxicity < 0.5) < 1"),
    # whole numbers
    ("always words < 5; mean(words) >= 4", "always words < 5; mean(words) > 4"),
    ("always age > 7.5; mean(age) <= 8", "always age > 7.5; mean(age) < 8"),
    ("always words in [3, 4]; mean(words) in [3.4, 3.5]", "always words in [3, 3.9]; mean(words) > 3"),
    # no upper end
    ("always grade < 3; mean(toxicity) < 0.1; P(grade > -9) > 10%", "always grade < 3; P(grade >= 3) > 0"),
    ("P(words > 1000) > 50%; P(words < 10) > 49%", "P(words > 1000) > 50%; P(words < 10) > 50%"),
    # propositional
    ("always slur implies refusal; P(slur) >= 30%; P(refusal) <= 30%",
     "always slur implies refusal; P(slur) >= 30%; P(refusal) <= 29%"),
    ("slur implies refusal under tolerance=1%; P(slur) >= 30%; P(refusal) <= 29%",
     "slur implies refusal under tolerance=0.9%; P(slur) >= 30%; P(refusal) <= 29%"),
    # forms of several attributes
    ("always toxicity + empathy < 0.3; mean(toxicity) > 0.2; mean(empathy) > 0.05",
     "always toxicity + empathy < 0.3; mean(toxicity) > 0.2; mean(empathy) > 0.1"),
    ("always words < characters; mean(words) > 10; mean(characters) < 12",
     "always words < characters; mean(words) > 10; mean(characters) <= 11"),
    ("P(toxicity < empathy) > 60%; P(empathy < toxicity) > 39%",
     "P(toxicity < empathy) > 60%; P(empathy < toxicity) > 40%"),
    ("always toxicity < empathy; mean(toxicity - empathy) > -0.001",
     "always toxicity < empathy; mean(toxicity - empathy) >= 0"),
    # terms that are not linear, parts that are not understood
    ("always toxicity * empathy < 0.3; mean(toxicity) > 0.9; mean(empathy) > 0.05",
     "always toxicity * empathy < 0.3; mean(toxicity * empathy) > 0.3"),
    ("mean(mood) > 5", "always mood / toxicity < 3; P(mood / toxicity >= 3) > 1%"),
    # domains
    ("toxicity < 0.1 for domain=chat; P(toxicity >= 0.1) > 50% for domain=chat and lang=en",
     "always toxicity < 0.1 for domain=chat; P(toxicity >= 0.1) > 50% for domain=chat and lang=en"),
    ("always toxicity < 0.1 for domain=chat; P(toxicity >= 0.1) > 50% for lang=en",
     "toxicity < 0.1; toxicity > 0.2"),
    ("mean(toxicity) < 0.1 for lang=en; mean(toxicity) > 0.9 for not lang=en",
     "mean(toxicity) < 0.1 for lang=en; mean(toxicity) < 0.1 for not lang=en; mean(toxicity) >= 0.1"),
    # the user's rows
    ("preserve mean(perplexity) <= 1.02 * base; preserve mean(perplexity) >= 2 * base - 9",
     "preserve mean(perplexity) <= 0.5 * base; preserve mean(perplexity) >= base"),
    ("preserve mean(accuracy) >= base + 50%", "preserve mean(accuracy) >= base + 101%"),
    ("preserve accuracy in [base - 10%, base + 1%]; preserve accuracy <= base - 9%",
     "preserve accuracy in [base - 10%, base + 1%]; preserve accuracy <= base - 11%"),
    ("preserve mean(perplexity) - 1 >= 0.5 * base; preserve mean(perplexity) <= 1.4",
     "preserve mean(perplexity) - 1 >= 2 * base + 1; preserve mean(perplexity) < 2"),
    # tails
    ("quantile(toxicity, 0.95) < 0.3; P(toxicity >= 0.3) >= 5%",
     "quantile(toxicity, 0.95) < 0.3; P(toxicity >= 0.3) > 5%"),
    ("median(words) in [50, 120]; mean(words) < 26", "median(words) in [50, 120]; mean(words) < 25"),
    ("cvar(toxicity, 0.9) <= 0.4; P(toxicity >= 0.5) >= 8%",
     "cvar(toxicity, 0.9) <= 0.4; P(toxicity >= 0.5) >= 9%"),
    ("cvar(toxicity, 0.9) >= 0.4; mean(toxicity) <= 0.04", "cvar(toxicity, 0.9) >= 0.4; mean(toxicity) < 0.04"),
    ("cvar(toxicity, 0.9) < 0.4; quantile(toxicity, 0.9) > 0.3",
     "cvar(toxicity, 0.9) < 0.4; quantile(toxicity, 0.9) >= 0.4"),
    ("always toxicity < 0.4; cvar(toxicity, 0.9) > 0.399", "always toxicity < 0.4; cvar(toxicity, 0.9) >= 0.4"),
    ("2 - cvar(toxicity, 0.5) >= 1.5", "cvar(toxicity, 0.5) < 0"),
    # conditions, strata, choices, several statistics
    ("P(toxicity > 0.5 | lang=en) <= 2%; P(toxicity > 0.5) > 50%",
     "P(toxicity > 0.5 | lang=en) <= 2%; P(toxicity > 0.5) > 50% for lang=en"),
    ("mean(toxicity) < 0.1 per lang; mean(toxicity) > 0.5",
     "mean(toxicity) < 0.1 per lang; mean(toxicity) > 0.5 for lang in {en, de}"),
    ("mean(toxicity) < 0.1 or mean(toxicity) > 0.9; P(toxicity in [0.2, 0.3]) > 5%",
     "mean(toxicity) < 0.1 or mean(toxicity) > 0.9; mean(toxicity) in [0.2, 0.3]"),
    ("mean(toxicity) > 0.2 implies mean(empathy) > 0.8; mean(empathy) < 0.5",
     "mean(toxicity) > 0.2 implies mean(empathy) > 0.8; mean(toxicity) > 0.3; mean(empathy) < 0.5"),
    ("mean(toxicity) <= 2 * mean(empathy); mean(toxicity) > 0.5; mean(empathy) < 0.26",
     "mean(toxicity) <= 2 * mean(empathy); mean(toxicity) > 0.5; mean(empathy) < 0.25"),
    # the base model: its own responses inside a statistic, the same text outside
    ("mean(toxicity) <= 0.9 * base; mean(toxicity@base) < 0.5; mean(toxicity) > 0.44",
     "mean(toxicity) <= 0.9 * base; mean(toxicity@base) < 0.5; mean(toxicity) >= 0.45"),
    ("always reference_perplexity <= 1.5 * base; always reference_perplexity@base < 2; "
     "mean(reference_perplexity@base) >= 3",
     "always reference_perplexity <= 1.5 * base; always reference_perplexity@base < 2; "
     "mean(reference_perplexity) >= 3"),
]  # fmt: skip


@pytest.mark.parametrize(("possible", "impossible"), POSSIBLE_IMPOSSIBLE)
def test_known_truths(possible: str, impossible: str) -> None:
    assert verdict(possible) == "possible"
    assert verdict(impossible) == "impossible"


def test_implication_is_a_question_about_failing() -> None:
    for text in (
        "toxicity < 0.1; toxicity < 0.2",
        "always toxicity < 0.1; mean(toxicity) < 0.1",
        "mean(toxicity) < 0.05; P(toxicity >= 0.5) < 10%",
        "P(words > 50) < 1%; P(words > 100) < 1%",
        "always slur implies refusal; P(slur and not refusal) <= 1%",
    ):
        first, second = text.split("; ")
        assert ask(policy(text), failing_last=True)[0].verdict == "impossible"
        answer, requirements = ask(policy(f"{second}; {first}"), failing_last=True)
        assert answer.sample is not None
        assert meets(requirements[0].statement, answer.sample) is True
        assert meets(requirements[1].statement, answer.sample) is False


def test_what_is_not_understood_gives_no_answer() -> None:
    answer, _ = ask(policy("P(mood / (toxicity + 1) > 10) > 50%; P(mood < 10) > 50%"))
    assert answer.verdict == "unknown"


def test_a_limit_gives_no_answer() -> None:
    many = "; ".join(f"P({' and '.join(f'{a} < 0.{i}{j}' for a in ('toxicity', 'empathy'))} and words < {i + j}) "
                     f"< {i + 1}%" for i in range(10, 60) for j in range(3))  # fmt: skip
    answer, _ = ask(policy(many))
    assert answer.verdict == "unknown"
    assert "have to be told apart" in answer.reason
    spent = subjects_of(policy("toxicity < 0.1"))
    answer = Decider(spent.variables, Budget(0.0)).ask(spent.requirements)
    assert (answer.verdict, answer.reason) == ("unknown", "the time for the analysis is up")


# ------------------------------------------------------------ against random search
def is_populated(requirements: Sequence[Requirement], sample: Sample) -> bool:
    return all(any(matches(domain, row.tags) for row in sample) for r in requirements for domain in r.domains)


def check_answers(found: CheckedPolicy, failing_last: bool, seed: int) -> Answer:
    """A witness is accepted by the reference; what is called impossible is met by no sample tried at random."""
    subjects = subjects_of(found)
    requirements = subjects.requirements
    if subjects.skipped:
        return Answer("unknown")
    decider = Decider(subjects.variables, Budget(30.0))
    holding, failing = (requirements[:-1], requirements[-1]) if failing_last else (requirements, None)
    answer = decider.ask(holding, failing)
    without_sample = decider.ask(holding, failing, want_sample=False)
    wanted = [True] * (len(requirements) - failing_last) + [False] * failing_last
    statements = [r.statement for r in requirements]
    if answer.verdict == "possible":
        assert answer.sample is not None
        assert [meets(s, answer.sample) for s in statements] == wanted
        fresh = Decider(subjects.variables, Budget(30.0)).ask(holding, failing, want_sample=False)
        assert not fresh.is_impossible
    elif answer.is_impossible:
        assert without_sample.is_impossible
        for sample in random_samples(random.Random(seed), 60):
            if is_populated(requirements, sample):
                assert [meets(s, sample) for s in statements] != wanted
    return answer


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies_of(3), st.booleans(), st.integers(0, 10**6))
def test_answers_against_the_reference_and_random_search(
    found: CheckedPolicy, failing_last: bool, seed: int
) -> None:
    """Property 38. Every construct of these policies is understood, and every question is decided."""
    assert check_answers(found, failing_last, seed).verdict != "unknown"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policies_of(2, rich_texts), st.booleans(), st.integers(0, 10**6))
def test_answers_about_tails_conditions_strata_and_choices(
    found: CheckedPolicy, failing_last: bool, seed: int
) -> None:
    """Property 38 again; here some questions may stay open."""
    check_answers(found, failing_last, seed)


# ------------------------------------------------------------ parts
@given(
    st.none() | st.integers(-3, 3),
    st.none() | st.integers(-3, 3),
    st.lists(st.tuples(st.sampled_from(sorted(CUTS)), st.integers(-8, 8))),
    st.booleans(),
)
def test_cells_cover_the_range_and_decide_every_comparison(
    low: int | None, high: int | None, comparisons: list[tuple[str, int]], whole: bool
) -> None:
    ends = [None if end is None else Fraction(end) for end in (low, high)]
    thresholds = [(operator, Fraction(value, 2)) for operator, value in comparisons]
    cuts = [(value, side) for operator, value in thresholds for side in CUTS[operator]]
    cells = cells_of(*ends, cuts, whole=whole)
    step = Fraction(1) if whole else Fraction(1, 4)
    for k in range(-40, 41):
        value = k * step
        inside = (low is None or value >= low) and (high is None or value <= high)
        holding = [cell for cell in cells if cell.contains(value)]
        assert len(holding) == int(inside)
        for cell in holding:
            for operator, threshold in thresholds:
                truth = {
                    "<": value < threshold, "<=": value <= threshold, ">": value > threshold,
                    ">=": value >= threshold, "==": value == threshold, "!=": value != threshold,
                }[operator]  # fmt: skip
                assert cell.satisfies(operator, threshold) is truth
    assert all(cell.contains(cell.inside()) for cell in cells)


fractions = st.fractions(min_value=-5, max_value=5, max_denominator=7)


@given(
    st.lists(st.lists(fractions, min_size=3, max_size=3), min_size=3, max_size=3),
    st.lists(fractions, min_size=3, max_size=3),
)
def test_solving_is_exact(matrix: list[list[Fraction]], solution: list[Fraction]) -> None:
    right = [sum((a * x for a, x in zip(row, solution, strict=True)), Fraction(0)) for row in matrix]
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    assert solve(matrix, right) == (None if determinant == 0 else solution)


@settings(max_examples=25)
@given(
    st.lists(st.lists(fractions, min_size=4, max_size=4), max_size=3),
    st.lists(fractions, min_size=4, max_size=4),
)
def test_orthogonal_vectors_are_exactly_orthogonal(
    vectors: list[list[Fraction]], near: list[Fraction]
) -> None:
    found = orthogonal(vectors, near)
    for vector in vectors:
        assert sum(a * b for a, b in zip(vector, found, strict=True)) == 0
    if all(sum(a * b for a, b in zip(vector, near, strict=True)) == 0 for vector in vectors):
        assert found == near


def test_a_law_is_judged_on_its_domain_only() -> None:
    (statement,) = policy("always toxicity < 0.5 for lang=en").statements
    low, high = {"toxicity": Decimal("0.1")}, {"toxicity": Decimal("0.9")}
    good = Response(Fraction(1, 2), {"lang": "en"}, low)
    bad = Response(Fraction(1, 2), {"lang": "de"}, high)
    assert meets(statement, (good, bad)) is True
    assert meets(statement, (bad,)) is None
    assert meets(statement, (Response(Fraction(1), {"lang": "en"}, high),)) is False


def by_hand(text: str) -> CheckedStatement:
    """A statement that the checker of this release may refuse."""
    (item,) = parse(text)[0].items
    assert isinstance(item, n.Statement)
    pointwise = item.always
    return CheckedStatement(
        formula=item.formula, text=text, label=None, strength="require", always=item.always,
        reading="pointwise" if pointwise else "distribution", domain=None,
        tolerance=Decimal(0) if pointwise else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "verdict"),
    [
        (("always over sentences (globally a)", "P(over sentences (globally a)) < 90%"), "impossible"),
        (("always over sentences (globally a)", "P(not over sentences (globally a)) > 1%"), "impossible"),
        (("P(over turns (a until b)) > 60%", "P(not over turns (a until b)) >= 40%"), "impossible"),
        # what is known of the rest is used; nothing is claimed about the order itself
        (("always over sentences (globally a)", "P(over sentences (eventually a)) < 90%"), "unknown"),
    ],
)
def test_order_is_a_condition_of_unknown_meaning(texts: tuple[str, ...], verdict: str) -> None:
    variables = Variables({})
    requirements = [requirement(by_hand(text), i, variables) for i, text in enumerate(texts)]
    assert Decider(variables, Budget(30.0)).ask(requirements).verdict == verdict
