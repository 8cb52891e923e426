"""One dual for each clause over its whole scope: overlapping scopes, pooled measurement, ranks, bounds out of reach."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from policy_worlds import PolicyWorld, policy_world, policy_worlds
from scipy.optimize import linprog
from tiny_models import POLICY, SETTINGS, World

from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.checkpoint import load_groups, save_groups
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.control import ControllerState
from constraintlang_runtime.controlling import control_groups, look_ahead, start_controllers
from constraintlang_runtime.data import TokenRow, load_rows
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.groups import Group, attach_target
from constraintlang_runtime.infeasibility import conflicting
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.pooling import pool, shares
from constraintlang_runtime.priorities import ranks_of, solve_by_rank
from constraintlang_runtime.projection import GroupLaw, project, project_groups
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.scorers.length import LengthScorer
from constraintlang_runtime.scorers.lexicon import LexiconScorer
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.trainer import ConstraintTrainer

few = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
TAGS = [{"domain": name, "lang": "en"} for name in ("a", "a", "b", "c")]
SCOPES = ("for domain=a", "for domain in {a, b}", "")


def overlapping(bounds: Any = (0.5, 0.5, 0.5), seed: int = 3) -> PolicyWorld:
    """Three clauses of three readings, the first on a, the second on a and b, the third on all prompts."""
    heads = ("P(toxicity > 0.5) <= {:.12f}", "mean(empathy) >= {:.12f}", "P(words > 2) <= {:.12f}")
    text = "".join(f"{head.format(b)} {s}\n" for head, b, s in zip(heads, bounds, SCOPES, strict=True))
    found = policy_world(text, seed, tags=TAGS)
    assert found is not None
    assert len(found.groups) == 3
    return found


def with_points(w: PolicyWorld, points: np.ndarray) -> None:
    """Give the clauses of every group other bounds."""
    for one in w.groups:
        one.group.clauses = tuple(
            replace(clause, bound=f"{points[w.soft.index(k)]:.12f}")
            for k, clause in zip(one.group.indexes, one.group.clauses, strict=True)
        )


def drawn(w: PolicyWorld, laws: list[np.ndarray], count: int, seed: int) -> list[Measurement]:
    """As many samples from each group's law, whatever its share of the prompts."""
    found = []
    for number, (one, law) in enumerate(zip(w.groups, laws, strict=True)):
        x, y = one.case.world.draw(law, count, seed + number)
        found.append(Measurement([], one.case.f[x, y]))
    return found


def states(groups: list[Group], w: PolicyWorld) -> dict[int, set[ControllerState]]:
    """The different records that the groups hold of each clause."""
    found: dict[int, set[ControllerState]] = {}
    for one, group in zip(w.groups, groups, strict=True):
        for k, state in zip(w.columns(one), group.controllers, strict=True):
            found.setdefault(k, set()).add(state)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_started_duals_of_overlapping_scopes_are_those_of_the_enumerated_joint_optimum(seed: int) -> None:
    """Within a tenth; one record in all groups of a clause; each group by itself would be strictly stricter."""
    w = overlapping(seed=seed)
    wanted = np.array([1.2, 4.0, 0.9])
    points = w.means([law for law, _ in w.tilted(wanted)])
    with_points(w, points / 0.9)
    groups = [one.group for one in w.groups]
    assert shares(groups) == pytest.approx([w.world.prompt_law[one.prompts].sum() for one in w.groups])
    found = drawn(w, [one.case.world.law for one in w.groups], 4096, seed)
    for group, measured in zip(groups, found, strict=True):
        group.target = None
        attach_target(group, measured.statistics)
    laws = []
    for one in w.groups:
        world, target = one.case.world, one.group.target
        assert target is not None
        bins = target.bin_index(one.f.reshape(-1, one.f.shape[-1])).reshape(one.f.shape[:2])
        laws.append(world.per_prompt_copy(world.bin_law(world.law, bins, target.num_bins)[:, 0]))
    start_controllers(groups, laws, found, ConstraintSettings(set_point_share=0.9), 3)
    held = states(groups, w)
    assert [len(held[k]) for k in range(3)] == [1, 1, 1]
    duals = np.array([next(iter(held[k])).dual for k in range(3)])
    np.testing.assert_allclose(duals, wanted, rtol=0.1)
    np.testing.assert_allclose(w.means([law for law, _ in w.tilted(duals)]), points, rtol=0.1)
    # each group under the same bounds by itself
    alone, joint = 0.0, w.solve(points)
    for one in w.groups:
        columns = w.columns(one)
        solved = project(one.root_law, one.case.bin_values, points[columns], one.case.target.hard_bins, 30.0)
        alone += w.world.prompt_law[one.prompts].sum() * solved.kl
    assert alone > 1.05 * joint.kl


