"""The row `reinforce`: plain REINFORCE on the policy's reward, with a batch-mean baseline and KL in the reward."""

from __future__ import annotations

from typing import Any

import torch
from job import Job, Trained
from stage import Stage, budgeted, optimizer_step, warm_cosine
from torch import Tensor

DEFAULTS = {"learning_rate": 1e-4, "beta": 0.05, "lm_weight": 0.0}


def train(job: Job) -> Trained:
    """One gradient step on each fresh batch: no groups, no ratios, no clipping of ratios, no critic.

    The textbook form (Williams 1992) stands for the RL row of the paper, whose exact objective we do not have, with what
    every later recipe adds, the KL to the model that the stage starts from.
    ``lm_weight`` mixes in the LM loss on corpus rows. Options (``configs/reinforce.yaml`` says which were tried):
    learning_rate, beta, lm_weight.
    """
    options: dict[str, Any] = DEFAULTS | dict(job.options)
    stage = Stage.start(job, resumes=True)
    steps, count = budgeted(job.scale, 1)
    reference, optimizer = stage.reference(), stage.optimizer(options["learning_rate"])
    log = []
    for step in range(stage.resume(optimizer=optimizer), steps):
        drawn = stage.draw(stage.prompt_batch(step, count), step)
        batch = stage.collate(drawn.rows)
        with torch.no_grad():
            before, _ = stage.log_probs(reference, batch)
        now, _ = stage.log_probs(stage.model, batch)
        rewards = torch.tensor(drawn.rewards, dtype=now.dtype, device=now.device)
        loss = reinforce_loss(now, before, rewards, options["beta"])
        stage.tokens += drawn.num_tokens
        if options["lm_weight"] > 0:
            corpus = stage.corpus_batch(step, job.scale.batch_size)
            loss = loss + options["lm_weight"] * stage.lm_loss(stage.collate(corpus))
            stage.tokens += sum(len(row.ids) for row in corpus)
        optimizer_step(loss, optimizer, warm_cosine(step, steps, options["learning_rate"]))
        if (step + 1) % max(1, steps // 15) == 0:
            numbers = {
                "reward": float(drawn.rewards.mean()),
                "kl": float((now.detach() - before).sum(1).mean()),  # of sequences, in nats
            }
            log.append({"step": step + 1} | numbers)
            stage.tell(step + 1, steps, **numbers)
        if (step + 1) % max(1, steps // 3) == 0 and step + 1 < steps:
            stage.save(step + 1, optimizer=optimizer)
    return stage.finish(steps, {"options": options, "texts_per_step": count, "log": log})


def reinforce_loss(now: Tensor, before: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """-mean_i A_i Σ_t log p_θ(y_it|s_it), A_i = R_i - mean R, R_i = r_i - β Σ_t log p_θ(y_it|s_it) / p_0(y_it|s_it).

    ``now`` and ``before`` [B, T] are log-probabilities of the drawn tokens, 0 where there are none, ``rewards`` [B].
    Gradient: A is a constant, so that of E[r] - β KL(p_θ ‖ p_0), negated, times 1 - 1/B for the baseline's own row.
    """
    returns = rewards - beta * (now.detach() - before).sum(1)
    advantages = returns - returns.mean()
    return -(advantages * now.sum(1)).mean()
