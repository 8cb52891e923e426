"""What must be equal for a resumed run to be the same run, as one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.config import ConstraintConfig, own_settings
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.model_names import split_revision
from constraintlang_runtime.run_settings import RunSettings, defaults
from constraintlang_runtime.settings import ConstraintSettings

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
        "score_cache",
        "judge_url",
        "judge_rate",
        "judge_timeout",
        "lane_timeout",
        "lane_ranks",
        "anchor_cache_gib",
        "sampler_url",
        "sampler_folder",
        "sampler_timeout",
    }
)  # settings that may differ when a run is resumed: no weight depends on them beyond rounding
CHOOSING = frozenset({"save_steps", "save_strategy"})  # not harmless to a run that keeps its best checkpoint


def harmless_to(config: ConstraintSettings) -> frozenset[str]:
    """The settings that may differ when a run of these is resumed."""
    found = HARMLESS - CHOOSING if config.keep == "best" else HARMLESS
    # Without a name the judge is whichever model the server has.
    return found if config.judge_model is not None else found - {"judge_url"}


def inputs_of(policy: CompiledPolicy, settings: RunSettings, config: ConstraintConfig) -> dict[str, Any]:
    """What must be equal for a resumed run to be the same run."""
    standard = defaults(ConstraintConfig)
    harmless = harmless_to(config)
    found = {
        "policy": policy.semantic_hash,
        "model": split_revision(settings.model)[0],  # its revision is known when it is loaded (``claim``)
        "data": list(settings.data),
        "prompts": list(settings.prompts),
        "heldout": list(settings.heldout),
        "selection": list(settings.selection),
        "scorer": list(settings.scorer),
        "settings": {  # a new setting that nobody gave makes no other run
            key: value
            for key, value in own_settings(config).items()
            if key not in harmless and value is not None
        },
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
    plain: dict[str, Any] = json.loads(json.dumps(found, sort_keys=True, default=str))
    return plain


def fingerprint_of(inputs: Mapping[str, Any]) -> str:
    """The inputs of a run as one hash."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def require_same_run(
    checkpoint: Path, recorded: Mapping[str, Any], semantic_hash: str, settings: Mapping[str, Any]
) -> None:
    """Raise ConfigError where a checkpoint was recorded under another policy or other settings than these."""
    if recorded["semantic_hash"] != semantic_hash:
        raise ConfigError(
            f"the checkpoint `{checkpoint}` was made under another policy ({recorded['semantic_hash']})",
            help="resume with the policy of the run, or start a new output folder",
        )
    differ = differences({"settings": recorded["settings"]}, {"settings": settings})
    if differ:
        raise ConfigError(
            f"the checkpoint `{checkpoint}` is of a run with other settings: {'; '.join(differ[:5])}",
            help="resume with the settings that the run was started with; to train its finished model on, give its "
            "folder as the model of a new run",
        )


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between the inputs of two runs, such as ``learning_rate: 0.0001 there, 0.0003 here``."""
    found: dict[str, str] = {}
    for name in sorted(there.keys() | here.keys()):
        one, other = there.get(name), here.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            for key in sorted(one.keys() | other.keys()):
                if one.get(key) != other.get(key):
                    label = key if name in ("settings", "changed") else f"{name} {key}"
                    found.setdefault(
                        label, f"{label}: {_short(one.get(key))} there, {_short(other.get(key))} here"
                    )
        elif one != other:
            found.setdefault(name, f"{name}: {_short(one)} there, {_short(other)} here")
    return list(found.values())


def _short(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _model_digests(folder: Path) -> dict[str, str]:
    """What a start model in a folder consists of; one of the hub is known by its id."""
    found = {}
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))) if folder.is_dir() else ():
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