def test_pooled_control_brings_the_means_over_the_scopes_to_their_set_points() -> None:
    """From λ = 0, groups of unequal shares that draw as many samples: means over the prompts arrive, duals shared."""
    w = overlapping(seed=2)
    share = shares([one.group for one in w.groups])
    assert share.max() > 1.5 * share.min()
    wanted = np.array([1.2, 4.0, 0.9])
    points = w.means([law for law, _ in w.tilted(wanted)])
    groups = [one.group for one in w.groups]
    first = [ControllerState(value=0.0, weight=1.0, set_point=p, gain=0.7) for p in points]
    for one in w.groups:
        one.group.controllers = [first[k] for k in w.columns(one)]
    for number in range(60):
        held = states(groups, w)
        assert all(len(some) == 1 for some in held.values())
        duals = np.array([next(iter(held[k])).dual for k in range(3)])
        laws = [law for law, _ in w.tilted(duals)]
        control_groups(groups, drawn(w, laws, 3000, 10 * number))
    np.testing.assert_allclose(duals, wanted, rtol=0.15)
    np.testing.assert_allclose(w.means(laws), points, rtol=0.05)


def test_pooled_values_estimate_the_mean_under_the_law_of_the_prompts() -> None:
    w = overlapping(seed=2)
    groups = [one.group for one in w.groups]
    laws = [one.case.world.law for one in w.groups]
    found = pool(groups, [m.statistics for m in drawn(w, laws, 20_000, 0)])
    np.testing.assert_allclose([found[k].mean for k in w.soft], w.means(laws), rtol=0.02)
    equal = pool(groups[:1], [np.zeros((40, len(groups[0].indexes)))])[groups[0].indexes[0]]
    assert equal.count == pytest.approx(40)
    # one tenth of the prompts with as many samples counts for less than all of them
    some = next(iter(found.values()))
    assert 20_000 <= some.count < len(some.values) or len(some.values) == 20_000


def test_shared_controllers_come_back_from_a_checkpoint(tmp_path: Any) -> None:
    w = overlapping()
    groups = [one.group for one in w.groups]
    first = [ControllerState(value=0.3 * k, weight=2.0, set_point=0.1, start=0.1) for k in range(3)]
    for one in w.groups:
        one.group.controllers = [first[k] for k in w.columns(one)]
        one.group.head = None
    save_groups(tmp_path, groups, {})
    before = states(groups, w)
    for group in groups:
        group.controllers = []
    load_groups(tmp_path, groups, "cpu")  # type: ignore[arg-type]
    assert states(groups, w) == before


def test_a_bound_relative_to_the_base_is_one_number_over_the_whole_scope() -> None:
    """Groups with other means of their own get the same bound: the factor times the mean over all prompts."""
    text = "P(toxicity > 0.5) <= 0.7 * base\nP(words > 2) <= 0.5 for domain=a\n"
    w = policy_world(text, 5, tags=TAGS)
    assert w is not None
    assert len(w.groups) == 2
    relative = [
        float(clause.bound) for one in w.groups for clause in one.group.clauses if "base" in clause.text
    ]
    assert relative[0] == relative[1]
    (k,) = (i for i, index in enumerate(w.soft) if w.bounds[i] == relative[0])
    own = w.means([one.case.world.law for one in w.groups])[k]
    assert relative[0] == pytest.approx(0.7 * own, rel=0.1)
    each = [
        one.case.world.mean(one.case.world.law, one.case.soft[:, :, w.columns(one).index(k)])
        for one in w.groups
    ]
    assert abs(each[0] - each[1]) > 0.05


