"""What can be said of a run before torch and transformers are imported: of its settings, files, domains and scorers."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from constraintlang_compiler.ir import Clause, PolicyIR
from constraintlang_runtime.columns import split_domain
from constraintlang_runtime.missing_paths import require_folder
from constraintlang_runtime.row_files import require_source
from constraintlang_runtime.run_length import MAX_STEPS, checked_steps
from constraintlang_runtime.run_settings import OWN, RunSettings, settings
from constraintlang_runtime.scorers.binding import require_options
from constraintlang_runtime.settings import ConstraintSettings
from constraintlang_runtime.tag_values import require_named_domains

# Of transformers' arguments those with another default in `train`, and those that an estimate reads.
TRAINING: dict[str, Any] = {
    "max_steps": MAX_STEPS,
    "num_train_epochs": 0.0,
    "learning_rate": 1e-4,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False,
    "bf16": False,
    "fp16": False,
    "optim": "adamw_torch_fused",
    "save_steps": 200.0,
    "seed": 42,
}


def light_names() -> dict[str, Any]:
    """The settings that need no torch to be checked, with their defaults."""
    return {field.name: field.default for field in fields(ConstraintSettings)} | TRAINING


def training_arguments() -> list[str]:
    """The names of transformers' ``TrainingArguments``, read from their source: to import them takes seconds.

    Raises: ModuleNotFoundError when transformers is not installed.
    """
    found = find_spec("transformers")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
    tree = ast.parse((Path(found.origin).parent / "training_args.py").read_text(encoding="utf-8"))
    return [
        line.target.id
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    ]


def known_settings(merged: Mapping[str, Any]) -> dict[str, Any]:
    """``light_names``, and where a setting is none of them, transformers' others with None for their defaults."""
    light = light_names()
    if set(merged) <= {*OWN, *light}:
        return light
    return dict.fromkeys(training_arguments()) | light


def check_settings(merged: Mapping[str, Any]) -> tuple[RunSettings, ConstraintSettings]:
    """The settings of a run as far as they are known here; values of transformers' own are checked by itself, later.

    Raises: ConfigError for an unknown or missing key, or a wrong value.
    """
    given = settings(merged, known_settings(merged))
    own = {field.name for field in fields(ConstraintSettings)}
    constraint = ConstraintSettings(**{key: value for key, value in given.config.items() if key in own})
    constraint.check()
    theirs = TRAINING | given.config
    checked_steps(theirs["max_steps"], theirs["num_train_epochs"])
    return given, constraint


def check_sources(
    policy: PolicyIR,
    clauses: Iterable[Clause],
    *,
    files: Mapping[str, Sequence[str]],
    prompts: Sequence[str],
    models: Sequence[str],
    scorer: Sequence[str],
    wanted: str,
) -> None:
    """Check what a run is given by name.

    ``files`` are row files by their parameter, ``prompts`` those among them that must reach the domains of
    ``clauses``, and ``wanted`` the options that would; ``models`` are folders or ids of the hub.
    Raises: ConfigError, DataError, ModelError.
    """
    for parameter, specs in files.items():
        for spec in specs:
            require_source(split_domain(spec)[1], parameter)
    require_options(policy, scorer)
    for name in models:
        require_folder(name, "causal language model")
    require_named_domains(clauses, prompts, wanted)
