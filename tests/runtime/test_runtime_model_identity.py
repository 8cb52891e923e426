"""Scores of models on disk: found again by the content of the model's files, and never for another model."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import PLAIN, chat_tokenizer
from tiny_models import (
    write_classifier,
    write_reward_model,
    write_scoring_language_model,
    write_sentence_encoder,
)

from constraintlang.source import SourceFile
from constraintlang_compiler.pipeline import compile_with_diagnostics
from constraintlang_runtime.demo import language
from constraintlang_runtime.scorers import model_identity
from constraintlang_runtime.scorers.cache import ScoreCache
from constraintlang_runtime.scorers.classifier import ClassifierScorer
from constraintlang_runtime.scorers.model_identity import ModelFiles
from constraintlang_runtime.scorers.nli import NliScorer
from constraintlang_runtime.scorers.perplexity import PerplexityScorer
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Terms
from constraintlang_runtime.scorers.reward import RewardScorer
from constraintlang_runtime.scorers.similarity import SimilarityScorer

WORDS = language.vocabulary()
TEXTS = [" ".join(WORDS[i : i + n]) for i, n in ((0, 3), (4, 1), (7, 9))]
PROMPTS = [" ".join(WORDS[i : i + 4]) + " " for i in range(len(TEXTS))]

LABELS = ("fine", "toxic", "entailment")

MODELS: dict[str, Callable[[Path], Path]] = {
    "classifier": lambda place: write_classifier(place, LABELS),
    "nli": lambda place: write_classifier(place, LABELS, pairs=True),
    "reward": lambda place: write_reward_model(place, chat_tokenizer(PLAIN, unk_token="<unk>")),
    "similarity": write_sentence_encoder,
    "perplexity": write_scoring_language_model,
}
SCORERS: dict[str, Callable[[Path], Any]] = {
    "classifier": lambda place: ClassifierScorer(str(place), label="toxic", attribute="tone"),
    "nli": lambda place: NliScorer(str(place), hypothesis=WORDS[0], attribute="tone"),
    "reward": lambda place: RewardScorer(str(place), attribute="tone"),
    "similarity": lambda place: SimilarityScorer(str(place), attribute="tone"),
    "perplexity": lambda place: PerplexityScorer(str(place), attribute="tone"),
}
OTHERS: dict[str, Callable[[Path], Any]] = {
    "classifier": lambda place: ClassifierScorer(str(place), label="fine", attribute="tone"),
    "nli": lambda place: NliScorer(str(place), hypothesis=WORDS[1], attribute="tone"),
    "similarity": lambda place: SimilarityScorer(str(place), attribute="tone", to=WORDS[1]),
    "perplexity": lambda place: PerplexityScorer(str(place), attribute="tone", unit="logprob"),
}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "constraintlang"


def scores(scorer: Any, folder: Path) -> tuple[list[float], int]:
    """The scores of the texts, and how many of them were found on disk."""
    outcome = compile_with_diagnostics(SourceFile("edition 1\nattribute tone: real\ntone <= 1\n", "p.policy"))
    assert outcome.policy is not None
    cache = ScoreCache(folder)
    found = ScoringPool(outcome.policy.ir.attributes, {"tone": scorer}, cache=cache).score(PROMPTS, TEXTS)[
        "tone"
    ]
    cache.close()
    return found.tolist(), cache.hits


@pytest.mark.parametrize("kind", SCORERS)
def test_scores_are_found_again_until_anything_about_the_model_changes(kind: str, tmp_path: Path) -> None:
    place, kept = MODELS[kind](tmp_path / "model"), tmp_path / "scores"
    first, hits = scores(SCORERS[kind](place), kept)
    assert hits == 0
    moved = shutil.copytree(place, tmp_path / "moved")
    for folder in (place, moved):  # what a model is called makes no difference
        assert scores(SCORERS[kind](folder), kept) == (first, len(TEXTS))
    if kind in OTHERS:
        assert scores(OTHERS[kind](place), kept)[1] == 0
    weights = place / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # a bit of one weight
    before = weights.stat()
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scores(SCORERS[kind](place), kept)[1] == 0
    limit = moved / "tokenizer_config.json"
    limit.write_text(json.dumps({**json.loads(limit.read_text()), "model_max_length": 40}))
    assert scores(SCORERS[kind](moved), kept)[1] == 0


def test_no_score_is_kept_of_files_that_changed_since(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = MODELS["classifier"](tmp_path / "model")
    scorer = SCORERS["classifier"](place)
    (place / "config.json").write_text((place / "config.json").read_text() + " ")
    with caplog.at_level(logging.WARNING):
        scores(scorer, tmp_path / "scores")
    assert "has changed since it was loaded" in caplog.text
    assert scores(SCORERS["classifier"](place), tmp_path / "scores")[1] == 0


def test_models_of_the_hub_are_known_by_their_commit() -> None:
    commit = "0123456789" * 4
    assert ModelFiles.of("owner/name", revision=None).identity("nli") is None
    assert ModelFiles.of("owner/name", revision="main").identity("nli") is None
    named = ModelFiles.of("owner/name", revision=commit).identity("nli")
    assert named is not None
    assert named == ModelFiles.of("owner/name", revision="main", commit=commit).identity("nli")
    assert named != ModelFiles.of("owner/other", revision=commit).identity("nli")


def test_a_file_is_read_once_for_each_content(
    tmp_path: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_identity, "SETTLED", 0.0)
    (place := tmp_path / "model").mkdir()
    (place / "model.safetensors").write_bytes(b"one")
    read: list[str] = []
    digest = model_identity.hashlib.file_digest
    monkeypatch.setattr(
        model_identity.hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind)
    )
    first = ModelFiles.of(str(place), revision=None).digest()
    assert ModelFiles.of(str(place), revision=None).digest() == first
    assert len(read) == 1
    (place / "model.safetensors").write_bytes(b"two")
    second = ModelFiles.of(str(place), revision=None).digest()
    assert second != first
    assert len(read) == 2
    (caches / model_identity.MEMORY).write_text("[half")
    assert ModelFiles.of(str(place), revision=None).digest() == second
    assert len(read) == 3


def test_what_has_just_changed_is_read_again(tmp_path: Path, caches: Path) -> None:
    """Two changes within one tick of a clock leave the same times."""
    (place := tmp_path / "model").mkdir()
    (place / "config.json").write_text("{}")
    ModelFiles.of(str(place), revision=None).digest()
    assert not (caches / model_identity.MEMORY).exists()


def test_nothing_is_hashed_where_nothing_is_kept(tmp_path: Path) -> None:
    asked = 0

    class Named:
        def __init__(self) -> None:
            self.terms = Terms(identity=self._name)

        def _name(self) -> str:
            nonlocal asked
            asked += 1
            return "n"

        def __call__(self, *, completions: Sequence[str], **columns: Any) -> list[float]:
            return [float(len(text)) for text in completions]

    outcome = compile_with_diagnostics(SourceFile("edition 1\nattribute tone: real\ntone <= 1\n", "p.policy"))
    assert outcome.policy is not None
    attributes = outcome.policy.ir.attributes
    for cache in (None, ScoreCache(tmp_path, costly_only=True)):
        ScoringPool(attributes, {"tone": Named()}, cache=cache).score(PROMPTS, TEXTS)
    assert asked == 0
    pool = ScoringPool(attributes, {"tone": Named()}, cache=ScoreCache(tmp_path), batch_size=1)
    pool.score(PROMPTS, TEXTS)
    assert asked == 1