# ------------------------------------------------------------ preferences and priorities
def opposed(first: str, second: str, seed: int = 1) -> PolicyWorld:
    """Two bounds on one chance that cannot both be met."""
    found = policy_world(
        f"P(toxicity > 0.5) <= 0.2 {first}\nP(toxicity > 0.5) >= 0.6 {second}\n", seed, tags=TAGS
    )
    assert found is not None
    return found


def clauses_of(w: PolicyWorld) -> list[Any]:
    by_index = {k: c for one in w.groups for k, c in zip(one.group.indexes, one.group.clauses, strict=True)}
    return [by_index[k] for k in w.soft]


@pytest.mark.parametrize("keep", [0, 1])
def test_a_lower_number_is_never_traded_for_a_higher_one(keep: int) -> None:
    """Of two bounds in conflict the one of priority 0 is met, and the other is as near as that leaves it (an LP)."""
    w = opposed(f"priority {int(keep != 0)}", f"priority {int(keep != 1)}")
    clauses = clauses_of(w)
    ranks = ranks_of(clauses)
    laws = [w.group_law(one) for one in w.groups]
    both = project_groups(laws, w.bounds)
    assert both.saturated.any()
    solved, caps = solve_by_rank(laws, w.bounds, np.full(2, 12.0), ranks)
    first, last = int(np.argmin(ranks)), int(np.argmax(ranks))
    assert solved.means[first] <= w.bounds[first] + 1e-6
    assert caps[first] == 12.0
    assert (caps[last] < 12.0) == bool(both.saturated[first])
    # over all laws of the world that meet the first bound, the least mean of the second
    one = w.groups[0]
    mu = w.world.prompt_law[one.prompts][:, None]
    f = [(mu * one.case.soft[:, :, w.columns(one).index(k)]).ravel() for k in (first, last)]
    sums = np.kron(np.eye(len(one.prompts)), np.ones(one.case.soft.shape[1]))
    least = linprog(f[1], A_ub=f[0][None], b_ub=[w.bounds[first]], A_eq=sums, b_eq=np.ones(len(one.prompts)))
    assert solved.means[last] == pytest.approx(least.fun, abs=1e-4)


@few
@given(
    policy_worlds().filter(lambda w: len(w.soft) > 1), st.lists(st.integers(0, 2), min_size=12, max_size=12)
)
def test_ranks_keep_what_earlier_ranks_reach_and_change_nothing_when_all_can_be_met(
    w: PolicyWorld, drawn_ranks: list[int]
) -> None:
    picked = np.array([drawn_ranks[k % 12] for k in range(len(w.soft))])
    ranks = np.searchsorted(np.unique(picked), picked)
    laws, caps = [w.group_law(one) for one in w.groups], np.full(len(w.soft), 12.0)
    solved, lowered = solve_by_rank(laws, w.bounds, caps, ranks)
    before = np.zeros(len(w.soft), dtype=bool)
    for rank in range(int(ranks.max()) + 1):
        upto = project_groups(laws, w.bounds, np.where(ranks <= rank, lowered, 0.0))
        assert not (upto.saturated & before).any()
        before = (ranks <= rank) & ~upto.saturated
    assert (lowered <= caps).all()
    assert (lowered[ranks == 0] == 12.0).all()
    joint = w.solve()
    if not joint.saturated.any():
        np.testing.assert_allclose(solved.kl, joint.kl, atol=1e-6)
        np.testing.assert_array_equal(lowered, caps)


