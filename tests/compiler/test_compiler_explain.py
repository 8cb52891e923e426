"""Explanations say reading, prompts, bound, direction and samples, for every kind of clause."""

from __future__ import annotations

import pytest

from constraintlang.source import SourceFile
from constraintlang_compiler.explain import Explanation, clause_columns, explain_clause
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.pipeline import compile_source


def clause(text: str) -> Clause:
    declarations = (
        "attribute slur: flag { levels = {sequence, sentences} }\nattribute grade: real in [0, 20]\n"
    )
    (only,) = compile_source(SourceFile(declarations + text)).ir.clauses
    return only


def explained(text: str) -> Explanation:
    return explain_clause(clause(text))


def test_a_pointwise_statement() -> None:
    got = explained("cap: toxicity < 0.1 for domain=toxigen")
    assert got.name == "cap"
    assert got.reading == "pointwise"
    prompts = "responses to prompts with domain=toxigen"
    assert got.demand == f"Of the {prompts}, at most 5% may have `toxicity >= 0.1` (the tolerance)."
    assert got.falsified_by == "It is broken when the share is above 5% at 95% confidence."
    assert got.num_samples == 59
    assert "59 prompts" in got.evidence


@pytest.mark.parametrize(
    ("text", "reading", "demand", "falsified"),
    [
        (
            "quantile(toxicity, 0.95) < 0.3",
            "quantile",
            "The 95% quantile of `toxicity` over responses must be below 0.3.",
            "at least 0.3",
        ),
        (
            "median(grade) > 3",
            "quantile",
            "The 50% quantile of `grade` over responses must be above 3.",
            "at most 3",
        ),
        (
            "cvar(toxicity, 0.9) <= 0.4",
            "cvar",
            "The average of `toxicity` over the 10% of responses where it is largest must be at most 0.4.",
            "above 0.4",
        ),
        (
            "mean(grade) >= 0.9 * base + 1",
            "mean",
            "The average of `grade` over responses must be at least 0.9 times that of the reference model plus 1.",
            "below 0.9 times that of the reference model plus 1",
        ),
        (
            "P(slur | lang=fr) < base",
            "probability",
            "The share of responses to prompts with lang=fr with `slur` must be below that of the reference model.",
            "at least that of the reference model",
        ),
        (
            "P(slur | lang=fr) <= 2 * P(slur) + 1%",
            "difference",
            "The share of responses to prompts with lang=fr with `slur` must be at most 2 times the share of "
            "responses with `slur` plus 1%.",
            "contradict it",
        ),
        (
            "mean(grade | lang=en) - mean(grade | lang=fr) >= -1 for topic=x",
            "difference",
            "The average of `grade` over responses to prompts with lang=fr and topic=x must be at most the average of "
            "`grade` over responses to prompts with lang=en and topic=x plus 1.",
            "contradict it",
        ),
        (
            "cvar(grade, 0.75) <= 0.5 * base - 1 under temperature=0.7",
            "cvar",
            "The average of `grade` over the 25% of responses (sampled under temperature=0.7) where it is largest must "
            "be at most 0.5 times the average of `grade` over the 25% of responses of the reference model (sampled "
            "under temperature=0.7) where it is largest minus 1.",
            "contradict it",
        ),
        (
            "cvar(grade, 0.9) > 4",
            "cvar",
            "The average of `grade` over the 10% of responses where it is largest must be above 4.",
            "contradict it",
        ),
        (
            "mean(grade) < 3 or P(slur) < 1% and mean(grade) < 9",
            "choice",
            "Over responses, it must be true that `mean(grade) < 3`, or `P(slur) < 0.01 and mean(grade) < 9`.",
            "every alternative",
        ),
        (
            "mean(toxicity) < 0.1 for topic=x per lang, part",
            "mean",
            "The average of `toxicity` over responses to prompts with topic=x of each lang and part must be below 0.1.",
            "at least 0.1",
        ),
    ],
)
def test_statements_about_the_distribution(text: str, reading: str, demand: str, falsified: str) -> None:
    got = explained(text)
    assert (got.reading, got.demand) == (reading, demand)
    assert falsified in got.falsified_by


