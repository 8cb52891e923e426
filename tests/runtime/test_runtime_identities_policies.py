"""The identities of method.md, section 7, for random policies drawn from the language's own generator.

A policy is text: parsed, compiled, its strata written out, its bounds against the base model and its hinges settled on
samples, its prompts grouped and its bins built by the runtime; scores are those of the texts of an enumerable world's
sequences (``policy_worlds.py``). The duals are the runtime's own joint projection onto the policy's bounds. What each
test compares with is a sum over the list of sequences, in float64.

| identity | here | hand-built clauses, sampled rows |
|---|---|---|
| 1 targets multiply to q* | test_identity_1 | test_runtime_identities.py |
| 2 cost of hard clauses | test_identity_2 | same |
| 3 each prompt, chance | test_identity_3 | same |
| 4 slackness, duality gap, scopes | test_identity_4 (two) | same |
| 5 sequence and token divergences | test_identity_5 | same; rows and batches: test_runtime_penalty.py |
| 6 the corpus pulls | test_identity_6 | same; several clauses: test_runtime_several_clauses.py |
| 7 envelope | test_identity_7 (two) | same |
| 8 bins | test_identity_8 (four) | same |
| 9 sums to 1, dead prefixes | test_identity_9 | same |
| 10 path consistency | test_identity_10 | same |
| 11 nothing asked, nothing done | test_identity_11 | test_runtime_penalty.py, bit for bit |
| 12 tightening | test_identity_12 | test_runtime_identities.py |
| 13 stale labels | test_identity_13 | |
| 14 one normaliser | test_identity_14 | test_runtime_penalty.py |
| 15 idempotent; moving anchor | test_identity_15 (two) | test_runtime_identities.py |
| 16 weighted corpus | test_identity_16 | |

And what these are for: the projected law satisfies the policy by the language's reference interpreter.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from enumerable_world import END, another_law
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS
from policy_worlds import GroupCase, PolicyWorld, policy_world, policy_worlds
from tabular_model import ExactHead, TabularLM, all_rows, token_row
from world_policy import chance_duals, detached_slope, divergences, moved_table

from constraintlang import check_source
from constraintlang.semantics import statement_holds, where
from constraintlang_compiler.targets import LOG_FLOOR
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.control import start_duals
from constraintlang_runtime.data import collate
from constraintlang_runtime.penalty import regularizer_term
from constraintlang_runtime.projection import GroupLaw, project_groups
from constraintlang_runtime.regularizer import log_values
from constraintlang_runtime.settings import RegularizerConfig

# An example compiles a policy and sums worlds; most policies that the generator draws are not about what a test asks.
few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
worlds = policy_worlds()
soft_worlds = worlds.filter(lambda w: len(w.soft) > 0)
hard_worlds = worlds.filter(lambda w: any(one.case.target.hard for one in w.groups))
seeds = st.integers(0, 2**32 - 1)


def floored(one: GroupCase, duals: np.ndarray) -> np.ndarray:
    """ψ of every sequence of a group, never below e^-Λ [P, N]."""
    return np.maximum(one.case.potential(duals), np.exp(-LOG_FLOOR))


def each(w: PolicyWorld) -> list[tuple[GroupCase, np.ndarray, np.ndarray]]:
    """Every group, its duals under the policy's own projection, and the runtime's token targets for them."""
    duals = w.solve().duals
    found = []
    for one in w.groups:
        mine = duals[w.columns(one)]
        targets = one.case.token_targets(one.case.world.law, one.case.log_potential(mine, LOG_FLOOR))
        found.append((one, mine, targets))
    return found


def reached(w: PolicyWorld, share: float) -> np.ndarray:
    """Means under weaker duals than the policy's own: bounds that can be met, and that all bind."""
    duals = np.array([share * min(dual + 0.5, 4.0) for dual in w.solve().duals])
    return w.means([law for law, _ in w.tilted(duals)])


# ------------------------------------------------------------ 1, 9, 10: the token target
@few
@given(worlds)
def test_identity_1_token_targets_multiply_to_the_projected_law(w: PolicyWorld) -> None:
    for one, duals, targets in each(w):
        projected, _ = one.case.world.tilt(one.case.world.law, floored(one, duals))
        np.testing.assert_allclose(one.case.world.law_of(targets), projected, atol=5e-6)


