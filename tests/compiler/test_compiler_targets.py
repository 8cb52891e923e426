"""Joint bins: in range, exact for indicators, monotone, and refused when they would be too many."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from constraintlang_compiler.cuts import value_cuts
from constraintlang_compiler.errors import TargetError
from constraintlang_compiler.ir import AttributeRef, Clause, Comparison, Const, Indicator, RowsLoss, Value
from constraintlang_compiler.targets import LOG_FLOOR, MAX_BINS, build_target


def indicator(threshold: str, *, hard: bool = False) -> Clause:
    predicate = Comparison(op="ge", left=AttributeRef(name="toxicity"), right=Const(value=threshold))
    return Clause(
        id="",
        label=None,
        text=f"toxicity < {threshold}",
        kind="violation",
        statistic=Indicator(predicate=predicate),
        bound="0" if hard else "0.05",
        strict=False,
        hard=hard,
    )


def mean(name: str, high: str | None) -> Clause:
    return Clause(
        id="",
        label=name,
        text=f"mean({name}) <= 0.1",
        kind="mean",
        statistic=Value(term=AttributeRef(name=name), high=high),
        bound="0.1",
        strict=False,
    )


UTILITY = Clause(
    id="",
    label="fluent",
    text="",
    kind="utility",
    statistic=RowsLoss(quantity="perplexity"),
    bound="0",
    strict=False,
)
CLAUSES = (
    indicator("0.5", hard=True),
    indicator("0.1"),
    mean("toxicity", "1"),
    mean("words", "200"),
    indicator("0.9", hard=True),
)


def random_statistics(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            (rng.random(n) < 0.2).astype(float),
            (rng.random(n) < 0.4).astype(float),
            rng.beta(0.3, 2.0, n),
            np.rint(rng.gamma(2.0, 20.0, n)).clip(0, 200),
            (rng.random(n) < 0.1).astype(float),
        ],
        axis=1,
    )


subsets = st.sets(st.integers(0, 4), max_size=5)


@given(subsets, st.integers(0, 2**32 - 1))
def test_bin_index_is_in_range_and_hard_violations_are_bin_zero(indexes: set[int], seed: int) -> None:
    target = build_target(CLAUSES, tuple(indexes))
    f = random_statistics(50, seed)
    bins = target.bin_index(f)
    assert bins.dtype == np.int64
    assert bins.min() >= 0
    assert bins.max() < target.num_bins
    hard = [index for index in indexes if CLAUSES[index].hard]
    if hard:
        violated = (f[:, hard] > 0).any(axis=1)
        assert np.array_equal(bins == 0, violated)
        assert target.hard_bins.tolist() == [True] + [False] * (target.num_bins - 1)
    else:
        assert not target.hard_bins.any()


@given(subsets, st.integers(0, 2**32 - 1))
def test_bins_are_row_major_over_the_axes(indexes: set[int], seed: int) -> None:
    target = build_target(CLAUSES, tuple(indexes))
    f = random_statistics(30, seed)
    clean = f[(f[:, [0, 4]] == 0).all(axis=1)]
    coordinates = [soft.bin_index(clean[:, soft.clause]) for soft in target.soft]
    if coordinates:
        expected = np.ravel_multi_index(tuple(coordinates), target.axis_sizes) + bool(target.hard)
        assert np.array_equal(target.bin_index(clean), expected)


@given(st.integers(0, 2**32 - 1), st.floats(0, 12))
def test_the_potential_of_indicators_is_exact(seed: int, dual: float) -> None:
    clauses = (indicator("0.1"), indicator("0.3"), indicator("0.5", hard=True))
    target = build_target(clauses, (0, 1, 2))
    f = (np.random.default_rng(seed).random((40, 3)) < 0.5).astype(float)
    bins = target.bin_index(f)
    duals = np.array([dual, 12.0 - dual])
    log_potential = target.log_potential(duals, target.bin_values(f, bins))
    expected = np.where(f[:, 2] > 0, -LOG_FLOOR, np.maximum(-(f[:, :2] @ duals), -LOG_FLOOR))
    np.testing.assert_allclose(log_potential[bins], expected, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0, 8))
def test_the_potential_of_a_mean_is_within_the_width_of_the_bin(seed: int, dual: float) -> None:
    target = build_target(CLAUSES, (2,))
    f = random_statistics(200, seed)
    bins = target.bin_index(f)
    log_potential = target.log_potential(np.array([dual]), target.bin_values(f, bins))
    widths = np.diff(target.soft[0].edges)[bins]
    assert (np.abs(log_potential[bins] + dual * f[:, 2]) <= dual * widths + 1e-12).all()


@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0, 20), min_size=2, max_size=2))
def test_the_potential_falls_with_the_dual_and_stays_within_the_floor(seed: int, duals: list[float]) -> None:
    target = build_target(CLAUSES, (0, 1, 2))
    f = random_statistics(60, seed)
    values = target.bin_values(f, target.bin_index(f))
    low = target.log_potential(np.array(duals), values)
    high = target.log_potential(np.array(duals) + 0.5, values)
    assert ((low <= 0) & (low >= -LOG_FLOOR)).all()
    assert (high <= low).all()
    assert low[0] == -LOG_FLOOR


def test_bin_values_are_sample_means_and_middles_where_empty() -> None:
    target = build_target(CLAUSES, (2,))
    f = np.zeros((3, 5))
    f[:, 2] = [0.6, 0.8, 0.0]
    values = target.bin_values(f, target.bin_index(f))
    assert target.soft[0].edges == (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    np.testing.assert_allclose(values[:, 0], [0.0, 3 / 128, 3 / 64, 3 / 32, 3 / 16, 3 / 8, 0.7])


def test_edges_belong_to_the_upper_bin_and_the_top_to_the_last() -> None:
    target = build_target((mean("toxicity", "1"),), (0,))
    assert target.bin_index(np.array([[0.0], [1 / 64], [0.5], [0.499], [1.0]])).tolist() == [0, 1, 6, 5, 6]


def test_equal_statistics_share_an_axis() -> None:
    strict = replace(indicator("0.1"), bound="0.01", label="strict")
    target = build_target((indicator("0.1"), strict), (0, 1))
    assert target.num_bins == 2
    assert len(target.soft) == 2
    assert target.bin_values(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)).tolist() == [[0, 0], [1, 1]]


def test_without_clauses_there_is_one_bin_of_potential_one() -> None:
    target = build_target(CLAUSES, ())
    assert target.num_bins == 1
    f = random_statistics(4, 0)
    values = target.bin_values(f, target.bin_index(f))
    assert values.shape == (1, 0)
    assert target.log_potential(np.zeros(0), values).tolist() == [0.0]


def test_only_hard_clauses_make_two_bins() -> None:
    target = build_target(CLAUSES, (0, 4))
    assert target.num_bins == 2
    assert target.log_potential(np.zeros(0), np.zeros((2, 0))).tolist() == [-LOG_FLOOR, 0.0]


def test_values_are_coarsened_together_before_the_target_is_refused() -> None:
    clauses = (mean("a", "1"), mean("b", "1"), mean("c", "1"), mean("d", "1"))
    assert build_target(clauses, (0, 1)).axis_sizes == (7, 7)
    assert build_target(clauses, (0, 1, 2)).axis_sizes == (4, 4, 4)
    with pytest.raises(TargetError, match=r"`a`, `b`, `c`, `d` .* 256 joint bins, expected at most 64"):
        build_target(clauses, (0, 1, 2, 3))


def test_six_indicators_fit_and_seven_do_not() -> None:
    clauses = tuple(indicator(f"0.{digit}") for digit in range(1, 8))
    assert build_target(clauses, range(6)).num_bins == MAX_BINS
    with pytest.raises(TargetError, match="128 joint bins"):
        build_target(clauses, range(7))


def test_an_open_range_takes_its_edges_from_samples() -> None:
    clauses = (mean("words", None),)
    with pytest.raises(TargetError, match="open range"):
        build_target(clauses, (0,))
    samples = np.arange(1.0, 1001.0)[:, None]
    target = build_target(clauses, (0,), samples=samples)
    edges = target.soft[0].edges
    assert edges[0] == 0.0
    assert np.isinf(edges[-1])
    assert 500 < edges[-2] < 1000
    assert target.bin_index(np.array([[0.0], [10_000.0]])).tolist() == [0, 6]
    assert np.isfinite(target.bin_values(np.zeros((0, 1)), np.zeros(0, dtype=np.int64))).all()


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_samples_that_say_nothing(fill: float) -> None:
    samples = np.full((5, 1), fill)
    if np.isnan(fill):
        with pytest.raises(TargetError, match="no known sample"):
            build_target((mean("words", None),), (0,), samples=samples)
    else:
        assert build_target((mean("words", None),), (0,), samples=samples).soft[0].edges == (0.0, 0.1, np.inf)


def test_samples_cut_a_closed_range_where_they_lie() -> None:
    """Responses between 0.4 and 0.6 fall into all bins, not into two; the range still ends where it ended."""
    samples = np.random.default_rng(0).uniform(0.4, 0.6, size=(500, 1))
    target = build_target((mean("toxicity", "1"),), (0,), samples=samples)
    edges = np.array(target.soft[0].edges)
    assert (edges[0], edges[-1], len(edges)) == (0.0, 1.0, 8)
    assert np.bincount(target.bin_index(samples)).min() > 30
    inside = np.array([samples[target.bin_index(samples) == m].var() for m in range(7)]).mean()
    assert inside < 0.03 * samples.var()


def test_the_tilt_to_the_bound_draws_cuts_below_a_sample_that_lies_above_it() -> None:
    samples = np.random.default_rng(0).beta(6, 2, size=4000)[:, None]
    cuts = [value_cuts(samples[:, 0], bound, 5) for bound in (1.0, 0.55)]
    assert cuts[1][0] < cuts[0][0] - 0.05
    assert cuts[0] == sorted(cuts[0])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 5))
def test_cuts_leave_the_least_variance_within_bins(whole: list[int], num_bins: int) -> None:
    """Against every choice of cuts between distinct values, for a bound that tilts nothing."""
    values = np.array(whole, dtype=np.float64)
    distinct = np.unique(values)

    def error(cuts: list[float]) -> float:
        bins = np.searchsorted(cuts, values, side="right")
        return sum(float(values[bins == m].var() * (bins == m).sum()) for m in np.unique(bins))

    found = value_cuts(values, 100.0, num_bins)
    between = 0.5 * (distinct[:-1] + distinct[1:])
    every = combinations(between.tolist(), min(num_bins, len(distinct)) - 1)
    assert error(found) == pytest.approx(min(error(list(cuts)) for cuts in every), abs=1e-6)


def test_utility_clauses_never_enter() -> None:
    with pytest.raises(TargetError, match="utility clause `fluent`"):
        build_target((UTILITY,), (0,))


@pytest.mark.parametrize("value", [np.nan, -0.1])
def test_unknown_and_negative_statistics_are_refused(value: float) -> None:
    f = np.zeros((3, 5))
    f[1, 2] = value
    with pytest.raises(TargetError, match="response 1, clause 2"):
        build_target(CLAUSES, (2,)).bin_index(f)


def test_wrong_shapes_are_refused() -> None:
    target = build_target(CLAUSES, (1, 2))
    with pytest.raises(TargetError, match="shape"):
        target.bin_index(np.zeros((3, 2)))
    with pytest.raises(TargetError, match="duals"):
        target.log_potential(np.zeros(1), np.zeros((14, 2)))
    with pytest.raises(TargetError, match="not negative"):
        target.log_potential(np.array([-1.0, 0.0]), np.zeros((14, 2)))
    with pytest.raises(TargetError, match="index 9"):
        build_target(CLAUSES, (9,))


@pytest.mark.parametrize(
    ("value", "bound"), [(0.0, "0.2"), (0.0, "0"), (0.7, "0.2"), (0.0, "5"), (0.0, "-0.1")]
)
def test_samples_that_are_all_alike_still_give_two_bins(value: float, bound: str) -> None:
    clause = replace(mean("toxicity", "1"), bound=bound)
    target = build_target([clause], [0], samples=np.full((5, 1), value))
    (_, cut, _) = target.soft[0].edges
    assert 0.0 < cut < 1.0
    assert set(target.bin_index(np.full((3, 1), value))) <= {0, 1}


@pytest.mark.parametrize("values", [(0.8, 0.9), (0.1, 0.2), (0.0, 1.0)])
def test_two_values_fall_into_two_bins(values: tuple[float, float]) -> None:
    samples = np.array(values * 5)[:, None]
    target = build_target([mean("toxicity", "1")], [0], samples=samples)
    assert target.bin_index(samples).tolist() == [0, 1] * 5
