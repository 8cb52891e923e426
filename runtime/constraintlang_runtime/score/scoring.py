"""Scores of batches of texts, in order: found here, or by workers where a score follows from the text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.parts import PartScores
from constraintlang_runtime.score.row_stream import RowBatch, RowStream
from constraintlang_runtime.scorers.parts import Pool, Scored, score_responses
from constraintlang_runtime.scorers.pool import MAX_REMEMBERED, Floats, ScoringPool
from constraintlang_runtime.scorers.shared_pool import Share, SharedScoringSettings
from constraintlang_runtime.scorers.workers import Workers

Texts = tuple[Sequence[str], Sequence[str]]
"""Prompts and completions."""


@dataclass(frozen=True)
class TextBatch:
    """A batch of rows of the stream with this number, as texts to score."""

    number: int
    stream: RowStream
    rows: RowBatch
    prompts: Sequence[str]
    completions: Sequence[str]
    tags: Sequence[Mapping[str, Any]]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The tags by name."""
        keys = sorted({key for own in self.tags for key in own})
        return {key: [own.get(key) for own in self.tags] for key in keys}


ScoredBatches = Callable[[Iterable[TextBatch]], Iterator[tuple[TextBatch, Scored]]]
"""Takes batches in order and gives each with its scores, in the same order."""


@dataclass(frozen=True)
class Chosen:
    """Some attributes of a pool."""

    pool: Pool
    chosen: frozenset[str]

    @property
    def names(self) -> list[str]:
        """Names of the attributes."""
        return [name for name in self.pool.names if name in self.chosen]

    @property
    def follow_columns(self) -> bool:
        """As of the pool."""
        return self.pool.follow_columns

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Floats]:
        """Scores [n] of the chosen attributes among the names."""
        wanted = self.pool.names if names is None else names
        return self.pool.score(
            prompts, completions, [n for n in wanted if n in self.chosen], columns, progress
        )


@contextmanager
def scoring(
    policy: CompiledPolicy, settings: SharedScoringSettings, clauses: Sequence[Clause], *, folder: Path
) -> Iterator[ScoredBatches]:
    """What scores the batches of an audit. With several workers the attributes that the text alone decides are theirs.

    Models, judges and plug-ins are called in this process. Scores do not depend on the number of workers.
    Raises: ConfigError, ModelError as ``ScoringSettings.pool`` does; ScorerError when a worker dies.
    """
    shares = settings.shares(policy)
    ours = None if shares.ours is None else shares.ours.pool(folder=folder)
    if shares.theirs is None:
        assert ours is not None
        yield partial(_scored_here, ours, clauses)
        return
    build = partial(_build, shares.theirs, clauses, folder, MAX_REMEMBERED // settings.score_workers)
    with Workers[Texts, Scored](build, settings.score_workers) as running:
        yield partial(_scored_by, running, ours, clauses, shares.order)


def _build(
    share: Share, clauses: Sequence[Clause], folder: Path, remembered: int
) -> Callable[[Texts], Scored]:
    pool = share.pool(folder=folder, max_remembered=remembered)
    chosen = Chosen(pool, frozenset(pool.names))
    return lambda texts: score_responses(chosen, clauses, (), *texts, None)


def _scored_here(
    pool: Pool, clauses: Sequence[Clause], batches: Iterable[TextBatch]
) -> Iterator[tuple[TextBatch, Scored]]:
    for batch in batches:
        yield (
            batch,
            score_responses(pool, clauses, (), batch.prompts, batch.completions, None, columns=batch.columns),
        )


def _scored_by(
    running: Workers[Texts, Scored],
    pool: ScoringPool | None,
    clauses: Sequence[Clause],
    order: Sequence[str],
    batches: Iterable[TextBatch],
) -> Iterator[tuple[TextBatch, Scored]]:
    own = None if pool is None else Chosen(pool, frozenset(pool.names))
    tasks = ((batch, (batch.prompts, batch.completions)) for batch in batches)
    for batch, found in running.in_order(tasks):
        if own is None:
            yield batch, found
        else:
            here = _scored_here(own, clauses, [batch])
            yield batch, _joined(found, next(here)[1], order)


def _joined(one: Scored, other: Scored, order: Sequence[str]) -> Scored:
    """The scores of both, attributes in their order."""
    scores = one[0] | other[0]
    parts = {
        level: PartScores(found.lengths, {**found.scores, **other[1][level].scores})
        for level, found in one[1].items()
    }
    return {name: scores[name] for name in order if name in scores}, parts