@few
@given(hard_worlds)
def test_identity_9_targets_sum_to_one_and_dead_prefixes_keep_the_anchor(w: PolicyWorld) -> None:
    for one, _, targets in each(w):
        world = one.case.world
        np.testing.assert_allclose(targets.sum(axis=-1), 1.0, atol=1e-6)
        dead = world.value(one.case.allowed)[:, : len(world.prefixes)] == 0
        np.testing.assert_allclose(targets[dead], world.next_token(world.law)[dead], atol=1e-6)


@few
@given(worlds, seeds)
def test_identity_10_path_consistency_with_the_floored_potential(w: PolicyWorld, seed: int) -> None:
    """Σ_t log q̂(y_t|s_t) over the rest of a path = log p(rest) + log ψ(y) - log V(s)."""
    for one, duals, targets in each(w):
        world, potential = one.case.world, floored(one, duals)
        value, log_q = world.value(potential), np.log(targets)
        for number in np.random.default_rng(seed).choice(len(world.sequences), size=6, replace=False):
            y, path = world.sequences[number], world.path(number)
            for t, s in enumerate(path):
                rest = sum(log_q[:, node, y[t + i]] for i, node in enumerate(path[t:]))
                chance = np.log(world.law[:, number] / world.mass(world.law)[:, s])
                expected = chance + np.log(potential[:, number] / value[:, s])
                np.testing.assert_allclose(rest, expected, atol=1e-4)


# ------------------------------------------------------------ 2, 3: closed forms
@few
@given(hard_worlds)
def test_identity_2_hard_clauses_cost_the_log_of_their_compliance(w: PolicyWorld) -> None:
    laws = [w.group_law(one) for one in w.groups]
    bare = [GroupLaw(g.law, g.values[:, :0], g.hard, g.applies[:0], g.share) for g in laws]
    solved = project_groups(bare, np.zeros(0))
    conditioned = [one.case.world.tilt(one.case.world.law, one.case.allowed) for one in w.groups]
    np.testing.assert_allclose(solved.kl, w.over_groups([-np.log(r) for _, r in conditioned]), atol=1e-10)
    kl = [one.case.world.kl(q, one.case.world.law) for one, (q, _) in zip(w.groups, conditioned, strict=True)]
    np.testing.assert_allclose(solved.kl, w.over_groups(kl), atol=1e-10)


@few
@given(soft_worlds)
def test_identity_3_each_prompt_chance_form_conditioned_on_the_hard_clauses(w: PolicyWorld) -> None:
    """λ(x) = ``chance_duals`` gives rate min(δ, 1 - R(x)); KL(x) = -log P(hard) + d_Bern(rate ‖ 1 - R(x))."""
    some = False
    for one in w.groups:
        world = one.case.world
        conditioned, hard_mass = world.tilt(world.law, one.case.allowed)
        for place, soft in enumerate(one.case.target.soft):
            violation, bound = one.case.soft[:, :, place], float(one.group.clauses[soft.clause].bound)
            success = (conditioned * (1 - violation)).sum(axis=1)
            # R(x) is 0 or 1 where the statement says the same of every response; no dual moves these.
            if not soft.is_indicator or not 0 < bound < 1 or (success * (1 - success) < 1e-6).any():
                continue
            some = True
            strengths = chance_duals(success, bound, max_dual=50.0)
            projected, _ = world.tilt(world.law, one.case.allowed * np.exp(-strengths[:, None] * violation))
            rate = (projected * violation).sum(axis=1)
            np.testing.assert_allclose(rate, np.minimum(bound, 1 - success), atol=1e-9)
            np.testing.assert_array_equal(strengths[1 - success <= bound], 0.0)
            pairs = [np.stack([r, 1 - r], axis=1) for r in (rate, 1 - success)]
            bernoulli = world.kl(*pairs)
            np.testing.assert_allclose(
                world.kl(projected, world.law), -np.log(hard_mass) + bernoulli, atol=1e-9
            )
    assume(some)


