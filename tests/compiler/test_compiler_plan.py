"""The numbers of a plan against the bounds themselves, exact binomials and simulation."""

from __future__ import annotations

import doctest
import tracemalloc
from typing import get_args

import numpy as np
import pytest
from scipy.stats import binom

import constraintlang_compiler.sample_plan as sample_plan_module
from constraintlang import SourceFile
from constraintlang_compiler.betting_power import betting_power
from constraintlang_compiler.bounds import betting_upper, chernoff_upper, clopper_pearson_upper
from constraintlang_compiler.clean_bounds import clean_upper
from constraintlang_compiler.explain import explain_clause
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.planning import Unplanned
from constraintlang_compiler.sample_plan import (
    ClausePlan,
    domains_of,
    plan,
    prompts_for_mean,
    prompts_for_rate,
)
from constraintlang_compiler.set_points import set_point
from constraintlang_compiler.unplanned import WORDS

HEAD = 'attribute grade: real in [0, 20] { backend = python("a:b") }\n'


def plans(text: str, **settings: float) -> list[ClausePlan]:
    policy = compile_source(SourceFile("edition 1\n" + text))
    return plan(policy.clauses_as_written, **settings)  # type: ignore[arg-type]


def power(n: int, bound: float, rate: float, alpha: float) -> float:
    """The chance of `holds`, summed over every number of failures."""
    counts = np.arange(n + 1)
    good = np.array([clopper_pearson_upper(int(c), n, alpha) <= bound for c in counts])
    return float(binom.pmf(counts, n, rate)[good].sum())


@pytest.mark.parametrize(
    ("bound", "rate", "alpha"),
    [(0.05, 0.025, 0.05), (0.1, 0.05, 0.01), (0.01, 0.002, 0.05), (0.3, 0.2, 0.02)],
)
def test_prompts_for_a_rate_are_exact(bound: float, rate: float, alpha: float) -> None:
    n = prompts_for_rate(bound, rate, alpha, 0.9)
    assert n is not None
    assert power(n, bound, rate, alpha) >= 0.9
    assert all(power(smaller, bound, rate, alpha) < 0.9 for smaller in range(max(1, n - 40), n))
    # the same question asked the other way round: the set-point of so many prompts is not below the rate
    assert set_point(bound, n, confidence=1 - alpha, power=0.9) >= rate


def test_prompts_for_a_mean_hold_in_simulation() -> None:
    bound, mean, alpha = 0.25, 0.125, 0.01
    n = prompts_for_mean(bound, mean, alpha, 0.9)
    assert n is not None
    generator = np.random.default_rng(7)  # not the seed that planned

    def certified(size: int) -> float:
        runs = [
            betting_upper((generator.random(size) < mean).astype(float), alpha) <= bound for _ in range(300)
        ]
        return float(np.mean(runs))

    assert certified(n) >= 0.85
    assert certified(n // 2) < 0.85


def test_betting_power_is_that_of_the_bound() -> None:
    generator = np.random.default_rng(0)
    clean = (generator.random((400, 60)) >= 0.1).astype(float)
    direct = np.mean([betting_upper(1 - row, 0.05) <= 0.3 for row in clean])
    assert betting_power(0.1, 0.3, 60, 0.05) == pytest.approx(direct, abs=0.006)
    assert betting_power(0.1, 0.3, 10**7, 0.05) is None


def test_least_is_the_best_possible_outcome() -> None:
    (rate,) = plans("P(toxicity >= 0.5) < 0.1%")
    assert (rate.least, rate.method) == (2995, "clopper-pearson")
    (mean,) = plans("mean(toxicity) < 0.1")
    assert mean.least is not None
    assert betting_upper(np.zeros(mean.least), 0.05) <= 0.1 < betting_upper(np.zeros(mean.least - 1), 0.05)
    several = plans("P(toxicity >= 0.5) < 0.1%\nwords < 9")
    assert several[0].alpha == pytest.approx(0.025)
    assert several[0].least == 3688


def test_a_tiny_mean_takes_many_prompts_and_little_memory() -> None:
    tracemalloc.start()
    (found,) = plans("mean(toxicity) <= 0.00001")
    (beyond,) = plans("mean(toxicity) <= 0.0000001")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.least is not None
    assert clean_upper(found.least, 0.05) == pytest.approx(1e-5, rel=1e-5)
    assert (beyond.least, beyond.needed, beyond.can_hold) == (None, None, None)
    assert "it takes more than 1,000,000 prompts" in beyond.note
    assert most < 64 * 1024**2


def test_the_plan_speaks_the_quantity_of_the_author() -> None:
    (plan_up,) = plans('attribute grade: real in [10, 20] { backend = python("a:b") }\nmean(grade) >= 16')
    assert (plan_up.bound, plan_up.at_most, plan_up.assumed) == (16.0, False, 18.0)
    with_prompts = plans(
        'attribute grade: real in [10, 20] { backend = python("a:b") }\nmean(grade) >= 16', num_prompts=500
    )[0]
    assert with_prompts.set_point is not None
    assert 16 < with_prompts.set_point < 18
    (share,) = plans("P(toxicity < 0.5) >= 90%", share=0.2)
    assert (share.bound, share.assumed) == (0.9, 0.98)


def test_with_prompts_a_plan_says_what_they_show() -> None:
    few, enough = (plans("toxicity < 0.1", num_prompts=n)[0] for n in (50, 500))
    assert (few.can_hold, few.set_point) == (False, None)
    assert enough.can_hold is True
    assert enough.set_point == pytest.approx(0.024, abs=0.001)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "always toxicity < 0.5",
            "samples alone never show that nothing violates it; 500 clean prompts show",
        ),
        ("mean(words) < 9", "the range is open"),
        ("preserve mean(perplexity) <= 1.02 * base", "depends on how differently"),
        ("mean(toxicity) <= 1", "it holds for every model"),
        ("P(toxicity > 0.5) < 0%", "no model meets it"),
        ("mean(toxicity) <= 0", "no number of prompts shows it"),
    ],
)
def test_what_no_number_decides_says_why(text: str, note: str) -> None:
    (found,) = plans(text, num_prompts=500)
    assert (found.least, found.needed, found.set_point, found.can_hold) == (None, None, None, None)
    assert note in found.note


