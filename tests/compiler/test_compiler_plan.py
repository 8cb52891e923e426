"""The numbers of a plan against the bounds themselves, exact binomials and simulation."""

from __future__ import annotations

import doctest
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binom

import constraintlang_compiler.sample_plan as sample_plan_module
from constraintlang import SourceFile
from constraintlang_compiler.betting_power import betting_power
from constraintlang_compiler.bounds import betting_upper, clean_upper, clopper_pearson_upper, set_point
from constraintlang_compiler.pipeline import compile_source
from constraintlang_compiler.sample_plan import (
    ClausePlan,
    domains_of,
    plan,
    prompts_for_mean,
    prompts_for_rate,
)


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
    (found,) = plans("mean(toxicity) <= 0.000001")
    (beyond,) = plans("mean(toxicity) <= 0.0000001")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.least is not None
    assert clean_upper(found.least, 0.05) == pytest.approx(1e-6, rel=1e-5)
    assert (beyond.least, beyond.needed, beyond.can_hold) == (None, None, None)
    assert "it takes more than 10,000,000 prompts" in beyond.note
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
        ("P(toxicity > 0.5) < 0%", "no number of prompts shows it"),
        ("mean(toxicity) <= 0", "no number of prompts shows it"),
    ],
)
def test_what_no_number_decides_says_why(text: str, note: str) -> None:
    (found,) = plans(text, num_prompts=500)
    assert (found.least, found.needed, found.set_point, found.can_hold) == (None, None, None, None)
    assert note in found.note


def test_a_mean_below_the_end_of_its_range_is_not_planned() -> None:
    (found,) = plans("mean(toxicity) < 1", num_prompts=500)
    assert (found.least, found.needed, found.set_point, found.can_hold) == (None, None, None, None)


def test_a_quantile_is_planned_as_the_share_beyond_it() -> None:
    (found,) = plans("quantile(toxicity, 0.95) < 0.3")
    (share,) = plans("P(toxicity >= 0.3) <= 5%")
    assert (found.least, found.needed, found.assumed) == (share.least, share.needed, share.assumed)
    assert found.note == "the true value is the share beyond the threshold"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("cvar(toxicity, 0.9) < 0.3", "no plan is known"),
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
