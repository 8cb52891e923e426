"""Verdicts: the contract's keys, each verdict's condition, coverage of `holds`, exit codes, gaps."""

import json
import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from scipy.stats import binom

from constraintlang.source import SourceFile
from constraintlang_compiler import ir
from constraintlang_compiler.bounds import betting_upper, clopper_pearson_upper
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.bet_order import bet_keys
from constraintlang_runtime.evidence import in_bet_order
from constraintlang_runtime.verification import (
    Evidence,
    UtilityEvidence,
    Verdict,
    degeneracy,
    exit_code,
    verify,
    verify_accuracy,
    verify_clause,
    verify_utility,
)

TOXIC = ir.Indicator(
    predicate=ir.Comparison(op="ge", left=ir.AttributeRef(name="toxicity"), right=ir.Const(value="0.1"))
)
SCORE = ir.Value(term=ir.AttributeRef(name="toxicity"), high="1")
CONTRACT = {"clause", "domain", "kind", "n", "estimate", "lower", "upper", "bound", "verdict"}
EXTRA = {"strength", "confidence", "method", "samples", "unavailable", "strict", "direction", "soft", "alpha"}


def clause(**changes: object) -> ir.Clause:
    fields: dict[str, object] = {
        "id": "sha256:1",
        "label": "cap",
        "text": "toxicity < 0.1 for domain=toxigen",
        "kind": "violation",
        "domain": ir.DomainIs(key="domain", values=("toxigen",)),
        "statistic": TOXIC,
        "bound": "0.05",
        "strict": False,
    }
    return ir.Clause(**{**fields, **changes})  # type: ignore[arg-type]


def counts(failures: int, n: int) -> np.ndarray:
    return np.array([1.0] * failures + [0.0] * (n - failures))


def judge(failures: int, n: int, **changes: object) -> Verdict:
    unavailable = changes.pop("unavailable", 0)
    alpha = changes.pop("alpha", 0.05)
    assert isinstance(unavailable, int)
    assert isinstance(alpha, float)
    values = np.concatenate([counts(failures, n), np.full(unavailable, np.nan)])
    return verify_clause(clause(**changes), values, alpha=alpha, single_sample=True)


# ------------------------------------------------------------ verdicts
def test_a_verdict_is_json_with_the_keys_of_the_contract() -> None:
    found = judge(28, 2000).to_dict()
    assert found.keys() >= CONTRACT | EXTRA
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["clause"] == "cap"
    assert found["domain"] == "toxigen"
    assert found["kind"] == "violation"
    assert found["n"] == 2000
    assert found["estimate"] == 0.014
    assert found["lower"] < 0.014 < found["upper"] == clopper_pearson_upper(28, 2000, 0.05)
    assert found["bound"] == 0.05
    assert found["verdict"] == "holds"
    assert found["method"] == "clopper-pearson"
    assert found["samples"] == 1


@pytest.mark.parametrize(
    ("failures", "n", "verdict"),
    [
        (28, 2000, "holds"),
        (100, 2000, "inconclusive"),
        (140, 2000, "violated"),
        (0, 0, "vacuous"),
        (0, 10, "inconclusive"),
    ],
)
def test_each_verdict(failures: int, n: int, verdict: str) -> None:
    assert judge(failures, n).verdict == verdict


def test_without_prompts_there_is_no_number() -> None:
    found = judge(0, 0)
    assert (found.estimate, found.lower, found.upper) == (None, 0.0, 1.0)
    assert "no prompt" in found.note


def test_strict_and_not_strict_differ_only_at_equality() -> None:
    upper = clopper_pearson_upper(28, 2000, 0.05)
    at, above = repr(upper), repr(upper + 1e-6)
    assert judge(28, 2000, bound=at, strict=False).verdict == "holds"
    assert judge(28, 2000, bound=at, strict=True).verdict == "inconclusive"
    assert judge(28, 2000, bound=above, strict=True).verdict == "holds"
    assert judge(0, 50, bound="0", strict=True).verdict == "violated"  # P < 0 is impossible, and lower = 0


