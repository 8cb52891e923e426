"""Samples of tilted laws where one side of a clause is rare: how they are drawn, what each prefix of them weighs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.clock import Clock
from constraintlang_runtime.control import logit
from constraintlang_runtime.data import TokenRow, collate, next_tokens, prediction_sites
from constraintlang_runtime.decoding import Guidance
from constraintlang_runtime.fit_once import fit_once
from constraintlang_runtime.groups import Group, attach_target, set_point_of
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.prompt_batches import prompt_batches
from constraintlang_runtime.rounds import Measurement, Progress, Proposals, draw_prompts
from constraintlang_runtime.sampling import derived_seed, sample
from constraintlang_runtime.settings import ConstraintSettings

Floats = NDArray[np.float64]
RARE = 0.05  # a side of a clause in fewer of the first samples is rare
FEWEST = 5  # a head that saw fewer of them does not know where they are
LARGEST = 10.0  # a suffix weight is cut there
NEAREST_EVERY = 4  # one proposal batch in so many is of q_lambda, the others seek the rarer side


@dataclass(frozen=True)
class Rare:
    """The rarer side of a clause: its ``bins`` [M], its share of the samples, and whether it is the violation.

    ``column`` is the clause's place in the group, None for all hard clauses together.
    """

    bins: NDArray[np.bool_]
    share: float
    violates: bool
    column: int | None


@dataclass(frozen=True)
class Remainder:
    """Prompts, and the numbers of their batches that are left for proposals."""

    prompts: list[TokenRow]
    numbers: list[int]
    rare: Rare


def measure_start(
    model: Any, tokenizer: Any, group: Group, config: ConstraintSettings, score: Callable[[list[TokenRow]], Floats],
    *, count: int, seed: int, progress: Progress | None = None, clock: Clock,
) -> tuple[Measurement, Remainder | None]:  # fmt: skip
    """As ``rounds.measure``, to the same bits, but that half of the batches are left where one side is rare."""
    prompts = draw_prompts(group.prompts, count, derived_seed(seed, "prompts"))
    batches = prompt_batches(model, prompts, config.sampling_batch_size, pad_token(tokenizer))
    first, rest = halves(len(batches), seed)

    def draw(numbers: Sequence[int]) -> tuple[list[TokenRow], Floats]:
        rows = _sample(model, tokenizer, prompts, numbers, config, derived_seed(seed, "tokens"), progress)
        clock.lap("sampling")
        return rows, score(rows)

    rows, statistics = draw(first)
    rare = rarest(group, statistics, config)
    if rare is not None:
        return Measurement(rows, statistics), Remainder(prompts, rest, rare)
    clock.lap("scoring")
    others, more = draw(rest)
    places = [sorted(i for number in numbers for i in batches[number]) for numbers in (first, rest)]
    order = np.argsort(np.array(places[0] + places[1]))
    every = rows + others
    return Measurement([every[i] for i in order], np.concatenate([statistics, more])[order]), None


def halves(count: int, seed: int) -> tuple[list[int], list[int]]:
    """A random half of the batches and the others: they are ordered by length, and each must stand for all prompts."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(seed, "halves")))
    return sorted(order[: count // 2].tolist()), sorted(order[count // 2 :].tolist())


def rarest(group: Group, statistics: Floats, config: ConstraintSettings) -> Rare | None:
    """The side of a chance clause (or of all hard ones together) that fewest samples are on.

    None when no side was seen often enough to be found again, or, with ``proposals: auto``, when none is rare.
    """
    sketch = replace(group, target=None)
    bins = attach_target(sketch, statistics)
    assert sketch.target is not None
    law = np.bincount(bins, minlength=sketch.target.num_bins) / max(1, len(bins))
    events: list[tuple[NDArray[np.bool_], int | None]] = []
    if sketch.target.hard:
        events.append((sketch.target.hard_bins, None))
    for column, soft in enumerate(sketch.target.soft):
        if soft.is_indicator:
            events.append((sketch.bin_values[:, column] > 0.5, soft.clause))
    found = []
    for inside, which in events:
        rate = float(law[inside].sum())
        side = Rare(inside, rate, True, which) if rate <= 0.5 else Rare(~inside, 1 - rate, False, which)
        if side.share * len(bins) >= FEWEST and (config.proposals == "tilted" or side.share < RARE):
            found.append(side)
    return min(found, key=lambda side: side.share, default=None)


def log_potentials(rare: Rare, aim: float) -> tuple[Floats, Floats]:
    """log ψ [M] of the law that seeks the rarer side, and of the nearest law that violates at the rate ``aim``.

    Equation: the first is exp(+β f) with f the indicator of the rarer side and β = -logit of its share, which makes
    it half of all completions under an exact V; the second is exp(-λ f) of the violation with
    λ = logit(rate) - logit(aim). Both are at most 0, within [-Λ, 0].
    """
    beta = min(LOG_FLOOR, max(0.0, -logit(rare.share)))
    seeking = np.where(rare.bins, 0.0, -beta)
    rate = rare.share if rare.violates else 1 - rare.share
    dual = min(LOG_FLOOR, max(0.0, logit(rate) - logit(aim)))
    return seeking, np.where(rare.bins == rare.violates, -dual, 0.0)


def draw_proposals(
    model: Any, tokenizer: Any, left: Remainder, group: Group, found: Measurement, config: ConstraintSettings,
    score: Callable[[list[TokenRow]], Floats], *, seed: int, num_statements: int, progress: Progress | None = None,
) -> Proposals:  # fmt: skip
    """Complete the prompts of some batches from tilted laws, guided by a head that is fitted on the first samples.

    Source: docs/method.md, "The auxiliary model". The group is left as it is.
    """
    anchor = Anchor(model)
    sketch = replace(group, target=None, head=None, controllers=[], stamps={})
    first = Measurement(found.rows, found.statistics)
    fit_once(
        sketch, anchor, first, config, tokenizer, [], seed=derived_seed(seed, "guide"), corpus=None,
        progress=progress,
    )  # fmt: skip
    assert sketch.head is not None
    head = sketch.head.eval()
    head.attach(anchor)
    aim = 0.5 / config.verify_prompts  # below what the verification could show
    if left.rare.column is not None:
        aim = max(aim, set_point_of(group.clauses[left.rare.column], config, num_statements))
    seeking, nearest = (torch.from_numpy(p).float() for p in log_potentials(left.rare, aim))
    parts = [
        (seeking, [n for place, n in enumerate(left.numbers) if place % NEAREST_EVERY != NEAREST_EVERY - 1]),
        (nearest, [n for place, n in enumerate(left.numbers) if place % NEAREST_EVERY == NEAREST_EVERY - 1]),
    ]
    rows: list[TokenRow] = []
    weights: list[Floats] = []
    for potential, chosen in parts:
        if not chosen:
            continue
        guidance = Guidance(head, potential)
        with guidance.attached(model):
            drawn = _sample(
                model,
                tokenizer,
                left.prompts,
                chosen,
                config,
                derived_seed(seed, "tokens"),
                progress,
                guidance,
            )
        rows += drawn
        weights.append(
            suffix_weights(
                anchor,
                head,
                drawn,
                potential,
                pad_token(tokenizer),
                config.sampling_batch_size,
                temperature=config.temperature,
            )
        )
    return Proposals(rows, score(rows), np.concatenate(weights))


def _sample(
    model: Any, tokenizer: Any, prompts: Sequence[TokenRow], numbers: Sequence[int], config: ConstraintSettings,
    seed: int, progress: Progress | None, *guidance: Guidance,
) -> list[TokenRow]:  # fmt: skip
    return sample(
        model, tokenizer, prompts, config.law, seed=seed, numbers=numbers, batch_size=config.sampling_batch_size,
        logits_processor=guidance,
        progress=None if progress is None else lambda done, total: progress("sampling", done, total),
    )  # fmt: skip


@torch.no_grad()
def suffix_weights(
    anchor: Anchor, head: Any, rows: Sequence[TokenRow], log_potential: Tensor, pad_id: int, batch_size: int,
    *, temperature: float = 1.0, chunk: int = 1024,
) -> Floats:  # fmt: skip
    """The weight of every prefix of proposals, row by row in order: that of the continuation alone.

    Equation: w_t = min(10, Π_{j>=t} p_ref(y_j|s_j) / a(y_j|s_j)), a ∝ p_ref V. Given s_t the label's law depends on the
    continuation, so E_a[w_t g | s_t] = E_pref[g | s_t]; the product over all tokens would weigh prefixes and add its
    variance to no use.
    """
    device = next(anchor.model.parameters()).device
    potential = log_potential.to(device)
    found: list[Floats] = []
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        batch = collate(list(some), pad_id).to(device)
        sites = prediction_sites(batch.region)
        features = anchor.features(batch, sites)
        inputs = head.inputs(batch, sites, features)
        tokens = next_tokens(batch.input_ids, sites)
        ratios = []
        few = max(1, 2 * chunk // head.num_bins)
        for f, i, y in zip(features.split(few), inputs.split(few), tokens.split(few), strict=True):
            logits = anchor.logits_from(f).float()
            tilted = (logits + head.log_values(i, potential)) / temperature
            ratio = torch.log_softmax(logits / temperature, -1) - torch.log_softmax(tilted, -1)
            ratios.append(ratio.gather(1, y[:, None]).squeeze(1).double().cpu())
        lengths = sites.sum(1).tolist()
        for own in torch.cat(ratios).split(lengths):
            suffix = own.flip(0).cumsum(0).flip(0)
            found.append(suffix.exp().clamp_max(LARGEST).numpy())
    return np.concatenate(found) if found else np.zeros(0)
