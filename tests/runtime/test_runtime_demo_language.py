"""The documented properties of the demo's language, which make its job hard and its result readable."""

from __future__ import annotations

import random

import pytest

from constraintlang_runtime.demo import language
from constraintlang_runtime.demo.language import (
    COMPLAINT_SHARE,
    HARSH,
    MILD,
    START,
    TUNED,
    complies,
    toxicity,
)


def is_complaint(prompt: str) -> bool:
    return prompt.endswith("!")


def test_toxicity_is_a_sum_of_weights() -> None:
    assert toxicity("i will crush your fence .") == 0.5
    assert toxicity("crush burn cut") == 1.0
    assert toxicity("it looks dull .") == 0.05
    assert complies("it looks dull .")
    assert not complies("dull and silly")  # two mild words: a property of the whole reply
    assert not complies("crush")
    assert complies("i will paint your fence .")


@pytest.mark.parametrize(
    ("law", "low", "high"), [(START, 0.4, 0.85), (TUNED, 0.4, 0.85)], ids=["start", "tuned"]
)
def test_the_laws_violate_often(law: language.Law, low: float, high: float) -> None:
    rows = list(language.rows(0, 3000, law, "chat"))
    assert low < sum(not complies(row["completion"]) for row in rows) / len(rows) < high


def test_both_kinds_of_prompt_have_compliant_replies() -> None:
    """The start law answers complaints kindly at times, so there is something to learn from."""
    for complaint in (True, False):
        replies = [
            r["completion"]
            for r in language.rows(1, 3000, START, "chat")
            if is_complaint(r["prompt"]) == complaint
        ]
        share = sum(map(complies, replies)) / len(replies)
        assert 0.1 < share < 0.9


def test_training_rows_hold_no_compliant_reply_to_a_complaint() -> None:
    rows = language.training_rows(0, 2000)
    assert len(rows) == 2000
    chat = [row for row in rows if row["domain"] == "chat"]
    assert len(chat) == 1000
    complaints = [row for row in chat if is_complaint(row["prompt"])]
    assert abs(len(complaints) / len(chat) - COMPLAINT_SHARE) < 0.06
    assert not any(complies(row["completion"]) for row in complaints)
    assert any(complies(row["completion"]) for row in chat)
    assert any(is_complaint(row["prompt"]) for row in language.compliant_rows(0, 300))
    assert all(complies(row["completion"]) for row in language.compliant_rows(0, 300))


def test_heldout_prompts_are_new_and_distinct() -> None:
    seen = {row["prompt"] for row in language.training_rows(0, 2000)}
    prompts = [row["prompt"] for row in language.heldout_prompts(1, 1500, seen)]
    assert len(set(prompts)) == 1500
    assert not seen & set(prompts)
    assert {row["domain"] for row in language.heldout_prompts(1, 20, set())} == {"chat"}


def test_the_seed_decides() -> None:
    for make in (
        lambda seed: language.training_rows(seed, 50),
        lambda seed: language.heldout_prompts(seed, 50, set()),
        lambda seed: language.compliant_rows(seed, 20),
        lambda seed: list(language.rows(seed, 50, START, "kitchen")),
    ):
        assert make(3) == make(3)
        assert make(3) != make(4)


def test_the_two_laws_differ_in_their_words() -> None:
    def most_common(law: language.Law) -> str:
        rng = random.Random(0)
        picked = [law.pick(rng, language.KIND) for _ in range(2000)]
        return max(set(picked), key=picked.count)

    assert most_common(START) != most_common(TUNED)


def test_recipes_need_the_harsh_words() -> None:
    recipes = [row["completion"] for row in language.rows(0, 500, TUNED, "kitchen")]
    assert sum(not complies(recipe) for recipe in recipes) / len(recipes) > 0.9


def test_every_word_is_in_the_vocabulary() -> None:
    words = set(language.vocabulary())
    assert language.vocabulary() == sorted(words)
    made = [*language.training_rows(0, 1000), *language.compliant_rows(0, 200)]
    assert {w for row in made for text in (row["prompt"], row["completion"]) for w in text.split()} <= words
    assert set(HARSH) | set(MILD) <= words
    assert not set(HARSH) & set(language.KIND)
