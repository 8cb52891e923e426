"""The scoring pool: each text once, in any order, and no result that is not a score."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constraintlang.source import SourceFile
from constraintlang_compiler.ir import AttributeRecord
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.errors import ConfigError, ScorerError
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import TEXT_ALONE
from constraintlang_runtime.settings import check_timeout

TEXTS = ["a", "bb", "a", "", "ccc", "bb", "a"]


def attributes() -> tuple[AttributeRecord, ...]:
    text = "edition 1\nattribute tone: score in [0, 1] lower_is_better\nattribute size: int\ntone <= 1\nsize <= 9\n"
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None, outcome.diagnostics
    return outcome.policy.ir.attributes


class Recorder:
    """Scores a text by its length over ten and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.sizes: list[int] = []
        self.columns: list[dict[str, Any]] = []

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        self.seen += zip(prompts, completions, strict=True)
        self.sizes.append(len(completions))
        self.columns.append(columns)
        return [None if text == "?" else len(text) / 10 for text in completions]


def pool(scorer: Any, **options: Any) -> ScoringPool:
    return ScoringPool(
        attributes(), {"tone": scorer, "size": lambda **given: [1] * len(given["completions"])}, **options
    )


def test_each_distinct_text_is_scored_once() -> None:
    scorer = Recorder()
    made = pool(scorer)
    first = made.score(["p"] * 7, TEXTS)
    assert sorted(scorer.seen) == [("p", ""), ("p", "a"), ("p", "bb"), ("p", "ccc")]
    assert first["tone"].tolist() == [len(text) / 10 for text in TEXTS]
    assert first["size"].tolist() == [1.0] * 7
    made.score(["p"] * 7, TEXTS)
    assert len(scorer.seen) == 4  # remembered
    made.score(["q"], ["a"])
    assert scorer.seen[-1] == ("q", "a")  # a score may depend on the prompt


def test_batches_are_formed_by_length() -> None:
    scorer = Recorder()
    pool(scorer, batch_size=3).score(["p"] * 7, TEXTS)
    assert scorer.sizes == [3, 1]
    lengths = [len(text) for _, text in scorer.seen]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("flag", 0.001, "is a flag"),
        ("flag", 2.0, "is a flag"),
        ("int", 0.5, "whole"),
        ("count", 1.5, "whole"),
    ],
)
def test_what_is_not_of_its_type_is_no_score(kind: str, value: float, message: str) -> None:
    """A flag that is not 0 is true: of a probability, `P(a) >= 90%` would hold whatever it was."""
    text = f"edition 1\nattribute a: {kind}\n" + ("P(a) < 9%\n" if kind == "flag" else "a <= 9\n")
    outcome = compile_with_diagnostics(SourceFile(text, "p.policy"))
    assert outcome.policy is not None
    attribute = outcome.policy.ir.attributes[0]
    made = ScoringPool([attribute], {"a": lambda **given: [value] * len(given["completions"])})
    with pytest.raises(ScorerError, match=message):
        made.score(["p"], ["x"])
    whole = ScoringPool([attribute], {"a": lambda **given: [True for _ in given["completions"]]})
    assert whole.score(["p"], ["x"])["a"].tolist() == [1.0]


@given(st.permutations(range(len(TEXTS))))
def test_the_order_of_the_texts_does_not_matter(order: list[int]) -> None:
    plain = pool(Recorder(), batch_size=2).score(["p"] * 7, TEXTS)["tone"]
    mixed = pool(Recorder(), batch_size=2).score(["p"] * 7, [TEXTS[i] for i in order])["tone"]
    assert mixed.tolist() == [plain[i] for i in order]


def test_columns_follow_their_texts() -> None:
    scorer = Recorder()
    pool(scorer).score(["p"] * 3, ["ccc", "a", "bb"], columns={"lang": ["x", "y", "z"]})
    assert scorer.columns == [{"lang": ["y", "z", "x"]}]


def test_none_is_unavailable() -> None:
    found = pool(Recorder()).score(["p"] * 2, ["?", "a"])["tone"]
    assert math.isnan(found[0])
    assert found[1] == 0.1


def test_only_the_wanted_attributes() -> None:
    scorer = Recorder()
    assert list(pool(scorer).score(["p"], ["a"], names=["size"])) == ["size"]
    assert scorer.seen == []


def test_no_text() -> None:
    scorer = Recorder()
    assert pool(scorer).score([], [])["tone"].shape == (0,)
    assert scorer.seen == []


def test_progress_reaches_its_total() -> None:
    calls: list[tuple[int, int]] = []
    pool(Recorder(), batch_size=2).score(
        ["p"] * 7, TEXTS, progress=lambda done, total: calls.append((done, total))
    )
    assert calls[-1] == (8, 8)


def test_rounding_at_the_ends_of_the_range_is_cut_and_more_is_refused() -> None:
    assert pool(lambda **given: [1.0 + 5e-7]).score(["p"], ["a"], names=["tone"])["tone"].tolist() == [1.0]
    assert pool(lambda **given: [-5e-7]).score(["p"], ["a"], names=["tone"])["tone"].tolist() == [0.0]
    with pytest.raises(ScorerError, match="outside the declared range"):
        pool(lambda **given: [1.0 + 5e-6]).score(["p"], ["a"], names=["tone"])


