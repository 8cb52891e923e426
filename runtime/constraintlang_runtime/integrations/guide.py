"""A policy obeyed by sampling alone: an auxiliary model fitted to samples of a model guides its decoding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.controlling import control_groups
from constraintlang_runtime.data import encode_rows, prompt_rows
from constraintlang_runtime.decoding import Guidance
from constraintlang_runtime.engine import ConstraintEngine, Progress
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.rounds import measure
from constraintlang_runtime.sampling import derived_seed
from constraintlang_runtime.settings import ConstraintSettings

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy

logger = logging.getLogger(__name__)


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
        self.history = tuple(history)


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
    config = ConstraintSettings(**{"anchor": "start", "prefixes": "sampled", **settings})
    config.check()
    if (config.adaptive, config.anchor, config.schedule) != ("domain", "start", "sequential"):
        raise ConfigError(
            "a guide is of one model and one set of clauses, and nothing is trained",
            help="leave `adaptive`, `anchor` and `schedule` out",
        )
    rows: list[dict[str, Any]] = [{"prompt": p} if isinstance(p, str) else dict(p) for p in prompts]
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
