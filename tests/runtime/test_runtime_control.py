"""Control of late measurements: the stable gain against the roots of the loop, and the loop itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from constraintlang_runtime.control import ControllerState, logit, update
from constraintlang_runtime.settings import delay_factor


@pytest.mark.parametrize("delay", range(6))
def test_the_largest_gain_is_where_the_roots_leave_the_unit_circle(delay: int) -> None:
    def radius(gain: float) -> float:
        polynomial = np.zeros(delay + 2)
        polynomial[0], polynomial[1] = 1.0, -1.0
        polynomial[-1] += gain
        return float(np.abs(np.roots(polynomial)).max())

    largest = 2 * delay_factor(delay)
    assert radius(0.99 * largest) < 1 < radius(1.01 * largest)


def rates(delay: int, told: int, gain: float = 0.9, rounds: int = 60) -> list[float]:
    """Rates of a model whose logit falls one for one in λ, measured ``delay`` rounds late without noise."""
    state = ControllerState(value=2.0, weight=1.0, set_point=0.05, gain=gain * delay_factor(told))
    seen, duals = [], [state.value] * (delay + 1)
    for _ in range(rounds):
        level = 1 / (1 + np.exp(duals[-1 - delay] - 4.0 - logit(0.05)))  # the set-point stands at λ = 4
        seen.append(float(level))
        state = update(state, level * 1e6, 1e6)
        duals.append(state.value)
    return seen


@pytest.mark.parametrize("delay", [1, 2, 4])
def test_a_controller_that_knows_its_delay_settles_and_one_that_does_not_swings(delay: int) -> None:
    known = rates(delay, delay)
    assert known[-1] == pytest.approx(0.05, rel=0.02)
    if delay > 1:
        swings = np.array(rates(delay, 0)[-20:])
        assert np.ptp(swings) > 0.02


def test_a_small_set_point_pools_the_rounds_since_the_last_move() -> None:
    """n >= 5/b: with b = 0.01 a round of 200 samples waits for two others, and then all count."""
    state = ControllerState(value=1.0, weight=1.0, set_point=0.01, gain=0.2, min_samples=500)
    for count in (5.0, 6.0):
        waiting = update(state, count, 200)
        assert waiting.value == state.value
        state = waiting
    moved = update(state, 5.0, 200)
    rate = (5 + 6 + 5 + 0.5) / 601
    assert moved.value == pytest.approx(1.0 + 0.2 * (logit(rate) - logit(0.01)))
    assert moved.window == ()


def test_a_rate_far_above_a_small_set_point_does_not_wait() -> None:
    """At b = 0.01, 256 samples: 5 + 2 n b = 10.1, so that 11 violations move the dual and 10 are pooled."""
    state = ControllerState(value=1.0, weight=1.0, set_point=0.01, gain=0.2, min_samples=500)
    assert update(state, 10.0, 256).value == 1.0
    assert update(state, 11.0, 256).value == pytest.approx(1.3)  # an error of 1.5 at most


@pytest.mark.parametrize("b", [0.001, 0.004, 0.01, 0.03, 0.1])
def test_at_the_set_point_chance_alone_rarely_cuts_the_waiting_short(b: float) -> None:
    counts = np.arange(8, int(5 / b))
    assert binom.sf(np.ceil(5 + 2 * counts * b) - 1, counts, b).max() < 1 / 3000
