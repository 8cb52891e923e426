"""Write docs/settings.md from the fields of the settings: ``python docs/make_settings.py``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from transformers import TrainingArguments

from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.settings import CHOICES, ConstraintSettings

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Settings of a training run

<!-- Written by docs/make_settings.py; edit the fields, not this page. -->

Every setting has one name: a key of the YAML file (`--config run.yaml`) and a flag of `constraintc train`. Flags of
every command are taken with dashes or underscores. Settings of the last two tables are arguments of
`ConstraintConfig` in Python, too. Flags win over the file. An unknown key is an error that names a similar one.

## Where a run reads and writes

Keys and flags of `constraintc train`; [data format](data-format.md) has their forms.

| key | meaning |
|---|---|
| `model` | folder or hub id of the start model; `OWNER/NAME@REVISION` pins a branch, tag or commit |
| `data` | training rows: a text, a list of texts, or `domain: file` pairs |
| `prompts` | prompts sampled in training, in the same forms; default: those of the rows |
| `heldout` | rows that measure `preserve` clauses and choose by loss; default: a few of `data`, not trained on |
| `selection` | prompts that choose the checkpoint with `keep: best`; default: a few of those sampled, not trained on |
| `scorer` | scorers: a list of `NAME=PATH[#LABEL]`, or `name: path` pairs |
| `output` | folder of the result |
| `resume`, `overwrite` | `true` or `false`; see `constraintc train --help` |
| `allow_path`, `allow_code`, `allow_plugins` | `true` or `false`: what the policy may do |
"""


def shown(value: object) -> str:
    """A default as it would be written in YAML; settings without one follow a rule."""
    return "by rule" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def render() -> str:
    """The whole page."""
    lines = [HEAD, "## The constraint", "", "| setting | default | meaning |", "|---|---|---|"]
    for field in fields(ConstraintSettings):
        choices = (
            f" One of {', '.join(f'`{c}`' for c in CHOICES[field.name])}." if field.name in CHOICES else ""
        )
        meaning = str(field.metadata["help"]).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {shown(field.default)} | {meaning}.{choices} |")
    theirs = {field.name: field.default for field in fields(TrainingArguments)}
    own = {field.name for field in fields(ConstraintSettings)}
    lines += [
        "",
        "## Of transformers",
        "",
        "The fields of `transformers.TrainingArguments` are settings too, except those that would have no part or end",
        "a resumed run in other weights, which are refused: `eval_strategy` and what goes with it",
        "(`load_best_model_at_end`, `save_strategy: best`; see `keep`), `label_smoothing_factor`,",
        "`train_sampling_strategy: group_by_length`, `save_only_model`, `ignore_data_skip`, `deepspeed`,",
        "`parallelism_config`, and on a GPU `full_determinism`. These have another default here:",
        "",
        "| setting | default here | meaning |",
        "|---|---|---|",
    ]
    for field in fields(ConstraintConfig):
        if field.name not in own and field.default != theirs[field.name]:
            lines.append(f"| `{field.name}` | {shown(field.default)} | {field.metadata['help']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