# ------------------------------------------------------------ 4, 12, 15: the projection
@few
@given(soft_worlds)
def test_identity_4_slackness_and_zero_duality_gap_over_overlapping_scopes(w: PolicyWorld) -> None:
    """λ_k(E f_k - b_k) = 0, KL = -E log Z - Σ m_k λ_k b_k; at a cap the mean is above the bound, and it is marked."""
    solved = w.solve()
    laws = w.tilted(solved.duals)
    means = w.means([law for law, _ in laws])
    np.testing.assert_allclose(solved.means, means, atol=1e-9)
    size = np.maximum(1.0, w.bounds)
    inside = solved.duals < LOG_FLOOR - 1e-6
    assert (solved.duals >= 0).all()
    assert (means[inside] <= (w.bounds + 1e-5 * size)[inside]).all()
    np.testing.assert_allclose((solved.duals * (means - w.bounds) / size)[inside], 0.0, atol=1e-4)
    np.testing.assert_array_equal(solved.saturated[inside], False)
    assert (means[~inside] >= (w.bounds - 1e-5 * size)[~inside]).all()
    assert (solved.saturated | inside | (means <= w.bounds + 1e-5 * size)).all()
    kl = w.over_groups(
        [one.case.world.kl(q, one.case.world.law) for one, (q, _) in zip(w.groups, laws, strict=True)]
    )
    np.testing.assert_allclose(solved.kl, kl, atol=1e-8)
    if inside.all():
        gap = kl - (w.over_groups([-np.log(z) for _, z in laws]) - _scope_shares(w) * solved.duals @ w.bounds)
        np.testing.assert_allclose(gap, 0.0, atol=1e-4)


@few
@given(soft_worlds, seeds)
def test_identity_4_no_other_law_that_meets_the_bounds_is_nearer(w: PolicyWorld, seed: int) -> None:
    """Laws of random potentials that meet every bound cost no less than q*."""
    bounds = reached(w, 1.0)
    solved = w.solve(bounds)
    assume(not solved.saturated.any())
    rng = np.random.default_rng(seed)
    for _ in range(20):
        duals = solved.duals * rng.uniform(0.5, 3.0, size=len(bounds)) + rng.exponential(
            0.3, size=len(bounds)
        )
        laws = [
            one.case.world.tilt(law, np.exp(0.3 * rng.normal(size=law.shape)))[0]
            for one, (law, _) in zip(w.groups, w.tilted(duals), strict=True)
        ]
        if (w.means(laws) <= bounds).all():
            costs = [one.case.world.kl(q, one.case.world.law) for one, q in zip(w.groups, laws, strict=True)]
            assert w.over_groups(costs) >= solved.kl - 1e-6


@few
@given(soft_worlds, st.floats(0.5, 0.99), seeds)
def test_identity_12_tightening_a_bound_costs_kl_and_lowers_its_mean(
    w: PolicyWorld, factor: float, seed: int
) -> None:
    bounds = reached(w, 1.0)
    k = seed % len(bounds)
    tighter = np.where(np.arange(len(bounds)) == k, factor, 1.0) * bounds
    loose, tight = w.solve(bounds), w.solve(tighter)
    assume(not tight.saturated.any())
    assert tight.kl >= loose.kl - 1e-6
    assert tight.means[k] <= loose.means[k] + 1e-5 * max(1.0, bounds[k])


@few
@given(soft_worlds)
def test_identity_15_exact_projection_is_idempotent(w: PolicyWorld) -> None:
    """Projecting q* onto the same bounds changes nothing: KL = 0."""
    bounds = reached(w, 1.0)
    solved = w.solve(bounds)
    assume(not solved.saturated.any())
    again = []
    for one, (law, _) in zip(w.groups, w.tilted(solved.duals), strict=True):
        world, case = one.case.world, one.case
        rows = world.per_prompt_copy(
            np.stack([(law * (case.bins == m)).sum(axis=1) for m in range(case.target.num_bins)], axis=1)
        )
        g = w.group_law(one)
        again.append(GroupLaw(rows, g.values, g.hard, g.applies, g.share))
    second = project_groups(again, bounds)
    np.testing.assert_allclose(second.kl, 0.0, atol=1e-8)
    np.testing.assert_allclose(second.means, np.minimum(solved.means, bounds), atol=1e-4)


