"""What a round does and what it found: its plan, samples of the current model and their statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.ir import Clause
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ScorerError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.ranks import gathered, interleaved, rank_and_size
from constraintlang_runtime.samplers.protocol import Sampler
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts, sample
from constraintlang_runtime.scorers.parts import score_responses
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Proposals:
    """Completions of tilted laws and their statistics [n, K], for the fit alone.

    ``weights``: for every token of every completion, row by row, the suffix weight (``proposals.suffix_weights``).
    """

    rows: list[TokenRow]
    statistics: Floats
    weights: Floats

    @property
    def effective_size(self) -> float:
        """Kish's effective sample size of whole completions: (Σ w)² / Σ w² of the weights at their first tokens."""
        lengths = np.array([len(row.completion) for row in self.rows])
        first = self.weights[np.cumsum(lengths) - lengths]
        return float(first.sum() ** 2 / (first**2).sum())


@dataclass(frozen=True)
class Measurement:
    """Completions of the current model on a group's prompts and their statistics f [n, K].

    ``proposals`` are not of the model's law, so that no rate is measured on them.
    """

    rows: list[TokenRow]
    statistics: Floats
    proposals: Proposals | None = None


@dataclass(frozen=True)
class RoundPlan:
    """What round ``number`` does: ``count`` completions per group; whether the regularizer starts, or is fitted again.

    ``takes_anchor``: the model as it is at this round becomes p_ref.
    """

    number: int
    count: int
    starts: bool = False
    refits: bool = False
    takes_anchor: bool = False


@dataclass(frozen=True)
class Measured:
    """Phase A of a group: its measurement in a round, and the clauses with the numbers that the measurement gave them.

    ``round`` is the round whose model was sampled; ``seconds`` by stage.
    """

    round: int
    found: Measurement
    clauses: tuple[Clause, ...]
    corpus_means: Floats
    seconds: dict[str, float]


@dataclass(frozen=True)
class FitRecord:
    """Phase C of a group: what the fit (and the start of the controllers) logs, and its seconds; empty without one."""

    logs: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def score_rows(
    pool: ScoringPool,
    clauses: Sequence[Clause],
    rows: Sequence[TokenRow],
    tokenizer: Any,
    progress: Any = None,
    stop: Sequence[str] = (),
) -> Floats:
    """Statistics [n, K] of rows under clauses, from the text of their completions before ``stop``.

    Of several processes each scores every n-th row and all get all statistics.
    Raises: ScorerError when a score that a clause needs is unavailable; training cannot guess it.
    """
    rank, num_ranks = rank_and_size()
    if num_ranks == 1:
        return score_alone(pool, clauses, rows, tokenizer, progress, stop)
    parts = gathered(list(score_alone(pool, clauses, rows[rank::num_ranks], tokenizer, progress, stop)))
    return np.array(interleaved(parts), dtype=np.float64).reshape(len(rows), len(clauses))


def score_alone(
    pool: ScoringPool,
    clauses: Sequence[Clause],
    rows: Sequence[TokenRow],
    tokenizer: Any,
    progress: Any = None,
    stop: Sequence[str] = (),
) -> Floats:
    """``score_rows`` by this process alone."""
    prompts, completions = prompt_texts(rows, tokenizer), completion_texts(rows, tokenizer, stop)
    keys = sorted({key for row in rows for key in row.tags})
    columns = {key: [row.tags.get(key) for row in rows] for key in keys}
    scores, parts = score_responses(
        pool, clauses, rows, prompts, completions, tokenizer, columns=columns, progress=progress
    )
    result = statistics(clauses, scores, parts)
    unknown = np.isnan(result).any(axis=1)
    if unknown.any():
        first = int(np.flatnonzero(unknown)[0])
        raise ScorerError(
            f"{int(unknown.sum())} of {len(rows)} texts have no score, the first is {completions[first][:60]!r}",
            help="make the scorer return a number for every text; training cannot guess one",
        )
    return result


def draw_prompts(prompts: Sequence[TokenRow], count: int, seed: int) -> list[TokenRow]:
    """``count`` prompts: whole passes over a seeded shuffle, so that none is drawn twice before all were drawn."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[TokenRow] = []
    while len(drawn) < count:
        order = torch.randperm(len(prompts), generator=generator).tolist()
        drawn.extend(prompts[i] for i in order[: count - len(drawn)])
    return drawn


def measure(
    model: Any, tokenizer: Any, pool: ScoringPool, group: Group, config: ConstraintSettings,
    *, count: int, seed: int, progress: Progress | None = None, logits_processor: Sequence[Any] = (),
    clock: Clock | None = None, sampler: Sampler | None = None,
) -> Measurement:  # fmt: skip
    """Sample ``count`` completions on the group's prompts and score them."""
    prompts = draw_prompts(group.prompts, count, derived_seed(seed, "prompts"))
    rows = (sampler or sample)(
        model, tokenizer, prompts, config.law, seed=derived_seed(seed, "tokens"),
        batch_size=config.sampling_batch_size, logits_processor=logits_processor,
        progress=None if progress is None else lambda done, total: progress("sampling", done, total),
    )  # fmt: skip
    if clock is not None:
        clock.lap("sampling")
    scored = score_rows(
        pool, group.clauses, rows, tokenizer,
        None if progress is None else lambda done, total: progress("scoring", done, total), config.law.stop,
    )  # fmt: skip
    return Measurement(rows, scored)


def keep_samples(group: Group, rows: Sequence[TokenRow], limit: int) -> None:
    """Add sampled rows to the store and drop the oldest above ``limit``."""
    group.store = [*group.store, *(row for row in rows if row.completion)][-limit:]


def draw_stored(group: Group, count: int, seed: int, part: int) -> list[TokenRow]:
    """``count`` rows of a group's store for this process, with replacement; ``part`` numbers the draws of a seed.

    The parts and the processes take their shares of one sequence.
    """
    rank, num_ranks = rank_and_size()
    generator = torch.Generator().manual_seed(seed)
    together = count * num_ranks
    picked = torch.randint(len(group.store), ((part + 1) * together,), generator=generator).tolist()
    return [group.store[i] for i in picked[part * together :][rank::num_ranks]]