def test_numpy_results_are_numbers_too() -> None:
    scorer = pool(lambda **given: np.full(len(given["completions"]), 0.5, dtype=np.float32))
    assert scorer.score(["p"], ["a"], names=["tone"])["tone"].tolist() == [0.5]


@pytest.mark.parametrize(
    "result",
    [
        [math.nan],
        [math.inf],
        ["x"],
        [0.1, 0.2],
        [],
        [2.0],
        [-1.0],
        [[0.1]],
        None,
        pytest.param([object()], id="object"),
    ],
    ids=repr,
)
def test_results_that_are_not_scores(result: Any) -> None:
    with pytest.raises(ScorerError, match="scorer tone:"):
        pool(lambda **given: result).score(["p"], ["a"])


def test_a_failed_call_leaves_nothing_behind() -> None:
    """After an outage the text is asked again, and the long text of an error is cut."""
    state = {"down": True}

    def scorer(**given: Any) -> list[float]:
        if state["down"]:
            raise ConnectionError("down")
        return [0.5] * len(given["completions"])

    made = pool(scorer)
    with pytest.raises(ScorerError, match="raised ConnectionError: down") as caught:
        made.score(["p"], ["long " * 100])
    assert len(str(caught.value)) < 250
    assert caught.value.exit_code == 4
    state["down"] = False
    assert made.score(["p"], ["long " * 100], names=["tone"])["tone"].tolist() == [0.5]


def slow(seconds: float) -> Any:
    def scorer(**given: Any) -> list[float]:
        time.sleep(seconds)
        return [0.5] * len(given["completions"])

    return scorer


def test_a_scorer_that_hangs_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(
        ScorerError, match=r"scorer tone: did not return within 0.05 seconds for 1 texts"
    ) as caught:
        pool(slow(30), timeout=0.05).score(["p"], ["a"])
    assert time.monotonic() - started < 5
    assert "--scorer_timeout" in str(caught.value)


def test_a_scorer_within_its_time_and_without_a_limit() -> None:
    for timeout in (20, None):
        assert pool(slow(0.01), timeout=timeout).score(["p"], ["a"], names=["tone"])["tone"].tolist() == [0.5]


@pytest.mark.parametrize("timeout", [20, None])
def test_what_a_scorer_raises_is_the_same_with_a_limit(timeout: float | None) -> None:
    """Ctrl-C passes, an exception is the scorer's, and a scorer may not end the run, least of all with success."""

    def raising(error: BaseException) -> Any:
        def scorer(**given: Any) -> list[float]:
            raise error

        return scorer

    with pytest.raises(KeyboardInterrupt):
        pool(raising(KeyboardInterrupt()), timeout=timeout).score(["p"], ["a"])
    with pytest.raises(ScorerError, match="raised ConnectionError: down"):
        pool(raising(ConnectionError("down")), timeout=timeout).score(["p"], ["a"])
    with pytest.raises(ScorerError, match=r"tried to end the process with sys.exit\(0\)"):
        pool(raising(SystemExit(0)), timeout=timeout).score(["p"], ["a"])


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_time_out_that_no_call_can_keep(seconds: float) -> None:
    with pytest.raises(ConfigError, match="scorer_timeout"):
        check_timeout(seconds)


def test_a_scorer_that_may_read_columns_is_asked_again_for_other_ones() -> None:
    """The same reply to the same prompt, with another answer beside it."""

    def right(*, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        return [float(text == answer) for text, answer in zip(completions, columns["answer"], strict=True)]

    made = pool(right)
    columns = {"answer": ["4", "5", "4"]}
    assert made.score(["p"] * 3, ["4"] * 3, ["tone"], columns)["tone"].tolist() == [1.0, 0.0, 1.0]
    assert made.score(["p"], ["4"], ["tone"], {"answer": ["5"]})["tone"].tolist() == [0.0]
    assert made.follow_columns


def test_a_scorer_of_texts_alone_is_asked_once_whatever_the_columns() -> None:
    scorer = Recorder()
    scorer.terms = TEXT_ALONE  # type: ignore[attr-defined]
    made = pool(scorer)
    made.score(["p"] * 3, ["a"] * 3, ["tone"], {"id": [1, 2, 3]})
    assert scorer.seen == [("p", "a")]


def test_a_few_texts_do_not_wait_for_thousands_of_another_thread() -> None:
    """Between two calls of a long round the pool serves who waits."""
    begun, order = threading.Event(), []

    def slow(*, prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        begun.set()
        time.sleep(0.02)
        return [0.5] * len(completions)

    made = pool(slow, batch_size=1)

    def long_round() -> None:
        made.score(["p"] * 50, [f"text {i}" for i in range(50)], ["tone"])
        order.append("round")

    thread = threading.Thread(target=long_round)
    thread.start()
    begun.wait(10)
    made.score(["p"], ["mine"], ["tone"])
    order.append("step")
    thread.join()
    assert order == ["step", "round"]
