"""Best-first search on an enumerable world: the exact maximum of p ψ, and never less than greedy guided decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from enumerable_world import END, Floats, random_world, small_world
from tabular_model import PROMPTS, TabularLM
from world_policy import KINDS, Case, duals_of, make_case

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.decoding_search import SearchResult, SearchSettings, best_first
from constraintlang_runtime.errors import ConfigError

FLOOR = 12.0


def log_scores(case: Case, duals: Floats) -> tuple[Floats, Floats]:
    """log p and floored log ψ of every sequence [P, N]."""
    with np.errstate(divide="ignore"):
        potential = np.maximum(np.log(case.potential(duals)), -FLOOR)
    return np.log(case.world.law), potential


def search(
    case: Case,
    duals: Floats,
    settings: SearchSettings,
    *,
    obeying: Floats | None = None,
    exponent: float = 1.0,
) -> list[SearchResult]:
    """One search per prompt; ``obeying`` [P, N] says what obeys, everything unless given."""
    world, (_, potential) = case.world, log_scores(case, duals)
    number = {y: n for n, y in enumerate(world.sequences)}

    def judge(rows: Sequence[TokenRow]) -> list[tuple[float, bool]]:
        places = [(PROMPTS.index(row.prompt), number[row.completion]) for row in rows]
        return [(float(potential[at]), obeying is None or bool(obeying[at])) for at in places]

    group = case.group(duals)
    assert group.head is not None
    return best_first(
        TabularLM(world, world.table), group.head, group.log_potential(),
        [TokenRow(prompt, (), {}, False) for prompt in PROMPTS[: world.num_prompts]], settings, judge,
        end_tokens=[END], pad_id=0, exponent=exponent,
    )  # fmt: skip


def greedy(case: Case, duals: Floats, x: int) -> tuple[int, ...]:
    """Greedy guided decoding by the runtime's own token targets."""
    world = case.world
    targets = case.token_targets(world.law, case.log_potential(duals, FLOOR))[x]
    tokens: tuple[int, ...] = ()
    while tokens not in world.sequences:
        tokens = (*tokens, int(targets[world.node[tokens]].argmax()))
    return tokens


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("lanes", [1, 3])
def test_enough_budget_finds_the_exact_maximum(kinds: tuple[str, ...], lanes: int) -> None:
    for seed in range(2):
        case = make_case(small_world(seed), *kinds)
        duals = duals_of(case, 2.0 + seed)
        log_p, log_psi = log_scores(case, duals)
        found = search(case, duals, SearchSettings(3, budget=99, lanes=lanes, keep=2))
        for x, result in enumerate(found):
            order = np.argsort(-(log_p + log_psi)[x])
            assert result.is_exhausted
            assert [c.row.completion for c in result.best] == [case.world.sequences[n] for n in order[:2]]
            assert result.best[0].score == pytest.approx((log_p + log_psi)[x, order[0]], abs=1e-4)
            assert result.best[0].log_prob == pytest.approx(log_p[x, order[0]], abs=1e-4)
            assert result.steps < len(case.world.prefixes) + len(case.world.sequences)  # something was pruned


@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_a_small_budget_is_no_worse_than_greedy(exponent: float) -> None:
    better = 0
    for seed in range(6):
        case = make_case(random_world(seed), "never", "rarely")
        duals = duals_of(case, 3.0)
        log_p, log_psi = log_scores(case, duals)
        tight = search(case, duals, SearchSettings(4, budget=5), exponent=exponent)
        wide = search(case, duals, SearchSettings(4, budget=20, keep=6), exponent=exponent)
        for x, (small, large) in enumerate(zip(tight, wide, strict=True)):
            assert small.steps <= 5
            assert large.best[0].score >= small.best[0].score
            best = (log_p + exponent * log_psi)[x].max()
            for result in (small, large):
                for own in result.best:
                    assert own.score == pytest.approx(own.log_prob + exponent * own.log_potential, abs=1e-6)
                top = result.best[0]
                # a budget that ran out is no proof
                assert exponent != 1.0 or not result.is_exhausted or top.score > best - 1e-4
            if exponent == 1.0:
                n = case.world.sequences.index(greedy(case, duals, x))
                first = (log_p + log_psi)[x, n]
                assert small.best[0].score >= first - 1e-5
                better += large.best[0].score > first + 1e-5
    assert better > 0 or exponent != 1.0


def test_a_row_is_scored_by_the_potential_to_the_same_power() -> None:
    case = make_case(small_world(0), "rarely")
    found = search(case, duals_of(case, 0.4), SearchSettings(3, budget=99, keep=15), exponent=2.5)
    every = [candidate for result in found for candidate in result.best]
    assert sum(candidate.log_potential < 0 for candidate in every) > 3
    for candidate in every:
        assert candidate.score == pytest.approx(candidate.log_prob + 2.5 * candidate.log_potential, abs=1e-6)


def test_what_obeys_comes_first_and_only_that_prunes() -> None:
    """The scorers say that the best half violates: the best of the others is found, and ranks before them."""
    case = make_case(random_world(4), "rarely")
    duals = duals_of(case, 1.0)
    log_p, log_psi = log_scores(case, duals)
    total = log_p + log_psi
    obeying = (total < np.median(total, axis=1, keepdims=True)).astype(np.float64)
    for x, result in enumerate(search(case, duals, SearchSettings(4, budget=400), obeying=obeying)):
        best = int(np.argmax(np.where(obeying[x] > 0, total[x], -np.inf)))
        assert result.best[0].obeys
        assert result.best[0].row.completion == case.world.sequences[best]
        assert result.is_exhausted
    for result in search(case, duals, SearchSettings(4, budget=400), obeying=np.zeros_like(total)):
        assert not result.best[0].obeys
        assert not result.is_exhausted or result.steps > 100


def test_a_frontier_that_forgets_says_so() -> None:
    forgot = missed = 0
    for seed in range(4):
        case = make_case(random_world(seed), "never", "rarely")
        duals = duals_of(case, 3.0)
        log_p, log_psi = log_scores(case, duals)
        for x, result in enumerate(search(case, duals, SearchSettings(4, budget=300, frontier=1, lanes=1))):
            is_best = result.best[0].score > (log_p + log_psi)[x].max() - 1e-4
            forgot += not result.is_exhausted
            missed += not is_best
            assert is_best or not result.is_exhausted
    assert forgot >= missed > 0


def test_prompts_in_one_batch_or_in_many_are_searched_alike() -> None:
    case = make_case(random_world(2), "rarely")
    duals = duals_of(case, 2.0)
    settings = SearchSettings(4, budget=30, lanes=2)
    together, alone = (
        [result.best[0].row for result in search(case, duals, replace(settings, batch_size=size))]
        for size in (64, 2)
    )
    assert together == alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"budget": 4}, "does not reach the end"), ({"lanes": 0}, "lanes is 0"), ({"keep": 0}, "keep is 0")],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchSettings(4, **changes)
