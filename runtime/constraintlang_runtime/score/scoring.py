"""Scores of batches of texts, in order: found here, or by workers where a score follows from the text alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.parts import PartScores
from constraintlang_runtime.score.row_stream import RowBatch, RowStream
from constraintlang_runtime.scorers.binding import needs_text_alone, parse_scorer_options, require_used
from constraintlang_runtime.scorers.parts import Pool, Scored, score_responses
from constraintlang_runtime.scorers.pool import MAX_REMEMBERED, Floats, ScoringPool
from constraintlang_runtime.scorers.scoring_settings import ScoringSettings
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
    policy: CompiledPolicy,
    settings: ScoringSettings,
    clauses: Sequence[Clause],
    *,
    folder: Path,
    workers: int,
) -> Iterator[ScoredBatches]:
    """What scores the batches of an audit. With several workers the attributes that the text alone decides are theirs.

    Models, judges and plug-ins are called in this process. Scores do not depend on the number of workers.
    Raises: ConfigError, ModelError as ``ScoringSettings.pool`` does; ScorerError when a worker dies.
    """
    options = parse_scorer_options(settings.scorer)
    theirs = needs_text_alone(policy.ir, options) if workers > 1 else frozenset()
    if not theirs:
        yield partial(_scored_here, settings.pool(policy, folder=folder), clauses)
        return
    order = [attribute.name for attribute in policy.ir.attributes]
    require_used(options, order)
    own = frozenset(order) - theirs
    pool = _part(policy, settings, own).pool(folder=folder) if own else None
    share = _part(policy, settings, theirs)
    build = partial(_build, share, clauses, folder, MAX_REMEMBERED // workers)
    with Workers[Texts, Scored](build, workers) as running:
        yield partial(_scored_by, running, pool, clauses, order)


@dataclass(frozen=True)
class _Part:
    """Some attributes of a policy, and what is told about scoring them."""

    policy: CompiledPolicy
    settings: ScoringSettings

    def pool(self, *, folder: Path, **options: Any) -> ScoringPool:
        return self.settings.pool(self.policy, folder=folder, **options)


def _part(policy: CompiledPolicy, settings: ScoringSettings, names: frozenset[str]) -> _Part:
    kept = tuple(a for a in policy.ir.attributes if a.name in names)
    options = tuple(option for option in settings.scorer if option.partition("=")[0] in names)
    part = replace(policy, ir=structs.replace(policy.ir, attributes=kept), contents={})
    return _Part(part, replace(settings, scorer=options))


def _build(
    share: _Part, clauses: Sequence[Clause], folder: Path, remembered: int
) -> Callable[[Texts], Scored]:
    pool = share.pool(folder=folder, max_remembered=remembered)
    return partial(_score, pool, clauses)


def _score(pool: ScoringPool, clauses: Sequence[Clause], texts: Texts) -> Scored:
    chosen = Chosen(pool, frozenset(pool.names))
    return score_responses(chosen, clauses, (), *texts, None)


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