@pytest.mark.parametrize("weight", [0.3, 1.0, 3.0])
def test_a_preference_costs_its_weight_and_no_more(weight: float) -> None:
    """The law is the least of KL + w (E f - b)+ over all tilts, for a bound that a dual above w would be needed for."""
    w = policy_world(f"prefer P(toxicity > 0.5) <= 0.02 weight {weight}\n", 4, tags=TAGS)
    assert w is not None
    groups = [one.group for one in w.groups]
    found = drawn(w, [one.case.world.law for one in w.groups], 500, 0)
    start_controllers(
        groups, [one.root_law for one in w.groups], found, ConstraintSettings(set_point_share=0.5), 1
    )
    (state,) = groups[0].controllers
    point = 0.5 * w.bounds[0]

    def price(dual: float) -> float:
        laws = [law for law, _ in w.tilted(np.array([dual]))]
        kl = [one.case.world.kl(q, one.case.world.law) for one, q in zip(w.groups, laws, strict=True)]
        return w.over_groups(kl) + weight * max(0.0, float(w.means(laws)[0]) - point)

    grid = np.linspace(0.0, 8.0, 801)
    best = grid[int(np.argmin([price(dual) for dual in grid]))]
    assert state.dual == pytest.approx(best, abs=0.011)
    assert state.max_value == weight


def test_a_preference_gives_way_to_a_requirement_and_does_not_grow_in_control() -> None:
    w = opposed("", "priority 0")
    assert ranks_of(clauses_of(w)).tolist() == [0, 0]
    w = policy_world(
        "prefer P(toxicity > 0.5) >= 0.6 weight 9\nP(toxicity > 0.5) <= 0.2 priority 3\n", 1, tags=TAGS
    )
    assert w is not None
    clauses = clauses_of(w)
    ranks = ranks_of(clauses)
    required = next(k for k, clause in enumerate(clauses) if clause.strength == "require")
    assert ranks[required] == 0
    caps = np.where(ranks == 0, 12.0, 9.0)
    solved, _ = solve_by_rank([w.group_law(one) for one in w.groups], w.bounds, caps, ranks)
    assert solved.means[required] <= w.bounds[required] + 1e-6
    states = [
        ControllerState(value=12.0 if k == required else 1.0, weight=1.0, set_point=b)
        for k, b in enumerate(w.bounds)
    ]
    for one in w.groups:
        one.group.controllers = [states[k] for k in w.columns(one)]
    ones = [np.ones((50, len(one.group.indexes))) for one in w.groups]
    control_groups([one.group for one in w.groups], [Measurement([], values) for values in ones])
    after = dict(zip(w.columns(w.groups[0]), w.groups[0].group.controllers, strict=True))
    assert after[1 - required].value == 1.0
    assert after[required].weight == 2.0


# ------------------------------------------------------------ out of reach
CONFLICT = """low: P(toxicity > 0.5) <= 0.2
high: P(toxicity > 0.5) >= 0.6
apart: P(words > 2) <= 0.4
"""


def start(w: PolicyWorld) -> None:
    groups = [one.group for one in w.groups]
    found = []
    for one in w.groups:
        rows = [TokenRow((x,), (1,), {}, False) for x in np.repeat(one.prompts, one.case.world.copies)]
        found.append(Measurement(rows, one.case.f.reshape(-1, one.case.f.shape[-1])))
    start_controllers(
        groups, [one.root_law for one in w.groups], found, ConstraintSettings(set_point_share=0.9), 3,
        lambda rows: [f"prompt {row.prompt[0]}" for row in rows],
    )  # fmt: skip


def test_the_smallest_conflicting_set_is_named_with_what_can_be_reached_and_prompts() -> None:
    w = policy_world(CONFLICT, 1, tags=TAGS)
    assert w is not None
    with pytest.raises(TrainingError) as caught:
        start(w)
    said = caught.value.message
    assert (
        "`low` cannot be met together with `high`" in said
        or "`high` cannot be met together with `low`" in said
    )
    assert "`apart`" not in said
    assert "between" in said
    assert said.count("'prompt ") == 3