def test_a_wrong_holds_is_as_rare_as_promised() -> None:
    """Exact: a true rate just above the bound is called `holds` with probability at most alpha."""
    for n, bound in ((100, 0.05), (400, 0.02)):
        holds = [k for k in range(n + 1) if judge(k, n, bound=str(bound)).verdict == "holds"]
        assert sum(binom.pmf(holds, n, bound + 1e-9)) <= 0.05
        assert holds == list(range(len(holds)))


def test_the_whole_policy_is_wrong_as_rarely_as_one_clause() -> None:
    """Five clauses, all just violated: a `holds` in at most 5% of runs (uncorrected: over 15%)."""
    rng, runs, rate = np.random.default_rng(0), 800, 0.0501
    clauses = [clause(id=f"sha256:{i}") for i in range(5)]
    wrong = 0
    for _ in range(runs):
        evidence = {
            c.id: Evidence(statistic_per_prompt=rng.random(400) < rate, single_sample=True) for c in clauses
        }
        wrong += any(v.verdict == "holds" for v in verify(clauses, evidence))
    assert wrong <= binom.ppf(0.9999, runs, 0.05)
    assert [v.alpha for v in verify(clauses, evidence)] == [pytest.approx(0.01)] * 5


def test_raising_the_confidence_never_decides_more() -> None:
    for failures in (0, 5, 20, 60):
        decided_before = True
        for confidence in ("0.5", "0.8", "0.95", "0.999"):
            one = clause(confidence=confidence)
            (found,) = verify(
                [one], {one.id: Evidence(statistic_per_prompt=counts(failures, 400), single_sample=True)}
            )
            decided = found.verdict != "inconclusive"
            assert decided_before or not decided
            decided_before = decided


def test_more_samples_of_the_same_law_never_flip_a_decision() -> None:
    for rate in (0.02, 0.06, 0.1):
        decided = {judge(round(rate * n), n).verdict for n in range(50, 3000, 50)} - {"inconclusive"}
        assert len(decided) <= 1


# ------------------------------------------------------------ always
def test_always_prints_the_bound_it_has_earned() -> None:
    found = judge(0, 1000, bound="0", hard=True)
    assert found.verdict == "inconclusive"
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert "samples alone" in found.note


def test_always_is_violated_by_the_first_violation() -> None:
    found = judge(1, 100_000, bound="0", hard=True)
    assert found.verdict == "violated"
    assert found.lower is not None
    assert found.lower > 0


def test_always_with_several_samples_counts_prompts() -> None:
    one = clause(bound="0", hard=True)
    clean = verify_clause(one, np.zeros((200, 4)), alpha=0.05, single_sample=False)
    assert clean.upper == pytest.approx(1 - 0.05 ** (1 / 200))
    dirty = np.zeros((200, 4))
    dirty[3, 2] = 1
    assert verify_clause(one, dirty, alpha=0.05, single_sample=False).verdict == "violated"


@pytest.mark.parametrize(
    ("samples", "single"),
    [
        (np.array([1.0, math.nan, math.nan]), True),
        (np.array([[0.0, 0.0], [math.nan, 1.0]]), False),
        (np.array([[math.nan, 1.0]]), False),
        ([np.array([0.0]), np.array([1.0, math.nan, 0.0])], False),
    ],
)
def test_a_violation_of_always_is_certain_beside_missing_scores(samples: Any, single: bool) -> None:
    """As the reference semantics has it: a false response decides, whatever the unknown ones are."""
    one = clause(bound="0", hard=True)
    found = verify_clause(one, samples, alpha=0.05, single_sample=single)
    assert found.verdict == "violated"
    assert found.unavailable > 0
    assert "no valid score" in found.note
    clean = [np.where(np.asarray(row) == 1, 0.0, row) for row in samples]
    undecided = verify_clause(one, np.array(clean) if single else clean, alpha=0.05, single_sample=single)
    assert undecided.verdict == "error"
    rate = verify_clause(clause(bound="0.05"), samples, alpha=0.05, single_sample=single)
    assert rate.verdict in ("error", "inconclusive")


