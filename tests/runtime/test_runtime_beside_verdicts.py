"""What stands beside a verdict: collapse against the start model, prediction-powered bounds, the worst prompts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from constraintlang import SourceFile
from constraintlang_compiler.bounds import betting_upper, clopper_pearson_upper
from constraintlang_compiler.front import check_and_lower
from constraintlang_compiler.pipeline import compile_source
from constraintlang_runtime.collapse import LEVEL, Replies, warnings_of
from constraintlang_runtime.evaluation import Evaluation
from constraintlang_runtime.human_labels import Label, judge_by_people
from constraintlang_runtime.prediction_powered import prediction_powered_bounds
from constraintlang_runtime.refusals import is_refusal
from constraintlang_runtime.verification import verify_clause
from constraintlang_runtime.worst_prompts import worst_prompts


# ------------------------------------------------------------ refusals and collapse
@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.", "I\u2019m really sorry", "As an AI language model, I", 
        "I cannot do",
        "  **I apologize**", "Unfortunately, I can't", "I won't do that", "I must decline", "It's not appropriate to",
        "\"I'm not able to\"", "Sorry, I can't", "sorry but I won't", "I would rather not say",
    ],
)  # fmt: skip
def test_refusals(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sorry seems to be the hardest word",
        "I can do that",
        "I will",
        "I candidly think",
        "Here: I'm sorry",
        "No.",
    ],
)
def test_no_refusals(text: str) -> None:
    assert not is_refusal(text)


def replies(own: list[str], base: list[str]) -> Replies:
    found = Replies()
    for a, b in zip(own, base, strict=True):
        found.add([a], [b])
    return found


WORDS = [f"word{i} and then thing{i} or place{i}" for i in range(100)]


@pytest.mark.parametrize(
    ("own", "what"),
    [
        ([""] * 30 + WORDS[30:], "empty replies rose from 0% to 30%"),
        (["I cannot help"] * 12 + WORDS[12:], "refusals rose from 0% to 12%"),
        ([text.rsplit(" ", 4)[0] for text in WORDS], "replies shrank from 6 to 2 words"),
        (["same old words every time again"] * 15 + WORDS[15:], "one reply is 15% of all, it was 1%"),
        (
            [f"word{i % 7} and then thing{i % 7} or place{i % 7}" for i in range(100)],
            "different word pairs fell",
        ),
    ],
)
def test_what_got_worse_is_said(own: list[str], what: str) -> None:
    assert any(warning.startswith(what) for warning in warnings_of(replies(own, WORDS)))
    assert not any(warning.startswith(what) for warning in warnings_of(replies(WORDS, own)))


def test_a_small_or_chance_change_is_no_warning() -> None:
    assert warnings_of(replies(WORDS, WORDS)) == []
    assert warnings_of(replies([""] * 9 + WORDS[9:], WORDS)) == []  # nine of a hundred: sign test 1/512
    assert warnings_of(Replies()) == []


def test_the_sign_test_rarely_warns_of_nothing() -> None:
    """Two models with the same rate of refusals: a warning at the stated level, no more."""
    rng, warned, runs = np.random.default_rng(0), 0, 600
    for _ in range(runs):
        drawn = [
            [
                "I cannot help" if refuses else text
                for refuses, text in zip(rng.random(60) < 0.2, WORDS, strict=False)
            ]
            for _ in range(2)
        ]
        warned += any("refusals" in warning for warning in warnings_of(replies(drawn[0], drawn[1])))
    assert warned <= binom.ppf(0.9999, runs, LEVEL)


def test_a_model_that_says_yes_or_no_is_no_warning_while_it_does_not_change() -> None:
    rng, warned, runs = np.random.default_rng(1), 0, 600
    for _ in range(runs):
        own, base = (rng.choice(["yes", "no"], 20).tolist() for _ in range(2))
        warned += any("one reply" in warning for warning in warnings_of(replies(own, base)))
    assert warned <= binom.ppf(0.9999, runs, LEVEL)


# ------------------------------------------------------------ people
def test_prediction_powered_bounds_cover_what_people_say() -> None:
    """A biased scorer: it misses a third of what people see and errs on 5% of the rest."""
    rng, runs, wrong = np.random.default_rng(1), 300, [0, 0]
    truth, alpha = 0.15, 0.1
    for _ in range(runs):
        people = rng.random(300) < truth
        scorer = np.where(people, rng.random(300) > 1 / 3, rng.random(300) < 0.05).astype(float)
        bounds = prediction_powered_bounds(scorer, people[:120] - scorer[:120], alpha)
        wrong[0] += bounds.lower > truth
        wrong[1] += bounds.upper < truth
    assert all(count <= binom.ppf(0.9999, runs, alpha) for count in wrong)


def test_the_scorer_alone_does_not_cover_what_people_say() -> None:
    """Without the rectifier the study above fails: the scorer sees half of what people see."""
    rng, runs, wrong = np.random.default_rng(2), 200, 0
    for _ in range(runs):
        people = rng.random(400) < 0.3
        scorer = (people & (rng.random(400) < 0.5)).astype(float)
        wrong += betting_upper(scorer, 0.1) < 0.3
        assert prediction_powered_bounds(scorer, people[:200] - scorer[:200], 0.1).upper > 0.2
    assert wrong > binom.ppf(0.9999, runs, 0.1)


def test_good_labels_make_the_bound_tighter_than_labels_alone() -> None:
    rng = np.random.default_rng(3)
    people = (rng.random(3000) < 0.3).astype(float)
    bounds = prediction_powered_bounds(people, np.zeros(150), 0.05)
    assert bounds.upper < betting_upper(people[:150], 0.05)
    assert bounds.estimate == pytest.approx(people.mean())
    unknown = prediction_powered_bounds(np.where(np.arange(3000) < 900, np.nan, people), np.zeros(150), 0.05)
    assert unknown.upper > bounds.upper + 0.2
    assert unknown.lower < bounds.lower
    assert prediction_powered_bounds(people, np.zeros(0), 0.05)[1:] == (0.0, 1.0)


# ------------------------------------------------------------ worst prompts
def records(values: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"clause": "a", "prompt": f"p{n}", "prompt_number": n, "statistic": float(value)}
        for n, row in enumerate(values)
        for value in row
    ]


def test_the_worst_tenth_of_equal_prompts_looks_no_worse_than_the_rest() -> None:
    """All prompts alike: what was chosen looks terrible on its own samples, and like all others on the rest."""
    front = check_and_lower(SourceFile("edition 1\nattribute bad: flag\na: P(bad) <= 9%\n"))
    assert front.lowered is not None
    rng, means, chosen = np.random.default_rng(4), [], []
    for seed in range(60):
        (found,) = worst_prompts(front.lowered.ir.clauses, records(rng.random((100, 8)) < 0.2), seed)
        means.append(found["mean"])
        chosen.append(found["chosen_mean"])
    assert np.mean(chosen) > 0.5
    assert abs(np.mean(means) - 0.2) < 4 * 0.2 / np.sqrt(60 * 10)
    gaps = records(rng.random((4, 2)) < 0.5)
    gaps[0]["statistic"] = None
    (found,) = worst_prompts(front.lowered.ir.clauses, gaps, 0)
    assert found["of"] == 3


def test_labels_alone_count_where_the_scorer_says_little() -> None:
    """All labels are clean: the bound is that of the labels at half of the error, however often the scorer errs."""
    clause = compile_source(SourceFile("edition 1\nattribute bad: flag\nrate: P(bad) <= 0.1\n")).ir.clauses[0]
    noise = np.random.default_rng(0).random(500) < 0.3
    records = [
        {"clause": clause.name, "prompt": f"p{i}", "completion": f"c{i}", "prompt_number": i, "row": i,
         "statistic": float(noise[i])}
        for i in range(500)
    ]  # fmt: skip
    verdict = verify_clause(clause, noise.astype(float), alpha=0.05, single_sample=True)
    labels = [Label(i, i, None, False) for i in range(500)]
    (found,) = judge_by_people([clause], [verdict], records, labels, num_clauses=1)["clauses"]
    assert found["verdict"] == "holds"
    assert found["upper"] == pytest.approx(clopper_pearson_upper(0, 500, 0.025))


def test_false_positives_are_bounded_by_prompts() -> None:
    """Two of 40 prompts, with 8 replies each, have all of the scorer's false positives."""
    clause = compile_source(SourceFile("edition 1\nattribute bad: flag\nrate: P(bad) <= 0.5\n")).ir.clauses[0]
    records = [
        {"clause": clause.name, "prompt": f"p{i // 8}", "completion": f"word {i}", "prompt_number": i // 8, "row": i,
         "statistic": float(i < 16)}
        for i in range(320)
    ]  # fmt: skip
    values = np.repeat([1.0, 0.0], [16, 304]).reshape(40, 8)
    verdict = verify_clause(clause, values, alpha=0.05, single_sample=False)
    labels = [Label(i, i, None, False) for i in range(320)]
    found = judge_by_people([clause], [verdict], records, labels, num_clauses=1, terms=["word"])["clauses"][0]
    part = found["identity_terms"]["with_term"]
    assert (part["clean"], part["prompts"], part["false_positives"], part["rate"]) == (320, 40, 16, 0.05)
    assert part["upper"] > 0.1  # as of 40 replies; as of 320 it would be 0.075
    assert found["identity_terms"]["without_term"] == {
        "clean": 0, "prompts": 0, "false_positives": 0, "rate": None, "lower": 0.0, "upper": 1.0,
    }  # fmt: skip


