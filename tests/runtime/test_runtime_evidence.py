"""Properties of verdicts on any counts, means and confidences: 10, 11, 12 and 21 to 25 of the specification."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from constraintlang import check_source
from constraintlang_compiler import ir
from constraintlang_compiler.lower import lower
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.verification import Evidence, Verdict, exit_code, verify, verify_clause

RATE = ir.Indicator(
    predicate=ir.Comparison(op="ge", left=ir.AttributeRef(name="toxicity"), right=ir.Const(value="0.1"))
)
BOUNDED = ir.Value(term=ir.AttributeRef(name="toxicity"), high="2")
OPEN = ir.Value(term=ir.AttributeRef(name="words"))
KINDS: dict[str, Any] = {
    "rate": {"kind": "violation", "statistic": RATE},
    "mean": {"kind": "mean", "statistic": BOUNDED},
    "open": {"kind": "mean", "statistic": OPEN},
}
many = settings(max_examples=60, deadline=None)
some = settings(max_examples=20, deadline=None)
confidences = st.sampled_from(["0.5", "0.8", "0.9", "0.95", "0.99", "0.9999"])
bounds = st.integers(0, 20).map(lambda k: f"{k / 20:g}")


def clause(kind: str, **changes: Any) -> ir.Clause:
    fields: dict[str, Any] = {
        "id": "sha256:1", "label": "cap", "text": "cap", "domain": None, "bound": "0.05", "strict": False,
    }  # fmt: skip
    return ir.Clause(**{**fields, **KINDS[kind], **changes})


def judge(kind: str, values: np.ndarray, *, unavailable: int = 0, **changes: Any) -> Verdict:
    one = clause(kind, **changes)
    known = np.concatenate([values, np.full(unavailable, np.nan)])
    found = Evidence(statistic_per_prompt=known, single_sample=kind == "rate")
    return verify([one], {one.id: found})[0]


def counts(failures: int, n: int) -> np.ndarray:
    return np.array([1.0] * failures + [0.0] * (n - failures))


@st.composite
def samples(draw: st.DrawFn, least: int = 0) -> tuple[str, np.ndarray]:
    """A kind of clause and values of its statistic, small samples and large ones."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    choices = {"rate": [0.0, 1.0], "mean": [0.0, 0.1, 0.5, 2.0], "open": [0.0, 0.1, 1.0, 7.0]}[kind]
    few = draw(st.lists(st.sampled_from(choices), min_size=least, max_size=8))
    return kind, np.array(few * draw(st.sampled_from([1, 1, 10, 60])))


# ------------------------------------------------------------ 10: errors, never numbers
bad_values = st.sampled_from([math.nan, math.inf, -math.inf, -0.5, -7.0, 2.5, 1e9])


@many
@given(samples(), st.lists(bad_values, max_size=5), bounds, st.randoms(use_true_random=False))
def test_10_impossible_scores_never_become_numbers(
    sample: tuple[str, np.ndarray], bad: list[float], bound: str, rng: Any
) -> None:
    kind, values = sample
    if kind == "open":
        bad = [value for value in bad if not 0 <= value < math.inf]
    mixed = [*values.tolist(), *bad]
    rng.shuffle(mixed)
    found, alone = judge(kind, np.array(mixed), bound=bound), judge(kind, values, bound=bound)
    assert found.unavailable == len(bad)
    assert found.n == len(mixed)
    assert found.estimate == (None if alone.estimate is None else pytest.approx(alone.estimate))
    # A missing score never helps a policy to pass, and what they would decide is not called undecided.
    if found.verdict == "holds":
        assert alone.verdict == "holds"
    if bad and alone.verdict in ("holds", "violated"):
        assert found.verdict != "inconclusive"
        if 2 * len(bad) > len(mixed):
            assert found.verdict == "error"