def test_every_member_of_a_conflicting_set_is_needed() -> None:
    """Three bounds on a partition in three: any two can be met, all three cannot."""
    thirds = "p: P(words <= 1) <= 0.25\nq: P(words in [2, 2]) <= 0.25\nr: P(words >= 3) <= 0.25\n"
    text = thirds + "s: P(toxicity > 0.9) <= 0.9\n"
    w = policy_world(text, 6, tags=TAGS)
    assert w is not None
    clauses, laws = clauses_of(w), [w.group_law(one) for one in w.groups]
    named = {clauses[k].name for k in conflicting(clauses, laws, w.bounds, 0)}
    assert named == {"p", "q", "r"} or clauses[0].name == "s"
    for left_out in range(len(clauses)):
        if clauses[left_out].name != "s":
            rest = [k for k in range(len(clauses)) if k != left_out]
            some = [GroupLaw(g.law, g.values[:, rest], g.hard, g.applies[rest], g.share) for g in laws]
            assert not project_groups(some, w.bounds[rest]).saturated.any()


def test_a_clause_that_stands_behind_another_gives_way_with_a_warning(caplog: Any) -> None:
    w = policy_world(CONFLICT.replace("0.6", "0.6 priority 1"), 1, tags=TAGS)
    assert w is not None
    with caplog.at_level(logging.WARNING):
        start(w)
    assert "`high` cannot be met together with `low`" in caplog.text
    assert "it gives way" in caplog.text
    held = states([one.group for one in w.groups], w)
    duals = np.array([next(iter(held[k])).dual for k in range(len(w.soft))])
    means = w.means([law for law, _ in w.tilted(duals)])
    low = [clause.name for clause in clauses_of(w)].index("low")
    assert means[low] == pytest.approx(0.9 * 0.2, abs=0.01)


def test_what_few_prompts_leave_open_is_a_warning(caplog: Any) -> None:
    """Half of the prompts can comply and half cannot: two prompts leave the mean open, many do not."""
    w = policy_world("P(toxicity > 0.5) <= 0.4\n", 1, tags=TAGS)
    assert w is not None
    (one,) = w.groups
    one.group.target = None
    law = np.array([[0.9, 0.1], [1e-9, 1.0]])
    config = ConstraintSettings(set_point_share=0.9)

    def attempt(copies: int) -> None:
        found = [Measurement([], np.tile([[0.0], [1.0]], (copies, 1)))]
        attach_target(one.group, found[0].statistics)
        start_controllers([one.group], [np.tile(law, (copies, 1))], found, config, 1)

    with caplog.at_level(logging.WARNING):
        attempt(1)
    assert "more prompts or samples may show that it can" in caplog.text
    with pytest.raises(TrainingError, match="cannot be met"):
        attempt(200)


def test_a_tilt_that_few_samples_carry_is_warned_of(caplog: Any) -> None:
    w = policy_world("P(toxicity > 0.5) <= 0.05\n", 1, tags=TAGS)
    assert w is not None
    (one,) = w.groups
    one.group.target = None
    for clean, warned in ((4, True), (200, False)):
        caplog.clear()
        found = [Measurement([], np.array([[0.0]] * clean + [[1.0]] * 300))]
        attach_target(one.group, found[0].statistics)
        rate = clean / (clean + 300)
        start_controllers(
            [one.group], [np.array([[rate, 1 - rate]])], found, ConstraintSettings(set_point_share=0.5), 1
        )
        assert ("effective sample size" in caplog.text) == warned
        assert not warned or "--anchor_samples" in caplog.text


def test_the_start_models_samples_are_looked_at_before_a_tuned_anchor(caplog: Any) -> None:
    w = policy_world(CONFLICT + "gone: always not slur for domain=c\n", 1, tags=TAGS)
    assert w is not None
    groups = [one.group for one in w.groups]
    found = drawn(w, [one.case.world.law for one in w.groups], 400, 0)
    said = look_ahead(groups, found)
    assert any("together with" in text and "`low`" in text and "`high`" in text for text in said)
    assert not any("`apart`" in text for text in said)
    assert all(text in caplog.text for text in said)
    hard = next(n for n, one in enumerate(w.groups) if one.case.target.hard)
    column = next(k for k, c in enumerate(groups[hard].clauses) if c.hard)
    found[hard].statistics[:, column] = 1.0
    assert any("violates `gone`" in text for text in look_ahead(groups, found))
    easy = policy_world("P(words > 2) <= 0.9\n", 1, tags=TAGS)
    assert easy is not None
    laws = [one.case.world.law for one in easy.groups]
    assert look_ahead([one.group for one in easy.groups], drawn(easy, laws, 400, 0)) == []


