"""The identities of method.md, section 7: the runtime's functions against the enumeration of a small world.

Each test names its identity. Random worlds come from a seed; the exact laws, values and divergences come from
``enumerable_world``, which sums over the list of sequences. float32 inside the runtime sets the tolerances.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable_world import another_law, random_world, small_world
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from world_policy import (
    KINDS,
    Case,
    chance_duals,
    detached_slope,
    divergences,
    duals_of,
    first_dual,
    make_case,
    moved_table,
)  # fmt: skip

from constraintlang_compiler.targets import LOG_FLOOR
from constraintlang_runtime.groups import prompt_log_potential
from constraintlang_runtime.projection import project
from constraintlang_runtime.regularizer import log_values, token_divergence

few = settings(max_examples=15, deadline=None)  # an example builds and sums a whole world
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(KINDS)
duals = st.floats(0.05, 6.0)


def solve(case: Case, bounds: np.ndarray, law: np.ndarray | None = None):
    """``project`` on the exact law of single sequences: one bin for each pair (x, y), means without binning error."""
    world = case.world
    rows = world.per_prompt_copy(world.as_bins(world.law if law is None else law))
    values = case.soft.reshape(-1, case.soft.shape[-1])
    return project(rows, values, np.asarray(bounds, dtype=np.float64), case.allowed.ravel() == 0)


def reachable_bounds(case: Case, dual: float) -> np.ndarray:
    """The means of the soft statistics under some tilt: bounds that can be met."""
    tilted, _ = case.world.tilt(case.world.law, case.potential(duals_of(case, dual)))
    return np.array([case.world.mean(tilted, case.soft[:, :, k]) for k in range(case.soft.shape[-1])])


# ------------------------------------------------------------ 1, 9, 10: the token target
@few
@given(seeds, kinds, duals)
def test_identity_1_token_targets_multiply_to_the_projected_law(seed, chosen, dual):
    """Π_t q̂(y_t|s_t) = p_ref(y) ψ(y) / Z for every sequence, with the exact bin law."""
    case = make_case(random_world(seed), *chosen)
    world, strengths = case.world, duals_of(case, dual)
    targets = case.token_targets(world.law, case.log_potential(strengths))
    projected, _ = world.tilt(world.law, case.potential(strengths))
    np.testing.assert_allclose(world.law_of(targets), projected, atol=2e-6)


@few
@given(seeds, kinds, duals)
def test_identity_10_path_consistency_holds_from_every_prefix_with_the_floored_potential(seed, chosen, dual):
    """Σ_t log q̂(y_t|s_t) over the rest of a path = log p(rest) + log ψ(y) - log V(s), also from dead prefixes."""
    case = make_case(random_world(seed), *chosen)
    world = case.world
    log_psi = case.log_potential(duals_of(case, dual), LOG_FLOOR)
    assert log_psi.min() >= -LOG_FLOOR
    log_q = np.log(case.token_targets(world.law, log_psi))
    value = world.value(np.exp(log_psi)[case.bins])
    for n in np.random.default_rng(seed).choice(len(world.sequences), size=12, replace=False):
        y = world.sequences[n]
        for t, s in enumerate(world.path(n)):
            rest = sum(log_q[:, node, y[t + i]] for i, node in enumerate(world.path(n)[t:]))
            chance = np.log(world.law[:, n] / world.mass(world.law)[:, s])
            np.testing.assert_allclose(
                rest, chance + log_psi[case.bins[:, n]] - np.log(value[:, s]), atol=5e-5
            )


@few
@given(seeds, kinds, duals)
def test_identity_9_targets_sum_to_one_and_dead_prefixes_keep_the_anchor(seed, chosen, dual):
    """Σ_v q̂(v|s) = 1; where every continuation violates a hard clause, V is constant and q̂ = p_ref."""
    case = make_case(random_world(seed), *chosen)
    world = case.world
    targets = case.token_targets(world.law, case.log_potential(duals_of(case, dual), LOG_FLOOR))
    np.testing.assert_allclose(targets.sum(axis=-1), 1.0, atol=1e-6)
    dead = world.value(case.allowed)[:, : len(world.prefixes)] == 0
    assert dead.any() == bool(case.target.hard)
    np.testing.assert_allclose(targets[dead], world.next_token(world.law)[dead], atol=1e-6)


# ------------------------------------------------------------ 2, 3: closed forms
@few
@given(seeds)
def test_identity_2_one_hard_clause_costs_the_log_of_its_compliance(seed):
    """E_x KL(q*‖p) = E_x[-log R(x)], from ``project`` without soft clauses and from the law itself."""
    case = make_case(random_world(seed), "never")
    world = case.world
    bin_law = world.bin_law(world.law, case.bins, case.target.num_bins)[:, 0]
    solved = project(world.per_prompt_copy(bin_law), case.bin_values, np.zeros(0), case.target.hard_bins)
    projected, compliance = world.tilt(world.law, case.allowed)
    assert solved.duals.shape == (0,)
    np.testing.assert_allclose(solved.kl, world.over_prompts(-np.log(compliance)), rtol=1e-9)
    np.testing.assert_allclose(solved.kl, world.over_prompts(world.kl(projected, world.law)), rtol=1e-9)


@few
@given(seeds, st.floats(0.02, 0.6))
def test_identity_3_each_prompt_chance_form_conditioned_on_the_hard_clause(seed, bound):
    """λ(x) of ``chance_duals`` gives rate min(δ, 1 - R(x)); KL(x) = -log P(hard) + d_Bern(rate ‖ 1 - R(x))."""
    case = make_case(random_world(seed), "never", "rarely")
    world, violation = case.world, case.soft[:, :, 0]
    conditioned, hard_mass = world.tilt(world.law, case.allowed)
    success = (conditioned * (1 - violation)).sum(axis=1)
    strengths = chance_duals(success, bound, max_dual=50.0)
    projected, _ = world.tilt(world.law, case.allowed * np.exp(-strengths[:, None] * violation))
    rate = (projected * violation).sum(axis=1)
    np.testing.assert_allclose(rate, np.minimum(bound, 1 - success), atol=1e-9)
    np.testing.assert_array_equal(strengths[1 - success <= bound], 0.0)
    pairs = [np.stack([r, 1 - r], axis=1) for r in (rate, 1 - success)]
    np.testing.assert_allclose(
        world.kl(projected, world.law), -np.log(hard_mass) + world.kl(*pairs), atol=1e-9
    )


@few
@given(seeds, st.floats(0.02, 0.6))
def test_identity_3_chance_dual_is_the_projection_of_each_prompt_alone(seed, bound):
    """``chance_duals`` = ``project`` on one prompt at a time, capped at Λ."""
    case = make_case(random_world(seed), "rarely")
    success = 1 - (case.world.law * case.soft[:, :, 0]).sum(axis=1)
    for rate, dual in zip(success, chance_duals(success, bound), strict=True):
        solved = project(
            np.array([[rate, 1 - rate]]), case.bin_values, np.array([bound]), case.target.hard_bins
        )
        np.testing.assert_allclose(solved.duals, [dual], atol=1e-6)


@few
@given(seeds, st.floats(0.02, 0.6))
def test_identity_3_per_prompt_potential_reaches_the_bound(seed, bound):
    """``prompt_log_potential`` with c = logit(1 - δ) has ψ(ok) = 1 and meets the bound in every prompt."""
    case = make_case(random_world(seed), "rarely")
    group = case.group(np.array([np.log(1 - bound) - np.log(bound)]))
    success = 1 - (case.world.law * case.soft[:, :, 0]).sum(axis=1)
    log_psi = prompt_log_potential(group, torch.from_numpy(success)).double().numpy()
    np.testing.assert_array_equal(log_psi[:, 0], 0.0)
    per_sequence = np.take_along_axis(log_psi, case.bins, axis=1)
    projected, _ = case.world.tilt(case.world.law, np.exp(per_sequence))
    rate = (projected * case.soft[:, :, 0]).sum(axis=1)
    np.testing.assert_allclose(rate, np.minimum(bound, 1 - success), atol=1e-5)


# ------------------------------------------------------------ 4, 12, 15: the projection
@few
@given(
    seeds,
    st.sampled_from(
        [("rarely",), ("never", "mean"), ("mean", "rarely other"), ("never", "rarely", "length")]
    ),
    duals,
    st.floats(0.6, 1.5),
)
def test_identity_4_slackness_and_zero_duality_gap(seed, chosen, dual, loosened):
    """λ_k(E f_k - b_k) = 0, E f_k <= b_k, and KL = -E log Z - Σ λ_k b_k: by weak duality no feasible law is nearer."""
    case = make_case(random_world(seed), *chosen)
    world = case.world
    bounds = reachable_bounds(case, dual)
    bounds[-1] *= max(loosened, 1.0)  # sometimes inactive
    solved = solve(case, bounds)
    projected, normaliser = world.tilt(world.law, case.potential(solved.duals))
    means = np.array([world.mean(projected, case.soft[:, :, k]) for k in range(len(bounds))])
    np.testing.assert_allclose(solved.means, means, atol=1e-9)
    assert (solved.duals >= 0).all()
    assert (means <= bounds + 1e-5 * np.maximum(1, bounds)).all()
    np.testing.assert_allclose(solved.duals * (means - bounds), 0.0, atol=1e-4)
    kl = world.over_prompts(world.kl(projected, world.law))
    np.testing.assert_allclose(solved.kl, kl, atol=1e-8)
    gap = kl - (world.over_prompts(-np.log(normaliser)) - solved.duals @ bounds)
    np.testing.assert_allclose(gap, 0.0, atol=1e-4)
    assert not solved.saturated.any()


@few
@given(seeds, duals)
def test_identity_4_overlapping_scopes(seed, dual):
    """Two clauses on overlapping prompts: f_k 1[x in D_k] against m_k b_k gives KL = -E log Z - Σ m_k λ_k b_k."""
    case = make_case(random_world(seed), "mean", "rarely other")
    world = case.world
    scopes = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    shares = scopes @ world.prompt_law
    scoped = np.stack([case.soft[:, :, k] * scopes[k][:, None] for k in range(2)], axis=-1)
    reached, _ = world.tilt(world.law, np.exp(-(scoped @ np.array([dual, dual / 2]))))
    bounds = np.array([world.mean(reached, scoped[:, :, k]) for k in range(2)]) / shares
    rows = world.per_prompt_copy(world.as_bins(world.law))
    solved = project(rows, scoped.reshape(-1, 2), shares * bounds, np.zeros(rows.shape[1], dtype=bool))
    projected, normaliser = world.tilt(world.law, np.exp(-(scoped @ solved.duals)))
    inside = np.array([world.mean(projected, scoped[:, :, k]) for k in range(2)]) / shares
    np.testing.assert_allclose(inside, bounds, atol=1e-4)
    kl = world.over_prompts(world.kl(projected, world.law))
    dual_value = world.over_prompts(-np.log(normaliser)) - (shares * solved.duals) @ bounds
    np.testing.assert_allclose(kl, dual_value, atol=1e-4)
    np.testing.assert_allclose(solved.kl, kl, atol=1e-8)


@few
@given(seeds)
def test_identity_4_unreachable_bounds_are_marked(seed):
    """A bound below every reachable mean stops at the cap and is marked; the reachable clause beside it is not."""
    case = make_case(random_world(seed), "mean", "rarely")
    lowest = case.world.over_prompts(case.soft[:, :, 0].min(axis=1))
    solved = solve(case, np.array([0.5 * lowest, 1.0]))
    assert solved.saturated.tolist() == [True, False]
    np.testing.assert_allclose(solved.duals, [LOG_FLOOR, 0.0], atol=1e-6)
    alone = make_case(case.world, "mean")
    assert solve(alone, np.array([0.5 * lowest])).saturated.tolist() == [True]


@few
@given(seeds, st.floats(0.2, 4.0))
def test_identity_4_duals_at_the_ends_of_their_interval(seed, cap):
    """A bound that p_ref meets has λ = 0 to the last bit (the term is skipped); a cap that suffices is no alarm."""
    case = make_case(random_world(seed), "never", "rarely")
    conditioned, _ = case.world.tilt(case.world.law, case.allowed)
    met = solve(case, np.array([case.world.mean(conditioned, case.soft[:, :, 0]) + 1e-9]))
    assert met.duals.tolist() == [0.0]
    np.testing.assert_allclose(met.kl, case.world.over_prompts(case.world.kl(conditioned, case.world.law)))
    bound = reachable_bounds(case, cap)
    rows = case.world.per_prompt_copy(case.world.as_bins(case.world.law))
    values, hard = case.soft.reshape(-1, 1), case.allowed.ravel() == 0
    for slack, alarm in ((1e-9, False), (-1e-3, True)):
        solved = project(rows, values, bound * (1 + slack), hard, max_dual=cap)
        np.testing.assert_allclose(solved.duals, cap, atol=1e-6)
        assert solved.saturated.tolist() == [alarm]


def test_projection_refuses_a_prompt_whose_every_bin_is_hard():
    law = np.array([[0.5, 0.5], [1.0, 0.0]])
    with pytest.raises(ValueError, match="all its mass on hard"):
        project(law, np.zeros((2, 0)), np.zeros(0), np.array([True, False]))


@few
@given(seeds, duals, st.floats(0.5, 0.99))
def test_identity_12_tightening_a_bound_costs_kl_and_lowers_its_mean(seed, dual, factor):
    """b_k smaller: KL does not fall, E f_k does not rise."""
    case = make_case(random_world(seed), "never", "mean", "rarely other")
    bounds = reachable_bounds(case, dual)
    loose, tight = solve(case, bounds), solve(case, bounds * [factor, 1.0])
    assert tight.kl >= loose.kl - 1e-6
    assert tight.means[0] <= loose.means[0] + 1e-5


@few
@given(seeds, duals)
def test_identity_15_exact_projection_is_idempotent(seed, dual):
    """Projecting q* onto the same bounds changes nothing: λ = 0, KL = 0."""
    case = make_case(random_world(seed), "never", "mean")
    bounds = reachable_bounds(case, dual)
    projected, _ = case.world.tilt(case.world.law, case.potential(solve(case, bounds).duals))
    again = solve(case, bounds, projected)
    np.testing.assert_allclose(again.duals, 0.0, atol=1e-6)
    np.testing.assert_allclose(again.kl, 0.0, atol=1e-8)


@few
@given(seeds, st.floats(0.05, 2.0), st.integers(2, 3))
def test_identity_15_moving_anchor_with_fixed_dual_tilts_again_each_time(seed, dual, rounds):
    """k rounds of the runtime's token target, each from the last law and its exact bin law, give p e^{-kλf} / Z."""
    case = make_case(random_world(seed), "rarely")
    world, law = case.world, case.world.law
    for _ in range(rounds):
        law = world.law_of(case.token_targets(law, case.log_potential(np.array([dual]))))
        law = law / law.sum(axis=1, keepdims=True)
    expected, _ = world.tilt(world.law, case.potential(np.array([rounds * dual])))
    np.testing.assert_allclose(law, expected, atol=5e-6)