@few
@given(soft_worlds, st.integers(2, 3))
def test_identity_15_moving_anchor_with_fixed_duals_tilts_again_each_time(
    w: PolicyWorld, rounds: int
) -> None:
    """k rounds of the runtime's target, each from the last law and its exact bin law, give p e^{-kλf} / Z."""
    duals = np.minimum(w.solve().duals, 1.0)
    for one in w.groups:
        world, mine, law = one.case.world, duals[w.columns(one)], one.case.world.law
        if not one.case.target.soft or one.case.target.hard:
            continue
        for _ in range(rounds):
            law = world.law_of(one.case.token_targets(law, one.case.log_potential(mine)))
            law = law / law.sum(axis=1, keepdims=True)
        expected, _ = world.tilt(world.law, one.case.potential(rounds * mine))
        np.testing.assert_allclose(law, expected, atol=1e-5)


# ------------------------------------------------------------ 5: token sums and sequence divergences
@few
@given(worlds, seeds)
def test_identity_5_token_sums_are_sequence_divergences(w: PolicyWorld, seed: int) -> None:
    """Forward over q-, reweighted p_ref- and reweighted r-prefixes; reverse over the student's own prefixes."""
    for one, duals, targets in each(w):
        world, potential = one.case.world, floored(one, duals)
        student, student_law = another_law(world, seed + 2**32)
        _, r = another_law(world, seed + 2**33)
        projected, _ = world.tilt(world.law, potential)
        value = world.value(potential)[:, : len(world.prefixes)]
        under_p = world.occupancy(world.law) * value / value[:, :1]
        forward, reverse = divergences(student, targets, "forward"), divergences(student, targets, "reverse")
        drawn = world.occupancy(r)
        for weight in (world.occupancy(projected), under_p, drawn * (under_p / drawn)):
            total = (weight * forward).sum(axis=1)
            np.testing.assert_allclose(total, world.kl(projected, student_law), rtol=1e-5, atol=2e-5)
        total = (world.occupancy(student_law) * reverse).sum(axis=1)
        np.testing.assert_allclose(total, world.kl(student_law, projected), rtol=1e-5, atol=2e-5)


# ------------------------------------------------------------ 6: where the corpus term pulls
@few
@given(soft_worlds, st.sampled_from(["forward", "reverse", "js"]), st.floats(2.0, 20.0))
def test_identity_6_started_duals_make_the_bounds_the_equilibrium(
    w: PolicyWorld, kind: str, weight: float
) -> None:
    """The means of the students that the corpus and the target pull on are, to first order, the bounds in their scope.

    A student of whole sequences on q_λ*, one Newton step of corpus NLL + ρ D(q_λ0, p) along the statistics away from
    it: forward, the mixture (d + ρq)/(1 + ρ); reverse and js, the step C(λ0 - λ*) against (d - p)/ρ. The corpus is a
    weaker tilt, so near that the step is small.
    """
    bounds = reached(w, 1.0)
    solved = w.solve(bounds)
    corpus = [law for law, _ in w.tilted(solved.duals * (0.98 if kind == "forward" else 0.6))]
    weights = weight * np.linspace(1.0, 2.0, len(w.groups))
    by_group = np.array([w.group_means(one, law) for one, law in zip(w.groups, corpus, strict=True)])
    duals = start_duals(
        [w.group_law(one) for one in w.groups], bounds, solved,
        corpus=by_group, weights=weights, divergence=kind, max_duals=30.0,
    )  # fmt: skip
    pull = w.means(corpus) - bounds
    assume((duals >= solved.duals).all() and (duals < 29).all())
    assume((solved.duals > 1e-3).all())
    students = w.tilted(solved.duals)
    if kind == "forward":
        mixed = [
            (d + rho * q) / (1 + rho) for d, (q, _), rho in zip(corpus, w.tilted(duals), weights, strict=True)
        ]
        np.testing.assert_allclose(w.means(mixed) - bounds, 0.0, atol=0.03 * np.abs(pull).max() + 1e-6)
        return
    change = np.zeros(len(w.soft))
    for one, (law, _), d, rho in zip(w.groups, students, corpus, weights, strict=True):
        world, columns = one.case.world, w.columns(one)
        f = one.case.soft
        centred = f - np.einsum("pn,pnk->pk", law, f)[:, None, :]
        step = (
            -np.einsum("p,pn,pnk,pnj->kj", world.prompt_law, law, centred, f)
            @ (duals - solved.duals)[columns]
        )
        pulled = np.einsum("p,pn,pnk->k", world.prompt_law, d - law, f) / rho
        share = w.world.prompt_law[one.prompts].sum()
        change[columns] += share * (step + (4.0 if kind == "js" else 1.0) * pulled)
    np.testing.assert_allclose(change, 0.0, atol=1e-4 * max(1.0, np.abs(w.bounds).max()))