@few
@given(policy_worlds().filter(lambda w: len(w.soft) > 0))
def test_a_named_conflict_cannot_be_met_and_is_smallest(w: PolicyWorld) -> None:
    laws = [w.group_law(one) for one in w.groups]
    solved, clauses = project_groups(laws, w.bounds), clauses_of(w)
    marked = [k for k in np.flatnonzero(solved.saturated).tolist() if clauses[k].strength != "prefer"]
    assume(marked)

    def met(chosen: list[int]) -> bool:
        some = [
            GroupLaw(g.law, g.values[:, chosen], g.hard, g.applies[chosen], g.share)
            for g in laws
            if g.applies[chosen].any()
        ]
        return not some or not project_groups(some, w.bounds[chosen]).saturated.any()

    if met([k for k in range(len(clauses)) if clauses[k].strength != "prefer"]):
        return  # only preferences stand against it
    named = list(conflicting(clauses, laws, w.bounds, marked[0]))
    assert not met(named)
    assert all(k == marked[0] or met([i for i in named if i != k]) for k in named)


def test_a_law_that_leaks_into_bins_that_nothing_was_in_does_not_hide_a_conflict() -> None:
    w = policy_world(CONFLICT.replace("apart: P(words > 2) <= 0.4\n", ""), 1, tags=TAGS)
    assert w is not None
    (one,) = w.groups
    leaky = 0.98 * one.root_law + 0.02 / one.root_law.shape[1]
    rows = one.case.f.reshape(-1, 2)
    seen = np.bincount(one.case.bins.ravel(), minlength=one.case.target.num_bins) > 0
    assert not seen.all()
    config = ConstraintSettings(set_point_share=0.9)
    start_controllers([one.group], [leaky], [Measurement([], rows)], config, 2)
    with pytest.raises(TrainingError, match="together with"):
        start_controllers([one.group], [leaky], [Measurement([], rows)], config, 2, seen=[seen])


def test_a_run_logs_one_dual_for_a_clause_in_all_its_groups(world: World, tmp_path: Path) -> None:
    """A clause on all rows and one on the chat: two groups, and what they log of the first is the same number."""
    policy = POLICY.replace("kind:", "brief: mean(words) <= 12\nkind:")
    config = ConstraintConfig(
        output_dir=str(tmp_path), disable_tqdm=True, **SETTINGS | {"save_strategy": "no", "anchor": "start"}
    )
    trainer = ConstraintTrainer(
        load_model(str(world.model)), config, policy=compile_source(SourceFile(policy, "p.policy")),
        train_dataset=load_rows([str(world.data)], role="data"),
        processing_class=load_tokenizer(str(world.model)),
        scorers={"toxicity": LexiconScorer(world.root / "words.tsv", ceiling=1.0), "words": LengthScorer("words")},
    )  # fmt: skip
    trainer.train()
    assert [len(group.clauses) for group in trainer.engine.groups] in ([1, 2], [2, 1])
    rounds: dict[int, list[dict[str, Any]]] = {}
    for record in trainer.state.log_history:
        if "constraint/brief/dual" in record:
            rounds.setdefault(record["round"], []).append(record)
    assert len(rounds) == 4
    for records in rounds.values():
        assert len(records) == 2
        for key in ("dual", "value", "standard_error", "samples", "weight", "set_point"):
            first, second = (record[f"constraint/brief/{key}"] for record in records)
            assert first == second
        assert records[0]["constraint/brief/samples"] >= 2 * SETTINGS["control_samples"]
        for group, record in zip(trainer.engine.groups, records, strict=True):
            assert record[f"{group.name}/weight"] >= record["constraint/brief/weight"]
    duals = [records[0]["constraint/brief/dual"] for records in rounds.values()]
    assert duals[0] > 0
    assert len(set(duals)) > 1
