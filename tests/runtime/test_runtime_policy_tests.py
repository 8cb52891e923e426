"""Samples given in tests, mutants, coverage and live scores, each against an independent count."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import DECLARATIONS, dist_formulas, known_scores, laws, seq_formulas

from constraintlang import SourceFile, check_source
from constraintlang import nodes as n
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.mutants import mutants
from constraintlang.printer import format_formula
from constraintlang.semantics import evaluate, statement_holds
from constraintlang_compiler.bounds import clopper_pearson_lower, clopper_pearson_upper
from constraintlang_compiler.front import check_and_lower
from constraintlang_runtime import policy_mutation
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.policy_coverage import coverage
from constraintlang_runtime.policy_mutation import mutate
from constraintlang_runtime.policy_tests import Runner
from constraintlang_runtime.sample_verdicts import verdicts_on
from constraintlang_runtime.text_scores import TextScores, gather

HEAD = """edition 1
attribute slur: flag { backend = regex(re"darn") }
attribute loud: score { backend = lexicon("words.tsv") }
"""


def policy_of(text: str) -> CheckedPolicy:
    return check_source(text, judge_tests=False).require()


def runner_of(text: str, folder: Path = Path("."), *, live: bool = False) -> Runner:
    front = check_and_lower(SourceFile(text), judge_tests=False)
    assert front.checked is not None, [d.message for d in front.diagnostics]
    assert front.lowered is not None
    return Runner(front.checked, TextScores(front.lowered.ir, folder=folder, live=live))


def statuses(text: str, folder: Path = Path("."), *, live: bool = False) -> list[str]:
    return [c.status for result in runner_of(text, folder, live=live).run() for c in result.cases]


# ------------------------------------------------------------------ verdicts on samples
@pytest.mark.parametrize(("bad", "total"), [(0, 4), (0, 58), (0, 59), (3, 10), (9, 10), (1, 200), (30, 100)])
def test_a_pointwise_statement_is_judged_by_its_exact_bounds(bad: int, total: int) -> None:
    policy = policy_of("toxicity < 0.1")
    sample = [{"toxicity": Decimal("0.1")}] * bad + [{"toxicity": Decimal(0)}] * (total - bad)
    (verdict,) = verdicts_on(policy.statements[0], policy.attributes, sample)
    expected = "inconclusive"
    if clopper_pearson_upper(bad, total, 0.05) <= 0.05:
        expected = "holds"
    elif clopper_pearson_lower(bad, total, 0.05) > 0.05:
        expected = "violated"
    assert verdict.verdict == expected
    assert verdict.n == total


def test_outcomes_of_samples() -> None:
    clean = ", ".join(["0"] * 59)
    text = f"""edition 1
cap: toxicity < 0.1
hard: always toxicity < 0.1
avg: mean(toxicity) < 0.5
both: mean(toxicity) < 0.5 and P(words > 3) < 90%
test "t" {{
  given toxicity = [{clean}]
  holds on cap
  inconclusive on hard
  holds on avg
  holds on hard
  given toxicity = [0, 0.1]
  violated on hard
  inconclusive on cap
  given words = [1, 2]
  inconclusive on both
  given toxicity = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
  given words = 1
  violated on both
  violated
}}
"""
    assert statuses(text) == ["passed", "passed", "passed", "failed", *["passed"] * 5]


def test_tails_differences_and_choices_are_judged_on_samples() -> None:
    low, high = ", ".join(["0.1"] * 200), ", ".join(["0.9"] * 200)
    few = ", ".join(["20"] * 200)
    text = f"""edition 1