# ------------------------------------------------------------ 7: the envelope
@few
@given(worlds, seeds)
def test_identity_7_envelope_of_the_detached_target(w: PolicyWorld, seed: int) -> None:
    """λ re-solved: the slope of the projection's cost is that of the forward token sum with q̂ held constant."""
    bounds = reached(w, 1.0) if w.soft else w.bounds
    solved = w.solve(bounds)
    directions = [np.random.default_rng(seed).normal(size=one.case.world.table.shape) for one in w.groups]

    def cost(step: float) -> float:
        """max g of the moved model, which is KL(q*‖p_θ): its slope forgives what the solver leaves of λ."""
        moved = []
        for one, direction in zip(w.groups, directions, strict=True):
            world, case, g = one.case.world, one.case, w.group_law(one)
            law = world.law_of(moved_table(world, step * direction))
            rows = world.per_prompt_copy(world.bin_law(law, case.bins, case.target.num_bins)[:, 0])
            moved.append(GroupLaw(rows, g.values, g.hard, g.applies, g.share))
        found = project_groups(moved, bounds)
        return found.kl + float(_scope_shares(w) * found.duals @ (found.means - bounds))

    slopes = [
        detached_slope(one.case, solved.duals[w.columns(one)], direction)
        for one, direction in zip(w.groups, directions, strict=True)
    ]
    slope = w.over_groups([np.full(len(one.prompts), s) for one, s in zip(w.groups, slopes, strict=True)])
    step = 1e-3
    np.testing.assert_allclose((cost(step) - cost(-step)) / (2 * step), slope, atol=3e-4)


@few
@given(soft_worlds, seeds)
def test_identity_7_at_fixed_duals_the_covariance_is_missing(w: PolicyWorld, seed: int) -> None:
    """d KL(q_λ‖p_θ) at fixed λ = the detached slope - Σ λ_k Cov_q(f_k, ∂ log p)."""
    duals = np.minimum(w.solve().duals, 3.0)
    for one in w.groups:
        world, mine = one.case.world, duals[w.columns(one)]
        direction = np.random.default_rng(seed).normal(size=world.table.shape)
        laws = {step: world.law_of(moved_table(world, step * direction)) for step in (-1e-4, 1e-4)}
        potential = one.case.potential(mine)
        costs = {s: world.over_prompts(world.kl(world.tilt(p, potential)[0], p)) for s, p in laws.items()}
        projected, _ = world.tilt(world.law, potential)
        rate = (np.log(laws[1e-4]) - np.log(laws[-1e-4])) / 2e-4
        energy = one.case.soft @ mine
        means = [(projected * values).sum(axis=1) for values in (energy * rate, energy, rate)]
        covariance = world.over_prompts(means[0] - means[1] * means[2])
        total = (costs[1e-4] - costs[-1e-4]) / 2e-4
        np.testing.assert_allclose(total, detached_slope(one.case, mine, direction) - covariance, atol=3e-4)


# ------------------------------------------------------------ 8: bins
def _binned(one: GroupCase, duals: np.ndarray, law: np.ndarray | None = None) -> np.ndarray:
    """log V of every node through the runtime's ``log_values`` [P, D]."""
    world = one.case.world
    with np.errstate(divide="ignore"):
        bins = np.log(
            world.bin_law(world.law if law is None else law, one.case.bins, one.case.target.num_bins)
        )
    log_psi = one.case.log_potential(duals, LOG_FLOOR)
    return log_values(torch.from_numpy(bins), torch.from_numpy(log_psi)).numpy()


