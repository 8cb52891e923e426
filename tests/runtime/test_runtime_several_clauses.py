"""Several clauses of different readings at once: their duals, their equilibrium with the corpus, their control."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable_world import random_world
from msgspec.structs import replace
from scipy.optimize import minimize
from world_policy import Case, make_case

from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.control import ControllerState, sensitivity, start_duals
from constraintlang_runtime.controlling import control_groups, start_controllers
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.projection import GroupLaw, project, tilted_covariance
from constraintlang_runtime.regularizer import token_divergence
from constraintlang_runtime.rounds import Measurement

READINGS = (
    ("rarely", "mean"),
    ("rarely", "length"),
    ("mean", "length"),
    ("never", "rarely", "length"),
    ("rarely", "mean", "length"),
    ("rarely", "rarely other", "length"),
)


def strengths(case: Case, dual: float) -> np.ndarray:
    """Duals that move the mean of each statistic by about ``dual`` of its standard deviations."""
    world, soft = case.world, case.soft
    spread = [
        np.sqrt(world.mean(world.law, (soft[:, :, k] - world.mean(world.law, soft[:, :, k])) ** 2))
        for k in range(soft.shape[-1])
    ]
    return dual / np.array(spread)


def means_under(case: Case, law: np.ndarray) -> np.ndarray:
    return np.array([case.world.mean(law, case.soft[:, :, k]) for k in range(case.soft.shape[-1])])


def enumerated_duals(case: Case, bounds: np.ndarray) -> np.ndarray:
    """The optimum of the dual over the list of all sequences: no bins, no samples, not the runtime's solver."""
    world = case.world
    scale = strengths(case, 1.0)

    def negative(units: np.ndarray) -> float:
        _, normaliser = world.tilt(world.law, case.potential(units * scale))
        return float(units * scale @ bounds + world.over_prompts(np.log(normaliser)))

    found = minimize(negative, np.ones(len(bounds)), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-11,
                     "maxiter": 4000})  # fmt: skip
    return np.asarray(found.x * scale)


def sampled_group(case: Case, bounds: np.ndarray, seed: int) -> tuple[Group, Measurement, np.ndarray]:
    """A group as a run makes it from 4,096 samples; its law is the exact one over the bins that they gave."""
    soft = iter(bounds)
    clauses = tuple(c if c.hard else replace(c, bound=f"{next(soft):.12f}") for c in case.clauses)
    world = case.world
    x, n = world.draw(world.law, 4096, seed)
    group = Group("all", clauses, tuple(range(len(clauses))), [], 1.0, np.full(len(clauses), np.nan))
    attach_target(group, case.f[x, n])
    assert group.target is not None
    every = group.target.bin_index(case.f.reshape(-1, case.f.shape[-1])).reshape(case.bins.shape)
    law = world.per_prompt_copy(world.bin_law(world.law, every, group.target.num_bins)[:, 0])
    return group, Measurement([], case.f[x, n]), law


@pytest.mark.parametrize("kinds", READINGS)
@pytest.mark.parametrize("seed", range(3))
def test_started_duals_are_within_a_tenth_of_the_enumerated_optimum(kinds, seed, tmp_path):
    """Two and three clauses, chance, mean and hard: what a run starts from, against every sequence."""
    case = make_case(random_world(seed), *kinds)
    wanted = strengths(case, 1.3)
    tilted, _ = case.world.tilt(case.world.law, case.potential(wanted))
    points = means_under(case, tilted)
    exact = enumerated_duals(case, points)
    np.testing.assert_allclose(exact, wanted, rtol=0.01)
    group, found, law = sampled_group(case, points / 0.9, seed)
    config = ConstraintConfig(output_dir=str(tmp_path), set_point_share=0.9)
    start_controllers([group], [law], [found], config, len(case.clauses))
    assert [state.set_point for state in group.controllers] == pytest.approx(points.tolist())
    np.testing.assert_allclose(group.duals, exact, rtol=0.1)


