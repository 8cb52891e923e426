"""What must be equal for a resumed run to be the same run, as one hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.config import ConstraintConfig, own_settings
from constraintlang_runtime.run_settings import RunSettings, defaults

HARMLESS = frozenset(
    {
        "logging_steps",
        "logging_strategy",
        "logging_first_step",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "report_to",
        "run_name",
        "scorer_timeout",
        "lane_timeout",
        "lane_ranks",
        "anchor_cache_gib",
        "sampler_url",
        "sampler_folder",
        "sampler_timeout",
    }
)  # settings that may differ when a run is resumed: no weight depends on them beyond rounding
CHOOSING = frozenset({"save_steps", "save_strategy"})  # not harmless to a run that keeps its best checkpoint


def fingerprint_of(policy: CompiledPolicy, settings: RunSettings, config: ConstraintConfig) -> str:
    """What must be equal for a resumed run to be the same run."""
    standard = defaults(ConstraintConfig)
    harmless = HARMLESS - CHOOSING if config.keep == "best" else HARMLESS
    content = {
        "policy": policy.semantic_hash,
        "model": settings.model,
        "data": list(settings.data),
        "prompts": list(settings.prompts),
        "heldout": list(settings.heldout),
        "selection": list(settings.selection),
        "scorer": list(settings.scorer),
        "settings": {key: value for key, value in own_settings(config).items() if key not in harmless},
        "changed": {
            key: value
            for key, value in settings.config.items()
            if key not in harmless and value != standard[key]
        },
        "files": {
            spec: hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for spec in (
                *settings.data,
                *settings.prompts,
                *settings.heldout,
                *settings.selection,
                *settings.scorer,
            )
            if (path := spec.split("=", 1)[-1]) and Path(path).is_file()
        },
        "word lists": {
            name: hashlib.sha256(content).hexdigest() for name, content in sorted(policy.contents.items())
        },
        "start model": _model_digests(Path(settings.model)),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _model_digests(folder: Path) -> dict[str, str]:
    """What a start model in a folder consists of; one of the hub is known by its id."""
    found = {}
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))) if folder.is_dir() else ():
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
