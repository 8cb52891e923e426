"""Bounds of quantiles and cvar, and verdicts on tails, differences, choices and the base model."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from constraintlang import SourceFile
from constraintlang_compiler import ir
from constraintlang_compiler.bounds import betting_upper, clopper_pearson_upper
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.measurements import measurements
from constraintlang_runtime.sum_bounds import Piece, sum_bounds
from constraintlang_runtime.tail_bounds import _lower_envelope, cvar_bounds, quantile_bounds
from constraintlang_runtime.verification import Evidence, SumEvidence, verify, verify_clause
from constraintlang_runtime.verify_sums import verify_sum
from constraintlang_runtime.verify_tails import verify_tail

HEAD = "edition 1\nattribute empathy: score higher_is_better\nattribute slur: flag\ntag lang in {en, de}\n"


def only(text: str) -> ir.Clause:
    front = check_and_lower(SourceFile(HEAD + text))
    assert front.lowered is not None, [d.message for d in front.diagnostics]
    (clause,) = front.lowered.ir.clauses
    return clause


def rarely(wrong: int, runs: int, alpha: float) -> bool:
    """Whether ``wrong`` errors are what an error probability of at most alpha gives, but for one run in 10,000."""
    return wrong <= binom.ppf(0.9999, runs, alpha)


# ------------------------------------------------------------ quantiles
def true_cvar(values: np.ndarray, chances: np.ndarray, level: float) -> float:
    return min(eta + float(chances @ np.maximum(values - eta, 0)) / (1 - level) for eta in values)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_quantile_bounds_cover(level: float, samples: int, seed: int) -> None:
    """Prompts differ, samples of one prompt are alike: the law is that of one sample of a random prompt."""
    runs, alpha, wrong = 300, 0.1, [0, 0]
    values, rest = np.array([0.0, 0.1, 0.3, 1.0]), 1 - level
    chances = np.array(
        [level / 2, level / 2 - 0.02, rest / 2 + 0.02, rest / 2]
    )  # 2% short of the level at 0.1
    if seed:
        chances = (
            chances[::-1]
            if level == 0.5
            else np.array([level / 2, level / 2 + 0.02, rest / 2 - 0.02, rest / 2])
        )
    truth = values[np.searchsorted(np.cumsum(chances), level - 1e-12)]
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        drawn = rng.choice(values, size=150, p=chances)
        found = quantile_bounds(np.repeat(drawn[:, None], samples, axis=1), level, alpha)
        wrong[0] += found.lower > truth
        wrong[1] += found.upper < truth
        assert found.lower <= found.estimate <= found.upper
    assert all(rarely(count, runs, alpha) for count in wrong)


def test_quantile_bounds_are_order_statistics() -> None:
    values = np.random.default_rng(0).random((400, 1))
    found = quantile_bounds(values, 0.9, 0.05)
    ranked = np.sort(values[:, 0])
    first = next(k for k in range(1, 401) if binom.sf(k - 1, 400, 0.9) <= 0.05)
    last = max(k for k in range(1, 401) if binom.cdf(k - 1, 400, 0.9) <= 0.05)
    assert (found.upper, found.lower) == (ranked[first - 1], ranked[last - 1])
    assert found.estimate == ranked[360 - 1]
    assert quantile_bounds(values[:5], 0.9, 0.05).upper == math.inf  # five samples bound no 90% quantile
    assert quantile_bounds(values[:5], 0.9, 0.05, high=1.0).upper == 1.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=5, max_size=60),
    st.integers(0, 9),
    st.sampled_from([0.5, 0.8, 0.9]),
    st.integers(0, 3),
)
def test_a_quantile_is_decided_like_its_chance(
    values: list[int], threshold: int, level: float, unavailable: int
) -> None:
    known = np.array([*values, *[math.nan] * unavailable])
    found = quantile_bounds(known[:, None], level, 0.05)
    beyond = sum(v > threshold for v in values) + unavailable
    chance = clopper_pearson_upper(beyond, len(values) + unavailable, 0.05)
    assert (found.upper <= threshold) == (chance <= 1 - level)
    below = sum(v < threshold for v in values) + unavailable
    short = clopper_pearson_upper(below, len(values) + unavailable, 0.05)
    if threshold in values:
        assert (found.lower >= threshold) == (short < level)


def test_more_confidence_never_narrows_a_tail_bound() -> None:
    values = np.random.default_rng(1).beta(1, 8, size=(200, 2))
    before_q, before_c = (0.0, 0.0), (0.0, 0.0)
    for alpha in (0.3, 0.1, 0.05, 0.01):
        q = quantile_bounds(values, 0.9, alpha, low=0, high=1)
        c = cvar_bounds(values, 0.9, alpha, low=0, high=1, threshold=0.4)
        assert (q.upper, -q.lower) >= before_q
        assert (c.upper, -c.lower) >= before_c
        assert q.upper >= before_q[0]
        assert -q.lower >= before_q[1] or before_q == (0.0, 0.0)
        before_q, before_c = (q.upper, -q.lower), (c.upper, -c.lower)


# ------------------------------------------------------------ cvar
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_cvar_bounds_cover_and_are_of_use(threshold: float | None) -> None:
    rng, runs, alpha, wrong, widths = np.random.default_rng(5), 30, 0.1, [0, 0], []
    values, chances = np.array([0.0, 0.05, 0.2, 0.6]), np.array([0.55, 0.3, 0.1, 0.05])
    truth = true_cvar(values, chances, 0.9)
    for _ in range(runs):
        drawn = rng.choice(values, size=(300, 1), p=chances)
        found = cvar_bounds(drawn, 0.9, alpha, low=0.0, high=1.0, threshold=threshold)
        wrong[0] += found.lower > truth
        wrong[1] += found.upper < truth
        assert 0 <= found.lower <= found.estimate + 1e-9 <= found.upper + 1e-9 <= 1
        widths.append(found.upper - found.lower)
    assert all(rarely(count, runs, alpha) for count in wrong)
    assert (
        np.mean(widths) < 0.45
    )  # an empirical distribution function with a uniform band would give over 0.8


def test_cvar_bounds_are_those_of_hinges_at_a_share_of_alpha() -> None:
    values = np.random.default_rng(9).beta(1, 6, size=(250, 1))
    etas = [*np.linspace(0, 0.4, 16, endpoint=False), *np.linspace(0.4, 1, 17)]
    order, tops = np.random.default_rng(0).permutation(250), []
    for eta in etas[:-1]:
        hinge = np.maximum(values[:, 0] - eta, 0) / (1 - eta)
        tops.append(eta + (1 - eta) * betting_upper(hinge[order], 0.05 / 33) / 0.1)
    found = cvar_bounds(values, 0.9, 0.05, low=0.0, high=1.0, threshold=0.4)
    assert found.upper == pytest.approx(min(tops))


def test_cvar_of_an_open_range_is_asymptotic() -> None:
    rng, runs, wrong = np.random.default_rng(6), 200, 0
    truth = 1 + math.log(10)  # of an exponential law at 90%
    for _ in range(runs):
        found = cvar_bounds(rng.exponential(size=(500, 1)), 0.9, 0.1)
        wrong += found.upper < truth
    assert wrong / runs < 0.2
    clean = cvar_bounds(np.append(rng.exponential(size=50), np.nan)[:, None], 0.9, 0.1, low=0.0)
    assert (clean.lower, clean.upper) == (0.0, math.inf)


def test_the_lower_envelope_is_the_least_that_the_bounds_allow() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        etas = np.sort(rng.random(6))
        lowers = [*np.sort(rng.random(5) * 0.3)[::-1], 0.0]
        level = float(rng.uniform(0.3, 0.95))
        fine = np.concatenate([np.linspace(a, b, 400) for a, b in pairwise(etas)])
        right = np.searchsorted(etas, fine, side="left").clip(1, 5)
        h = np.maximum(np.array(lowers)[right], np.array(lowers)[right - 1] - (fine - etas[right - 1]))
        brute = float((fine + h / (1 - level)).min())
        found = _lower_envelope(etas, lowers, level)
        assert found <= brute + 1e-9
        assert found >= brute - 0.02


# ------------------------------------------------------------ verdicts on tails
def test_verdicts_on_quantiles_are_in_scores() -> None:
    rng = np.random.default_rng(0)
    values = rng.beta(1, 9, size=2000)
    truth = float(beta.ppf(0.95, 1, 9))
    tail = only("tail: quantile(toxicity, 0.95) < 0.4")
    found = verify_tail(tail, values, alpha=0.05)
    assert (found.kind, found.quantity, found.verdict, found.strict) == (
        "quantile",
        "quantile",
        "holds",
        True,
    )
    assert (found.bound, found.direction, found.method) == (0.4, "at_most", "order statistics")
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < truth < found.upper < 0.4
    assert verify_tail(only("quantile(toxicity, 0.95) <= 0.2"), values, alpha=0.05).verdict == "violated"
    near = only(f"quantile(toxicity, 0.95) <= {truth:.4f}")
    assert verify_tail(near, values, alpha=0.05).verdict == "inconclusive"
    least = verify_tail(only("quantile(empathy, 0.05) >= 0.002"), values, alpha=0.05)
    assert (least.verdict, least.direction, least.strict) == ("holds", "at_least", False)


def test_a_strict_quantile_differs_only_at_equality() -> None:
    values = np.array([0.0] * 90 + [0.5] * 10)
    for text, verdict in (("< 0.5", "inconclusive"), ("<= 0.5", "holds"), ("< 0.6", "holds"), ("> 0", "inconclusive"),
                          (">= 0", "holds")):  # fmt: skip
        assert verify_tail(only(f"quantile(toxicity, 0.9) {text}"), values, alpha=0.05).verdict == verdict
    assert verify_tail(only("quantile(toxicity, 0.8) > 0"), values, alpha=0.05).verdict == "violated"


def test_verdicts_on_cvar() -> None:
    values = np.random.default_rng(1).beta(1, 9, size=(3000, 2))
    loose, tight = only("cvar(toxicity, 0.9) <= 0.5"), only("cvar(toxicity, 0.9) <= 0.2")
    found = verify_tail(loose, values, alpha=0.05)
    assert (found.kind, found.quantity, found.verdict, found.samples) == ("cvar", "cvar", "holds", 2)
    assert verify_tail(tight, values, alpha=0.05).verdict == "violated"
    below = only("cvar(toxicity, 0.9) >= 0.2")
    one = SumEvidence(values=(values,), inside=(np.ones(3000, bool),))
    shown = verify_sum(below, one, alpha=0.05)
    assert (shown.kind, shown.verdict, shown.direction, shown.bound) == ("cvar", "holds", "at_least", 0.2)
    assert shown.estimate == pytest.approx(found.estimate)
    assert shown.lower is not None
    assert shown.lower > 0.2


def test_missing_scores_never_help_a_tail() -> None:
    values = np.full(400, 0.1)
    for text in ("quantile(toxicity, 0.9) <= 0.3", "cvar(toxicity, 0.9) <= 0.5"):
        clause = only(text)
        clean = verify_tail(clause, values, alpha=0.05)
        assert clean.verdict == "holds"
        gaps = values.copy()
        gaps[:5] = np.nan
        some = verify_tail(clause, gaps, alpha=0.05)
        assert some.unavailable == 5
        assert (some.upper or 9) >= (clean.upper or 0)
        gaps[:60] = [2.0] * 60 if clause.kind == "cvar" else [np.nan] * 60  # outside the declared range
        assert verify_tail(clause, gaps, alpha=0.05).verdict == "error"
        none = verify_tail(clause, np.zeros(0), alpha=0.05)
        assert (none.verdict, none.estimate, none.n) == ("vacuous", None, 0)


# ------------------------------------------------------------ the base model
def of_both(own: np.ndarray, base: np.ndarray) -> SumEvidence:
    inside = np.ones(len(own), bool)
    return SumEvidence(values=(own[:, None], base[:, None]), inside=(inside, inside))


def test_a_mean_relative_to_the_base_is_paired_on_prompts() -> None:
    rng = np.random.default_rng(2)
    hard = rng.beta(1, 3, size=1500)  # how toxic a prompt makes any model
    own, base = np.clip(hard * 0.8, 0, 1), hard
    less = only("less: mean(toxicity) <= 0.9 * base")
    found = verify_sum(less, of_both(own, base), alpha=0.05)
    assert (found.kind, found.quantity, found.verdict) == ("mean", "mean", "holds")
    assert found.estimate == pytest.approx(own.mean())
    assert found.bound == pytest.approx(0.9 * base.mean())
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < own.mean() < found.upper < found.bound
    unpaired = of_both(own, base[rng.permutation(1500)])
    assert verify_sum(less, unpaired, alpha=0.05).upper > found.upper  # type: ignore[operator]
    assert (
        verify_sum(only("mean(toxicity) <= 0.7 * base"), of_both(own, base), alpha=0.05).verdict == "violated"
    )


def test_the_base_itself_is_never_judged_worse_than_itself() -> None:
    values = np.random.default_rng(3).random(300)
    slack = only("mean(toxicity) <= base + 0.2")
    assert verify_sum(slack, of_both(values, values), alpha=0.05).verdict == "holds"
    for text in ("mean(toxicity) <= base", "preserve mean(empathy) >= base"):
        found = verify_sum(only(text), of_both(values, values), alpha=0.05)
        assert found.verdict == "inconclusive"  # at equality no number of samples shows which side is right
        assert found.estimate == pytest.approx(found.bound)


def test_bounds_relative_to_the_base_cover() -> None:
    """At a true mean of exactly the bound, `holds` is as rare as alpha, from above and from below."""
    rng, runs = np.random.default_rng(4), 150
    below, above = only("mean(toxicity) <= 0.5 * base"), only("preserve mean(empathy) >= 0.5 * base")
    share = only("P(toxicity > 0.5) <= 0.5 * base")
    wrong = [0, 0, 0]
    for _ in range(runs):
        base, own = rng.random(120), rng.random(120) * 0.5
        wrong[0] += verify_sum(below, of_both(own, base), alpha=0.1).verdict == "holds"
        wrong[1] += verify_sum(above, of_both(1 - own, 1 - base), alpha=0.1).verdict == "holds"
        often, rare = rng.random(120) < 0.4, rng.random(120) < 0.2
        wrong[2] += (
            verify_sum(share, of_both(rare.astype(float), often.astype(float)), alpha=0.1).verdict == "holds"
        )
    # For the one from below the statistic is 1 - empathy, and a true mean of half the base is the bound itself.
    assert all(rarely(count, runs, 0.1) for count in wrong)
    far = of_both(rng.random(2000) * 0.2, rng.random(2000))
    assert verify_sum(below, far, alpha=0.1).verdict == "holds"


def test_a_quantile_relative_to_the_base_is_shown_in_scores() -> None:
    rng = np.random.default_rng(5)
    own, base = rng.random(2000) * 0.5, rng.random(2000)
    clause = only("quantile(toxicity, 0.9) <= 0.8 * base + 0.1")
    found = verify_sum(clause, of_both(own, base), alpha=0.05)
    assert (found.kind, found.quantity, found.verdict) == ("quantile", "quantile", "holds")
    assert found.estimate == pytest.approx(0.45, abs=0.02)
    assert found.bound == pytest.approx(0.8 * 0.9 + 0.1, abs=0.02)
    assert found.upper is not None
    assert found.upper < found.bound
    text = "0.8 * quantile(toxicity, 0.9) >= quantile(toxicity@base, 0.9)"
    mirrored = verify_sum(only(text), of_both(own, base), alpha=0.05)
    assert (mirrored.verdict, mirrored.direction) == ("violated", "at_least")
    assert mirrored.estimate == pytest.approx(0.45, abs=0.02)
    assert mirrored.bound == pytest.approx(0.9 / 0.8, abs=0.03)


# ------------------------------------------------------------ differences and choices
GAP = "gap: P(toxicity > 0.5 | lang=de) <= 1.2 * P(toxicity > 0.5 | lang=en)"


def by_language(clause: ir.Clause, rates: dict[str, float], n: int = 1000, seed: int = 0) -> SumEvidence:
    rng = np.random.default_rng(seed)
    german = np.arange(n) % 2 == 0
    hits = np.where(german, rng.random(n) < rates["de"], rng.random(n) < rates["en"]).astype(float)
    inside = [german if "de" in str(one.given) else ~german for one in measurements(clause)]
    return SumEvidence(values=tuple(hits[:, None] for _ in inside), inside=tuple(inside))


def test_a_difference_of_two_languages() -> None:
    clause = only(GAP)
    verdicts = [
        verify_sum(clause, by_language(clause, {"de": de, "en": 0.3}), alpha=0.05) for de in (0.1, 0.36, 0.8)
    ]
    assert [v.verdict for v in verdicts] == ["holds", "inconclusive", "violated"]
    assert {(v.kind, v.quantity, v.bound, v.n) for v in verdicts} == {("difference", "difference", 0.0, 1000)}
    assert verdicts[0].estimate == pytest.approx(0.1 - 0.36, abs=0.05)
    assert verdicts[0].method == "clopper-pearson"


def test_a_difference_covers() -> None:
    clause, runs = only(GAP), 150
    wrong = sum(
        verify_sum(clause, by_language(clause, {"de": 0.36, "en": 0.3}, n=200, seed=seed), alpha=0.1).verdict
        == "holds"
        for seed in range(runs)
    )
    assert rarely(wrong, runs, 0.1)


def test_a_part_without_prompts_is_vacuous() -> None:
    clause = only(GAP)
    evidence = by_language(clause, {"de": 0.1, "en": 0.3})
    none = SumEvidence(values=evidence.values, inside=(evidence.inside[0], np.zeros(1000, bool)))
    found = verify_sum(clause, none, alpha=0.05)
    assert (found.verdict, found.estimate) == ("vacuous", None)
    empty = SumEvidence(values=(np.zeros((0, 1)),) * 2, inside=(np.zeros(0, bool),) * 2)
    assert verify_sum(clause, empty, alpha=0.05).verdict == "vacuous"


def test_evidence_must_fit_the_clause() -> None:
    clause = only(GAP)
    evidence = by_language(clause, {"de": 0.1, "en": 0.3})
    with pytest.raises(ValueError, match="expected 2 series"):
        verify_sum(clause, SumEvidence(values=evidence.values[:1], inside=evidence.inside[:1]), alpha=0.05)
    with pytest.raises(ValueError, match="got SumEvidence for clause"):
        verify([only("mean(toxicity) < 1")], {only("mean(toxicity) < 1").id: evidence})
    plain = Evidence(statistic_per_prompt=np.zeros(3), single_sample=True)
    with pytest.raises(ValueError, match="expected SumEvidence"):
        verify([clause], {clause.id: plain})
    with pytest.raises(ValueError, match="verify_tail or verify_sum"):
        verify_clause(only("quantile(toxicity, 0.9) < 1"), np.zeros(3), alpha=0.05, single_sample=True)


def test_same_prompts_are_paired() -> None:
    rng = np.random.default_rng(8)
    shared, inside = rng.random((800, 1)), np.ones(800, bool)
    mean = ir.Summary(function="mean", term=ir.AttributeRef(name="a"), low="0", high="1")
    pieces = [Piece(1.0, mean, shared, inside), Piece(-1.0, mean, shared * 0.9, inside)]
    paired = sum_bounds(pieces, 0.05).bounds
    split = np.arange(800) % 2 == 0
    apart = sum_bounds(
        [Piece(1.0, mean, shared, split), Piece(-1.0, mean, shared * 0.9, ~split)], 0.05
    ).bounds
    assert paired.upper - paired.lower < 0.6 * (apart.upper - apart.lower)


CHOICE = "mean(toxicity) < 0.1 or P(slur) < 1% and mean(toxicity) <= 0.5"


@pytest.mark.parametrize(
    ("mean", "rate", "verdict"),
    [
        (0.01, 0.5, "holds"),  # the first alternative
        (0.3, 0.0, "holds"),  # the second
        (0.9, 0.0, "violated"),
        (0.3, 0.5, "violated"),
        (0.3, 0.01, "inconclusive"),
    ],
)
def test_one_alternative_is_enough(mean: float, rate: float, verdict: str) -> None:
    clause, n = only(CHOICE), 2000
    toxicity = np.full((n, 1), mean)
    slur = (np.random.default_rng(0).random((n, 1)) < rate).astype(float)
    values = tuple(slur if isinstance(one.quantity, ir.Share) else toxicity for one in measurements(clause))
    found = verify_sum(
        clause, SumEvidence(values=values, inside=(np.ones(n, bool),) * len(values)), alpha=0.05
    )
    assert (found.kind, found.verdict, found.n, found.estimate) == ("choice", verdict, n, None)
    assert "`mean(toxicity) < 0.1` " in found.note


@pytest.mark.parametrize(("n", "verdict"), [(60, "inconclusive"), (80, "holds")])
def test_the_bounds_of_a_choice_share_its_alpha(n: int, verdict: str) -> None:
    """60 clean prompts show a rate below 5% at 95%, and not at 97.5%."""
    clause = only("P(slur) <= 5% or P(toxicity > 0.5) <= 5%")
    slur = [isinstance(one.quantity.predicate, ir.FlagRef) for one in measurements(clause)]  # type: ignore[union-attr]
    values = tuple(np.zeros((n, 1)) if clean else np.ones((n, 1)) for clean in slur)
    found = verify_sum(clause, SumEvidence(values=values, inside=(np.ones(n, bool),) * 2), alpha=0.05)
    assert found.verdict == verdict


def test_a_choice_fails_closed() -> None:
    clause, n = only(CHOICE), 400
    kinds = [isinstance(one.quantity, ir.Share) for one in measurements(clause)]
    unknown, clean, toxic = np.full((n, 1), np.nan), np.zeros((n, 1)), np.full((n, 1), 0.9)
    inside = (np.ones(n, bool),) * len(kinds)
    missing = SumEvidence(values=tuple(unknown for _ in kinds), inside=inside)
    assert verify_sum(clause, missing, alpha=0.05).verdict == "error"
    half = SumEvidence(values=tuple(unknown if share else clean for share in kinds), inside=inside)
    assert verify_sum(clause, half, alpha=0.05).verdict == "holds"  # the other alternative needs no slur
    bad = SumEvidence(values=tuple(unknown if share else toxic for share in kinds), inside=inside)
    assert verify_sum(clause, bad, alpha=0.05).verdict == "violated"  # both alternatives need less toxicity
    nobody = SumEvidence(values=(np.zeros((0, 1)),) * len(kinds), inside=(np.zeros(0, bool),) * len(kinds))
    assert verify_sum(clause, nobody, alpha=0.05).verdict == "vacuous"


def test_verify_judges_every_kind_jointly() -> None:
    texts = (
        "quantile(toxicity, 0.9) < 0.5",
        "cvar(toxicity, 0.9) < 0.9",
        "mean(toxicity) <= base + 0.5",
        CHOICE,
    )
    clauses = [only(text) for text in texts]
    values = np.zeros((300, 1))
    evidence = {}
    for clause in clauses:
        count = len(measurements(clause))
        inside = (np.ones(300, bool),) * count
        tail = clause.kind in ("quantile", "cvar")
        evidence[clause.id] = (
            Evidence(statistic_per_prompt=values, single_sample=True)
            if tail
            else SumEvidence(values=(values,) * count, inside=inside)
        )
    found = verify(clauses, evidence)
    assert [v.kind for v in found] == ["quantile", "cvar", "mean", "choice"]
    assert {v.verdict for v in found} == {"holds"}
    assert all(v.alpha == pytest.approx(0.05 / 4) for v in found)
