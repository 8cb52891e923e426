"""A small coverage study, the same simulations as ``benchmarks/coverage/run.py``, and proof that it can fail."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage" / "simulate.py"
RUNS, ALPHA = 400, 0.05


@pytest.fixture(scope="module")
def s() -> Any:
    found = importlib.util.spec_from_file_location("coverage_simulate", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["coverage_simulate"] = module
    found.loader.exec_module(module)
    return module


def within(wrong: np.ndarray, alpha: float = ALPHA) -> bool:
    """Whether the errors are what an error probability of alpha gives, but for one run in 10,000."""
    return int(wrong.sum()) <= binom.ppf(0.9999, len(wrong), alpha)


def test_fixed_methods_at_the_boundary(s: Any) -> None:
    rng = np.random.default_rng(0)
    found = {
        "counts": s.counts(rng, 0.05, 59, RUNS, ALPHA),
        "many counts": s.counts(rng, 0.3, 50, RUNS, ALPHA),
        "clauses": s.joint_counts(rng, 0.05, 200, 5, RUNS, ALPHA),
        "mean": s.means(rng, "Beta(0.4, 3.6)", 100, RUNS, ALPHA),
        "two points": s.means(rng, "two points 0.05, 0.55", 200, RUNS, ALPHA),
        "prompts": s.means(rng, "4 samples a prompt", 20, RUNS, ALPHA),
        "quantile": s.quantiles(rng, 0.9, 60, 1, RUNS, ALPHA),
        "cvar": s.cvars(rng, 0.9, 40, RUNS, ALPHA),
    }
    assert {name: within(wrong) for name, wrong in found.items()} == dict.fromkeys(found, True)


@pytest.mark.parametrize("side", ["below", "above"])
def test_sequential_verdicts_at_the_boundary(s: Any, side: str) -> None:
    rng = np.random.default_rng(1)
    found = {law: s.sequential(rng, law, 300, side, RUNS, ALPHA) for law in s.LAWS}
    assert {law: within(wrong) for law, wrong in found.items()} == dict.fromkeys(found, True)
    assert sum(int(wrong.sum()) for wrong in found.values()) > 0  # the boundary is where they do err


def test_the_study_can_fail(s: Any) -> None:
    """A planted bug, alpha doubled or a peek at a fixed bound, is caught at this size."""
    rng = np.random.default_rng(2)
    assert not within(s.counts(rng, 0.05, 506, 20 * RUNS, 2 * ALPHA))
    assert not within(s.counts(rng, 0.3, 50, 20 * RUNS, 2 * ALPHA))
    assert not within(s.quantiles(rng, 0.9, 200, 1, 4 * RUNS, 2 * ALPHA))
    assert not within(s.peeking(rng, 0.05, 400, RUNS, ALPHA))
    assert not within(s.joint_counts(rng, 0.05, 506, 5, RUNS, 5 * ALPHA))  # no correction for five clauses


def test_average_samples_against_the_fixed_plan(s: Any) -> None:
    rng, plan = np.random.default_rng(3), 239
    shares = {}
    for share in (0.25, 0.5, 2.0):
        used, held, violated = s.samples_used(rng, share * 0.1, 0.1, plan, 200, ALPHA)
        shares[share] = used.mean() / plan
        assert held.mean() < 0.05 if share == 2.0 else held.mean() > 0.5
        assert violated.mean() > 0.8 if share == 2.0 else violated.mean() < 0.05
    assert shares[2.0] < 0.5
    assert shares[0.25] < 0.5
    assert s.least_possible(0.05, 0.1, ALPHA, 0.9) / plan == pytest.approx(0.60, abs=0.01)
