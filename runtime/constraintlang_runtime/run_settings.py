"""The settings of a training run from a YAML file and flags: same names, unknown keys rejected; no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from constraintlang_runtime.errors import ConfigError

LISTS = ("data", "prompts", "heldout", "selection", "scorer")
MAY_BE_EMPTY = ("save_total_limit", "scorer_timeout")  # numbers by default for which nothing is a value too
USUAL_NAMES = {  # what other trainers call a setting of ours
    "lr": "learning_rate", "epochs": "num_train_epochs", "num_epochs": "num_train_epochs", "steps": "max_steps",
    "batch_size": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
    "grad_accum": "gradient_accumulation_steps", "output_dir": "output", "max_seq_length": "max_length",
    "seq_length": "max_length", "block_size": "max_length", "max_completion_length": "max_new_tokens",
    "model_name_or_path": "model", "model_revision": "model", "dataset": "data", "train_file": "data",
    "beta": "regularizer_weight",
    "kl_coef": "regularizer_weight", "num_generations": "control_samples", "torch_dtype": "train_dtype",
    "dtype": "train_dtype",
}  # fmt: skip
SWITCHES = ("resume", "overwrite", "allow_path", "allow_code", "allow_plugins")
OWN = ("model", "output", *SWITCHES, *LISTS)


@dataclass(frozen=True)
class RunSettings:
    """Where a run reads and writes, and the settings of its ``ConstraintConfig``."""

    model: str
    data: tuple[str, ...]
    output: str
    prompts: tuple[str, ...] = ()
    heldout: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()
    scorer: tuple[str, ...] = ()
    resume: bool = False
    overwrite: bool = False
    allow_path: bool = False
    allow_code: bool = False
    allow_plugins: bool = False
    config: dict[str, Any] = field(default_factory=dict)


def read_yaml(path: str | None) -> dict[str, Any]:
    """A flat mapping from a YAML file; paths in it are taken as written, from the working directory."""
    if path is None:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read `{path}`: {error.strerror}", help="check the path", parameter="config"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8", help="save it as UTF-8", parameter="config") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"`{path}` is not YAML: {error}", help="write `key: value` lines", parameter="config"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"`{path}` holds a {type(content).__name__}, expected `key: value` lines", parameter="config"
        )
    return {str(key): value for key, value in content.items()}


def parse_flags(tokens: Sequence[str]) -> dict[str, Any]:
    """``["--max_steps", "10", "--bf16"]`` -> {"max_steps": 10, "bf16": True}; values are read as YAML scalars."""
    found: dict[str, Any] = {}
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if not token.startswith("--"):
            raise ConfigError(f"unexpected argument `{token}`", help="settings are written --name value")
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            following = tokens[position + 1] if position + 1 < len(tokens) else "--"
            if following.startswith("--"):
                value = "true"
            else:
                value, position = following, position + 1
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[name] = value
        position += 1
    return found


def settings(merged: Mapping[str, Any], known: Mapping[str, Any]) -> RunSettings:
    """Check a merged mapping (YAML under flags) and split it.

    ``known`` maps the names of ``ConstraintConfig`` to their default values.
    Raises: ConfigError for an unknown key (naming a similar one), a missing one, or a value of the wrong type.
    """
    allowed = [*OWN, *(name for name in known if name != "output_dir")]
    for key in merged:
        if key not in allowed:
            usual = USUAL_NAMES.get(key.replace("-", "_"))
            close = [usual] if usual else difflib.get_close_matches(key, allowed, n=1)
            raise ConfigError(
                f"unknown setting `{key}`",
                help=f"a similar setting exists: `{close[0]}`" if close else "see `constraintc train --help`",
            )
    for key, what in (
        ("model", "--model DIR_OR_ID"),
        ("data", "--data [DOMAIN=]FILE"),
        ("output", "--output DIR"),
    ):
        if not merged.get(key):
            raise ConfigError(
                f"`{key}` is missing", help=f"give {what}, or write `{key}:` in the configuration"
            )
    lists: dict[str, Any] = {key: as_texts(key, merged.get(key)) for key in LISTS}
    switches: dict[str, Any] = {key: _as_bool(key, merged.get(key, False)) for key in SWITCHES}
    config = {key: _coerced(key, value, known[key]) for key, value in merged.items() if key not in OWN}
    return RunSettings(
        model=str(merged["model"]), output=str(merged["output"]), config=config, **lists, **switches
    )


def as_texts(key: str, value: Any) -> tuple[str, ...]:
    """A setting that is one text, a list of them, or name: text pairs, as a tuple. Raises: ConfigError."""
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return tuple(f"{name}={target}" for name, target in value.items())
    if isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ConfigError(f"{key}: got {value!r}, expected a text, a list of texts, or name: text pairs")


def _as_bool(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{key}: got {value!r}, expected true or false")


def _coerced(key: str, value: Any, default: Any) -> Any:
    """YAML reads ``1e-4`` as a text; numbers are given the type of the default."""
    if (
        isinstance(value, str)
        and (isinstance(default, int | float) or default is None)
        and not isinstance(default, bool)
    ):
        try:
            value = float(value)
        except ValueError:
            if isinstance(default, int | float):
                raise ConfigError(f"{key}: got {value!r}, expected a number") from None
            return value
    if isinstance(default, bool) and not isinstance(value, bool):
        raise ConfigError(f"{key}: got {value!r}, expected true or false")
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    if is_number and (isinstance(value, bool) or not isinstance(value, int | float | None)):
        raise ConfigError(f"{key}: got {value!r}, expected a number")
    if is_number and value is None and key not in MAY_BE_EMPTY:
        raise ConfigError(f"{key}: got nothing, expected a number", help="write one, or leave the key out")
    if isinstance(default, int) and not isinstance(default, bool) and isinstance(value, float):
        if not value.is_integer():
            raise ConfigError(f"{key}: got {value}, expected a whole number")
        return int(value)
    if isinstance(default, str) and value is False:
        return "no"  # YAML reads a bare `no` as false, and `save_strategy: no` is what people write
    if isinstance(default, str) and isinstance(value, bool | int | float):
        raise ConfigError(f"{key}: got {value!r}, expected a text")
    return value


def defaults(config_class: Any) -> dict[str, Any]:
    """Names and default values of a configuration dataclass."""
    from dataclasses import MISSING

    return {f.name: None if f.default is MISSING else f.default for f in fields(config_class) if f.init}
