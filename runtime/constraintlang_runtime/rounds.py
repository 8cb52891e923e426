"""One round: sample the current model, score, measure, and start or move the controllers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_runtime import control
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError, ScorerError, TrainingError
from constraintlang_runtime.groups import Group, set_point_of
from constraintlang_runtime.projection import LOG_FLOOR, effective_sample_size, project
from constraintlang_runtime.ranks import gathered, interleaved, rank_and_size
from constraintlang_runtime.samplers.protocol import Sampler
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts, sample
from constraintlang_runtime.scorers.parts import score_responses
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import ConstraintSettings

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measurement:
    """Completions of the current model on a group's prompts and their statistics f [n, K]."""

    rows: list[TokenRow]
    statistics: Floats


def score_rows(
    pool: ScoringPool,
    clauses: Sequence[Clause],
    rows: Sequence[TokenRow],
    tokenizer: Any,
    progress: Any = None,
) -> Floats:
    """Statistics [n, K] of rows under clauses, from the text of their completions.

    Of several processes each scores every n-th row and all get all statistics.
    Raises: ScorerError when a score that a clause needs is unavailable; training cannot guess it.
    """
    rank, num_ranks = rank_and_size()
    if num_ranks == 1:
        return _score_own(pool, clauses, rows, tokenizer, progress)
    parts = gathered(list(_score_own(pool, clauses, rows[rank::num_ranks], tokenizer, progress)))
    return np.array(interleaved(parts), dtype=np.float64).reshape(len(rows), len(clauses))


def _score_own(
    pool: ScoringPool, clauses: Sequence[Clause], rows: Sequence[TokenRow], tokenizer: Any, progress: Any
) -> Floats:
    prompts, completions = prompt_texts(rows, tokenizer), completion_texts(rows, tokenizer)
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
        None if progress is None else lambda done, total: progress("scoring", done, total),
    )  # fmt: skip
    return Measurement(rows, scored)


def start_controllers(
    group: Group, law: Floats, measurement: Measurement, config: ConstraintSettings, num_statements: int
) -> dict[str, float]:
    """Set-points, weight and first duals of a group, in closed form; returns what to log.

    The dual of the projection of the fitted law onto the set-points, plus the correction for the pull of the corpus
    (method.md section 4). A bound that the projection cannot reach is an error naming the clause.
    """
    target = group.target
    assert target is not None
    means = measurement.statistics.mean(axis=0)
    columns = [soft.clause for soft in target.soft]
    stds = measurement.statistics.std(axis=0)
    points = np.array(
        [set_point_of(group.clauses[c], config, num_statements, float(stds[c])) for c in columns],
        dtype=np.float64,
    )
    solved = project(law, group.bin_values, points, target.hard_bins)
    for column, saturated in zip(columns, solved.saturated, strict=True):
        if saturated and group.clauses[column].strength != "prefer":
            raise TrainingError(
                f"clause `{group.clauses[column].name}` cannot be met: even the strongest tilt of the "
                f"{config.anchor} model leaves {float(solved.means[columns.index(column)]):.3g}, "
                f"the set-point is {points[columns.index(column)]:.3g}",
                help="loosen the bound, raise --anchor_samples so that compliant answers are seen, or choose another "
                "start model",
            )
    regularizer = config.regularizer
    pulled = np.array([_pulled_mean(group, c, p) for c, p in zip(columns, points, strict=True)])
    weights = [
        regularizer.weight or control.initial_weight(d, p, regularizer.divergence)
        for d, p in zip(pulled, points, strict=True)
    ]
    duals = control.start_duals(
        law, group.bin_values, points, target.hard_bins, solved,
        corpus=pulled, weight=max(weights, default=1.0), divergence=regularizer.divergence,
    )  # fmt: skip
    controllers = []
    for k, column in enumerate(columns):
        clause, point, weight, dual = group.clauses[column], float(points[k]), weights[k], float(duals[k])
        cap = LOG_FLOOR if clause.strength != "prefer" else min(LOG_FLOOR, float(clause.weight))
        state = control.ControllerState(
            value=min(dual, cap), weight=weight, set_point=point, gain=regularizer.gain, max_value=cap,
            min_samples=int(5 / max(point, 1e-3)),
        )  # fmt: skip
        if regularizer.adaptive == "prompt":
            if len(columns) != 1 or not isinstance(clause.statistic, Indicator) or target.hard:
                raise ConfigError(
                    "adaptive: `prompt` works with one chance clause per domain; "
                    f"`{group.name}` has {len(group.clauses)}",
                    help="use --adaptive domain",
                )
            state = replace(state, value=control.logit(1 - point) + (dual - float(solved.duals[k])))
        if regularizer.is_moving:
            state = replace(
                state,
                kind="log_weight",
                fixed_dual=min(float(solved.duals[k]), cap),
                value=float(np.log(weight)),
                max_value=6.0,
            )
        controllers.append(state)
    group.controllers = controllers
    log_weights = target.log_potential(group.duals, group.bin_values)[
        target.bin_index(measurement.statistics)
    ]
    return {
        "projection_kl": solved.kl,
        "effective_sample_size": effective_sample_size(log_weights),
        **{f"anchor_mean/{group.clauses[c].name}": float(means[c]) for c in columns},
    }


def _pulled_mean(group: Group, column: int, point: float) -> float:
    """The mean of the corpus rows, no lower than the set-point: what pulls the equilibrium away from it."""
    corpus = float(group.corpus_means[column])
    mean = point if np.isnan(corpus) else max(corpus, point)
    return min(mean, 0.999) if isinstance(group.clauses[column].statistic, Indicator) else mean


def control_group(group: Group, measurement: Measurement) -> None:
    """Move every controller of the group by the measured means of its clause."""
    assert group.target is not None
    updated = []
    for state, soft in zip(group.controllers, group.target.soft, strict=True):
        clause = group.clauses[soft.clause]
        values = measurement.statistics[:, soft.clause]
        high, scale = 1.0, 1.0
        if not isinstance(clause.statistic, Indicator):
            high = float(getattr(clause.statistic, "high", None) or max(values.max(), 1.0))
            scale = control.sensitivity(values, high)
        scaled = replace(state, set_point=min(state.set_point / high, 0.999))
        moved = control.update(scaled, float((values / high).sum()), float(len(values)), scale=scale)
        updated.append(replace(moved, set_point=state.set_point))
    group.controllers = updated


def keep_samples(group: Group, rows: Sequence[TokenRow], limit: int) -> None:
    """Add sampled rows to the store and drop the oldest above ``limit``."""
    group.store = [*group.store, *(row for row in rows if row.completion)][-limit:]
