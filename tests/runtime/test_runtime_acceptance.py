"""The account of rejection against exact laws: rate, -log AR, and what a guided proposal still lacks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enumerable_world import random_world
from tabular_model import TabularLM, token_row
from world_policy import duals_of, make_case

from constraintlang_runtime.acceptance import acceptance, filtered_gap
from constraintlang_runtime.generation import Generator
from constraintlang_runtime.integrations.guide import Guide


def drawn(rates: np.ndarray, max_draws: int, seed: int) -> tuple[list[int], list[bool]]:
    """Rejected draws of one reply per prompt."""
    first = np.random.default_rng(seed).geometric(rates)
    return np.minimum(first - 1, max_draws).tolist(), (first <= max_draws).tolist()


def test_the_cost_of_rejection_is_minus_the_mean_log_rate() -> None:
    """One reply for each prompt is enough, though no single prompt's rate can be told from it."""
    rates = np.random.default_rng(0).beta(2, 2, size=4000) * 0.9 + 0.05
    rejected, accepted = drawn(rates, 400, 1)
    found = acceptance(rejected, accepted, 400)
    assert found.cost.lower < -np.log(rates).mean() < found.cost.upper
    assert found.cost.estimate == pytest.approx(-np.log(rates).mean(), abs=0.05)
    assert found.rate.lower < rates.mean() < found.rate.upper
    assert found.rate.estimate == pytest.approx(rates.mean(), abs=0.03)
    pooled = sum(accepted) / (sum(rejected) + sum(accepted))
    assert pooled < rates.mean() - 0.05  # what `rate` must not be: hard prompts take most draws
    assert not found.cost_is_floor
    assert not found.is_guided
    assert found.gap is None


def test_the_expected_cost_is_the_truncated_series() -> None:
    """E of the harmonic number over the geometric law, exactly, for a cap of 5 draws."""
    for rate in (0.05, 0.3, 0.9):
        law = [rate * (1 - rate) ** k for k in range(5)] + [(1 - rate) ** 5]
        costs = [acceptance([k], [k < 5], 5).cost.estimate for k in range(6)]
        expected = sum(p * c for p, c in zip(law, costs, strict=True))
        series = sum((1 - rate) ** k / k for k in range(1, 6))
        assert expected == pytest.approx(series, rel=1e-12)
        assert 0 <= -math.log(rate) - expected <= (1 - rate) ** 6 / (6 * rate)


def test_replies_that_ran_out_make_the_cost_a_floor() -> None:
    found = acceptance([0, 3, 0], [True, False, True], 3)
    assert found.cost_is_floor
    assert (found.accepted, found.replies, found.draws) == (2, 3, 5)
    assert found.rate.estimate == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no reply"):
        acceptance([], [], 3)
    record = acceptance([0, 1], [True, True], 4, log_weights=[]).to_json()
    assert record["is_guided"]
    assert record["gap"] is None
    assert set(record["rate"]) == {"estimate", "lower", "upper"}


def test_what_a_guided_proposal_lacks_is_found_from_its_own_replies() -> None:
    """KL(g‖a) = KL(g‖g') - log AR on the world, and each part as estimated from draws."""
    case = make_case(random_world(3), "rarely", "mean")  # steered by two clauses, filtered by one
    world, duals = case.world, np.array([1.0, 11.0])
    guide = Guide(case.group(duals), [])
    guided = world.law_of(case.token_targets(world.law, case.log_potential(duals, 12.0)))
    okay = (case.f[:, :, 0] == 0).astype(np.float64)
    filtered, _ = world.tilt(world.law, okay)
    left, rate = world.tilt(guided, okay)
    gap = world.kl(filtered, left)
    np.testing.assert_allclose(world.kl(filtered, guided), gap - np.log(rate), atol=1e-12)

    model, rows, pairs = TabularLM(world, world.table), [], []
    for x in range(world.num_prompts):
        picked = np.random.default_rng(x).choice(len(world.sequences), size=300, p=left[x])
        rows += [token_row(world, x, n) for n in picked]
        pairs += [(x, n) for n in picked]
    assert gap.min() > 0.005
    weights = np.array(guide.log_weights(model, rows, 0))
    exact = np.array([np.log(world.law[at] / guided[at]) for at in pairs])
    np.testing.assert_allclose(weights, exact, atol=1e-4)
    found = filtered_gap(weights.reshape(world.num_prompts, -1).tolist())
    assert found is not None
    assert found.estimate == pytest.approx(gap.mean(), abs=0.15 * gap.mean() + 0.005)
    for x, own in enumerate(weights.reshape(world.num_prompts, -1)):
        one = filtered_gap([own.tolist()])
        assert one is not None
        assert one.lower < gap[x] < one.upper
    assert filtered_gap([[0.1], []]) is None


def test_the_true_potential_is_that_of_the_statistics() -> None:
    case = make_case(random_world(3), "never", "rarely", "mean")
    duals = duals_of(case, 1.5)
    guide = Guide(case.group(duals), [])
    with np.errstate(divide="ignore"):
        exact = np.maximum(np.log(case.potential(duals)), -12.0)
    found = np.array([[guide.true_log_potential(f) for f in rows] for rows in case.f])
    np.testing.assert_allclose(found, exact, atol=1e-9)
    assert guide.true_log_potential(np.full(3, np.nan)) == -12.0


def test_replies_of_one_prompt_are_one_piece_of_evidence() -> None:
    """20 prompts that obey always or hardly ever, 50 replies each: the interval is about prompts."""
    missed, cost_missed, runs = 0, 0, 60
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        rates = np.where(rng.random(20) < 0.5, 0.1, 0.9).repeat(50)
        rejected, accepted = drawn(rates, 50, seed)
        found = acceptance(rejected, accepted, 50, prompts=np.arange(20).repeat(50).tolist())
        assert found.replies == 1000
        missed += not found.rate.lower <= 0.5 <= found.rate.upper
        truth = -0.5 * (np.log(0.1) + np.log(0.9))
        cost_missed += not found.cost.lower <= truth <= found.cost.upper
    assert max(missed, cost_missed) <= 8  # 5% of the runs, with room


def test_the_order_of_prompts_does_not_decide() -> None:
    """Those of an easy domain may stand first in the file: they are numbered by what they say."""
    rejected, accepted = [0] * 400 + [9] * 400, [True] * 800
    numbers = Generator._numbered([(i,) for i in range(400) for _ in range(2)])
    found = acceptance(rejected, accepted, 50, prompts=numbers)
    assert found.rate.lower < 0.5 < found.rate.upper
    assert found.cost.lower < found.cost.estimate < found.cost.upper