# ------------------------------------------------------------ 5: token sums and sequence divergences
@few
@given(seeds, kinds.filter(lambda chosen: "never" not in chosen), duals)
def test_identity_5_forward_token_sums_under_three_prefix_measures(seed, chosen, dual):
    """Σ_s q(s) KL_s = KL(q‖p_θ) = Σ_s p(s) V(s)/V(x) KL_s = Σ_s r(s) [p(s) V(s) / (r(s) V(x))] KL_s."""
    case = make_case(random_world(seed), *chosen)
    world, strengths = case.world, duals_of(case, dual)
    targets = case.token_targets(world.law, case.log_potential(strengths))
    student, student_law = another_law(world, seed + 1)
    _, r = another_law(world, seed + 2)
    each = divergences(student, targets, "forward")
    projected, _ = world.tilt(world.law, case.potential(strengths))
    value = world.value(case.potential(strengths))[:, : len(world.prefixes)]
    weights = {
        "q": world.occupancy(projected),
        "p_ref": world.occupancy(world.law) * value / value[:, :1],
        "r": world.occupancy(r) * (world.occupancy(world.law) * value / (world.occupancy(r) * value[:, :1])),
    }
    for name, weight in weights.items():
        total = (weight * each).sum(axis=1)
        np.testing.assert_allclose(total, world.kl(projected, student_law), atol=1e-5, err_msg=name)