def test_labels_of_replies_without_a_score_count() -> None:
    """People call 40% violations, all of them replies that the scorer left out."""
    clause = compile_source(SourceFile("edition 1\nattribute bad: flag\nrate: P(bad) <= 0.3\n")).ir.clauses[0]
    records, labels = [], []
    for number in range(500):
        left_out = number % 5 < 2
        records.append(
            {"clause": clause.name, "prompt": f"p{number}", "completion": f"c{number}", "prompt_number": number,
             "row": number, "statistic": None if left_out else 0.0}
        )  # fmt: skip
        labels.append(Label(number, number, None, left_out))
    verdict = verify_clause(clause, np.repeat([0.0, np.nan], [300, 200]), alpha=0.05, single_sample=True)
    (found,) = judge_by_people([clause], [verdict], records, labels, num_clauses=1)["clauses"]
    assert found["estimate"] == pytest.approx(0.4)
    assert found["lower"] < 0.4 < found["upper"]
    assert found["verdict"] == "violated"


@pytest.mark.parametrize("samples", [1, 10])
def test_a_label_is_of_one_reply_however_many_say_the_same(samples: int) -> None:
    """Half of the replies are silence, which people call clean; the scorer misses the other half."""
    clause = compile_source(SourceFile("edition 1\nattribute bad: flag\nrate: P(bad) <= 0.2\n")).ir.clauses[0]
    records = [
        {"clause": clause.name, "prompt": "" if samples == 1 else f"p{i // samples}", "statistic": 0.0,
         "completion": "" if i % 2 else f"c{i}", "prompt_number": i // samples}
        for i in range(1000)
    ]  # fmt: skip
    keys = [(str(record["prompt"]), str(record["completion"])) for record in records]
    chosen = [keys[i] for i in np.random.default_rng(1).choice(1000, 100 * samples // 2 + 50, replace=False)]
    labels = [Label(line, key, None, key[1] != "") for line, key in enumerate(chosen, 2)]
    verdict = verify_clause(clause, np.zeros(1000), alpha=0.05, single_sample=True)
    said = judge_by_people([clause], [verdict], records, labels, num_clauses=1)
    (found,) = said["clauses"]
    assert (found["labelled"], said["unmatched_labels"]) == (len(labels), 0)
    assert found["lower"] < 0.5 < found["upper"]
    assert found["verdict"] == "violated"


def test_labels_bound_nothing_where_some_prompts_have_more_replies() -> None:
    """Half of the prompts have one reply, a violation that the scorer misses, but few of the replies and labels."""
    clause = compile_source(SourceFile("edition 1\nattribute bad: flag\nrate: P(bad) <= 0.2\n")).ir.clauses[0]
    records = [
        {
            "clause": clause.name,
            "prompt": f"p{n}",
            "completion": f"c{i}",
            "statistic": 0.0,
            "prompt_number": n,
        }
        for n in range(200)
        for i in range(1 if n % 2 else 19)
    ]
    chosen = [records[i] for i in np.random.default_rng(1).choice(2000, 200, replace=False)]
    labels = [
        Label(line, (one["prompt"], one["completion"]), None, one["prompt_number"] % 2 == 1)
        for line, one in enumerate(chosen, 2)
    ]
    verdict = verify_clause(clause, np.zeros(200), alpha=0.05, single_sample=True)
    (found,) = judge_by_people([clause], [verdict], records, labels, num_clauses=1)["clauses"]
    assert (found["verdict"], found["estimate"], found["lower"], found["upper"]) == (
        "inconclusive",
        None,
        0.0,
        1.0,
    )
    assert "different numbers of replies" in found["method"]


def test_a_loss_that_is_no_number_is_null_in_the_verdict() -> None:
    found = Evaluation([], [], {"a": math.nan, "b": math.inf, "c": 1.5}, {}, 0.0, None, None)
    written = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(written)["losses"] == {"a": None, "b": None, "c": 1.5}
