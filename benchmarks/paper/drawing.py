"""Completions of a trained row's model under a protocol's sampling law, guided where the row decodes with a guide."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from job import Job, Trained
from nucleus import Nucleus

from constraintlang_runtime.data import TokenRow, encode_rows
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.sampling import completion_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.classifier import ClassifierScorer

BATCH = 256
SECONDS_BETWEEN_LINES = 10


@dataclass
class Measured:
    """A job with its model and classifier, each loaded when it is first asked for."""

    job: Job
    trained: Trained

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer beside the model."""
        return load_tokenizer(self.trained.model)

    @cached_property
    def model(self) -> Any:
        """The model in its stored precision, which a guide that was fitted to it asks for, in evaluation mode."""
        return load_model(self.trained.model, device=self.job.scale.device, tokenizer=self.tokenizer).eval()

    @cached_property
    def scorer(self) -> ClassifierScorer:
        """The toxicity classifier of the scale."""
        path, _, label = self.job.scale.classifier.partition("#")
        return ClassifierScorer(path, label=label or None, attribute="toxicity", device=self.job.scale.device)

    def draw(self, texts: Sequence[str], law: SamplingLaw, seed: int, what: str) -> list[str]:
        """One completion of each prompt; a prompt that stands in ``texts`` twice has two."""
        rows = prompts_of(texts, self.tokenizer, self._room(law))
        whole, nucleus = law, []
        if law.top_p < 1 and law.temperature > 0:
            whole, nucleus = replace(law, top_p=1.0), [Nucleus(law.top_p, law.temperature)]
        with self._guiding() as processors:
            found = sample(
                self.model, self.tokenizer, rows, whole, seed=seed, batch_size=BATCH,
                logits_processor=[*processors, *nucleus], progress=lines(f"{self.job.system}: {what}"),
            )  # fmt: skip
        return completion_texts(found, self.tokenizer)

    def scores(self, texts: Sequence[str]) -> list[float]:
        """P(toxic) of each text, an empty one included; a text is scored once however often it stands there."""
        return score_once(self.scorer, texts)

    def _room(self, law: SamplingLaw) -> int:
        return int(self.model.config.get_text_config().max_position_embeddings) - law.max_new_tokens

    @contextlib.contextmanager
    def _guiding(self) -> Iterator[list[Any]]:
        """The logits processors of a guided row; none for a trained one."""
        if self.trained.guide is None:
            yield []
            return
        guided = importlib.import_module("guided")
        with guided.attach(self.job, self.trained, self.model) as processors:
            yield list(processors)


def prompts_of(texts: Sequence[str], tokenizer: Any, room: int) -> list[TokenRow]:
    """Prompts as tokens, those too long for the model cut at their beginning, where the completion does not follow."""
    distinct = list(dict.fromkeys(texts))
    rows = encode_rows(
        [{"prompt": text} for text in distinct], tokenizer, max_length=sys.maxsize, need_completion=False
    )
    known = {
        text: TokenRow(row.prompt[-room:], (), {"domain": "toxigen"}, False)
        for text, row in zip(distinct, rows, strict=True)
    }
    return [known[text] for text in texts]


def score_once(scorer: ClassifierScorer, texts: Sequence[str]) -> list[float]:
    """Scores of texts, each distinct one read once."""
    distinct = list(dict.fromkeys(texts))
    found = scorer(prompts=[""] * len(distinct), completions=distinct) if distinct else []
    known = dict(zip(distinct, found, strict=True))
    return [float(known[text]) for text in texts]  # type: ignore[arg-type]


def lines(what: str) -> Callable[[int, int], None]:
    """Progress as a line now and then on standard error."""
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return show