# ------------------------------------------------------------ 11, 12: bounds
@many
@given(samples(1), bounds, bounds, st.booleans())
def test_11_a_looser_bound_never_turns_holds_into_violated(
    sample: tuple[str, np.ndarray], one: str, other: str, strict: bool
) -> None:
    low, high = sorted((one, other), key=float)
    tight, loose = (judge(*sample, bound=bound, strict=strict).verdict for bound in (low, high))
    assert tight != "holds" or loose == "holds"
    assert loose != "violated" or tight == "violated"


@many
@given(samples(1), bounds, st.booleans())
def test_12_strict_and_not_strict_differ_only_at_equality(
    sample: tuple[str, np.ndarray], bound: str, at_equality: bool
) -> None:
    kind, values = sample
    upper = judge(kind, values).upper
    if at_equality and upper is not None:
        bound = repr(upper)
    slack, strict = (judge(kind, values, bound=bound, strict=strict) for strict in (False, True))
    assert (slack.lower, slack.upper, slack.estimate) == (strict.lower, strict.upper, strict.estimate)
    if float(bound) in (slack.lower, slack.upper):
        assert strict.verdict != "holds"
    else:
        assert slack.verdict == strict.verdict
    if at_equality and upper is not None:
        assert slack.verdict == "holds"


# ------------------------------------------------------------ 21: strata
def test_21_there_are_strata_to_judge() -> None:
    assert len(STRATA) == 3


STRATA = expand_strata(
    lower(check_source("edition 1\ntag lang in {en, de, fr}\ncap: toxicity < 0.1 per lang").require()), []
).clauses
sizes = st.sampled_from([0, 0, 40, 400])


@many
@given(st.lists(st.tuples(sizes, st.sampled_from([0.0, 0.02, 0.5])), min_size=3, max_size=3))
def test_21_all_strata_hold_or_the_statement_does_not(drawn: list[tuple[int, float]]) -> None:
    evidence = {
        one.id: Evidence(statistic_per_prompt=counts(round(rate * n), n), single_sample=True)
        for one, (n, rate) in zip(STRATA, drawn, strict=True)
    }
    found = verify(STRATA, evidence)
    for verdict, (n, rate) in zip(found, drawn, strict=True):
        assert (verdict.verdict == "vacuous") == (n == 0)
        if n == 400:
            assert verdict.verdict == ("violated" if rate == 0.5 else "holds")
    assert (exit_code(found, require_holds=True) == 0) == all(v.verdict == "holds" for v in found)
    if any(n == 0 for n, _ in drawn):
        assert exit_code(found) == 4


# ------------------------------------------------------------ 22: coverage
@some
@given(st.integers(1, 120), st.integers(1, 99), confidences, st.integers(0, 3))
def test_22_a_wrong_holds_is_rare_whatever_the_rate(n: int, percent: int, confidence: str, more: int) -> None:
    """Exact, for Bernoulli samples: the bound is just below the true rate, so every `holds` is wrong."""
    rate, alpha = percent / 100, 1 - float(confidence)
    clauses = [clause("rate", id=f"sha256:{i}", bound=f"{rate - 1e-9:.9f}", confidence=confidence)
               for i in range(1 + more)]  # fmt: skip
    wrong = 0.0
    for failures in range(n + 1):
        evidence = Evidence(statistic_per_prompt=counts(failures, n), single_sample=True)
        if verify(clauses, {one.id: evidence for one in clauses})[0].verdict != "holds":
            break
        wrong += float(binom.pmf(failures, n, rate))
    assert wrong <= alpha / len(clauses) + 1e-9


SIMULATORS: dict[str, Callable[[np.random.Generator, float, int], np.ndarray]] = {
    "beta": lambda rng, mean, n: rng.beta(2 * mean, 2 * (1 - mean), n),
    "rare": lambda rng, mean, n: (rng.random(n) < mean).astype(float),
    "per-prompt means": lambda rng, mean, n: rng.binomial(3, mean, n) / 3,
}