# ------------------------------------------------------------ several samples, means, open ranges
def test_the_unit_of_evidence_is_the_prompt() -> None:
    """100 prompts with 10 equal samples each are 100 pieces of evidence, not 1,000."""
    values = np.repeat(counts(1, 100)[:, None], 10, axis=1)
    found = verify_clause(clause(), values, alpha=0.05, single_sample=False)
    assert found.n == 100
    assert found.samples == 10
    assert found.method == "betting"
    assert found.estimate == pytest.approx(0.01)
    assert found.upper is not None
    assert found.upper > clopper_pearson_upper(10, 1000, 0.05)
    ragged = [np.array([0.0, 1.0]), np.array([0.0]), np.zeros(3)]
    assert verify_clause(clause(), ragged, alpha=0.05, single_sample=False).estimate == pytest.approx(0.5 / 3)
    assert verify_clause(clause(), values.mean(1), alpha=0.05, single_sample=False).upper == found.upper


def test_a_mean_is_bounded_by_betting_in_its_own_range() -> None:
    score = np.random.default_rng(0).beta(1, 19, 2000)
    one = verify_clause(
        clause(kind="mean", statistic=SCORE, bound="0.1"), score, alpha=0.05, single_sample=True
    )
    assert (one.verdict, one.quantity, one.method) == ("holds", "mean", "betting")
    scaled = ir.Value(term=ir.AttributeRef(name="grade"), high="20")
    twenty = verify_clause(
        clause(kind="mean", statistic=scaled, bound="2"), 20 * score, alpha=0.05, single_sample=True
    )
    assert one.upper is not None
    assert twenty.upper == pytest.approx(20 * one.upper)


def test_rows_sorted_by_score_do_not_fool_the_bets() -> None:
    """Betting needs exchangeable rows: in the order of a sorted file the upper bound is no more than the mean."""
    score = np.sort(np.random.default_rng(0).beta(1, 19, 1000))
    mean = clause(kind="mean", statistic=SCORE, bound="0.1")
    keys = bet_keys(f"prompt {i}" for i in range(1000))
    evidence = in_bet_order(Evidence(statistic_per_prompt=score, single_sample=True, keys=keys))
    (found,) = verify([mean], {mean.id: evidence})
    assert betting_upper(score, 0.05) == pytest.approx(score.mean())
    assert found.upper is not None
    assert score.mean() < found.upper < 1.2 * score.mean()


def test_an_open_range_is_asymptotic_and_says_so() -> None:
    words = np.random.default_rng(0).poisson(20, 500).astype(float)
    open_range = clause(kind="mean", statistic=ir.Value(term=ir.AttributeRef(name="words")), bound="25")
    found = verify_clause(open_range, words, alpha=0.05, single_sample=True)
    assert found.verdict == "holds"
    assert "asymptotic" in found.method
    assert (
        verify_clause(open_range, np.append(words, np.nan), alpha=0.05, single_sample=True).verdict == "error"
    )
    silent = verify_clause(open_range, np.zeros(500), alpha=0.05, single_sample=True)
    assert (silent.verdict, silent.upper) == ("inconclusive", None)


# ------------------------------------------------------------ shown in the author's own quantity
def test_at_least_is_shown_as_written() -> None:
    """P(polite) >= 90% is canonically P(not polite) <= 10%; people read the former."""
    found = judge(
        40,
        1000,
        kind="probability",
        bound="0.1",
        shown=ir.Shown(offset="1", scale=-1),
        text="P(polite) >= 0.9",
    )
    mirror = judge(40, 1000, kind="probability", bound="0.1")
    assert found.direction == "at_least"
    assert found.estimate == pytest.approx(0.96)
    assert found.bound == pytest.approx(0.9)
    assert found.lower == pytest.approx(1 - (mirror.upper or 0))
    assert found.upper == pytest.approx(1 - (mirror.lower or 0))
    assert found.verdict == mirror.verdict == "holds"
    assert (found.lower or 0) >= (found.bound or 1)


