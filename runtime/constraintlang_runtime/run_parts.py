"""What every rank of a run loads by the names in its settings: model, tokenizer, rows, scorers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.adapters import with_adapter
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.model_checks import require_end
from constraintlang_runtime.run_rows import RunRows
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.scorers.protocol import Scorer


def configured(settings: RunSettings, output_dir: str) -> ConstraintConfig:
    """The checked configuration; what transformers refuses is a ConfigError too."""
    try:
        return ConstraintConfig(output_dir=output_dir, disable_tqdm=True, **settings.config)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"transformers refuses the settings: {error}", help="change that setting"
        ) from error


@dataclass(frozen=True)
class RunParts:
    """What a run trains, on what, and what measures it."""

    model: Any
    tokenizer: Any
    rows: RunRows
    scorers: Mapping[str, Scorer]


def load_rows_of(settings: RunSettings) -> RunRows:
    """The rows of all files; what names no file is None. Raises: DataError."""
    return RunRows(
        load_rows(settings.data, role="data"),
        load_rows(settings.prompts, role="prompts") if settings.prompts else None,
        load_rows(settings.heldout, role="heldout") if settings.heldout else None,
        load_rows(settings.selection, role="selection") if settings.selection else None,
    )


def load_parts(
    policy: CompiledPolicy,
    settings: RunSettings,
    config: ConstraintConfig,
    folder: Path,
    scorers: Mapping[str, Scorer] | None,
) -> RunParts:
    """What every rank of a run loads."""
    rows = load_rows_of(settings)
    bound = bind_scorers(
        policy.ir,
        parse_scorer_options(settings.scorer),
        scorers,
        folder=folder,
        files=policy.files,
        allow_path=settings.allow_path,
        allow_code=settings.allow_code,
        allow_plugins=settings.allow_plugins,
        judge=config.judge,
        base=settings.model,
        device=config.places_on,
    )
    tokenizer = load_tokenizer(settings.model)
    require_end(tokenizer, settings.model)
    model = with_adapter(
        load_model(
            settings.model,
            tokenizer=tokenizer,
            dtype=config.held_in,
            device=config.model_on,
            attention=config.attn_implementation,
        ),
        config,
        config.seed,
        settings.model,
    )
    return RunParts(model, tokenizer, rows, bound)