@settings(max_examples=9, deadline=None)
@given(
    st.sampled_from(sorted(SIMULATORS)),
    st.sampled_from([0.05, 0.2, 0.5]),
    st.sampled_from([10, 60]),
    st.integers(0, 2**32 - 1),
)
def test_22_a_wrong_holds_of_a_mean_is_rare(name: str, mean: float, n: int, seed: int) -> None:
    rng, runs, alpha = np.random.default_rng(seed), 60, 0.2
    one = clause("mean", bound=f"{mean - 1e-9:.9f}")
    wrong = sum(
        verify_clause(one, SIMULATORS[name](rng, mean, n), alpha=alpha, single_sample=True).verdict == "holds"
        for _ in range(runs)
    )
    assert wrong <= binom.ppf(0.9999, runs, alpha)


# ------------------------------------------------------------ 23, 24: more samples, more confidence
@some
@given(st.integers(0, 12), st.integers(1, 12), bounds, confidences, st.booleans())
def test_23_more_samples_of_one_law_never_reverse_a_decision(
    failures: int, n: int, bound: str, confidence: str, strict: bool
) -> None:
    values = counts(min(failures, n), n)
    found = [
        judge("rate", np.tile(values, k), bound=bound, confidence=confidence, strict=strict)
        for k in (1, 2, 3, 5, 10, 40, 200)
    ]
    assert len({v.verdict for v in found} - {"inconclusive"}) <= 1
    # Every interval holds what was found, and the next one lies inside it.
    estimate = Fraction(min(failures, n), n)
    for small, large in pairwise(found):
        assert small.lower is not None
        assert small.upper is not None
        assert large.lower is not None
        assert large.upper is not None
        assert small.lower <= float(estimate) + 1e-12
        assert large.upper >= float(estimate) - 1e-12
        if float(confidence) >= 0.8:
            assert large.upper - large.lower <= small.upper - small.lower + 1e-12


@many
@given(samples(), bounds, st.tuples(confidences, confidences), st.integers(0, 3))
def test_24_more_confidence_never_decides_more(
    sample: tuple[str, np.ndarray], bound: str, levels: tuple[str, str], unavailable: int
) -> None:
    lax, sure = (
        judge(*sample, bound=bound, confidence=level, unavailable=unavailable)
        for level in sorted(levels, key=float)
    )
    if sure.verdict in ("holds", "violated"):
        assert lax.verdict == sure.verdict
    if lax.verdict == "inconclusive":
        assert sure.verdict == "inconclusive"
    assert (sure.upper or math.inf) >= (lax.upper or 0.0)


# ------------------------------------------------------------ 25: always
@many
@given(st.integers(1, 3000), confidences, st.integers(1, 4))
def test_25_always_prints_the_bound_that_clean_samples_earn(n: int, confidence: str, per_prompt: int) -> None:
    one = clause("rate", bound="0", hard=True, confidence=confidence)
    values = np.zeros(n) if per_prompt == 1 else np.zeros((n, per_prompt))
    evidence = Evidence(statistic_per_prompt=values, single_sample=per_prompt == 1)
    (found,) = verify([one], {one.id: evidence})
    alpha = 1 - float(confidence)
    assert found.verdict == "inconclusive"
    assert found.upper is not None
    # The largest rate at which n clean prompts are still as likely as alpha: about log(1/alpha)/n, 3/n at 95%.
    assert (1 - found.upper) ** n == pytest.approx(alpha, rel=1e-6)
    assert found.upper <= math.log(1 / alpha) / n
    if confidence == "0.95" and n >= 60:
        assert 2.9 / n < found.upper < 3 / n
    assert f"{n:,} prompts" in found.note
    dirty = values.copy()
    dirty[n // 2] = 1.0
    assert verify_clause(one, dirty, alpha=alpha, single_sample=per_prompt == 1).verdict == "violated"