@few
@given(soft_worlds)
def test_identity_8_values_of_bins_are_those_of_sequences_within_the_bins_width(w: PolicyWorld) -> None:
    """log V of the bins = log E[ψ | s] for indicators; else no further than Σ λ_k times the widest used bin."""
    solved = w.solve()
    for one in w.groups:
        world, columns = one.case.world, w.columns(one)
        mine = np.minimum(solved.duals[columns], 2.0) + 0.5  # wrong bins may need none
        raw = one.f[:, :, [soft.clause for soft in one.case.target.soft]]
        exact = world.value(np.maximum(one.case.allowed * np.exp(-(raw @ mine)), np.exp(-LOG_FLOOR)))
        slack = 1e-9
        for place, soft in enumerate(one.case.target.soft):
            if not soft.is_indicator:
                distance = np.abs(raw[:, :, place] - one.case.soft[:, :, place])
                slack += mine[place] * distance[one.case.allowed > 0].max(initial=0.0)
                used = np.unique(soft.bin_index(raw[:, :, place].ravel()))
                widths = np.diff([*soft.edges[:-1], max(raw[:, :, place].max(), soft.edges[-2])])[used]
                assert distance[one.case.allowed > 0].max(initial=0.0) <= widths.max() + 1e-9
        assert np.abs(_binned(one, mine) - np.log(exact)).max() <= slack


@few
@given(soft_worlds)
def test_identity_8_the_error_of_bins_that_carry_their_means_is_quadratic(w: PolicyWorld) -> None:
    """0 <= log E ψ - log Σ_m π_m ψ_m <= r²/8 over all prompts of a group, r the widest range of Σ λ_k f_k in a bin."""
    for one in w.groups:
        world, case = one.case.world, one.case
        mass = world.prompt_law[:, None] * world.law * case.allowed
        raw = one.f[:, :, [soft.clause for soft in case.target.soft]]
        mine = 0.7 / np.maximum(1.0, raw.max(axis=(0, 1), initial=0.0))
        energy, values, widest = raw @ mine, np.zeros_like(case.bin_values), 0.0
        for m in np.unique(case.bins[mass > 0]):
            inside = (case.bins == m) & (mass > 0)
            values[m] = mass[inside] @ raw[inside] / mass[inside].sum()
            widest = max(widest, float(np.ptp(energy[inside])))
        log_psi = torch.from_numpy(case.target.log_potential(mine, values, 60.0))
        with np.errstate(divide="ignore"):
            law = torch.from_numpy(np.log(world.bin_law(world.law, case.bins, case.target.num_bins)[:, 0]))
        binned = world.over_prompts(log_values(law[:, None], log_psi)[:, 0].exp().numpy())
        below = np.log((mass * np.exp(-energy)).sum()) - np.log(binned)
        assert -1e-9 <= below <= widest**2 / 8 + 1e-9


@few
@given(worlds)
def test_identity_8_bins_tell_hard_violations_and_the_values_of_the_statistics(w: PolicyWorld) -> None:
    """Bin 0 is "a hard clause is violated" and nothing else; other bins have the values of their members."""
    _bins_tell(w)


def test_identity_8_two_hard_clauses_share_one_bin() -> None:
    w = policy_world("always not slur\nalways not refusal\n", 3)
    assert w is not None
    _bins_tell(w)


def _bins_tell(w: PolicyWorld) -> None:
    for one in w.groups:
        target, violated = one.case.target, one.case.allowed == 0
        if target.hard:
            np.testing.assert_array_equal(one.case.bins == 0, violated)
        else:
            assert not violated.any()
        for place, soft in enumerate(target.soft):
            raw = one.f[:, :, soft.clause]
            for m in np.unique(one.case.bins[~violated]):
                inside = raw[(one.case.bins == m) & ~violated]
                if soft.is_indicator:
                    assert (inside == one.case.bin_values[m, place]).all()
                elif len(np.unique(inside)) == 1 and inside[0] in (0.0,):
                    assert one.case.bin_values[m, place] <= max(soft.edges[1], 0.0) + 1e-12