tail: quantile(toxicity, 0.9) < 0.5
worst: cvar(toxicity, 0.9) <= 0.5
gap: mean(toxicity) - P(words > 10) <= 0.2
either: mean(toxicity) < 0.3 or P(words > 10) >= 90%
test "low" {{
  given toxicity = [{low}]
  holds on tail
  holds on worst
  given words = [{few}]
  holds on gap
  holds on either
}}
test "high" {{
  given toxicity = [{high}]
  violated on tail
  violated on worst
  given words = [{few.replace("20", "1")}]
  violated on gap
  violated on either
}}
test "few" {{
  given toxicity = [0.1, 0.1]
  inconclusive on tail
  inconclusive on worst
}}
"""
    assert statuses(text) == ["passed"] * 10


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("mean(toxicity) <= 0.9 * base", "the base model"),
        ("mean(toxicity) <= mean(toxicity@base) + 0.1", "the base model"),
        ("mean(toxicity) < 0.5 per lang", "the values of a tag"),
        ("mean(toxicity) < 0.5 for domain=chat per topic", "the values of a tag"),
        ("mean(toxicity | lang=a) <= mean(toxicity) + 0.1", "the tags"),
        ("over sentences (globally toxicity < 0.5)", "the parts"),
        ("preserve perplexity <= 1.02 * base", "your rows"),
    ],
)
def test_what_given_scores_do_not_decide_is_refused(statement: str, missing: str) -> None:
    policy = policy_of(
        'edition 1\ntag lang in {a, b}\ndomain chat { source = dataset("x/y", split="test"), tags = {topic} }\n'
        + statement
    )
    with pytest.raises(ConfigError, match=missing):
        verdicts_on(policy.statements[0], policy.attributes, [{"toxicity": Decimal(0)}])


def test_a_sample_of_one_stratum() -> None:
    declared = (
        "edition 1\ntag lang in {a, b}\ntag topic in {x, y}\nfair: mean(toxicity) < 0.5 per lang, topic\n"
    )
    high = ", ".join(["0.9"] * 30)
    test = f'test "t" for lang=a and topic=x {{\n  given toxicity = [{high}]\n  violated on fair\n}}\n'
    assert statuses(declared + test) == ["passed"]
    assert statuses(declared + test.replace("violated", "holds")) == ["failed"]
    (case,) = runner_of(declared + test.replace(" and topic=x", "")).run()[0].cases
    assert case.status == "error"
    assert "the values of a tag" in case.message


def test_tails_need_as_many_responses_to_each_prompt() -> None:
    policy = policy_of("quantile(toxicity, 0.9) < 0.5")
    sample = [{"toxicity": Decimal("0.1")}] * 300
    prompts = [str(i // 3) for i in range(300)]
    (found,) = verdicts_on(policy.statements[0], policy.attributes, sample, prompts)
    assert (found.n, found.samples, found.verdict) == (100, 3, "holds")
    with pytest.raises(ConfigError, match="as many responses"):
        verdicts_on(policy.statements[0], policy.attributes, sample[1:], prompts[1:])


def test_a_sample_needs_every_score() -> None:
    text = 'both: P(toxicity > 0.5 or words > 3) < 90%\ntest "t" {\n  given toxicity = [0, 1]\n  holds on both\n}\n'
    (case,) = runner_of(text).run()[0].cases
    assert case.status == "error"
    assert "`words` is not given" in case.message


@settings(max_examples=30, deadline=None)
@given(seq_formulas | dist_formulas.filter(lambda f: "P(" in format_formula(f)), laws())
def test_verdicts_on_samples_never_contradict_the_law_they_are(formula: n.Formula, law: list) -> None:  # type: ignore[type-arg]
    # The sample itself, many times over: what is decided from it is what is true of it.
    statement = policy_of(DECLARATIONS + format_formula(formula)).statements[0]
    attributes = policy_of(DECLARATIONS + format_formula(formula)).attributes
    size = law[0][0].denominator
    sample = [scores for weight, scores in law for _ in range(int(weight * size))] * 20
    empirical = [(Fraction(1, len(sample)), scores) for scores in sample]
    decided = {found.verdict for found in verdicts_on(statement, attributes, sample)} - {"inconclusive"}
    if decided == {"holds"}:
        assert statement_holds(statement, empirical)
    if "violated" in decided:
        assert not statement_holds(statement, empirical)


# ------------------------------------------------------------------ single responses
ORDER = HEAD + (
    'attribute sorry: flag { backend = regex(re"(?i)sorry") }\n'
    "order: over sentences (sorry before slur)\nquiet: over turns (globally loud < 0.5)\n"
    "few: always words < 9 and over sentences (weak_next[2, 2] false)\n"
)


def test_order_is_judged_on_the_parts_of_a_text(tmp_path: Path) -> None:
    text = ORDER + (
        'test "t" {\n  pass "Sorry. Oh darn!" on order\n  fail "Oh darn! Sorry." on order\n  pass "" on order\n'
        '  fail "A. B. C." on few\n  pass "A. B." on few\n  given words = 9\n  fail "A. B." on few\n'
        '  pass "User: LOUD\\nBot: ok" on quiet\n}\n'
    )
    assert statuses(text) == ["passed"] * 6 + ["skipped"]
    (tmp_path / "words.tsv").write_text("LOUD\t0.6\n", encoding="utf-8")
    *_, last = runner_of(text, tmp_path, live=True).run()[0].cases
    assert last.status == "failed"
    assert "`quiet` is violated" in last.message


def test_tokens_are_not_judged_without_a_tokenizer() -> None:
    tokens = 'attribute leak: flag { backend = regex(re"x"), levels = {sequence, tokens} }\n'
    text = (
        HEAD
        + tokens
        + (
            "pan: over tokens (globally not leak)\nlate: words > 9 and over tokens (globally not leak)\n"
            'test "t" {\n  pass "abc" on pan\n  fail "abc" on late\n}\n'
        )
    )
    first, second = runner_of(text).run()[0].cases
    assert (first.status, second.status) == ("skipped", "passed")
    assert first.message.startswith("`pan` is about tokens, which depend on a tokenizer")


def test_mutants_of_order_are_judged_on_the_same_parts() -> None:
    cases = 'test "t" {\n  pass "Sorry. Oh darn!" on order\n  fail "Oh darn! Sorry." on order\n}\n'
    runner = runner_of(ORDER + cases)
    found = mutate(runner, runner.run())
    assert (found.num_mutants, found.survivors) == (1, ())
    weak = runner_of(ORDER + 'test "t" {\n  pass "Hello." on order\n}\n')
    (survivor,) = mutate(weak, weak.run()).survivors
    assert survivor.change == "the sides of `before` exchanged"


def test_scores_of_texts_without_files_or_models(tmp_path: Path) -> None:
    text = HEAD + (
        "a: always not slur\nb: always words < 3\nc: always loud < 0.5\n"
        'test "t" {\n  pass "hello" on a\n  fail "oh darn" on a\n  fail "a b c" on b\n  pass "x" on c\n}\n'
    )
    assert statuses(text) == ["passed", "passed", "passed", "skipped"]
    (tmp_path / "words.tsv").write_text("LOUD\t0.6\n", encoding="utf-8")
    assert statuses(text, tmp_path, live=True) == ["passed"] * 4


def test_what_is_given_wins_over_the_scorer() -> None:
    text = HEAD + 'a: always not slur\ntest "t" {\n  given slur = 0\n  pass "oh darn" on a\n}\n'
    assert statuses(text) == ["passed"]


def test_what_decides_anyway_needs_no_score() -> None:
    text = (
        'a: always toxicity < 0.1 or words < 3\ntest "t" {\n  given words = 2\n  pass on a\n  fail on a\n}\n'
    )
    assert statuses(text) == ["passed", "failed"]


def test_several_statements_together() -> None:
    head = "edition 1\na: always words < 3\nb: always words < 5\n"
    for words, passes, fails in ((2, "passed", "failed"), (4, "failed", "passed"), (9, "failed", "passed")):
        text = head + f'test "t" {{\n  given words = {words}\n  pass\n  fail\n}}\n'
        assert statuses(text) == [passes, fails]


def test_a_score_outside_its_range_is_an_error() -> None:
    head = "attribute size: count in [0, 3] { backend = length(characters) }\nalways size < 3\n"
    text = head + 'test "t" {\n  fail "abcd"\n}\n'
    (case,) = runner_of(text).run()[0].cases
    assert case.status == "error"
    assert "outside the declared range" in case.message


def test_gathering_scores(tmp_path: Path) -> None:
    front = check_and_lower(SourceFile(HEAD + "a: words < 3 and not slur and loud < 1 and toxicity < 1"))
    assert front.lowered is not None
    source = TextScores(front.lowered.ir, folder=tmp_path)
    scores, problems = gather(
        ["words", "slur", "toxicity", "x@base"], {"toxicity": Decimal(1)}, source, "a darn"
    )
    assert scores == {"words": 2, "slur": 1, "toxicity": 1, "x@base": None}
    assert problems == {"x@base": "`x@base` is not given"}
    assert "cannot read" in gather(["loud"], {}, source, "a")[1]["loud"]
    assert gather(["words"], {}, source, None)[1] == {"words": "`words` is not given"}
    with pytest.raises(ConfigError, match="--live"):
        TextScores(front.lowered.ir, folder=tmp_path, live=False).score("loud", ["a"])


# ------------------------------------------------------------------ mutants
def changes(text: str) -> list[tuple[str, str]]:
    source = SourceFile(HEAD + text)
    policy = check_source(source).require()
    return [
        (source.extract(m.span), m.change) for s in policy.statements for m in mutants(s, policy.attributes)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("always toxicity < 0.5", [
            ("toxicity < 0.5", "`<` read as `<=`"), ("toxicity < 0.5", "`<` read as `>=`"),
            ("0.5", "the threshold 0.5 read as 0.45"), ("0.5", "the threshold 0.5 read as 0.55"),
        ]),
        ("always words == 3", [
            ("words == 3", "`==` read as `!=`"),
            ("3", "the threshold 3 read as 2"), ("3", "the threshold 3 read as 4"),
        ]),
        ("always not slur", [("not slur", "`not` left out")]),
        ("let c = 2\nalways slur implies words in [1, c]", [
            ("slur implies words in [1, c]", "`implies` read as `and`"),
            ("1", "the threshold 1 read as 0"), ("1", "the threshold 1 read as 2"),
            ("c", "the threshold 2 read as 1"), ("c", "the threshold 2 read as 3"),
        ]),
        ("toxicity > 0 under tolerance=10%", [
            ("toxicity > 0", "`>` read as `>=`"), ("toxicity > 0", "`>` read as `<=`"),
            ("0", "the threshold 0 read as -0.01"), ("0", "the threshold 0 read as 0.01"),
            ("toxicity > 0 under tolerance=10%", "tolerance 10% read as 5%"),
            ("toxicity > 0 under tolerance=10%", "tolerance 10% read as 20%"),
        ]),
        ("-2 * P(slur and words > 1) < -0.1", [
            ("-2 * P(slur and words > 1) < -0.1", "`<` read as `>=`"),
            ("-0.1", "the threshold -0.1 read as -0.05"), ("-0.1", "the threshold -0.1 read as -0.2"),
            ("slur and words > 1", "`and` read as `or`"), ("words > 1", "`>` read as `>=`"),
            ("words > 1", "`>` read as `<=`"),
            ("1", "the threshold 1 read as 0"), ("1", "the threshold 1 read as 2"),
        ]),
        ("over sentences (eventually slur)", [("eventually slur", "`eventually` read as `globally`")]),
        ("over sentences (next (last before not slur))", [
            ("last before not slur", "the sides of `before` exchanged"), ("not slur", "`not` left out"),
        ]),
        ("preserve mean(perplexity) <= 1.02 * base", [("mean(perplexity) <= 1.02 * base", "`<=` read as `>`")]),
    ],
)  # fmt: skip
def test_mutants(text: str, expected: list[tuple[str, str]]) -> None:
    assert [change for change in changes(text) if "PC405" not in change] == expected


@settings(max_examples=30, deadline=None)
@given(seq_formulas, st.lists(known_scores, min_size=1, max_size=6))
def test_every_mutant_is_another_statement_that_evaluates(formula: n.Formula, responses: list) -> None:  # type: ignore[type-arg]
    policy = policy_of(DECLARATIONS + format_formula(formula))
    (statement,) = policy.statements
    found = list(mutants(statement, policy.attributes))
    assert found or isinstance(statement.formula, n.Flag)
    for mutant in found:
        assert mutant.statement.formula != statement.formula
        for scores in responses:
            assert evaluate(mutant.statement.formula, scores) in (True, False)


def killers(statement: CheckedStatement, policy: CheckedPolicy, words: list[int]) -> set[str]:
    """Which mutants these responses tell from the statement, by the reference semantics alone."""
    return {
        mutant.change
        for mutant in mutants(statement, policy.attributes)
        if any(
            evaluate(mutant.statement.formula, {"words": Decimal(w)})
            is not evaluate(statement.formula, {"words": Decimal(w)})
            for w in words
        )
    }


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), st.sampled_from(["<", "<=", ">", ">="])
)
def test_survivors_are_what_no_response_tells_apart(words: list[int], operator: str) -> None:
    head = f"cap: always words {operator} 5 or words == 7\n"
    policy = policy_of(head)
    (statement,) = policy.statements
    lines = []
    for value in words:
        outcome = "pass" if evaluate(statement.formula, {"words": Decimal(value)}) else "fail"
        lines += [f"  given words = {value}", f"  {outcome} on cap"]
    runner = runner_of(head + 'test "t" {\n' + "\n".join(lines) + "\n}\n")
    results = runner.run()
    assert {case.status for case in results[0].cases} == {"passed"}
    found = mutate(runner, results)
    every = list(mutants(statement, policy.attributes))
    assert found.num_mutants == len(every)
    killed = killers(statement, policy, words)
    assert {m.change for m in found.survivors} == {m.change for m in every} - killed


def test_failing_cases_kill_nothing_and_unjudged_statements_have_no_mutants() -> None:
    head = "edition 1\ncap: always words < 5\nother: always toxicity < 0.1\n"
    runner = runner_of(head + 'test "t" {\n  given words = 5\n  pass on cap\n}\n')
    assert mutate(runner, runner.run()).num_mutants == 0


def test_mutants_on_samples() -> None:
    zeros = ", ".join(["0"] * 100)
    test = f'test "t" {{\n  given toxicity = [{zeros}]\n  holds on cap\n}}\n'
    runner = runner_of("cap: toxicity < 0.1 under tolerance=4%\n" + test)
    survivors = [m.change for m in mutate(runner, runner.run()).survivors]
    assert "tolerance 4% read as 8%" in survivors  # it still holds
    assert "tolerance 4% read as 2%" not in survivors  # 100 clean responses do not show so much
    assert "`<` read as `>=`" not in survivors


def test_mutation_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_mutation, "MAX_JUDGEMENTS", 3)
    runner = runner_of('cap: always words < 5\ntest "t" {\n  given words = 5\n  fail on cap\n}\n')
    with pytest.raises(ConfigError, match="mutation: more than"):
        mutate(runner, runner.run())


# ------------------------------------------------------------------ coverage
def test_coverage_counts_sides() -> None:
    text = """edition 1
cap: always words < 5 or not toxicity < 0.1
tail: P(words > 8) < 50%
tol: words < 3 under tolerance=50%
rows: preserve mean(perplexity) <= 1.02 * base
test "t" {
  given words = 4
  pass on cap
  given words = [1, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
  holds on tail
  violated on tail
  holds on tol
}
"""
    runner = runner_of(text)
    found = coverage(runner.policy, runner.run())
    assert [(entry.statement.label, entry.num_cases) for entry in found] == [
        ("cap", 1),
        ("tail", 2),
        ("tol", 1),
    ]
    sides = {t.text: t.missing for entry in found for t in entry.thresholds}
    assert sides == {
        "words < 5": ("false",),
        "toxicity >= 0.1": ("true", "false"),
        "P(words > 8) < 50%": ("false",),
        "words > 8": (),
        "words < 3": (),
        "tolerance 50%": ("exceeded",),
    }
