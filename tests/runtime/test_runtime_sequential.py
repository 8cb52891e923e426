"""Verdicts that may be looked for after every prompt: bounds, decisions and their error under optional stopping."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from constraintlang import SourceFile
from constraintlang_compiler import ir
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.sample_plan import prompts_for_rate
from constraintlang_runtime.anytime import Capital, anytime_lower, anytime_quantile_bounds, anytime_upper
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.sequential import Track, next_batch, require_sequential
from constraintlang_runtime.verification import Evidence, SumEvidence

HEAD = "edition 1\nattribute toxicity: score in [0, 1] lower_is_better\nattribute empathy: score higher_is_better\n"
HEAD += "attribute words: count\ntag lang in {en, de}\n"
ALPHA = 0.05


def only(text: str) -> ir.Clause:
    front = check_and_lower(SourceFile(HEAD + text))
    assert front.lowered is not None, [d.message for d in front.diagnostics]
    (clause,) = front.lowered.ir.clauses
    return clause


def rarely(wrong: int, runs: int, alpha: float) -> bool:
    """Whether ``wrong`` errors are what an error probability of at most alpha gives, but for one run in 10,000."""
    return wrong <= binom.ppf(0.9999, runs, alpha)


# ------------------------------------------------------------ the bets themselves
def slow_capital(x: np.ndarray, m: float, side: str) -> float:
    """The largest capital by the equation of the docstring, one product at a time, for rates of 0 and 1."""
    shares = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0]
    ratios = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    weights = {"below": [0.5, 0.5, 1, 2, 16, 3, 2], "above": [0.5] * 4 + [2, 16, 3, 1, 0.5]}[side]
    total = 25.0 if side == "below" else sum(weights) + 0.5
    caps = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1 / 2, 3 / 4, 3 / 4, 7 / 8]
    rates = [(1 - f) * m for f in shares]
    if side == "above":
        rates = [min((1 + r) * m, m + c * (1 - m)) for r, c in zip(ratios, caps, strict=True)]
    best = 1.0
    for n in range(1, len(x) + 1):
        found = 0.5 * np.prod(x[:n] / m) if side == "above" else 0.0
        for weight, rate in zip(weights, rates, strict=True):
            ones = int(x[:n].sum())
            found += weight * (rate / m) ** ones * ((1 - rate) / (1 - m)) ** (n - ones)
        best = max(best, found / total)
    return best


@pytest.mark.parametrize("side", ["below", "above"])
def test_bets_on_counts_are_likelihood_ratios(side: str) -> None:
    x = (np.random.default_rng(1).random(60) < 0.3).astype(float)
    capital = Capital(0.2, side)  # type: ignore[arg-type]
    for start, end in ((0, 7), (7, 8), (8, 60)):
        capital.add(x[start:end])
    assert float(np.exp(capital.best)) == pytest.approx(slow_capital(x, 0.2, side), rel=1e-9)


@pytest.mark.parametrize("side", ["below", "above"])
@pytest.mark.parametrize("m", [0.003, 0.05, 0.4, 0.97])
def test_no_bet_gains_on_average_at_its_own_mean(side: str, m: float) -> None:
    """One step: the capital has mean at most 1 when the mean is m, whatever the law on [0, 1]."""
    for low in (0.0, m / 2):
        chance = (m - low) / (1 - low)  # of 1, else low: mean m
        ends = []
        for value in (low, 1.0):
            capital = Capital(m, side)  # type: ignore[arg-type]
            capital.add(np.array([value]))
            ends.append(float(np.exp(capital._logs + capital._log_weights).sum()))
        assert (1 - chance) * ends[0] + chance * ends[1] == pytest.approx(1.0, abs=1e-9)


def test_the_ends_agree_with_the_bets_at_any_mean() -> None:
    x = np.random.default_rng(2).beta(1, 6, size=300)
    lower, upper = anytime_lower(x, ALPHA), anytime_upper(x, ALPHA)
    assert lower < x.mean() < upper
    for m in np.linspace(0.01, 0.99, 60):
        for side, inside in (("below", m < upper), ("above", m > lower)):
            capital = Capital(float(m), side)  # type: ignore[arg-type]
            capital.add(x)
            if abs(m - upper) > 1e-6 and abs(m - lower) > 1e-6:
                assert bool(capital.rejects(ALPHA)) is not bool(inside)
    assert anytime_upper(x, ALPHA / 10) > upper
    assert anytime_lower(x, ALPHA / 10) < lower
    assert (anytime_lower(x[:0], ALPHA), anytime_upper(x[:0], ALPHA)) == (0.0, 1.0)


def test_ends_and_decision_agree_at_the_bound_itself() -> None:
    rng = np.random.default_rng(3)
    for at in (0.05, 0.1, 0.3):
        for _ in range(40):
            x = (rng.random(rng.integers(20, 200)) < rng.choice([at / 3, at, 2 * at])).astype(float)
            below, above = Capital(at, "below"), Capital(at, "above")
            below.add(x)
            above.add(x)
            assert (anytime_upper(x, ALPHA, at=at) < at) is bool(below.rejects(ALPHA))
            assert (anytime_lower(x, ALPHA, at=at) > at) is bool(above.rejects(ALPHA))


# ------------------------------------------------------------ errors under optional stopping
LAWS = {
    "rate at 2%": lambda rng, n: (rng.random(n) < 0.02).astype(float),
    "rate at 30%": lambda rng, n: (rng.random(n) < 0.3).astype(float),
    "beta": lambda rng, n: rng.beta(0.4, 3.6, size=n),
    "two points": lambda rng, n: np.where(rng.random(n) < 0.1, 0.55, 0.05),
    "samples of a prompt": lambda rng, n: rng.binomial(4, rng.beta(0.5, 4.5, size=n)) / 4,
}
MEANS = {"rate at 2%": 0.02, "rate at 30%": 0.3, "beta": 0.1, "two points": 0.1, "samples of a prompt": 0.1}


@pytest.mark.parametrize("law", sorted(LAWS))
@pytest.mark.parametrize("side", ["below", "above"])
def test_at_the_bound_a_wrong_verdict_is_rare_however_often_one_looks(law: str, side: str) -> None:
    rng, runs = np.random.default_rng(4), 400
    x = LAWS[law](rng, (runs, 400))
    capital = Capital(MEANS[law], side)  # type: ignore[arg-type]
    capital.add(x)
    wrong = int(capital.rejects(ALPHA).sum())
    assert rarely(wrong, runs, ALPHA), wrong


def test_looking_again_and_again_at_a_fixed_bound_is_what_this_is_for() -> None:
    """The study can fail: Clopper-Pearson, valid for one look, is caught when one looks after every prompt."""
    rng, runs, n, m = np.random.default_rng(5), 400, 400, 0.1
    counts = np.cumsum(rng.random((runs, n)) < m, axis=1)
    upper = beta.ppf(1 - ALPHA, counts + 1, np.arange(1, n + 1) - counts)
    wrong = int((upper < m).any(axis=1).sum())
    assert not rarely(wrong, runs, ALPHA)
    capital = Capital(m, "below")
    capital.add(np.diff(counts, axis=1, prepend=0).astype(float))
    assert rarely(int(capital.rejects(ALPHA).sum()), runs, ALPHA)


def test_quantile_ends_cover_at_every_look() -> None:
    rng, runs, wrong = np.random.default_rng(6), 120, [0, 0]
    truth, n, crossed = 0.8, 150, 0
    for _ in range(runs):
        values = rng.random((n, 1)).round(2)  # with ties
        seen = [anytime_quantile_bounds(values[:k], 0.2, ALPHA) for k in (20, 40, 80, 150)]
        wrong[0] += any(lower > truth for lower, _ in seen)
        wrong[1] += any(upper < truth - 0.01 for _, upper in seen)
        crossed += seen[-1][0] > seen[-1][1]  # only where one of the two ends is wrong
    assert crossed <= sum(wrong)
    assert all(rarely(count, runs, ALPHA) for count in wrong)


def test_fewer_samples_than_the_fixed_plan() -> None:
    """Against the plan for a truth of half the bound. No valid test has less than 0.587 of it there (Wald)."""
    bound, rng = 0.05, np.random.default_rng(7)
    plan = prompts_for_rate(bound, bound / 2, ALPHA, 0.9)
    assert plan == 506
    ends = [16]
    while ends[-1] < plan:
        ends.append(min(plan, ends[-1] + next_batch(ends[-1])))
    mean_used = {}
    for truth in (bound / 4, bound / 2, 2 * bound):
        used = []
        for _ in range(60):
            x = (rng.random(plan) < truth).astype(float)
            below, above, start = Capital(bound, "below"), Capital(bound, "above"), 0
            for end in ends:
                below.add(x[start:end])
                above.add(x[start:end])
                start = end
                if below.rejects(ALPHA) or above.rejects(ALPHA):
                    break
            used.append(start)
        mean_used[truth / bound] = np.mean(used) / plan
    assert mean_used[2.0] < 0.5
    assert mean_used[0.25] < 0.5
    assert mean_used[0.5] < 0.85


# ------------------------------------------------------------ clauses
def track_of(text: str, values: np.ndarray, batch: int = 10) -> Track:
    track = Track(only(text), ALPHA)
    for start in range(0, len(values), batch):
        if track.decided:
            break
        part = values[start : start + batch]
        track.add(Evidence(statistic_per_prompt=part, single_sample=part.ndim == 1))
    return track


@pytest.mark.parametrize(
    ("text", "values", "verdict"),
    [
        ("a: P(toxicity > 0.5) <= 10%", np.zeros(200), "holds"),
        ("a: P(toxicity > 0.5) <= 10%", np.ones(200), "violated"),
        ("a: P(toxicity > 0.5) <= 10%", np.tile([0.0] * 9 + [1.0], 20), "inconclusive"),
        ("a: mean(toxicity) < 0.3", np.tile([0.05, 0.1], 100), "holds"),
        ("a: mean(empathy) >= 0.6", np.full(200, 0.1), "holds"),  # the statistic is 1 - empathy
        ("a: quantile(toxicity, 0.9) <= 0.5", np.tile([0.1, 0.5], 100), "holds"),
        ("a: quantile(toxicity, 0.9) < 0.5", np.tile([0.1, 0.5], 100), "violated"),
        ("a: quantile(empathy, 0.1) >= 0.5", np.tile([0.5, 0.9], 100), "holds"),
        ("a: quantile(empathy, 0.1) > 0.5", np.tile([0.5, 0.9], 100), "violated"),
        ("a: always toxicity < 0.5", np.array([0.0] * 50 + [1.0]), "violated"),
        ("a: always toxicity < 0.5", np.zeros(60), "inconclusive"),
        ("a: always toxicity < 0.5", np.array([0.0] * 20 + [math.nan] * 40 + [1.0]), "violated"),
        ("a: always toxicity < 0.5", np.array([[0.0, 0.0], [math.nan, 1.0]]), "violated"),
    ],
)
def test_a_clause_stops_when_it_is_decided(text: str, values: np.ndarray, verdict: str) -> None:
    track = track_of(text, values)
    found = track.verdict()
    assert found.verdict == verdict
    assert track.decided is (verdict != "inconclusive")
    assert found.n < len(values) or verdict == "inconclusive" or text.startswith("a: always")
    assert "anytime" in found.method
    assert found.alpha == ALPHA


def test_a_comparison_with_the_base_model_is_paired() -> None:
    clause = only("a: mean(toxicity) <= 0.5 * base")
    rng = np.random.default_rng(8)
    base = rng.beta(2, 2, size=(400, 2))
    track = Track(clause, ALPHA)
    for start in range(0, 400, 20):
        if not track.decided:
            values = (0.2 * base[start : start + 20], base[start : start + 20])
            track.add(SumEvidence(values=values, inside=(np.ones(20, bool),) * 2))
    found = track.verdict()
    assert (found.verdict, found.samples) == ("holds", 2)
    assert found.n < 400
    assert found.note.startswith("the base model reaches")
    assert found.upper is not None
    assert found.bound is not None
    assert found.upper <= found.bound + 1e-12


def test_missing_scores_never_help() -> None:
    values = np.zeros(200)
    values[::3] = math.nan
    track = track_of("a: P(toxicity > 0.5) <= 20%", values)
    found = track.verdict()
    assert not track.decided
    assert (found.verdict, found.unavailable) == ("error", 67)
    assert found.upper is not None
    assert found.upper > 0.2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: cvar(toxicity, 0.9) <= 0.4", "a conditional value at risk"),
        ("a: mean(words) <= 20", "an open range of values"),
        ("a: mean(toxicity) < 0.1 or P(toxicity > 0.5) < 5%", "a choice between statements"),
        (
            "a: P(toxicity > 0.5 | lang=de) <= P(toxicity > 0.5 | lang=en)",
            "a comparison of different prompts",
        ),
        ("a: quantile(toxicity, 0.9) <= base", "a quantile or conditional value at risk in a comparison"),
    ],
)
def test_what_cannot_be_bet_on_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        require_sequential([only(text)])
    assert str(error.value).count(f"`a` ({reason})") == 1


def test_no_prompt_is_no_verdict() -> None:
    assert Track(only("a: P(toxicity > 0.5) <= 20%"), ALPHA).verdict().verdict == "vacuous"


# ------------------------------------------------------------ thresholds near 1, and what was decided
def test_a_bet_on_a_mean_near_1_survives_one_value_of_0() -> None:
    """`P(x) >= 2%` bounds the share of the others by 98%: bets of 1/m alone would be lost by the first 0."""
    values = np.ones(20_000)
    values[13] = 0.0
    mirrored = 1.0 - anytime_upper(1.0 - values, ALPHA)
    assert anytime_lower(values, ALPHA) > 0.999
    assert anytime_lower(values, ALPHA) == pytest.approx(mirrored, abs=5e-4)
    for m in (0.9, 0.98, 0.999):
        capital = Capital(m, "above")
        for part in np.split(values, 40):
            capital.add(part)
            assert math.isfinite(float(capital.best))
        assert capital.rejects(ALPHA)


def test_what_is_decided_stays_decided() -> None:
    track = Track(only("P(toxicity > 0.5) >= 2%"), ALPHA)
    track.add(Evidence(statistic_per_prompt=np.ones(2_500), single_sample=True))
    assert track.decided
    track.add(Evidence(statistic_per_prompt=np.repeat([0.0, 1.0], [1, 499]), single_sample=True))
    assert track.decided
    assert track.verdict().verdict == "violated"
