"""Distributional control of whole sequences (GDC by KL-adaptive DPG): towards p(x) ∝ a(x) exp(-λ f(x)), f the statistic.

x is a prompt with its completion, a the model that the stage starts from. λ is the dual at which importance-weighted
samples of a meet the set-point. The policy π climbs E_q[P(x)/(Z q(x)) log π(x)], P = a exp(-λ f), on samples of a
proposal q, which is replaced by π after every pool on which π was the nearer of the two to p.

Source: Khalifa, Elsahar & Dymetman, A Distributional Approach to Controlled Text Generation (ICLR 2021), algorithm 1
with the divergence KL; the baseline is that of Korbak et al., On Reinforcement Learning and Distribution Matching
(NeurIPS 2022). As there, the law of whole sequences is tilted: prompts with a smaller Z(x) count less.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from job import Job, Trained
from sequence_duals import aim, sequence_dual
from stage import Stage, budgeted, optimizer_step, warm_cosine
from torch import Tensor

from constraintlang_runtime.data import TokenRow

DEFAULTS: dict[str, Any] = {
    "aim": "set_point", "learning_rate_share": 0.1, "baseline": True, "first_steps": 20, "pool_steps": 10,
}  # fmt: skip
ROWS_AT_ONCE = 128  # of a forward pass without gradient


def log_importance(log_a: Tensor, log_q: Tensor, violations: Tensor, dual: float) -> Tensor:
    """log P(x)/q(x) [n] of samples of q, with P = a exp(-λ f)."""
    return log_a - dual * violations - log_q


def advantages(log_weights: Tensor, log_z: float, log_pi_over_q: Tensor, *, baseline: bool) -> Tensor:
    """What multiplies ∇ log π(x) [n]: P/(Z q), less π/q with the baseline, whose mean gradient is zero.

    Equation: E_q[(P/(Z q) - π/q) ∇ log π] = E_p[∇ log π], so that both forms climb -KL(p‖π).
    """
    own = torch.exp(log_weights - log_z)
    return own - torch.exp(log_pi_over_q) if baseline else own


def is_nearer(log_weights: Tensor, log_pi_over_q: Tensor) -> bool:
    """Whether π is nearer to p than q is: KL(p‖q) - KL(p‖π) = E_p[log π - log q] > 0, self-normalised."""
    return bool((torch.softmax(log_weights.double(), dim=0) * log_pi_over_q.double()).sum() > 0)


def pools(steps: int, first: int, later: int) -> list[range]:
    """The optimizer steps that share a pool of samples: the first pool, which also gives λ, then smaller ones."""
    bounds = [0, *range(min(first, steps), steps, later), steps]
    return [range(start, end) for start, end in pairwise(bounds) if end > start]


class Found:
    """What the pools so far gave: λ, the sum and number of P/q (whose mean is Z), rates of q, replacements of q."""

    def __init__(self) -> None:
        self.dual: float | None = None
        self.total, self.count, self.replaced = 0.0, 0, 0
        self.rates: list[float] = []

    @property
    def log_z(self) -> float:
        """log Z."""
        return math.log(self.total / self.count)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of ``state_dict``."""
        vars(self).update(state)


def train(job: Job) -> Trained:
    """Train the stage's model by KL-adaptive DPG; every sample is scored once and used in one step.

    Options: ``aim`` (see ``sequence_duals``), ``learning_rate_share`` of the scale's learning rate, ``baseline``,
    ``first_steps`` and ``pool_steps``, for which the first and the later pools of samples last.
    """
    stage, scale, options = Stage.start(job, resumes=True), job.scale, DEFAULTS | dict(job.options)
    steps, per_step = budgeted(scale, 1)
    base, proposal = stage.reference(), stage.reference()
    peak = scale.learning_rate * float(options["learning_rate_share"])
    optimizer, found = stage.optimizer(peak), Found()
    stage.model.eval()  # no dropout: log π and log q are of the laws that were sampled
    planned = pools(steps, int(options["first_steps"]), int(options["pool_steps"]))
    begun = stage.resume(optimizer=optimizer, proposal=proposal, found=found)
    for number, pool in enumerate(planned):
        if pool.start < begun:
            continue
        asked = [prompt for step in pool for prompt in stage.prompt_batch(step, per_step)]
        drawn = stage.draw(asked, pool.start, model=proposal)
        if found.dual is None:
            found.dual = sequence_dual(drawn.violations, aim(job))
        violations = torch.from_numpy(drawn.violations)
        log_q = whole_log_probs(stage, proposal, drawn.rows)
        log_weights = log_importance(whole_log_probs(stage, base, drawn.rows), log_q, violations, found.dual)
        found.total += float(torch.exp(log_weights).sum())
        found.count += len(log_weights)
        found.rates.append(float(drawn.violations.mean()))
        log_ratio = torch.zeros(len(drawn.rows), dtype=torch.float64)  # log π/q
        for place, step in enumerate(pool):
            own = slice(place * per_step, (place + 1) * per_step)
            batch = stage.collate(drawn.rows[own])
            log_pi = stage.log_probs(stage.model, batch)[0].sum(dim=1)
            log_ratio[own] = log_pi.detach().double().cpu() - log_q[own]
            gains = advantages(
                log_weights[own], found.log_z, log_ratio[own], baseline=bool(options["baseline"])
            )
            loss = -(gains.to(log_pi) * log_pi).sum() / int(batch.region.sum())
            optimizer_step(loss, optimizer, warm_cosine(step, steps, peak))
            stage.tokens += int(batch.attention_mask.sum())
        is_better = is_nearer(log_weights, log_ratio)
        if is_better:
            proposal.load_state_dict(stage.model.state_dict())
            found.replaced += 1
        stage.tell(
            pool.stop, steps, rate=found.rates[-1], dual=found.dual, log_z=found.log_z, replaced=is_better
        )
        if (number + 1) % max(1, len(planned) // 3) == 0 and pool.stop < steps:
            stage.save(pool.stop, optimizer=optimizer, proposal=proposal, found=found)
    return stage.finish(
        steps,
        {"options": options, "aim": aim(job), "dual": found.dual, "log_z": found.log_z, "rates": found.rates,
         "proposals_replaced": found.replaced, "texts_per_step": per_step},
    )  # fmt: skip


@torch.no_grad()
def whole_log_probs(stage: Stage, model: object, rows: list[TokenRow]) -> Tensor:
    """log p(y|x) [n] of whole completions, float64 on the CPU."""
    found = [
        stage.log_probs(model, stage.collate(rows[i : i + ROWS_AT_ONCE]))[0].double().sum(dim=1).cpu()
        for i in range(0, len(rows), ROWS_AT_ONCE)
    ]
    return torch.cat(found)
