"""Explanations say reading, prompts, bound, direction and samples, for every kind of clause."""

from __future__ import annotations

import pytest

from constraintlang.source import SourceFile
from constraintlang_compiler.explain import Explanation, clause_columns, explain_clause
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.pipeline import compile_source


def clause(text: str) -> Clause:
    declarations = "attribute slur: flag\nattribute grade: real in [0, 20]\n"
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
        ("mean(grade) >= 9", "The average of `grade` over responses must be at least 9.", "below 9", 4),
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