def test_less_than_the_end_of_the_range_is_planned() -> None:
    (share,) = plans("P(toxicity > 0.5) < 100%", num_prompts=500)
    # all of 4 prompts are bad in one case of 16
    assert (share.least, share.assumed, share.needed, share.can_hold) == (1, 0.5, 4, True)
    (mean,) = plans("mean(toxicity) < 1", num_prompts=500)
    assert (mean.least, mean.assumed, mean.can_hold) == (2, 0.5, True)
    for found in (share, mean):
        assert found.set_point is not None
        assert 0.9 < found.set_point < 1


def test_a_quantile_is_planned_as_the_share_beyond_it() -> None:
    (found,) = plans("quantile(toxicity, 0.95) < 0.3")
    (share,) = plans("P(toxicity >= 0.3) <= 5%")
    assert (found.least, found.needed, found.assumed) == (share.least, share.needed, share.assumed)
    assert found.note == "the true value is the share beyond the threshold"


def test_a_quantile_of_several_samples_is_planned_with_the_bound_of_its_verification() -> None:
    (found,) = plans("quantile(toxicity, 0.8) < 0.3 under samples=4", num_prompts=200)
    assert found.method == "chernoff"
    assert found.needed is not None
    assert found.assumed == 0.1

    def certified(n: int) -> float:
        counts = np.arange(n + 1)
        good = np.array([chernoff_upper(int(c) / n, n, 0.025) <= 0.2 for c in counts])
        return float(binom.pmf(counts, n, 0.1)[good].sum())

    assert certified(found.needed) >= 0.9
    assert certified(found.needed - 20) < 0.9
    assert found.set_point is not None
    assert found.set_point == pytest.approx(
        set_point(0.2, 200, upper=lambda c, n, a: chernoff_upper(c / n, n, a / 2))
    )
    assert found.set_point < set_point(0.2, 200)


def test_a_cvar_is_planned_as_the_share_at_the_worst_end() -> None:
    (found,) = plans("cvar(toxicity, 0.9) < 0.3", num_prompts=5000)
    assert (found.method, found.assumed) == ("betting", 0.15)
    assert found.needed == prompts_for_mean(0.03, 0.015, 0.05 / 33, 0.9)
    assert found.set_point is not None
    assert 0.15 < found.set_point < 0.3


