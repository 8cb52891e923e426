"""``constraintc generate``: prompts, model, policy and guide from their names, and the replies of the decoding."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.checkpoint import STATE_FILE
from constraintlang_runtime.data import encode_rows, load_rows, prompt_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.generation import DecodingSettings, Generated, Generator, Progress
from constraintlang_runtime.integrations.guide import Guide, fit_guide
from constraintlang_runtime.integrations.guide_files import load_guide, save_guide
from constraintlang_runtime.integrations.policy import Policy
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.binding import parse_scorer_options
from constraintlang_runtime.scorers.scoring_settings import ScoringSettings
from constraintlang_runtime.settings import ConstraintSettings


@dataclass(frozen=True)
class GenerateSettings(ScoringSettings):
    """The names are those of the command's flags; those of ``decoding`` are flags of their own."""

    model: str
    prompt: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    domain: str | None = None
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    guide: str | None = None
    guide_rounds: int = 4
    guide_settings: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    chat: bool = False


def generate(
    policy: CompiledPolicy | None,
    settings: GenerateSettings,
    *,
    folder: Path,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> Generated:
    """Replies to the prompts; ``folder`` is where the policy stands.

    Raises: ConfigError without prompts, where the decoding needs a policy, or when no clause judges any reply.
    """
    if not settings.prompt and not settings.prompts:
        raise ConfigError("there is no prompt", help='add --prompt "TEXT" or --prompts FILE')
    if settings.decoding.decoding != "plain" and policy is None:
        raise ConfigError(
            f"--decoding {settings.decoding.decoding} needs a policy to judge by", help="add --policy FILE"
        )
    if settings.guide is not None and settings.decoding.decoding in ("plain", "masked"):
        raise ConfigError(
            f"--guide has no part in --decoding {settings.decoding.decoding}",
            help="use --decoding guided, rejection or best_first",
        )
    if settings.guide_rounds < 0:
        raise ConfigError(f"got {settings.guide_rounds}, expected at least 0", parameter="guide_rounds")
    _check_guide_settings(settings)
    law = SamplingLaw(settings.max_new_tokens, settings.temperature, settings.top_p, stop=settings.stop)
    tags = {} if settings.domain is None else {"domain": settings.domain}
    raw = [{"prompt": text, **tags} for text in settings.prompt]
    raw += load_rows(settings.prompts, role="prompts") if settings.prompts else []
    own: Policy | None = None
    if policy is not None:
        pool = settings.pool(policy, folder=folder)
        own = Policy(policy, pool.scorers, folder=folder, rebound=parse_scorer_options(settings.scorer))
        own.pool = pool
    tokenizer = load_tokenizer(settings.model)
    model = load_model(settings.model, tokenizer=tokenizer)
    prompts = prompt_rows(
        encode_rows(raw, tokenizer, max_length=10**6, need_completion=False, chat=settings.chat)
    )
    generator = Generator(
        model, tokenizer, law, policy, None if own is None else own.pool, None, folder, settings.allow_path, progress,
        () if own is None else own.rebound,
    )  # fmt: skip
    generator.check(prompts, settings.decoding, has_guide=True)
    if settings.decoding.decoding == "guided" and policy is not None:
        hard = [f"`{clause.name}`" for clause in sample_clauses(policy.ir) if clause.hard]
        if hard:
            tell(
                f"guided decoding masks nothing: it makes violations of {', '.join(hard)} rare but forbids none"
            )
    guide = None if own is None else _guide(own, settings, model, tokenizer, raw, progress, tell)
    return generator.steered_by(guide).generate(prompts, settings.decoding)


def _guide(
    policy: Policy,
    settings: GenerateSettings,
    model: Any,
    tokenizer: Any,
    raw: list[dict[str, Any]],
    progress: Progress | None,
    tell: Callable[[str], None],
) -> Guide | None:
    """The guide that the decoding asks for: read from its folder, or fitted to the prompts and kept there."""
    place = None if settings.guide is None else Path(settings.guide)
    decoding = settings.decoding.decoding
    if decoding in ("plain", "masked") or (decoding == "rejection" and place is None):
        return None
    semantic_hash = _known_as(policy.compiled)
    if place is not None and (place / STATE_FILE).exists():
        return load_guide(place, model=model, semantic_hash=semantic_hash)
    if place is not None and place.is_dir() and any(place.iterdir()):
        raise ConfigError(
            f"`{place}` is not empty and holds no guide", help="name another folder", parameter="guide"
        )
    tell(
        f"fitting a guide to samples of {settings.model}"
        + ("; --guide DIR would keep it" if place is None else f"; it will be kept in {place}")
    )
    guide = fit_guide(
        policy, model, tokenizer, raw, rounds=settings.guide_rounds, seed=settings.decoding.seed, progress=progress,
        max_new_tokens=settings.max_new_tokens, stop=list(settings.stop) or None, chat=settings.chat,
        **settings.guide_settings,
    )  # fmt: skip
    if place is not None:
        save_guide(guide, place, model=model, semantic_hash=semantic_hash)
        tell(f"wrote the guide to {place}")
    return guide


def _known_as(policy: CompiledPolicy) -> str:
    """The policy with its word lists, which a guide was fitted for."""
    found = hashlib.sha256()
    for name, content in sorted(policy.contents.items()):
        found.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return f"{policy.semantic_hash} {found.hexdigest()[:16]}" if policy.contents else policy.semantic_hash


def _check_guide_settings(settings: GenerateSettings) -> None:
    """Raise ConfigError for a setting that is none of a guide's."""
    known = {own.name for own in fields(ConstraintSettings)} - {own.name for own in fields(settings)}
    for name in settings.guide_settings:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"unknown flag `--{name}`",
                help=f"a similar setting of a guide exists: `--{close[0]}`"
                if close
                else "see `constraintc generate --help`",
            )
    if settings.guide_settings and settings.decoding.decoding in ("plain", "masked"):
        raise ConfigError(
            f"--{next(iter(settings.guide_settings))} has no part in --decoding {settings.decoding.decoding}",
            help="it is a setting of a guide's auxiliary model",
        )