@pytest.mark.parametrize("kinds", [("rarely", "mean"), ("rarely", "mean", "length")])
@pytest.mark.parametrize("divergence", ["reverse", "forward"])
@pytest.mark.parametrize("seed", range(3))
def test_the_corpus_pulls_on_all_clauses_and_the_set_points_are_the_equilibrium(kinds, divergence, seed):
    """At the projection onto the points, the slope of corpus NLL + ρ D(q_λ0, p) along every statistic vanishes."""
    case = make_case(random_world(seed, length=3, num_prompts=1), *kinds)
    world, weight = case.world, 6.0
    tilted, _ = world.tilt(world.law, case.potential(strengths(case, 0.4)))
    corpus, _ = world.tilt(world.law, case.potential(strengths(case, 0.1)))
    points = means_under(case, tilted)
    law, hard = world.law.reshape(1, -1), np.zeros(world.law.size, dtype=bool)
    values = case.soft.reshape(-1, case.soft.shape[-1])
    solved = project(law, values, points, hard)
    duals = start_duals(
        [GroupLaw(law, values, hard, np.ones(len(points), dtype=bool))],
        points,
        solved,
        corpus=means_under(case, corpus)[None],
        weights=np.array([weight]),
        divergence=divergence,
    )
    assert (duals > solved.duals).all()
    assert duals.max() < 12
    target = torch.from_numpy(np.log(world.tilt(world.law, case.potential(duals))[0]))
    if divergence == "forward":  # its minimiser is the mixture, whose means are the points
        mixed = (corpus + weight * np.exp(target.numpy())) / (1 + weight)
        np.testing.assert_allclose(means_under(case, mixed), points, atol=1e-5)
        return
    logits = torch.from_numpy(np.log(tilted)).requires_grad_()
    log_p = torch.log_softmax(logits, dim=-1)
    loss = (
        -(torch.from_numpy(corpus) * log_p).sum() + weight * token_divergence(log_p, target, divergence).sum()
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(gradient.numpy() @ values, 0.0, atol=1e-5)


def test_covariance_is_the_slope_of_the_means():
    case = make_case(random_world(2), "never", "mean", "rarely other")
    group, _, law = sampled_group(case, np.array([1.0, 1.0]), 0)
    assert group.target is not None
    hard, at = group.target.hard_bins, np.array([2.0, 1.0])

    def means(duals: np.ndarray) -> np.ndarray:
        weights = np.where(hard, 0.0, law * np.exp(-group.bin_values @ duals))
        return ((weights / weights.sum(axis=1, keepdims=True)) @ group.bin_values).mean(axis=0)

    found = tilted_covariance([GroupLaw(law, group.bin_values, hard, np.ones(2, dtype=bool))], at)
    for k in range(2):
        step = 1e-4 * np.eye(2)[k]
        np.testing.assert_allclose(found[:, k], -(means(at + step) - means(at - step)) / 2e-4, atol=1e-6)


@pytest.mark.parametrize(("high", "spread"), [(1.0, 0.05), (1.0, 0.3), (30.0, 4.0)])
def test_sensitivity_is_the_slope_of_the_logit_of_the_mean(high, spread):
    values = np.clip(np.random.default_rng(0).normal(0.4 * high, spread, size=2000), 0, high)

    def level(dual: float) -> float:
        weights = np.exp(-dual * values)
        mean = weights @ values / weights.sum() / high
        return float(np.log(mean / (1 - mean)))

    step = 1e-5 / spread
    assert sensitivity(values, high) == pytest.approx(-(level(step) - level(-step)) / (2 * step), rel=1e-4)
    assert sensitivity(np.array([0.0, high]), high) == pytest.approx(high)
    assert sensitivity(np.full(3, 0.2), high) == high


@pytest.mark.parametrize("kinds", [("rarely", "length"), ("rarely", "mean", "length")])
def test_controllers_bring_all_means_to_their_set_points_from_nothing(kinds):
    """Ten rounds with the student at the tilt of the round before, from λ = 0: every mean is there, and stays."""
    case = make_case(random_world(4), *kinds)
    world = case.world
    wanted = strengths(case, 0.8)
    points = means_under(case, world.tilt(world.law, case.potential(wanted))[0])
    group = case.group(np.zeros(len(wanted)))
    group.controllers = [ControllerState(value=0.0, weight=1.0, set_point=p, gain=0.5) for p in points]
    distance = []
    for number in range(20):
        law = world.tilt(world.law, case.potential(group.duals))[0]
        gap = (means_under(case, law) - points) * wanted / 0.8  # in standard deviations
        distance.append(np.abs(gap).max())
        x, n = world.draw(law, 4000, number)
        control_groups([group], [Measurement([], case.f[x, n])])
    assert distance[0] > 0.4
    assert max(distance[10:]) < 0.1
    np.testing.assert_allclose(group.duals, wanted, rtol=0.15)
