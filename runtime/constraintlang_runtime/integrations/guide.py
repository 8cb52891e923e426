"""A policy obeyed by sampling alone: an auxiliary model fitted to samples of a model guides its decoding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import Clause
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.controlling import control_groups
from constraintlang_runtime.data import (
    TokenRow,
    collate,
    encode_rows,
    next_tokens,
    prediction_sites,
    prompt_rows,
)
from constraintlang_runtime.decoding import Guidance
from constraintlang_runtime.engine import ConstraintEngine, Progress
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.integrations.texts import given_rows
from constraintlang_runtime.projection import LOG_FLOOR
from constraintlang_runtime.rounds import measure
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.unknown_settings import require_known

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 4  # whose logits over the vocabulary and the bins are formed together


@dataclass(frozen=True)
class Round:
    """Mean statistic of each clause, measured before a round's control step; round 0 is the unguided model."""

    number: int
    means: Mapping[str, float]


class Guide(Guidance):
    """A logits processor whose strength was set by measuring; ``history`` says how the clauses fell.

    Use it inside ``with guide.attached(model):``, for sampling only.
    """

    def __init__(self, group: Group, history: Sequence[Round]) -> None:
        assert group.head is not None
        super().__init__(group.head, group.log_potential(), group.exponent)
        self.group = group
        self.head = group.head
        self.log_potential = group.log_potential()
        self.exponent = group.exponent
        self.history = tuple(history)

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """The clauses that it steers by; columns of ``true_log_potential``."""
        return self.group.clauses

    def true_log_potential(self, statistics: NDArray[np.float64]) -> float:
        """log ψ of one response from its own statistics f [K], no bins: max(-Σ_k λ_k f_k, -Λ), -Λ where a hard one is
        > 0.

        An unknown statistic (NaN) has the floor -Λ.
        """
        target = self.group.target
        assert target is not None
        own = statistics[[soft.clause for soft in target.soft]]
        if np.isnan(own).any() or (statistics[list(target.hard)] != 0).any():
            return -LOG_FLOOR
        return max(-float(own @ self.group.duals), -LOG_FLOOR)

    def require_prompts(self, prompts: Sequence[TokenRow]) -> None:
        """Raise ConfigError for a prompt that the guide does not speak of."""
        for number, row in enumerate(prompts):
            for clause in self.clauses:
                if not matches(clause.domain, row.tags):
                    raise ConfigError(
                        f"prompt {number} lies outside the domain of `{clause.name}` "
                        f"({domain_name(clause.domain)}), which the guide was fitted for",
                        help="guide the prompts of one domain at a time, each with its own guide",
                    )

    @torch.no_grad()
    def log_weights(self, model: Any, rows: Sequence[TokenRow], pad_id: int) -> list[float]:
        """log p(y|x) - log a(y|x) of completed rows, a the guided law at temperature 1; one forward pass of each row.

        Equation: Σ_t [log Σ_v p(v|s_t) V(s_t·v)^γ - γ log V(s_t·y_t)], from every prediction site of the row.
        """
        anchor, found = Anchor(model), []
        device = next(model.parameters()).device
        for start in range(0, len(rows), ROWS_AT_ONCE):
            batch = collate(rows[start : start + ROWS_AT_ONCE], pad_id)
            sites = prediction_sites(batch.region)
            logits, features = anchor.read(batch.to(device), sites.to(device))
            log_probs = torch.log_softmax(logits.float(), dim=-1)
            inputs = self.head.inputs(batch.to(device), sites.to(device), features)
            value = self.exponent * self.head.log_values(inputs, self.log_potential.to(device))
            tokens = next_tokens(batch.input_ids, sites).to(device)
            own = torch.logsumexp(log_probs + value, dim=-1) - value.gather(1, tokens[:, None]).squeeze(1)
            total = torch.zeros(len(batch.input_ids), dtype=torch.float64)
            found += total.index_add(0, torch.nonzero(sites)[:, 0], own.double().cpu()).tolist()
        return found


def fit_guide(
    policy: Policy,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Mapping[str, Any] | str],
    *,
    rounds: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> Guide:
    """Sample, score, fit, solve for the duals, then correct them by what guided samples show; the model is not changed.

    ``rounds`` are control steps after the first; each samples ``control_samples`` completions. ``settings`` are those
    of ``docs/settings.md``.
    Raises: DataError when no prompt lies in a clause's domain; ConfigError when the prompts fall under different
    clauses (one guide serves one set of clauses); TrainingError when the policy cannot be met.
    """
    require_known("guidance", settings, [field.name for field in fields(ConstraintSettings)])
    config = ConstraintSettings(
        **{"anchor": "start", "prefixes": "sampled", "training_rows": "given", **settings}
    )
    config.check()
    if (config.adaptive, config.anchor, config.schedule) != ("domain", "start", "sequential"):
        raise ConfigError(
            "a guide is of one model and one set of clauses, and nothing is trained",
            help="leave `adaptive`, `anchor` and `schedule` out",
        )
    rows = given_rows(prompts)
    encoded = prompt_rows(
        encode_rows(
            rows, tokenizer, max_length=config.max_length, seed=seed, need_completion=False, chat=config.chat
        )
    )
    if not encoded:
        raise DataError("there are no prompts", help="give some that the model will be asked")
    engine, _ = ConstraintEngine.prepare(
        policy.compiled,
        [],
        encoded,
        config,
        policy.pool,
        tokenizer,
        max_steps=1,
        seed=seed,
        progress=progress,
    )
    if len(engine.groups) != 1:
        names = ", ".join(group.name for group in engine.groups)
        raise ConfigError(
            f"the prompts fall under different clauses ({names})", help="fit a guide for the prompts of each"
        )
    found: list[dict[str, Any]] = []
    engine.log = found.append
    engine.take_start(model, preserves=False)
    engine.run_round(model, 0)
    (group,) = engine.groups
    history = [Round(0, {c.name: found[0][f"constraint/{c.name}/value"] for c in group.clauses})]
    for number in range(1, rounds + 1):
        guide = Guide(group, history)
        with guide.attached(model):
            measured = measure(
                model, tokenizer, policy.pool, group, config, count=config.control_samples,
                seed=derived_seed(seed, "guide", number), progress=progress, logits_processor=[guide],
            )  # fmt: skip
        means = measured.statistics.mean(axis=0)
        history.append(Round(number, {c.name: float(m) for c, m in zip(group.clauses, means, strict=True)}))
        logger.info("guide: %s", history[-1])
        control_groups([group], [measured])
    return Guide(group, history)