@few
@given(seeds, kinds.filter(lambda chosen: "never" not in chosen), duals)
def test_identity_5_reverse_token_sum_under_the_students_own_prefixes(seed, chosen, dual):
    """Σ_s p_θ(s) KL(p_θ(.|s) ‖ q̂(.|s)) = KL(p_θ‖q), weight 1."""
    case = make_case(random_world(seed), *chosen)
    world, strengths = case.world, duals_of(case, dual)
    targets = case.token_targets(world.law, case.log_potential(strengths))
    student, student_law = another_law(world, seed + 1)
    projected, _ = world.tilt(world.law, case.potential(strengths))
    total = (world.occupancy(student_law) * divergences(student, targets, "reverse")).sum(axis=1)
    np.testing.assert_allclose(total, world.kl(student_law, projected), atol=1e-5)


# ------------------------------------------------------------ 6: where the corpus term pulls
@few
@given(
    seeds,
    st.sampled_from(["forward", "reverse"]),
    st.floats(0.05, 0.3),
    st.floats(0.0, 0.6),
    st.floats(1.5, 8.0),
)
def test_identity_6_first_dual_makes_the_set_point_the_equilibrium(seed, kind, point, more, stiffness):
    """At the law of rate b on the anchor's tilt family, the gradient of corpus NLL + ρ D(q_λ0, p) vanishes."""
    case = make_case(random_world(seed, length=3, num_prompts=1), "rarely")
    world, f = case.world, case.soft[:, :, 0]
    anchor_rate, corpus_rate = world.mean(world.law, f), point + more * (0.9 - point)
    weight = stiffness * max(1.0, (corpus_rate - point) / point)

    def of_rate(rate):
        odds = np.log(rate / (1 - rate)) - np.log(anchor_rate / (1 - anchor_rate))
        return world.tilt(world.law, np.exp(odds * f))[0]

    assume(anchor_rate > point)  # else nothing has to be lowered in the anchor
    dual = first_dual(anchor_rate, corpus_rate, point, weight, kind)
    if not 0 < dual < LOG_FLOOR:
        return
    target = torch.from_numpy(np.log(world.tilt(world.law, np.exp(-dual * f))[0]))
    corpus = torch.from_numpy(of_rate(corpus_rate))
    logits = torch.from_numpy(np.log(of_rate(point))).requires_grad_()
    log_p = torch.log_softmax(logits, dim=-1)  # whole sequences in the place of tokens
    loss = -(corpus * log_p).sum() + weight * token_divergence(log_p, target, kind).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(gradient.numpy() / (1 + weight), 0.0, atol=1e-9)


