"""A real classifier against transformers' own pipeline; needs a folder that the environment names."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from constraintlang_runtime.scorers.classifier import ClassifierScorer

VARIABLE = "CONSTRAINTLANG_TESTBED"
LABEL = "toxic"

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def folder() -> Path:
    place = Path(os.environ.get(VARIABLE, "")) / "toxicity-classifier"
    if VARIABLE not in os.environ or not (place / "config.json").is_file():
        pytest.skip(f"SKIPPED ALOUD: {VARIABLE} names no folder with toxicity-classifier/")
    return place


def test_scores_are_those_of_the_pipeline(folder: Path) -> None:
    from transformers import pipeline

    generator = random.Random(0)
    words = (Path(__file__).parents[2] / "README.md").read_text().split()
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 300))) for _ in range(60)]
    own = ClassifierScorer(str(folder), label=LABEL, attribute="toxicity", device="cpu")
    found = own(prompts=[""] * len(texts), completions=texts)
    classify = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    expected = [
        {row["label"]: row["score"] for row in rows}[LABEL]
        for rows in classify(texts, truncation=True, max_length=128)
    ]
    assert list(found) == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 0.01
    # the pipeline fails on an empty text, of which this tokenizer makes no token
    assert own(prompts=["", ""], completions=["", texts[0]])[0] == pytest.approx(
        own(prompts=[""], completions=[""])[0], abs=1e-5
    )
