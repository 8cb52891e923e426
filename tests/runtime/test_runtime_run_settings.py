"""The settings of a run: the same names in YAML and as flags, types kept, unknown keys refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.run_settings import defaults, parse_flags, read_yaml, settings
from constraintlang_runtime.settings import CHOICES, ConstraintSettings

NEEDED = {"model": "m", "data": ["d"], "output": "o"}
KNOWN = defaults(ConstraintConfig)


def other_value(name: str, default: Any) -> Any:
    """A legal value that is not the default."""
    if name in CHOICES:
        return next(value for value in CHOICES[name] if value != default)
    special = {"warmup_fraction": 0.25, "set_point_share": 0.5, "regularizer_weight": 2.5, "regularizer_rows": 3,
               "top_p": 0.5, "control_gain": 0.75, "temperature": 0.5, "auxiliary_learning_rate": 0.02,
               "alpha": 0.25, "lora_target_modules": "q_proj,v_proj"}  # fmt: skip
    if isinstance(default, bool):
        return not default
    return special.get(name, default + 1 if isinstance(default, int) else 0.5)


NAMES = [field.name for field in fields(ConstraintSettings)]


@pytest.mark.parametrize("name", [*NAMES, "max_steps", "seed", "bf16"])
def test_every_key_is_also_a_flag(name: str, tmp_path: Path) -> None:
    value = True if name == "bf16" else other_value(name, KNOWN[name])
    assert value != KNOWN[name]
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({name: value}))
    from_file = settings(NEEDED | read_yaml(str(path)), KNOWN)
    for tokens in (
        [f"--{name}", str(value)],
        [f"--{name}={value}"],
        [f"--{name.replace('_', '-')}", str(value)],
    ):
        from_flags = settings(NEEDED | parse_flags(tokens), KNOWN)
        assert from_flags == from_file
        assert from_flags.config == {name: value}
        assert type(from_flags.config[name]) is type(value)


def test_every_setting_of_ours_has_help() -> None:
    for field in fields(ConstraintSettings):
        assert field.metadata["help"], field.name


@pytest.mark.parametrize("setting", ["regularizer_wieght", "Rounds", "output_dir", "anchors"])
def test_unknown_keys_name_a_similar_one(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting `{setting}`") as caught:
        settings(NEEDED | {setting: 1}, KNOWN)
    assert caught.value.exit_code == 2
    similar = {"regularizer_wieght": "regularizer_weight", "Rounds": "rounds", "anchors": "anchor"}
    if setting in similar:
        assert f"`{similar[setting]}`" in str(caught.value)


def test_flags() -> None:
    found = parse_flags(
        ["--a", "1", "--b=x=y", "--c", "--d-e", "-0.5", "--f", "1e-4", "--g", "[1, 2]", "--h", "{"]
    )
    assert found == {"a": 1, "b": "x=y", "c": True, "d_e": -0.5, "f": "1e-4", "g": [1, 2], "h": "{"}
    with pytest.raises(ConfigError, match="unexpected argument `x`"):
        parse_flags(["--a", "1", "x"])


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("learning_rate", "1e-4", 1e-4), ("learning_rate", 1, 1), ("max_steps", 100.0, 100), ("max_steps", "20", 20),
        ("save_total_limit", None, None), ("lr_scheduler_type", "cosine", "cosine"), ("report_to", "none", "none"),
        ("regularizer_weight", "1e1", 10.0), ("regularizer_weight", None, None),
    ],
)  # fmt: skip
def test_values_take_the_type_of_the_default(key: str, given: Any, expected: Any) -> None:
    found = settings(NEEDED | {key: given}, KNOWN).config[key]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("max_steps", "many"), ("max_steps", 2.5), ("max_steps", True), ("max_steps", None), ("max_steps", [1]),
        ("learning_rate", "fast"), ("bf16", 1), ("bf16", "true"), ("anchor", 3), ("resume", "yes"), ("data", 3),
        ("data", [1]),
    ],
)  # fmt: skip
def test_values_of_another_type(key: str, given: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        settings(NEEDED | {key: given}, KNOWN)


def test_lists_may_be_one_text_a_list_or_a_mapping() -> None:
    for given, expected in (
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ({"chat": "a", "wiki": "b"}, ("chat=a", "wiki=b")),
    ):
        assert settings(NEEDED | {"data": given}, KNOWN).data == expected


@pytest.mark.parametrize("key", NEEDED)
def test_what_is_needed(key: str) -> None:
    for value in (None, "", []):
        with pytest.raises(ConfigError, match=f"`{key}` is missing"):
            settings(NEEDED | {key: value}, KNOWN)


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# nothing yet\n")
    assert read_yaml(str(tmp_path / "run.yaml")) == {}
    assert read_yaml(None) == {}


@pytest.mark.parametrize(
    ("steps", "parts", "given", "expected"),
    [
        (100, 1, None, 16),  # short: as many as the corpus has
        (1_000, 1, None, 3),  # long: 3,072 completions over 1,000 steps
        (1_000, 4, None, 1),  # never none
        (1_000, 4, 7, 7),
    ],
)
def test_a_long_run_uses_each_completion_about_once(
    steps: int, parts: int, given: int | None, expected: int
) -> None:
    settings = ConstraintSettings(anchor_samples=1_024, control_samples=256, rounds=8, regularizer_rows=given)
    assert settings.rows_beside(16.0, steps=steps, parts=parts) == expected


def test_the_names_of_transformers_are_known_without_importing_it() -> None:
    from transformers import TrainingArguments

    from constraintlang_runtime.early_checks import training_arguments

    assert {f.name for f in fields(TrainingArguments) if f.init} <= set(training_arguments())
    assert set(training_arguments()) <= {f.name for f in fields(TrainingArguments)}
