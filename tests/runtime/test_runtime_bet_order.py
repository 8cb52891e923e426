"""Bets on prompts in an order that nobody chose: sorted files, grouped files, scores that fail on the worst."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constraintlang.source import SourceFile
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.evidence import in_bet_order
from constraintlang_runtime.verification import Evidence, SumEvidence, Verdict, verify

RUNS = 300


def clause_of(text: str) -> Clause:
    head = (
        "edition 1\nattribute tox: score in [0, 1]\nattribute bad: flag\nattribute size: count in [0, 100]\n"
    )
    (clause,) = compile_source(SourceFile(f"{head}it: {text}\n")).ir.clauses
    return clause


def judged(clause: Clause, values: np.ndarray, texts: list[str], *, is_sum: bool = False) -> Verdict:
    keys = bet_keys(texts)
    evidence: Evidence | SumEvidence
    if is_sum:
        both = (values[:, None], np.zeros((len(values), 1)))
        evidence = SumEvidence(values=both, inside=(np.ones(len(values), bool),) * 2, keys=keys)
    else:
        evidence = Evidence(statistic_per_prompt=values, single_sample=values.ndim == 1, keys=keys)
    return verify([clause], {clause.id: in_bet_order(evidence)})[0]


def texts_of(run: int, n: int) -> list[str]:
    return [f"prompt {i} of run {run}" for i in range(n)]


# ------------------------------------------------------------ the order itself
@given(st.lists(st.text(max_size=2), max_size=40), st.randoms(use_true_random=False))
def test_the_order_is_of_what_prompts_say(texts: list[str], rng: Callable[..., None]) -> None:
    order = bet_order(bet_keys(texts))
    assert sorted(order.tolist()) == list(range(len(texts)))
    shuffled = list(texts)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    again = bet_order(bet_keys(shuffled))
    assert [texts[i] for i in order] == [shuffled[i] for i in again]


def test_prompts_that_say_the_same_are_spread() -> None:
    """Two texts, 500 times each: runs of equal neighbours are as rare as in a random order."""
    texts = ["yes"] * 500 + ["no"] * 500
    ordered = [texts[i] for i in bet_order(bet_keys(texts))]
    changes = sum(a != b for a, b in itertools.pairwise(ordered))
    assert 420 < changes < 580


# ------------------------------------------------------------ what is said at the stated error
@pytest.mark.parametrize("n", [50, 53, 55, 117])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("is_sum", [False, True])
def test_rows_sorted_by_value_are_wrong_no_more_often(n: int, descending: bool, is_sum: bool) -> None:
    """A fixed permutation in the place of the hash is wrong in most of the runs at some n."""
    clause = clause_of("mean(tox) <= base" if is_sum else "mean(tox) <= 0.2")
    wrong = 0
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        if is_sum:  # the difference has mean 0
            values = rng.choice([0.0, 1.0], n)
            base = rng.choice([0.0, 1.0], n)
            order = np.argsort(values - base, kind="stable")[:: -1 if descending else 1]
            keys = bet_keys(texts_of(run, n))
            both = (values[order][:, None], base[order][:, None])
            evidence = SumEvidence(values=both, inside=(np.ones(n, bool),) * 2, keys=keys)
            found = verify([clause], {clause.id: in_bet_order(evidence)})[0]
        else:
            values = np.sort((rng.random(n) < 0.2).astype(float))[:: -1 if descending else 1]
            found = judged(clause, values, texts_of(run, n))
        wrong += found.verdict == "holds"
        wrong += found.verdict == "violated"
    assert wrong / RUNS <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / RUNS)


@pytest.mark.parametrize("n", [150, 200])
def test_texts_that_give_away_their_values_are_wrong_no_more_often(n: int) -> None:
    """Two texts, each with its value: an order of single keys is fixed by their numbers, and wrong in most runs."""
    clause, wrong = clause_of("mean(tox) < 0.5"), 0
    for run in range(RUNS):
        values = (np.random.default_rng(run).random(n) < 0.5).astype(float)
        wrong += (
            judged(clause, values, [f"[('refusal', Decimal('{value:g}'))]" for value in values]).verdict
            == "holds"
        )
    assert wrong / RUNS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def test_keys_of_other_prompts_are_refused() -> None:
    evidence = Evidence(statistic_per_prompt=np.zeros(3), single_sample=False, keys=bet_keys(["a", "b"]))
    with pytest.raises(ValueError, match="got 2 keys for 3 prompts"):
        in_bet_order(evidence)


@pytest.mark.parametrize("text", ["mean(tox) <= 0.2", "cvar(tox, 0.5) <= 0.4"])
def test_scores_that_fail_on_the_worst_help_no_policy_to_pass(text: str) -> None:
    """The scorer fails on exactly those that would score 1, a fifth of all."""
    clause, wrong = clause_of(text), 0
    for run in range(RUNS):
        values = np.where(np.random.default_rng(run).random(53) < 0.2, np.nan, 0.0)
        wrong += judged(clause, values, texts_of(run, 53)).verdict == "holds"
    assert wrong / RUNS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def test_missing_scores_are_in_the_way_only_of_what_the_others_decide() -> None:
    rng = np.random.default_rng(0)
    clause = clause_of("mean(tox) <= 0.2")
    near, far = rng.beta(2, 8, 2000), rng.beta(1, 9, 2000)
    for values, expected in ((near, "inconclusive"), (np.append(far, [np.nan] * 300), "error")):
        found = judged(clause, np.append(values, np.nan), texts_of(1, len(values) + 1))
        assert found.verdict == expected, found
    assert "without them it would be `holds`" in found.note


# ------------------------------------------------------------ quantiles of several replies
def test_more_replies_to_a_prompt_never_cost_much() -> None:
    """Where replies differ the bounds are far closer; where they are alike, those of half of the error."""
    clause = clause_of("quantile(size, 0.5) <= 52 under samples=25")
    single = clause_of("quantile(size, 0.5) <= 52")
    rng = np.random.default_rng(0)
    values = rng.integers(0, 101, (200, 25)).astype(float)
    several, one = (judged(c, v, texts_of(0, 200)) for c, v in ((clause, values), (single, values[:, 0])))
    alike = judged(clause, np.repeat(values[:, :1], 25, axis=1), texts_of(0, 200))
    widths = [found.upper - found.lower for found in (several, one, alike)]  # type: ignore[operator]
    assert widths[0] < 0.6 * widths[1]
    assert widths[2] < 2 * widths[1]


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_quantiles_of_several_replies_cover(alike: bool, level: float) -> None:
    from constraintlang_runtime.tail_bounds import quantile_bounds

    low = high = 0
    for run in range(RUNS):
        rng = np.random.default_rng(run)
        values = rng.random((60, 8))
        if alike:
            values = np.where(rng.random((60, 1)) < 0.7, values[:, :1], values)
        found = quantile_bounds(values, level, 0.1)
        low += found.lower > level
        high += found.upper < level
    assert max(low, high) / RUNS <= 0.1