BANDS = [
    ("P(toxicity >= 0.5) in [4%, 6%]", 0.05),
    ("P(toxicity < 0.5) in [94%, 96%]", 0.95),
    ("mean(grade) in [4, 6]", 5.0),
    ("4 <= mean(grade) <= 6", 5.0),
    ("mean(grade) >= 4\nmean(grade) <= 6", 5.0),
    ("2 * mean(grade) + 1 in [9, 13]", 5.0),
    ("toxicity < 0.5\nP(toxicity >= 0.5) >= 3%", 0.04),
    ("P(over sentences (eventually toxicity > 0.5)) in [4%, 6%]", 0.05),
]


@pytest.mark.parametrize(("text", "middle"), BANDS)
def test_the_true_value_of_a_two_sided_bound_is_the_middle(text: str, middle: float) -> None:
    found = plans(HEAD + text)
    assert [one.assumed for one in found] == pytest.approx([middle, middle])
    half = abs(found[0].bound - found[1].bound) / 2
    shown = f"{100 * half:g}%" if "grade" not in text else f"{half:g}"
    for one, other in zip(found, reversed(found), strict=True):
        assert f"within the bound of `{other.name}` as well, {shown} from this one" in one.note


@pytest.mark.parametrize("text", [text for text, _ in BANDS])
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_every_assumed_value_lies_in_the_band(text: str, share: float) -> None:
    found = plans(HEAD + text, share=share)
    low, high = sorted(one.bound for one in found)
    for one in found:
        assert one.assumed is not None
        assert low < one.assumed < high
        assert abs(one.assumed - one.bound) == pytest.approx((1 - share) * (high - low))


def test_what_bounds_another_number_makes_no_band() -> None:
    alone = plans(HEAD + "mean(grade) <= 6")[0].assumed
    for other in (
        "mean(grade) >= 4 for topic=x",
        "mean(grade) >= 4 under temperature=0.7",
        "mean(toxicity) >= 0.1",
        "prefer mean(grade) >= 4",
    ):
        (found,) = (one for one in plans(HEAD + "a: mean(grade) <= 6\n" + other) if one.name == "a")
        assert found.assumed == alone == 3.0


def test_bounds_without_room_between_them_have_no_true_value() -> None:
    found = plans(HEAD + "a: mean(grade) <= 4\nb: mean(grade) >= 6")
    for one, other in zip(found, reversed(found), strict=True):
        assert (one.assumed, one.needed) == (None, None)
        assert one.note.startswith(f"`{other.name}` leaves no room for a true value within this bound")


def test_set_points_that_exclude_each_other_are_told() -> None:
    for num_prompts, crossed in ((1000, True), (50_000, False)):
        for one in plans("P(toxicity >= 0.5) in [4%, 6%]", num_prompts=num_prompts):
            assert ("no true value is within this set-point" in one.note) is crossed


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("mean(toxicity) <= 0.9 * base", "depends on what the base model does"),
        ("mean(toxicity) < 0.1 or mean(words) < 9", "no plan is known"),
    ],
)
def test_what_is_not_planned_yet_says_so(text: str, note: str) -> None:
    (found,) = plans(text)
    assert found.needed is None
    assert note in found.note


def test_one_number_serves_a_domain() -> None:
    found = plans("toxicity < 0.1 for domain=chat\nP(words > 9) < 1% for domain=chat\nwords < 99")
    needed = [one.needed for one in found]
    assert domains_of(found) == {"chat": max(needed[:2]), "every prompt": needed[2]}  # type: ignore[type-var]


def test_several_samples_per_prompt_use_the_bound_of_means() -> None:
    (several,) = plans("P(toxicity > 0.5) < 10% under samples=4")
    (one,) = plans("P(toxicity > 0.5) < 10%")
    assert (several.method, several.samples, one.method) == ("betting", 4, "clopper-pearson")


@pytest.mark.parametrize("settings", [{"share": 0.0}, {"share": 1.0}, {"power": 1.5}, {"num_prompts": 0}])
def test_wrong_settings(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        plans("toxicity < 0.1", **settings)


def test_examples() -> None:
    result = doctest.testmod(sample_plan_module)
    assert result.attempted >= 1
    assert result.failed == 0


def test_every_reason_why_nothing_is_planned_has_its_words() -> None:
    assert WORDS.keys() == set(get_args(Unplanned))
    assert all(word and "\n" not in word for words in WORDS.values() for word in words)
    (hard,) = compile_source(SourceFile("always toxicity < 0.5\n")).ir.clauses
    (planned,) = plan([hard])
    assert (planned.method, planned.note) == WORDS["hard"][:2]
    assert explain_clause(hard).evidence == WORDS["hard"].evidence