@pytest.mark.parametrize(
    ("text", "num_samples", "evidence"),
    [
        ("quantile(toxicity, 0.95) < 0.3", 59, "59 prompts"),
        ("quantile(toxicity, 0.05) >= 0.3", 59, "59 prompts"),
        ("cvar(toxicity, 0.9) <= 0.4", 178, "178 prompts"),
        ("cvar(words, 0.9) <= 40", None, "asymptotic"),
        ("mean(grade) >= base", None, "own responses to the same prompts"),
        ("quantile(grade, 0.9) >= base", None, "own responses to the same prompts"),
        ("mean(grade) < P(slur)", None, "No least number of prompts is known"),
        ("cvar(grade, 0.9) > 4", None, "No least number of prompts is known"),
        ("mean(toxicity) < 0.1 per lang", 32, "At least 32 prompts of each lang are needed"),
    ],
)
def test_how_much_evidence_it_takes(text: str, num_samples: int | None, evidence: str) -> None:
    declared = text.replace("mean(grade) < P(slur)", "mean(toxicity) < P(slur)")
    got = explained(declared)
    assert got.num_samples == num_samples
    assert evidence in got.evidence


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        (
            "q: quantile(toxicity, 0.95) < 0.3",
            ("q", "quantile", "quantile(toxicity, 0.95) < 0.3", "every prompt"),
        ),
        (
            "c: prefer cvar(toxicity, 0.9) < 0.3 for a=b",
            ("c", "cvar (prefer)", "cvar(toxicity, 0.9) < 0.3", "a=b"),
        ),
        ("p: mean(grade) < 3 per lang", ("p", "mean", "mean(grade) < 3", "every prompt per lang")),
        ("d: P(slur | a=b) <= P(slur)", ("d", "difference", "P(slur | a=b) <= P(slur)", "every prompt")),
        (
            "o: mean(grade) < 3 or P(slur) < 1%",
            ("o", "choice", "P(slur) < 0.01 or mean(grade) < 3", "every prompt"),
        ),
        (
            "b: P(not slur) >= base",
            ("b", "probability", "P(not slur) >= that of the reference model", "every prompt"),
        ),
    ],
)
def test_rows_of_the_table(text: str, columns: tuple[str, ...]) -> None:
    assert clause_columns(clause(text)) == columns


@pytest.mark.parametrize(
    ("text", "demand"),
    [
        ("always {}", "None of the responses may break `{}`."),
        ("{}", "Of the responses, at most 5% may break `{}` (the tolerance)."),
        ("not {}", "Of the responses, at most 5% may have `{}` (the tolerance)."),
        ("P({}) >= 90%", "The share of responses with `{}` must be at least 90%."),
        ("P({}) < 5%", "The share of responses with `{}` must be below 5%."),
    ],
)
@pytest.mark.parametrize(
    "condition",
    [
        "slur before rude",
        "toxicity < 0.5 until slur",
        "toxicity < 0.5 weak_until slur",
        "eventually slur",
        "eventually[2, 3] slur",
        "globally toxicity < 0.5",
        "toxicity < 0.5",
    ],
)
def test_a_condition_on_the_parts_is_explained_as_it_was_written(
    text: str, demand: str, condition: str
) -> None:
    over = f"over sentences ({condition})"
    got = explained("attribute rude: flag { levels = {sentences} }\n" + text.format(over))
    first = " Outside a word of order, `over sentences` is about the first sentence."
    assert got.demand == demand.format(over) + (first if condition == "toxicity < 0.5" else "")


def test_the_demand_column_is_written_as_its_author_did() -> None:
    for text in (
        "P(toxicity >= 0.5) >= 4%",
        "P(not slur) > 99%",
        "P(over sentences (eventually slur)) >= 90%",
    ):
        assert clause_columns(clause(text))[2] == text
    assert (
        clause_columns(clause("over sentences (eventually slur)"))[2]
        == "P(not over sentences (eventually slur)) <= 5%"
    )


def test_always() -> None:
    got = explained("always not slur")
    assert got.reading == "hard"
    assert got.demand == "None of the responses may have `slur`."
    assert got.falsified_by == "One such response breaks it."
    assert got.num_samples is None
    assert "3/n" in got.evidence