# ------------------------------------------------------------ 11: nothing asked
@few
@given(soft_worlds.filter(lambda w: any(not one.case.target.hard for one in w.groups)))
def test_identity_11_met_bounds_have_no_dual_and_the_term_is_skipped(w: PolicyWorld) -> None:
    """Bounds that p_ref meets: λ is 0 to the last bit, groups without hard clauses are vacuous, their targets p_ref."""
    laws = w.tilted(np.zeros(len(w.soft)))
    solved = w.solve(w.means([law for law, _ in laws]) + 1e-6)
    assert (solved.duals == 0).all()
    for one in w.groups:
        group = one.case.group(solved.duals[w.columns(one)])
        assert group.is_vacuous() == (not one.case.target.hard)
        if one.case.target.hard:
            continue
        targets = one.case.token_targets(one.case.world.law, group.log_potential().double().numpy())
        np.testing.assert_allclose(targets, one.case.world.next_token(one.case.world.law), atol=1e-6)


# ------------------------------------------------------------ 13: stale samples
@few
@given(soft_worlds, seeds)
def test_identity_13_suffix_weights_make_stale_labels_those_of_now(w: PolicyWorld, seed: int) -> None:
    """Labels of another sampler, weighted by p_now / p_sampler of the rest of the sequence, have the value of p_now.

    The minimiser of the weighted cross-entropy at a prefix is the weighted share of each bin. Weighted by the prefix
    instead, it is that of the sampler.
    """
    for one, duals, _ in each(w):
        world, case = one.case.world, one.case
        table, stale = another_law(world, seed + 2**32)
        value = world.value(floored(one, duals))
        differs = False
        for s, prefix in enumerate(world.prefixes):
            passing = world.under[s] > 0
            rest = np.ones((world.num_prompts, len(world.sequences)))
            for number in np.flatnonzero(passing):
                y = world.sequences[number]
                for t in range(len(prefix), len(y)):
                    node = world.node[y[:t]]
                    rest[:, number] *= world.table[:, node, y[t]] / table[:, node, y[t]]
            shares = [
                np.stack(
                    [
                        (stale * passing * weight * (case.bins == m)).sum(axis=1)
                        for m in range(case.target.num_bins)
                    ],
                    axis=1,
                )
                for weight in (rest, np.ones_like(rest))
            ]
            psi = torch.from_numpy(case.log_potential(duals, LOG_FLOOR))
            by_suffix, by_prefix = (
                log_values(torch.from_numpy(np.log(np.maximum(share / share.sum(axis=1, keepdims=True), 1e-300)))
                           [:, None], psi)[:, 0].exp().numpy()
                for share in shares
            )  # fmt: skip
            np.testing.assert_allclose(by_suffix, value[:, s], rtol=1e-6)
            differs |= bool(np.abs(by_prefix / value[:, s] - 1).max() > 1e-3)
        spread = np.log(floored(one, duals))
        # Where no step of the rest can change the outcome, both are right.
        assert differs or np.ptp(spread, axis=1).max() < 0.05


# ------------------------------------------------------------ 14: one normaliser
@settings(few, max_examples=4)
@given(
    policy_worlds(length=2, num_prompts=2), st.integers(1, 8), st.sampled_from(["forward", "reverse", "js"])
)
def test_identity_14_the_term_is_a_sum_over_tokens_however_rows_are_cut(
    w: PolicyWorld, cut: int, kind: str
) -> None:
    """Micro-batches under one N add up to Σ_y Σ_t D(q̂, p_θ) at the prefixes of the rows; means of rows do not."""
    for one, duals, targets in each(w):
        world = one.case.world
        student, _ = another_law(world, 5)
        group = one.case.group(duals)
        group.head = ExactHead(world, world.bin_law(world.law, one.case.bins, one.case.target.num_bins))
        anchor, model = Anchor(TabularLM(world, world.table)), TabularLM(world, student)
        pairs = all_rows(world)

        def term(part: list[tuple[int, int]]) -> float:
            batch = collate([token_row(world, x, number) for x, number in part], END)  # noqa: B023
            return regularizer_term(
                group, anchor, batch, model(batch.input_ids, batch.attention_mask).logits,  # noqa: B023
                corpus_rows=torch.arange(len(part)), sampled_rows=torch.arange(0), corpus_tokens=0.0,
                config=RegularizerConfig(prefixes="corpus", divergence=kind),
            ).item()  # fmt: skip

        at = divergences(student, targets, kind)
        expected = sum(float(at[x, world.path(number)].sum()) for x, number in pairs)
        parts = [term(pairs[:cut]), term(pairs[cut:])]
        np.testing.assert_allclose(sum(parts), expected, rtol=1e-4, atol=1e-4)
        tokens = sum(len(world.path(number)) for _, number in pairs)
        by_row = np.mean([at[x, world.path(number)].mean() for x, number in pairs])
        assert abs(by_row - expected / tokens) > 1e-4 * max(1.0, by_row)


