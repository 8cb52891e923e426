"""Replies of a model to prompts, judged by a policy and, when asked, drawn again until they obey."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.data import TokenRow, encode_rows, load_rows, prompt_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.scorers.parts import score_responses
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.settings import DEFAULT_TIMEOUT, check_timeout


@dataclass(frozen=True)
class GenerateSettings:
    """The names are those of the command's flags."""

    model: str
    prompt: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    domain: str | None = None
    scorer: tuple[str, ...] = ()
    reject: bool = False
    tries: int = 16
    samples: int = 1
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    scorer_timeout: float | None = DEFAULT_TIMEOUT
    allow_path: bool = False
    chat: bool = False


def generate(
    policy: CompiledPolicy | None, settings: GenerateSettings, *, folder: Path
) -> list[dict[str, Any]]:
    """One record per reply: prompt, completion, scores, violated clauses, ``violates``, tries.

    ``violates`` is None without a policy, and for prompts that lie in the domain of no clause.

    A reply violates when an indicator clause (pointwise, `P`) of its domain has f > 0. With ``reject`` the violating
    replies are drawn again, all of them together, at most ``tries`` times.
    Raises: ConfigError without prompts, for ``reject`` without a policy, or when no clause judges any reply.
    """
    if not settings.prompt and not settings.prompts:
        raise ConfigError("there is no prompt", help='add --prompt "TEXT" or --prompts FILE')
    if settings.reject and policy is None:
        raise ConfigError("--reject needs a policy to judge by", help="add --policy FILE")
    if settings.tries < 1 or settings.samples < 1:
        raise ConfigError("--tries and --samples must be at least 1")
    check_timeout(settings.scorer_timeout)
    law = SamplingLaw(settings.max_new_tokens, settings.temperature, settings.top_p)
    tags = {} if settings.domain is None else {"domain": settings.domain}
    raw = [{"prompt": text, **tags} for text in settings.prompt]
    raw += load_rows(settings.prompts, role="--prompts") if settings.prompts else []
    pool = None
    if policy is not None:
        scorers = bind_scorers(
            policy.ir, parse_scorer_options(settings.scorer), folder=folder, files=policy.files,
            allow_path=settings.allow_path,
        )  # fmt: skip
        pool = ScoringPool(policy.ir.attributes, scorers, timeout=settings.scorer_timeout)
    tokenizer = load_tokenizer(settings.model)
    model = load_model(settings.model, tokenizer=tokenizer)
    prompts = prompt_rows(
        encode_rows(raw, tokenizer, max_length=10**6, need_completion=False, chat=settings.chat)
    )
    if policy is not None:
        _require_judged(policy, prompts)
    wanted = [row for row in prompts for _ in range(settings.samples)]
    records: list[dict[str, Any]] = [{} for _ in wanted]
    open_ = list(range(len(wanted)))
    for attempt in range(settings.tries if settings.reject else 1):
        seed = derived_seed(settings.seed, "generate", attempt)
        replies = sample(model, tokenizer, [wanted[i] for i in open_], law, seed=seed)
        for i, record in zip(open_, _judged(policy, pool, replies, tokenizer), strict=True):
            records[i] = {**record, "tries": attempt + 1}
        open_ = [i for i in open_ if records[i]["violates"]]
        if not open_:
            break
    return records


def _judging(policy: CompiledPolicy) -> list[Clause]:
    """The clauses that can judge a single reply: not a quantile, which allows a share beyond it."""
    return [
        clause
        for clause in sample_clauses(policy.ir)
        if isinstance(clause.statistic, Indicator)
        and clause.kind in ("violation", "probability")
        and clause.base_factor is None
        and clause.strength != "prefer"
    ]


def _require_judged(policy: CompiledPolicy, prompts: list[TokenRow]) -> None:
    """Raise ConfigError when no clause judges any reply: unjudged must not look like obeying."""
    clauses = _judging(policy)
    if not clauses:
        raise ConfigError(
            "no clause of the policy judges a single reply",
            help="use `constraintc eval`, which judges means and rows",
        )
    if not any(matches(clause.domain, row.tags) for clause in clauses for row in prompts):
        domains = ", ".join(dict.fromkeys(domain_name(clause.domain) or "every prompt" for clause in clauses))
        raise ConfigError(
            f"no prompt lies in a domain of the policy ({domains})",
            help="add --domain NAME, write --prompts DOMAIN=FILE, or give the rows a `domain` column",
        )


def _judged(
    policy: CompiledPolicy | None, pool: ScoringPool | None, replies: list[TokenRow], tokenizer: Any
) -> list[dict[str, Any]]:
    """Records of replies."""
    asked, texts = prompt_texts(replies, tokenizer), completion_texts(replies, tokenizer)
    if policy is None or pool is None:
        return [
            {"prompt": p, "completion": c, "scores": {}, "violated": [], "violates": None}
            for p, c in zip(asked, texts, strict=True)
        ]
    clauses = _judging(policy)
    scores, parts = score_responses(pool, clauses, replies, asked, texts, tokenizer)
    values = statistics(clauses, scores, parts)
    records = []
    for i, row in enumerate(replies):
        applies = any(matches(clause.domain, row.tags) for clause in clauses)
        violated = [
            clause.name
            for k, clause in enumerate(clauses)
            if matches(clause.domain, row.tags) and values[i, k] != 0  # an unknown score counts as violated
        ]
        records.append(
            {
                "prompt": asked[i],
                "completion": texts[i],
                "scores": {name: None if np.isnan(s[i]) else float(s[i]) for name, s in scores.items()},
                "violated": violated,
                "violates": bool(violated) if applies else None,
            }
        )
    return records