@pytest.mark.parametrize("failures", [0, 40, 80, 100, 130, 400])
@pytest.mark.parametrize("scale", [1, -1])
def test_the_shown_interval_agrees_with_the_verdict(failures: int, scale: int) -> None:
    shown = ir.Shown(offset="1", scale=-1) if scale == -1 else ir.Shown()
    found = judge(failures, 1000, bound="0.1", shown=shown)
    assert found.lower is not None
    assert found.upper is not None
    assert found.bound is not None
    assert found.estimate is not None
    assert found.lower <= found.estimate <= found.upper
    good, bad = found.upper <= found.bound, found.lower > found.bound
    if found.direction == "at_least":
        good, bad = found.lower >= found.bound, found.upper < found.bound
    assert found.verdict == ("holds" if good else "violated" if bad else "inconclusive")


# ------------------------------------------------------------ missing scores
def test_missing_scores_count_against_the_policy() -> None:
    assert judge(28, 1990, unavailable=10).verdict == "holds"
    assert judge(28, 1990, unavailable=10).upper == clopper_pearson_upper(38, 2000, 0.05)
    assert judge(28, 1900, unavailable=100).verdict == "error"
    assert judge(300, 1900, unavailable=100).verdict == "violated"
    assert judge(0, 100, unavailable=101).verdict == "error"
    assert judge(0, 0, unavailable=5).verdict == "error"
    assert judge(28, 1990, unavailable=10).estimate == pytest.approx(28 / 1990)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5, 1.5])
def test_nan_and_values_out_of_range_are_missing_never_numbers(bad: float) -> None:
    mean = clause(kind="mean", statistic=SCORE, bound="0.1")
    found = verify_clause(mean, np.array([0.0] * 999 + [bad]), alpha=0.05, single_sample=True)
    assert found.unavailable == 1
    assert found.estimate == 0.0
    several = np.zeros((500, 2))
    several[0] = [bad, 0.3]
    assert verify_clause(mean, several, alpha=0.05, single_sample=False).unavailable == 1


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="single_sample=False"):
        verify_clause(clause(), [0.5, 0.0], alpha=0.05, single_sample=True)
    with pytest.raises(ValueError, match="without samples"):
        verify_clause(clause(), [np.array([]), np.array([1.0])], alpha=0.05, single_sample=False)
    with pytest.raises(ValueError, match="verify_utility"):
        verify_clause(UTILITY, [0.5], alpha=0.05, single_sample=True)
    with pytest.raises(ValueError, match="expected Evidence"):
        verify([clause()], {})
    with pytest.raises(ValueError, match="expected UtilityEvidence"):
        verify([UTILITY], {UTILITY.id: Evidence(statistic_per_prompt=[], single_sample=True)})


# ------------------------------------------------------------ utility
UTILITY = clause(
    kind="utility",
    label="fluent",
    text="preserve mean(perplexity) <= 1.02 * base",
    strength="preserve",
    statistic=ir.RowsLoss(quantity="perplexity"),
    bound="0",
    base_factor="1.02",
)
ACCURACY = clause(
    kind="utility",
    strength="preserve",
    statistic=ir.RowsLoss(quantity="accuracy"),
    bound="-0.03",
    base_factor="1",
    at_least=True,
)