# ------------------------------------------------------------ 7: the envelope
@few
@given(seeds, st.sampled_from([("never",), ("rarely",), ("never", "rarely")]), duals)
def test_identity_7_envelope_of_the_detached_target(seed, chosen, dual):
    """Hard, or soft with λ re-solved: d KL(q*‖p_θ) = the gradient of the forward token sum with q̂ held constant."""
    case = make_case(small_world(seed), *chosen)
    world = case.world
    bounds = reachable_bounds(case, dual)
    direction = np.random.default_rng(seed).normal(size=world.table.shape)

    def cost(step: float) -> float:
        moved = _bin_rows(case, world.law_of(moved_table(world, step * direction)))
        return project(moved, case.bin_values, bounds, case.target.hard_bins).kl

    solved = project(_bin_rows(case, world.law), case.bin_values, bounds, case.target.hard_bins)
    slope = detached_slope(case, solved.duals, direction)
    step = 1e-3
    np.testing.assert_allclose((cost(step) - cost(-step)) / (2 * step), slope, atol=1e-4)


@few
@given(seeds, duals)
def test_identity_7_at_a_fixed_dual_the_covariance_is_missing(seed, dual):
    """d KL(q_λ‖p_θ) at fixed λ = the detached slope - λ Cov_q(f, ∂ log p)."""
    case = make_case(small_world(seed), "rarely")
    world, f, strengths = case.world, case.soft[:, :, 0], np.array([dual])
    direction = np.random.default_rng(seed).normal(size=world.table.shape)
    laws = {step: world.law_of(moved_table(world, step * direction)) for step in (-1e-4, 1e-4)}
    costs = {
        step: world.over_prompts(world.kl(world.tilt(law, case.potential(strengths))[0], law))
        for step, law in laws.items()
    }
    projected, _ = world.tilt(world.law, case.potential(strengths))
    rate_of_log = (np.log(laws[1e-4]) - np.log(laws[-1e-4])) / 2e-4
    means = [(projected * values).sum(axis=1) for values in (f * rate_of_log, f, rate_of_log)]
    covariance = world.over_prompts(means[0] - means[1] * means[2])
    total = (costs[1e-4] - costs[-1e-4]) / 2e-4
    np.testing.assert_allclose(
        total, detached_slope(case, strengths, direction) - dual * covariance, atol=1e-4
    )