# ------------------------------------------------------------ 16: the corpus, weighted
@few
@given(worlds, seeds)
def test_identity_16_corpus_tokens_weighted_by_values_have_the_projected_corpus_as_minimiser(
    w: PolicyWorld, seed: int
) -> None:
    """E_d Σ_t w_t (-log p(y_t|s_t)) with w = V_d(s·v) / V_d(s), V of the runtime from the corpus' bin law, is least at
    q*_d: its gradient in the logits vanishes there, and at no other table of the family tried."""
    duals = w.solve().duals
    for one in w.groups:
        world, mine = one.case.world, duals[w.columns(one)]
        _, corpus = another_law(world, seed + 2**32)  # none of the worlds'
        value = np.exp(_binned(one, mine, corpus))
        weight = value[:, world.child] / value[:, : len(world.prefixes), None]
        projected = world.next_token(world.tilt(corpus, floored(one, mine))[0])
        mass = torch.from_numpy(world.occupancy(corpus)[:, :, None] * world.next_token(corpus) * weight)

        def slope(table: np.ndarray) -> float:
            logits = torch.from_numpy(np.log(table)).requires_grad_()
            loss = -(mass * torch.log_softmax(logits, dim=-1)).sum()  # noqa: B023
            (gradient,) = torch.autograd.grad(loss, logits)
            return float(gradient.abs().max())

        assert slope(projected) < 1e-9
        assert slope(world.table) > 1e-3


# ------------------------------------------------------------ what it is all for
@few
@given(worlds.filter(lambda w: all(soft.is_indicator for one in w.groups for soft in one.case.target.soft)))
def test_the_projected_law_satisfies_the_policy_by_the_reference_semantics(w: PolicyWorld) -> None:
    """q*, sequence by sequence, judged by the language's interpreter: no clause, bin or checker between them.

    Bounds a little inside those of the policy, which are chances; those against the base model are measured on samples.
    """
    assume("@base" not in w.text and not w.untrained)
    bounds = 0.98 * w.bounds
    assume(bool((bounds > 0).all()))  # nothing lies inside `< 0`
    solved = w.solve(bounds)
    assume(not solved.saturated.any())
    laws = [list(w.world.law[x]) for x in range(w.world.num_prompts)]
    for one, (law, _) in zip(w.groups, w.tilted(solved.duals), strict=True):
        for x, row in zip(one.prompts, law, strict=True):
            laws[x] = list(row)
    rows = [
        (Fraction(mu) * Fraction(chance), response, w.tags[x])
        for x, mu in enumerate(w.world.prompt_law.tolist())
        for chance, response in zip(laws[x], w.responses(x), strict=True)
        if chance > 0
    ]
    total = sum(row[0] for row in rows)
    whole = [(mass / total, *rest) for mass, *rest in rows]
    for statement in check_source(DECLARATIONS + w.text).require().statements:
        scope = whole if statement.domain is None else where(whole, statement.domain)
        assert not scope or statement_holds(statement, scope), statement.text


def _scope_shares(w: PolicyWorld) -> np.ndarray:
    """m_k among the prompts that fall under some clause [S]."""
    masses = np.array([w.world.prompt_law[one.prompts].sum() for one in w.groups])
    applies = np.array(
        [[k in w.columns(one) for k in range(len(w.soft))] for one in w.groups], dtype=np.float64
    )
    return masses @ applies / masses.sum()