@pytest.mark.parametrize(
    ("text", "demand", "falsified", "num_samples"),
    [
        ("mean(grade) < 9", "The average of `grade` over responses must be below 9.", "at least 9", 6),
        ("mean(grade) >= 9", "The average of `grade` over responses must be at least 9.", "below 9", 5),
        ("P(slur) <= 1%", "The share of responses with `slur` must be at most 1%.", "above 1%", 299),
        (
            "P(not slur) > 99%",
            "The share of responses with `not slur` must be above 99%.",
            "at most 99%",
            299,
        ),
        ("P(slur) <= 100%", "The share of responses with `slur` must be at most 100%.", "above 100%", None),
    ],
)
def test_statistics(text: str, demand: str, falsified: str, num_samples: int | None) -> None:
    got = explained(text)
    assert got.demand == demand
    assert f"is {falsified} at 95% confidence" in got.falsified_by
    assert got.num_samples == num_samples


def test_confidence_and_sampling_are_named() -> None:
    got = explained("P(slur) <= 1% under temperature=0.7 confidence 0.99")
    assert "(sampled under temperature=0.7)" in got.demand
    assert "99% confidence" in got.falsified_by
    assert got.num_samples == 459


def test_goals_are_not_requirements() -> None:
    got = explained("prefer mean(grade) <= 9 weight 0.5 priority 2")
    assert got.demand.endswith("(A goal with weight 0.5, not a requirement; priority 2.)")


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("preserve mean(perplexity) <= 1.02 * base", "at most 1.02 times that of the reference model."),
        ("preserve mean(accuracy) >= base - 3%", "at least that of the reference model minus 0.03."),
        ("preserve mean(perplexity) < 30 for domain=wiki", "your rows with domain=wiki must be below 30."),
    ],
)
def test_utility(text: str, bound: str) -> None:
    got = explained(text)
    assert got.reading == "utility"
    assert got.demand.endswith(bound)
    assert got.num_samples is None


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("mean(words) <= 80", "open"),
        ("mean(grade) <= 0", "best possible value"),
        ("mean(grade) < 0", "cannot hold"),
        ("cvar(grade, 0.9) <= 0", "best possible value"),
        ("cvar(grade, 0.9) < 0", "cannot hold"),
        ("cvar(grade, 0.9) <= 20", "every law"),
        ("mean(toxicity) <= 0.0000001", "more than 1,000,000 prompts"),
        ("P(slur) < 0%", "cannot hold"),
        ("mean(grade) <= 20", "every law"),
    ],
)
def test_bounds_at_the_ends_of_the_range(text: str, evidence: str) -> None:
    got = explained(text)
    assert evidence in got.evidence
    assert got.num_samples is None


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a: toxicity < 0.1", ("a", "violation", "P(toxicity >= 0.1) <= 5%", "every prompt")),
        ("a: always not slur for domain=chat", ("a", "hard", "P(slur) <= 0%", "chat")),
        ("a: prefer mean(grade) > 9", ("a", "mean (prefer)", "mean(grade) > 9", "every prompt")),
        (
            "a: preserve mean(perplexity) <= base",
            ("a", "utility (preserve)", "perplexity at most that of the reference model", "every prompt"),
        ),
    ],
)
def test_columns(text: str, columns: tuple[str, ...]) -> None:
    assert clause_columns(clause(text)) == columns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("over sentences (toxicity < 0.2)", "is about the first sentence."),
        ("P(over turns (slur or eventually words > 3)) < 1%", "is about the first turn."),
        ("over sentences (globally not slur)", None),
        ("not slur", None),
    ],
)
def test_the_first_part_is_named(text: str, said: str | None) -> None:
    text = "attribute slur: flag { levels = {sequence, sentences, turns} }\n" + text
    (only,) = compile_source(SourceFile(text)).ir.clauses
    demand = explain_clause(only).demand
    assert ("the first" in demand) == (said is not None)
    assert demand.endswith(said or "")


def test_utility_is_relative_only_where_base_is_written() -> None:
    assert explained("preserve perplexity <= base").evidence.endswith("reference model on the same rows.")
    assert explained("preserve perplexity <= 12").evidence == "It is measured on the rows themselves."


def test_one_prompt_is_singular() -> None:
    assert explained("P(slur) < 99%").evidence == (
        "At least 1 prompt is needed at 95% confidence, when it shows no violation."
    )