def _bin_rows(case: Case, law: np.ndarray) -> np.ndarray:
    return case.world.per_prompt_copy(case.world.bin_law(law, case.bins, case.target.num_bins)[:, 0])


# ------------------------------------------------------------ 8: bins
def _binned_value(case: Case, strengths: np.ndarray, bin_values: np.ndarray | None = None) -> np.ndarray:
    """log V of every node through the runtime's ``log_values`` [P, D]."""
    values = case.bin_values if bin_values is None else bin_values
    log_psi = case.target.log_potential(strengths, values, 60.0)
    with np.errstate(divide="ignore"):
        law = np.log(case.world.bin_law(case.world.law, case.bins, case.target.num_bins))
    return log_values(torch.from_numpy(law), torch.from_numpy(log_psi)).numpy()


@few
@given(seeds, kinds, duals)
def test_identity_8_binned_values_are_exact_for_indicators_and_hard_times_soft(seed, chosen, dual):
    """log Σ_m π_m(s) ψ_m = log E[ψ|s] at every node that is alive."""
    case = make_case(random_world(seed), *chosen)
    strengths = duals_of(case, dual)
    exact = case.world.value(case.potential(strengths))
    alive = exact > 0
    np.testing.assert_allclose(_binned_value(case, strengths)[alive], np.log(exact[alive]), atol=1e-9)
    assert (_binned_value(case, strengths)[~alive] <= -59.9).all()


