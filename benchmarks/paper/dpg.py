"""Distributional control of whole sequences (GDC by KL-adaptive DPG): towards p(x) ∝ a(x) exp(-λ f(x)), f the statistic.

x is a prompt with its completion, a the model that the stage starts from. λ is the dual at which importance-weighted
samples of a meet the set-point. The policy π climbs E_q[P(x)/(Z q(x)) log π(x)], P = a exp(-λ f), on samples of a
proposal q, which is replaced by π after every pool on which π was the nearer of the two to p.

Source: Khalifa, Elsahar & Dymetman, A Distributional Approach to Controlled Text Generation (ICLR 2021), algorithm 1
with the divergence KL; the baseline is that of Korbak et al., On Reinforcement Learning and Distribution Matching
(NeurIPS 2022). As there, the law of whole sequences is tilted: prompts with a smaller Z(x) count less.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from job import Job, Trained
from numpy.typing import NDArray
from sequence_duals import aim, sequence_dual
from stage import Stage, warm_cosine
from torch import Tensor

from constraintlang_runtime.data import TokenRow

Floats = NDArray[np.float64]
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


def train(job: Job) -> Trained:
    """Train the stage's model by KL-adaptive DPG; every sample is scored once and used in one step."""
    stage, scale, options = Stage.start(job), job.scale, job.options
    steps = scale.steps
    per_step = max(1, scale.oracle_calls // steps)
    base, proposal = stage.reference(), stage.reference()
    peak = scale.learning_rate * float(options.get("learning_rate_share", 0.1))
    baseline = bool(options.get("baseline", True))
    optimizer = stage.optimizer(peak)
    dual: float | None = None
    normalisers: list[Floats] = []
    replaced, rates = 0, []
    stage.model.eval()  # no dropout: log π and log q are of the laws that were sampled
    for pool in pools(steps, int(options.get("first_steps", 20)), int(options.get("pool_steps", 10))):
        asked = [prompt for step in pool for prompt in stage.prompt_batch(step, per_step)]
        drawn = stage.draw(asked, pool.start, model=proposal)
        if dual is None:
            dual = sequence_dual(drawn.violations, aim(job))
        violations = torch.from_numpy(drawn.violations)
        log_q = whole_log_probs(stage, proposal, drawn.rows)
        log_weights = log_importance(whole_log_probs(stage, base, drawn.rows), log_q, violations, dual)
        normalisers.append(torch.exp(log_weights).numpy())
        log_z = float(np.log(np.concatenate(normalisers).mean()))
        rates.append(float(drawn.violations.mean()))
        found = torch.zeros(len(drawn.rows), dtype=torch.float64)
        for number, step in enumerate(pool):
            own = slice(number * per_step, (number + 1) * per_step)
            batch = stage.collate(drawn.rows[own])
            log_pi = stage.log_probs(stage.model, batch)[0].sum(dim=1)
            found[own] = log_pi.detach().double().cpu() - log_q[own]
            weight = advantages(log_weights[own], log_z, found[own], baseline=baseline).to(log_pi)
            tokens = int(batch.region.sum())
            stage.step(-(weight * log_pi).sum() / tokens, optimizer, warm_cosine(step, steps, peak))
            stage.tokens += int(batch.attention_mask.sum())
        is_better = is_nearer(log_weights, found)
        if is_better:
            proposal.load_state_dict(stage.model.state_dict())
            replaced += 1
        stage.tell(pool.stop, steps, rate=rates[-1], dual=dual, log_z=log_z, replaced=float(is_better))
    return stage.finish(
        steps,
        {"dual": dual, "aim": aim(job), "log_z": log_z, "proposals_replaced": replaced, "rates": rates,
         "learning_rate": peak, "samples_per_step": per_step, "baseline": baseline},
    )  # fmt: skip


@torch.no_grad()
def whole_log_probs(stage: Stage, model: object, rows: list[TokenRow]) -> Tensor:
    """log p(y|x) [n] of whole completions, float64 on the CPU."""
    found = [
        stage.log_probs(model, stage.collate(rows[i : i + ROWS_AT_ONCE]))[0].double().sum(dim=1).cpu()
        for i in range(0, len(rows), ROWS_AT_ONCE)
    ]
    return torch.cat(found)
