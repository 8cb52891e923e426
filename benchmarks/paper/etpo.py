"""The row `etpo`: token-level entropy-regularized RL, a soft Q for every next token and a policy that follows it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from job import Job, Trained
from stage import Stage, at_sites, budgeted, optimizer_step, site_logits, warm_cosine
from torch import Tensor, nn

from constraintlang_runtime.data import Batch, TokenRow, next_tokens
from constraintlang_runtime.loading import load_model
from constraintlang_runtime.sampling import derived_seed

DEFAULTS = {
    "learning_rate": 1e-4,
    "critic_learning_rate": 3e-4,
    "beta": 0.25,
    "trace": 0.95,
    "target_decay": 0.9,
    "replayed": 0,
}


class Critic(nn.Module):
    """Q(s, v) [S, V] of every next token: a copy of the language model's body and a head that starts at 0."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.body = model
        weight = model.get_output_embeddings().weight
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Batch, sites: Tensor) -> Tensor:
        """Q in float32 at the sites of a batch."""
        hidden = self.body.base_model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).last_hidden_state
        return self.head(hidden[sites]).float()


def train(job: Job) -> Trained:
    """Soft Q-learning over tokens and a policy update towards the soft-greedy policy, in turns on fresh batches.

    Taken over from ETPO (arXiv 2402.06700): the action is a token; a soft Bellman backup for every token with the KL to
    the reference in the place of the entropy; Q over the whole vocabulary from a model of the size of the policy,
    with a slowly moving target; replay; the policy moves by the KL to p_0 exp(Q/β)/Z at the states of its own draws.
    Different: one turn, so no discount between turns; the backup over one token is prolonged by ``trace`` (see
    ``soft_backup``), since with one token a reward at the end would need 24 fits to reach the beginning; the body of the
    critic starts from the policy's weights; the reward is the policy's.
    Options (``configs/etpo.yaml`` says which were tried): learning_rate, critic_learning_rate, beta, trace,
    target_decay, replayed (batches of earlier draws per step, for the critic).
    """
    options: dict[str, Any] = DEFAULTS | dict(job.options)
    stage = Stage.start(job, resumes=True)
    steps, count = budgeted(job.scale, 1)
    reference = stage.reference()
    critic, target = (
        Critic(load_model(stage.before.model, device=job.scale.device, tokenizer=stage.tokenizer))
        for _ in range(2)
    )
    target.requires_grad_(False)
    optimizer = stage.optimizer(options["learning_rate"])
    critic_optimizer = torch.optim.AdamW(
        critic.parameters(), lr=options["critic_learning_rate"], weight_decay=0.0
    )
    parts = {"optimizer": optimizer, "critic_optimizer": critic_optimizer, "critic": critic, "target": target}
    replay: list[tuple[TokenRow, float]] = []  # a resumed run begins a new one
    log = []
    for step in range(stage.resume(**parts), steps):
        drawn = stage.draw(stage.prompt_batch(step, count), step)
        fresh = list(zip(drawn.rows, drawn.rewards.tolist(), strict=True))
        chosen = random.Random(derived_seed(job.seed, "replay", step))
        batches = [
            chosen.sample(replay, min(count, len(replay))) for _ in range(options["replayed"]) if replay
        ]
        replay += fresh
        share = warm_cosine(step, steps, 1.0)
        for rows in (*batches, fresh):
            seen = _Seen.of(stage, reference, rows)
            loss = _critic_loss(stage, critic, target, seen, options)
            optimizer_step(loss, critic_optimizer, options["critic_learning_rate"] * share)
            with torch.no_grad():
                for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                    slow.lerp_(fast, 1.0 - options["target_decay"])
            stage.tokens += sum(len(row.ids) for row, _ in rows)
        divergence = _policy_loss(stage, critic, seen, options["beta"])
        optimizer_step(divergence, optimizer, options["learning_rate"] * share)
        stage.tokens += drawn.num_tokens
        if (step + 1) % max(1, steps // 15) == 0:
            numbers = {
                "reward": float(drawn.rewards.mean()),
                "critic_loss": float(loss.detach()),
                "kl_to_greedy": float(divergence.detach()),
            }
            log.append({"step": step + 1} | numbers)
            stage.tell(step + 1, steps, **numbers)
        if (step + 1) % max(1, steps // 3) == 0 and step + 1 < steps:
            stage.save(step + 1, **parts)
    return stage.finish(steps, {"options": options, "texts_per_step": count, "log": log})


@dataclass(frozen=True)
class _Seen:
    """A batch with its rewards [B], sites [B, T], their next tokens [S] and logits [S, V] of the reference."""

    batch: Batch
    rewards: Tensor
    sites: Tensor
    tokens: Tensor
    anchor: Tensor

    @classmethod
    def of(cls, stage: Stage, reference: Any, rows: Sequence[tuple[TokenRow, float]]) -> _Seen:
        """The batch of rows and their rewards."""
        batch = stage.collate([row for row, _ in rows])
        with torch.no_grad(), stage.autocast():
            anchor, sites = site_logits(reference, batch)
        rewards = torch.tensor([reward for _, reward in rows], device=anchor.device)
        return cls(batch, rewards, sites, next_tokens(batch.input_ids, sites), anchor)


def _critic_loss(
    stage: Stage, critic: Critic, target: Critic, seen: _Seen, options: dict[str, Any]
) -> Tensor:
    """Mean squared error of Q(s_t, y_t) to its backup under the target critic."""
    with torch.no_grad(), stage.autocast():
        slow = target(seen.batch, seen.sites)
        values = at_sites(soft_values(seen.anchor, slow, options["beta"]), seen.sites)
        chosen = at_sites(slow.gather(-1, seen.tokens[:, None])[:, 0], seen.sites)
        backup = soft_backup(values, chosen, seen.rewards, seen.sites, options["trace"])
    with stage.autocast():
        found = critic(seen.batch, seen.sites).gather(-1, seen.tokens[:, None])[:, 0]
    return nn.functional.mse_loss(found, backup[seen.sites])


def _policy_loss(stage: Stage, critic: Critic, seen: _Seen, beta: float) -> Tensor:
    """Mean over sites of KL(p_θ(.|s) ‖ p_0(.|s) exp(Q(s, .)/β) / Z)."""
    with torch.no_grad(), stage.autocast():
        greedy = soft_greedy(seen.anchor, critic(seen.batch, seen.sites), beta)
    with stage.autocast():
        now = site_logits(stage.model, seen.batch)[0].log_softmax(-1)
    return (now.exp() * (now - greedy)).sum(-1).mean()


# ------------------------------------------------------------ functions of tensors
def soft_values(anchor_logits: Tensor, q: Tensor, beta: float) -> Tensor:
    """V(s) = β log Σ_v p_0(v|s) exp(Q(s, v)/β) [S], the best value of reward less β KL, from [S, V] of both."""
    return beta * (anchor_logits.log_softmax(-1) + q / beta).logsumexp(-1)


def soft_greedy(anchor_logits: Tensor, q: Tensor, beta: float) -> Tensor:
    """log of p_0(v|s) exp(Q(s, v)/β) / Z(s) [S, V]."""
    return (anchor_logits.log_softmax(-1) + q / beta).log_softmax(-1)


def soft_backup(values: Tensor, chosen: Tensor, rewards: Tensor, sites: Tensor, trace: float) -> Tensor:
    """What Q(s_t, y_t) should be [B, T], 0 outside the sites: its reward at the last site of a row.

    Before it
    G_t = V(s_{t+1}) + trace · (G_{t+1} - Q(s_{t+1}, y_{t+1})).

    ``values`` and ``chosen`` [B, T] are V(s_t) and Q(s_t, y_t), ``rewards`` [B]. With trace 0 it is the soft Bellman
    backup over one token. The exact soft values are a fixed point for every trace and whatever policy drew the tokens,
    because along any path log π*(y|s)/p_0(y|s) = (Q - V)/β (path consistency).
    """
    targets = torch.zeros_like(values)
    later = torch.zeros_like(rewards, dtype=values.dtype)  # G, V and Q of the site after
    later_value, later_chosen = torch.zeros_like(later), torch.zeros_like(later)
    is_last = torch.ones_like(rewards, dtype=torch.bool)
    for t in range(values.shape[1] - 1, -1, -1):
        own = sites[:, t]
        passed_on = later_value + trace * (later - later_chosen)
        found = torch.where(is_last, rewards.to(values.dtype), passed_on)
        targets[:, t] = torch.where(own, found, 0.0)
        later = torch.where(own, found, later)
        later_value = torch.where(own, values[:, t], later_value)
        later_chosen = torch.where(own, chosen[:, t], later_chosen)
        is_last = is_last & ~own
    return targets