@few
@given(seeds, st.sampled_from([("mean",), ("never", "mean")]), duals)
def test_identity_8_means_are_within_the_bins_width(seed, chosen, dual):
    """|log V_binned - log V| <= λw at every node; <= λ²w²/8, from below, when V is averaged over the prompts.

    The second bound is Hoeffding's lemma and needs the mean of f in the bin under the law that V averages over:
    the runtime's bin values are means over the whole group, so at a single prefix only the first bound holds.
    """
    case = make_case(random_world(seed), *chosen)
    world, strengths = case.world, np.array([dual])
    edges = np.array(case.target.soft[0].edges)
    with np.errstate(divide="ignore"):
        error = _binned_value(case, strengths) - np.log(world.value(case.potential(strengths)))
        # a bin of the axis only counts where it is used, the widest used one bounds the error
        used = edges[1:][np.unique(np.digitize(case.soft[case.allowed > 0], edges[1:-1]))]
    widths = np.diff(edges)[np.isin(edges[1:], used)]
    alive = world.value(case.allowed) > 0
    assert np.abs(error[alive]).max() <= dual * widths.max() + 1e-9
    roots = [
        world.over_prompts(v[:, 0])
        for v in (np.exp(_binned_value(case, strengths)), world.value(case.potential(strengths)))
    ]
    below = np.log(roots[1]) - np.log(roots[0])
    assert -1e-9 <= below <= (dual * widths.max()) ** 2 / 8 + 1e-9