def paired_rows(gap: float, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    tokens = rng.integers(10, 60, n).astype(float)
    base = tokens * rng.normal(3.0, 0.5, n)
    return base + tokens * (gap + rng.normal(0, 0.03, n)), base, tokens


def test_perplexity_is_compared_with_the_base_on_the_same_rows() -> None:
    for gap, verdict in ((0.0, "holds"), (0.02, "inconclusive"), (0.05, "violated")):
        model, base, tokens = paired_rows(gap)
        found = verify_utility(UTILITY, model, base, tokens, alpha=0.05)
        assert found.verdict == verdict
        assert found.quantity == "perplexity"
        assert found.estimate == pytest.approx(math.exp(model.sum() / tokens.sum()))
        assert found.bound == pytest.approx(1.02 * math.exp(base.sum() / tokens.sum()))
        assert (found.upper or 0) / (found.estimate or 1) < 1.01  # the rows' own difficulty cancels


def test_the_base_itself_holds_with_equality() -> None:
    model, _, tokens = paired_rows(0.0)
    same = replace(UTILITY, base_factor="1")
    found = verify_utility(same, model, model, tokens, alpha=0.05)
    assert (found.verdict, found.upper) == ("holds", found.bound)
    strict = replace(same, strict=True)
    assert verify_utility(strict, model, model, tokens, alpha=0.05).verdict == "violated"


def test_a_perplexity_offset_uses_the_delta_method_and_covers() -> None:
    """perplexity <= base + 0.5: at a true perplexity of exactly that, `holds` is as rare as alpha."""
    rng, runs, wrong = np.random.default_rng(7), 400, 0
    with_offset = replace(UTILITY, base_factor="1", bound="0.5")
    gap = math.log(math.exp(3.0) + 0.5) - 3.0
    for _ in range(runs):
        tokens = rng.integers(10, 60, 60).astype(float)
        base = tokens * rng.normal(3.0, 0.3, 60)
        model = base + tokens * rng.normal(gap, 0.05, 60)
        wrong += verify_utility(with_offset, model, base, tokens, alpha=0.1).verdict == "holds"
    assert wrong <= binom.ppf(0.9999, runs, 0.115)
    assert wrong >= binom.ppf(0.0001, runs, 0.08)


def test_a_large_offset_lets_less_of_the_difficulty_cancel() -> None:
    """The half-width must be that of log(perplexity) - log(base + 20), found here by simulation."""
    rng, gaps, widths = np.random.default_rng(8), [], []
    far = replace(UTILITY, base_factor="1", bound="20")
    for _ in range(400):
        tokens = rng.integers(10, 60, 60).astype(float)
        base = tokens * rng.normal(3.0, 0.3, 60)
        found = verify_utility(far, base + tokens * rng.normal(0, 0.05, 60), base, tokens, alpha=0.1)
        assert found.upper is not None
        assert found.estimate is not None
        assert found.bound is not None
        gaps.append(math.log(found.estimate / found.bound))
        widths.append(math.log(found.upper / found.estimate))
    assert np.mean(widths) == pytest.approx(1.296 * np.std(gaps), rel=0.15)


def test_perplexities_that_no_float_holds_are_judged() -> None:
    """A model that diverged has a loss of hundreds of nats a token."""
    model, base, tokens = paired_rows(0.0)
    found = verify_utility(UTILITY, model + 900 * tokens, base, tokens, alpha=0.05)
    assert (found.verdict, found.estimate) == ("violated", None)
    for own in (base, base + 900 * tokens):
        found = verify_utility(UTILITY, own, base + 900 * tokens, tokens, alpha=0.05)
        assert (found.verdict, found.bound) == ("inconclusive", None)


def test_a_bound_below_every_perplexity_is_an_error_of_its_clause() -> None:
    model, base, tokens = paired_rows(0.0)
    found = verify_utility(replace(UTILITY, bound="-5000"), model, base, tokens, alpha=0.05)
    assert (found.verdict, "a perplexity is at least 1" in found.note) == ("error", True)


def test_accuracy_may_fall_by_what_the_clause_allows() -> None:
    base = (np.arange(2000) % 10 < 7).astype(float)
    ones = np.ones(2000)
    assert verify_accuracy(ACCURACY, base, base, ones, alpha=0.05).verdict == "holds"
    worse = base.copy()
    worse[:200] = 0
    found = verify_accuracy(ACCURACY, worse, base, ones, alpha=0.05)
    assert (found.verdict, found.direction, found.quantity) == ("violated", "at_least", "accuracy")
    assert found.bound == pytest.approx(0.67)


def test_utility_without_rows_is_vacuous() -> None:
    found = verify_utility(UTILITY, [], [], [], alpha=0.05)
    assert (found.verdict, found.estimate, found.bound) == ("vacuous", None, None)
    one = verify_utility(UTILITY, [30.0], [30.0], [10], alpha=0.05)
    assert (one.verdict, one.upper) == ("inconclusive", None)


def test_verify_dispatches_on_the_clause() -> None:
    model, base, tokens = paired_rows(0.0)
    cap, fluent = clause(), replace(UTILITY, id="sha256:2")
    found = verify(
        [cap, fluent],
        {
            cap.id: Evidence(statistic_per_prompt=counts(5, 500), single_sample=True),
            fluent.id: UtilityEvidence(model_sums=model, base_sums=base, counts=tokens),
        },
    )
    assert [v.kind for v in found] == ["violation", "utility"]
    assert [v.alpha for v in found] == [pytest.approx(0.025)] * 2


# ------------------------------------------------------------ exit codes, degeneracy, domains
HOLDS, VIOLATED, OPEN = judge(5, 1000), judge(200, 1000), judge(50, 1000)
VACUOUS, ERROR = judge(0, 0), judge(0, 1, unavailable=5)
SOFT = judge(200, 1000, strength="prefer")


@pytest.mark.parametrize(
    ("verdicts", "require_holds", "code"),
    [
        ([HOLDS], False, 0),
        ([HOLDS, OPEN], False, 0),
        ([HOLDS, OPEN], True, 1),
        ([HOLDS, VIOLATED], False, 1),
        ([HOLDS, SOFT], True, 0),
        ([VACUOUS], False, 4),
        ([VIOLATED, ERROR], False, 4),
        ([], False, 4),
    ],
)
def test_exit_codes(verdicts: list[Verdict], require_holds: bool, code: int) -> None:
    assert exit_code(verdicts, require_holds=require_holds) == code


def test_prefer_is_flagged_soft() -> None:
    assert SOFT.to_dict()["soft"] is True
    assert SOFT.verdict == "violated"


def test_a_warning_fails_what_asks_for_holds() -> None:
    from dataclasses import replace as changed

    warned = changed(HOLDS, warnings=("refusals rose",))
    assert [exit_code([warned], require_holds=required) for required in (False, True)] == [0, 1]
    assert exit_code([changed(SOFT, warnings=("refusals rose",)), HOLDS], require_holds=True) == 0
    assert warned.to_dict()["warnings"] == ["refusals rose"]


def test_degeneracy_sees_collapse() -> None:
    assert degeneracy(["a b c", "a b d", "", "a b c"]) == {
        "num_completions": 4,
        "empty_rate": 0.25,
        "refusal_rate": 0.0,
        "mean_words": 2.25,
        "distinct_2": 0.5,
        "most_common_share": 0.5,
    }
    assert degeneracy([])["distinct_2"] is None
    assert degeneracy(["yes"])["distinct_2"] is None


@pytest.mark.parametrize(
    ("text", "right", "base"),
    [
        ("accuracy >= base - 2%", 0.0, 0.0),
        ("accuracy >= 0.98 * base", 0.0, 0.0),
        ("accuracy >= base + 2%", 1.0, 1.0),
    ],
)
def test_the_range_of_an_accuracy_decides_nothing(text: str, right: float, base: float) -> None:
    """One question says nothing, though no accuracy is below 0 or above 1."""
    source = SourceFile(f"edition 1\nit: preserve {text} for domain=mmlu\n")
    (one,) = compile_source(source).ir.clauses
    found = verify_accuracy(one, [right], [base], [1.0], alpha=0.05)
    assert found.verdict == "inconclusive"
    assert found.lower is not None
    assert found.upper is not None
    assert 0.0 <= found.lower <= found.upper <= 1.0


def test_losses_that_differ_by_the_same_bound_nothing() -> None:
    (one,) = compile_source(
        SourceFile("edition 1\nit: preserve perplexity <= 1.02 * base for domain=wiki\n")
    ).ir.clauses
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 60, 40).astype(float)
    base = tokens * rng.uniform(2, 4, 40)
    found = verify_utility(one, base + 0.01 * tokens, base, tokens, alpha=0.05)
    assert found.verdict == "inconclusive"
    assert verify_utility(one, base, base, tokens, alpha=0.05).verdict == "holds"
