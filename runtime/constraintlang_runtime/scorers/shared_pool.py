"""A pool whose scores are found by worker processes where they follow from the text alone, and here elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.binding import (
    names_on_base,
    needs_text_alone,
    parse_scorer_options,
    require_used,
)
from constraintlang_runtime.scorers.parts import Pool
from constraintlang_runtime.scorers.pool import MAX_REMEMBERED, Floats, ScoringPool
from constraintlang_runtime.scorers.scoring_settings import ScoringSettings
from constraintlang_runtime.scorers.workers import Workers

TOGETHER = 512  # texts of one task
WORKERS_PER_PROCESSOR, ALWAYS_ALLOWED = 4, 16

Texts = tuple[Sequence[str], Sequence[str], Sequence[str]]
"""Prompts, completions, and the attributes to score."""


@dataclass(frozen=True)
class Share:
    """Some attributes of a policy, and what is told about scoring them."""

    policy: CompiledPolicy
    settings: ScoringSettings

    def pool(self, **options: Any) -> ScoringPool:
        """Their scorers; ``options`` as of ``ScoringSettings.pool``."""
        return self.settings.pool(self.policy, **options)


@dataclass(frozen=True)
class Shares:
    """The attributes of a policy, in its ``order``: those of worker processes, if any, and those of this one."""

    order: tuple[str, ...]
    theirs: Share | None
    ours: Share | None


@dataclass(frozen=True, kw_only=True)
class SharedScoringSettings(ScoringSettings):
    """``score_workers`` processes score; with one, this one does."""

    score_workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score_workers < 1:
            raise ConfigError(f"got {self.score_workers}, expected at least 1", parameter="score_workers")
        processors = os.cpu_count() or 1
        most = max(ALWAYS_ALLOWED, WORKERS_PER_PROCESSOR * processors)
        if self.score_workers > most:
            raise ConfigError(
                f"got {self.score_workers}, expected at most {most}",
                help=f"each is a process with memory of its own, and this machine has {processors} processors",
                parameter="score_workers",
            )

    def shares(self, policy: CompiledPolicy) -> Shares:
        """Who scores what. Raises: ConfigError for a scorer of an attribute that the policy does not use."""
        options = parse_scorer_options(self.scorer)
        order = tuple(attribute.name for attribute in policy.ir.attributes)
        theirs = needs_text_alone(policy.ir, options) if self.score_workers > 1 else frozenset[str]()
        if not theirs:
            return Shares(order, None, Share(policy, self))
        # an attribute that is read on the base model as well stays with what measures it there
        on_base = set(names_on_base(policy.ir))
        require_used(options, [*order, *sorted(on_base)])
        theirs -= {key.removesuffix("@base") for key in on_base}
        ours = frozenset(order) - theirs
        return Shares(
            order,
            self._share(policy, theirs) if theirs else None,
            self._share(policy, ours) if ours else None,
        )

    def _share(self, policy: CompiledPolicy, names: frozenset[str]) -> Share:
        kept = tuple(attribute for attribute in policy.ir.attributes if attribute.name in names)
        options = tuple(
            option for option in self.scorer if option.partition("=")[0].removesuffix("@base") in names
        )
        part = replace(policy, ir=structs.replace(policy.ir, attributes=kept), contents={})
        return Share(part, replace(self, scorer=options))

    @contextmanager
    def shared_pool(self, policy: CompiledPolicy, *, folder: Path, base: str | None = None) -> Iterator[Pool]:
        """``pool``, with the workers; they end with the block."""
        shares = self.shares(policy)
        ours = None if shares.ours is None else shares.ours.pool(folder=folder, base=base)
        if shares.theirs is None:
            assert ours is not None
            yield ours
            return
        remembered = MAX_REMEMBERED // self.score_workers
        build = partial(_build, shares.theirs, folder, remembered)
        with Workers[Texts, dict[str, Floats]](build, self.score_workers) as workers:
            yield SharedPool(workers, ours, shares)


class SharedPool:
    """The scores of a ``ScoringPool``, found in several processes."""

    def __init__(
        self, workers: Workers[Texts, dict[str, Floats]], ours: ScoringPool | None, shares: Shares
    ) -> None:
        own = [] if ours is None else ours.names
        self._workers, self._ours = workers, ours
        self._theirs = frozenset(shares.order) - frozenset(own)
        self._names = [*shares.order, *(name for name in own if name not in shares.order)]

    @property
    def names(self) -> list[str]:
        """Names of the attributes."""
        return list(self._names)

    @property
    def follow_columns(self) -> bool:
        """Whether some scorer may read other columns; the workers are given none."""
        return self._ours is not None and self._ours.follow_columns

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Floats]:
        """Scores [n] per attribute, NaN where unavailable."""
        wanted = self._names if names is None else list(names)
        theirs = [name for name in wanted if name in self._theirs]
        starts = range(0, len(completions), TOGETHER) if theirs else ()
        parts = []
        for start, found in self._workers.in_order(
            (start, (prompts[start : start + TOGETHER], completions[start : start + TOGETHER], theirs))
            for start in starts
        ):
            parts.append(found)
            if progress is not None:
                progress(min(start + TOGETHER, len(completions)), len(completions))
        scores = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in theirs}
        ours = [name for name in wanted if name not in self._theirs]
        if ours and self._ours is not None:
            scores |= self._ours.score(prompts, completions, ours, columns, progress)
        return {name: scores[name] for name in wanted}


def _build(share: Share, folder: Path, remembered: int) -> Callable[[Texts], dict[str, Floats]]:
    pool = share.pool(folder=folder, max_remembered=remembered)
    return lambda texts: pool.score(*texts)