@few
@given(seeds, duals)
def test_identity_8_quadratic_bound_with_the_prefixs_own_means(seed, dual):
    """0 <= log V - log V_binned <= λ²w²/8 at every node whose bins carry their own means."""
    case = make_case(random_world(seed, length=3), "mean")
    world, strengths = case.world, np.array([dual])
    widest = np.diff(case.target.soft[0].edges).max()
    exact = np.log(world.value(case.potential(strengths)))
    f, bins = case.soft[:, :, 0], case.bins
    for x in range(world.num_prompts):
        for d in range(0, len(world.node), 5):
            weights = world.law[x] * world.under[d]
            values = case.bin_values.copy()
            for m in np.unique(bins[x][weights > 0]):
                inside = weights * (bins[x] == m)
                values[m, 0] = inside @ f[x] / inside.sum()
            below = exact[x, d] - _binned_value(case, strengths, values)[x, d]
            assert -1e-9 <= below <= (dual * widest) ** 2 / 8 + 1e-9


@few
@given(seeds, st.floats(0.1, 30.0))
def test_potentials_are_floored_by_bin(seed, dual):
    """log ψ_m = max(-λ f_m, -Λ), -Λ on the hard bin, in the target and in the group that the penalty reads."""
    case = make_case(random_world(seed), "never", "length", "rarely")
    group = case.group(np.array([dual, 1.0]))
    found = case.target.log_potential(group.duals, case.bin_values)
    values = -dual * case.bin_values[:, 0] - case.bin_values[:, 1]
    expected = [-LOG_FLOOR, *(max(value, -LOG_FLOOR) for value in values[1:])]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(group.log_potential().numpy(), expected, rtol=1e-6)


@few
@given(seeds, st.integers(1, 400))
def test_bin_values_are_the_means_of_the_samples_in_each_bin(seed, count):
    """``Target.bin_values`` against a loop over bins; the middle of an empty bin, 0 on the hard bin."""
    case = make_case(random_world(seed), "never", "mean", "rarely other")
    x, n = case.world.draw(case.world.law, count, seed)
    f, bins = case.f[x, n], case.target.bin_index(case.f[x, n])
    values = case.target.bin_values(f, bins)
    edges = np.array(case.target.soft[0].edges)
    for m in range(case.target.num_bins):
        if m == 0:
            assert values[m].tolist() == [0.0, 0.0]
            continue
        place, flag = divmod(m - 1, 2)
        inside = f[bins == m, 1]
        expected = inside.mean() if len(inside) else 0.5 * (edges[place] + edges[place + 1])
        np.testing.assert_allclose(values[m], [expected, flag], atol=1e-12)
