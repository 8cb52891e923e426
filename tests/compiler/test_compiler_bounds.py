"""Bounds against independent references and simulators: coverage, monotonicity, planning."""

import doctest
import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from work_count import counted

import constraintlang_compiler.bounds as bounds_module
import constraintlang_compiler.set_points as set_points_module
from constraintlang_compiler.bounds import (
    best_log_capital,
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    predictable_bets,
    ratio_bounds,
    student_t_bounds,
)
from constraintlang_compiler.clean_bounds import clean_log_capital, clean_upper, corrected_alpha
from constraintlang_compiler.set_points import prompts_needed, set_point, set_point_mean


def slack(alpha: float, runs: int) -> float:
    """Largest error count that a method with error probability alpha shows with probability 0.9999."""
    return float(binom.ppf(0.9999, runs, alpha))


# ------------------------------------------------------------ Clopper-Pearson
@pytest.mark.parametrize(
    ("failures", "n"), [(0, 1), (1, 1), (0, 300), (3, 40), (17, 500), (500, 500), (1999, 2000)]
)
@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.001])
def test_clopper_pearson_is_scipys_one_sided_exact_interval(failures: int, n: int, alpha: float) -> None:
    upper = binomtest(failures, n, alternative="less").proportion_ci(1 - alpha, method="exact").high
    lower = binomtest(failures, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    assert clopper_pearson_upper(failures, n, alpha) == pytest.approx(upper, abs=1e-9)
    assert clopper_pearson_lower(failures, n, alpha) == pytest.approx(lower, abs=1e-9)


def test_no_trials_say_nothing() -> None:
    assert (clopper_pearson_lower(0, 0, 0.05), clopper_pearson_upper(0, 0, 0.05)) == (0.0, 1.0)
    assert (betting_lower([], 0.05), betting_upper([], 0.05)) == (0.0, 1.0)
    assert math.isnan(ratio_bounds([], [], 0.05).estimate)


def test_no_failures_earn_about_three_over_n() -> None:
    assert clopper_pearson_upper(0, 1000, 0.05) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert 2.9 < 1000 * clopper_pearson_upper(0, 1000, 0.05) < 3.0


@pytest.mark.parametrize(("n", "rate"), [(20, 0.1), (200, 0.05), (500, 0.01)])
def test_clopper_pearson_covers(n: int, rate: float) -> None:
    counts = np.arange(n + 1)
    probabilities = binom.pmf(counts, n, rate)  # exact: no simulation error
    wrong_upper = sum(
        p for k, p in zip(counts, probabilities, strict=True) if clopper_pearson_upper(int(k), n, 0.05) < rate
    )
    wrong_lower = sum(
        p for k, p in zip(counts, probabilities, strict=True) if clopper_pearson_lower(int(k), n, 0.05) > rate
    )
    assert wrong_upper <= 0.05
    assert wrong_lower <= 0.05


@pytest.mark.parametrize("bad", [(-1, 5), (6, 5)])
def test_impossible_counts_are_named(bad: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= failures <= n"):
        clopper_pearson_upper(*bad, 0.05)


# ------------------------------------------------------------ betting
SIMULATORS = {
    "bernoulli": lambda rng, n: (rng.random(n) < 0.05).astype(float),
    "beta": lambda rng, n: rng.beta(0.5, 9.5, n),
    "per-prompt means": lambda rng, n: rng.binomial(4, 0.05, n) / 4,
}


@pytest.mark.parametrize("name", SIMULATORS)
@pytest.mark.parametrize("n", [30, 300])
def test_betting_covers(name: str, n: int) -> None:
    rng, runs, alpha, mean = np.random.default_rng(11), 400, 0.1, 0.05
    samples = [SIMULATORS[name](rng, n) for _ in range(runs)]
    assert sum(betting_upper(x, alpha) < mean for x in samples) <= slack(alpha, runs)
    assert sum(betting_lower(x, alpha) > mean for x in samples) <= slack(alpha, runs)


def test_betting_is_not_much_wider_than_the_normal_interval() -> None:
    x = np.random.default_rng(0).beta(1, 9, 4000)
    normal = 1.645 * x.std() / math.sqrt(x.size)
    assert betting_upper(x, 0.05) - x.mean() < 1.8 * normal
    assert x.mean() - betting_lower(x, 0.05) < 1.8 * normal


def test_betting_uses_small_variance() -> None:
    """Hoeffding's width at n = 1000 is 0.039 whatever the values; betting sees that they are small."""
    x = np.random.default_rng(0).beta(1, 99, 1000)
    assert betting_upper(x, 0.05) - x.mean() < 0.004


def test_betting_is_mirrored_deterministic_and_brackets_the_mean() -> None:
    x = np.random.default_rng(3).random(200)
    assert betting_lower(x, 0.05) < x.mean() < betting_upper(x, 0.05)
    assert betting_upper(x, 0.05) == 1 - betting_lower(1 - x, 0.05) == betting_upper(list(x), 0.05)
    assert betting_upper(np.ones(10), 0.05) == 1.0
    assert betting_lower(np.zeros(10), 0.05) == 0.0
    assert betting_upper(np.zeros(500), 0.05) < 3.5 / 500


@pytest.mark.parametrize("n", [1, 2, 7, 59, 1000, 20_000])
def test_the_best_outcome_needs_no_values(n: int) -> None:
    for m in (0.1, 0.5, 0.9, 0.999):
        values = np.ones(n)
        direct = best_log_capital(values, predictable_bets(values), m)
        assert clean_log_capital(n, m) == pytest.approx(float(direct), rel=1e-9)
    assert clean_upper(n, 0.05) == pytest.approx(betting_upper(np.zeros(n), 0.05), abs=1e-11)
    assert clean_upper(0, 0.05) == 1.0
    assert clean_upper(10**6, 0.05) < 1e-5


@given(
    values=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=1, max_size=30),
    levels=st.tuples(st.floats(1e-4, 0.4), st.floats(1e-4, 0.4)),
)
@settings(max_examples=60, deadline=None)
def test_more_confidence_never_narrows_a_bound(values: list[float], levels: tuple[float, float]) -> None:
    strict, lax = sorted(levels)
    assert betting_upper(values, strict) >= betting_upper(values, lax)
    assert betting_lower(values, strict) <= betting_lower(values, lax)
    ones, n = sum(v >= 0.5 for v in values), len(values)
    assert clopper_pearson_upper(ones, n, strict) >= clopper_pearson_upper(ones, n, lax)
    assert clopper_pearson_lower(ones, n, strict) <= clopper_pearson_lower(ones, n, lax)
    assert student_t_bounds(values, strict).upper >= student_t_bounds(values, lax).upper


def test_betting_does_not_call_python_for_each_value() -> None:
    x = np.random.default_rng(0).random(20_000)
    with counted(at_most=1_500):  # 488
        betting_upper(x, 0.05)


@pytest.mark.parametrize("bad", [[1.2], [-0.1], [math.nan], [[0.1, 0.2]]])
def test_values_that_are_not_in_the_unit_interval_are_rejected(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="got values"):
        betting_upper(bad, 0.05)


# ------------------------------------------------------------ asymptotic
def rows(rng: np.random.Generator, n: int, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per-row NLL sums of two models that share the difficulty of the row; true gap in nats per token."""
    tokens = rng.integers(5, 60, n).astype(float)
    difficulty = rng.normal(3.0, 0.5, n)
    base = tokens * (difficulty + rng.normal(0, 0.05, n))
    return base + tokens * (gap + rng.normal(0, 0.05, n)), base, tokens


def test_paired_bounds_cover_and_beat_unpaired_ones() -> None:
    rng, runs, alpha = np.random.default_rng(5), 600, 0.1
    wrong_upper = wrong_lower = 0
    for _ in range(runs):
        model, base, tokens = rows(rng, 80, 0.02)
        found = ratio_bounds(model, tokens, alpha, base_sums=base)
        wrong_upper += found.upper < 0.02
        wrong_lower += found.lower > 0.02
    assert wrong_upper <= slack(alpha * 1.15, runs)  # asymptotic: 15% more error at 80 rows is accepted
    assert wrong_lower <= slack(alpha * 1.15, runs)
    alone = ratio_bounds(model, tokens, alpha)
    assert found.upper - found.lower < 0.2 * (alone.upper - alone.lower)


def test_ratio_is_per_token_not_per_row() -> None:
    found = ratio_bounds([10.0, 300.0], [10, 100], 0.05)
    assert found.estimate == pytest.approx(310 / 110)


def test_rows_are_clusters() -> None:
    """Halves of rows are not independent: given as rows of their own they would look like more evidence."""
    model, base, tokens = rows(np.random.default_rng(1), 100, 0.0)
    whole = ratio_bounds(model, tokens, 0.05, base_sums=base)
    halves = ratio_bounds(
        np.repeat(model / 2, 2), np.repeat(tokens / 2, 2), 0.05, base_sums=np.repeat(base / 2, 2)
    )
    assert halves.upper - halves.lower < 0.75 * (whole.upper - whole.lower)


def test_equal_models_differ_by_exactly_nothing() -> None:
    model, _, tokens = rows(np.random.default_rng(1), 20, 0.0)
    assert ratio_bounds(model, tokens, 0.05, base_sums=model) == (0.0, 0.0, 0.0)


def test_constant_or_single_values_say_nothing_about_an_open_range() -> None:
    assert student_t_bounds(np.zeros(500), 0.05) == (0.0, -math.inf, math.inf)
    assert student_t_bounds([2.0], 0.05) == (2.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("sums", "counts", "message"),
    [
        ([1.0], [1.0, 2.0], "shapes"),
        ([math.inf], [1.0], "finite"),
        ([1.0], [0.0], "counts"),
        ([1.0], [-1.0], "counts"),
    ],
)
def test_bad_rows_are_rejected(sums: list[float], counts: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_bounds(sums, counts, 0.05)


# ------------------------------------------------------------ planning
def test_set_points_of_the_method_page() -> None:
    assert round(set_point(0.05, 500, confidence=0.95), 3) == 0.024
    assert round(set_point(0.05, 2000, confidence=0.95), 3) == 0.036
    assert round(set_point(0.01, 2000, confidence=0.95), 4) == 0.0043


@pytest.mark.parametrize(("bound", "n", "statements"), [(0.05, 500, 1), (0.01, 2000, 3), (0.2, 60, 2)])
def test_set_point_has_the_power_it_claims(bound: float, n: int, statements: int) -> None:
    rate = set_point(bound, n, confidence=0.95, num_statements=statements)
    alpha = corrected_alpha(0.95, statements)
    accepted = [k for k in range(n + 1) if clopper_pearson_upper(k, n, alpha) <= bound]
    assert binom.cdf(max(accepted), n, rate) == pytest.approx(0.9, abs=1e-6)


def test_set_point_names_the_prompts_it_needs() -> None:
    assert prompts_needed(0.001) == 2995
    with pytest.raises(ValueError, match="at least 2995 prompts"):
        set_point(0.001, 2994)
    assert set_point(0.001, 2995) > 0


def test_set_point_is_monotone() -> None:
    assert set_point(0.05, 500) < set_point(0.05, 2000) < 0.05
    assert set_point(0.05, 500, num_statements=4) < set_point(0.05, 500)
    assert set_point(0.05, 500, power=0.99) < set_point(0.05, 500)


@pytest.mark.parametrize(
    ("bound", "n", "concentration"), [(0.1, 500, 10.0), (0.1, 2000, 10.0), (0.05, 500, 40.0)]
)
def test_set_point_of_a_mean_has_about_its_power(bound: float, n: int, concentration: float) -> None:
    std = math.sqrt(bound * (1 - bound) / (concentration + 1))
    mean = set_point_mean(bound, n, std)
    assert 0.3 * bound < mean < bound
    rng = np.random.default_rng(2)
    samples = [rng.beta(mean * concentration, (1 - mean) * concentration, n) for _ in range(200)]
    assert sum(betting_upper(x, 0.05) <= bound for x in samples) / 200 > 0.85


def test_set_point_of_a_mean_scales_with_the_range_and_refuses_too_few_prompts() -> None:
    assert set_point_mean(10.0, 500, 5.0, high=100.0) == pytest.approx(100 * set_point_mean(0.1, 500, 0.05))
    with pytest.raises(ValueError, match="verify more prompts"):
        set_point_mean(0.01, 20, 0.05)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5])
def test_confidence_is_checked(bad: float) -> None:
    with pytest.raises(ValueError, match="expected a number between 0 and 1"):
        set_point(0.05, 500, confidence=bad)
    with pytest.raises(ValueError, match="alpha"):
        clopper_pearson_upper(1, 2, bad)


@pytest.mark.parametrize("module", [bounds_module, set_points_module])
def test_docstring_examples(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted >= 2
    assert found.failed == 0
