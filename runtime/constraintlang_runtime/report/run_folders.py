"""Finds what a report needs in the folders of ``train`` and ``eval``: verdicts, the run's record, the policy."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from constraintlang_compiler.artifact import IR_NAME, CompiledPolicy
from constraintlang_runtime.errors import ConfigError, DataError

VERDICT = "verdict.json"
RECORD = Path("constraint") / "run.json"
POLICY = Path("constraint") / "policy"


@dataclass(frozen=True)
class Found:
    """One system: its label, the folder of its evaluation, and that of its training run, if it is one."""

    label: str
    evaluation: Path
    run: Path | None = None

    @classmethod
    def named(cls, spec: str) -> Found:
        """The system of ``LABEL=EVAL_DIR``, or of a folder alone."""
        label, _, folder = spec.partition("=")
        return cls(label, Path(folder or label))


def is_run(name: str) -> bool:
    """Whether an argument names a folder of a run or an evaluation, not a policy."""
    return os.path.isdir(name) and not (Path(name) / IR_NAME).is_file()


def find_runs(names: Sequence[str]) -> list[Found]:
    """The systems in some folders, labelled by the shortest ends of their paths that differ.

    The verdict of a run stands in it, or in ``RUN-eval`` beside it.
    Raises: ConfigError for a folder given twice, DataError for one without a verdict.
    """
    folders = [Path(name) for name in names]
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(resolved):
        if folder in resolved[:number]:
            raise ConfigError(f"`{names[number]}` is given twice", help="name each folder once")
    return [
        _found(folder, label)
        for folder, label in zip(folders, _labels(resolved), strict=True)
    ]  # fmt: skip


def policy_of(found: Sequence[Found]) -> CompiledPolicy:
    """The policy that a system was trained or judged under, from the last one that keeps it.

    Raises: ConfigError when none does; ArtifactError for one that cannot be read.
    """
    for one in reversed(found):
        folders = [one.run] if one.run is not None else []
        folders += [Path(model)] if (model := _judged_model(one.evaluation)) else []
        for folder in folders:
            if (folder / POLICY / IR_NAME).is_file():
                return CompiledPolicy.load(folder / POLICY)
    raise ConfigError(
        "no policy is known: no folder is of a model that `constraintc train` wrote",
        help="put the policy first: constraintc report my.policy RUN ...",
    )


def _found(folder: Path, label: str) -> Found:
    beside = folder.with_name(f"{folder.resolve().name}-eval")
    run = folder if (folder / RECORD).is_file() else None
    for place in (folder, beside):
        if (place / VERDICT).is_file():
            if run is None and (model := _judged_model(place)) and (Path(model) / RECORD).is_file():
                run = Path(model)
            return Found(label, place, run)
    if run is not None:
        raise DataError(
            f"`{folder}` is not verified yet: there is no `{VERDICT}` in it or in `{beside}`",
            help=f"constraintc eval POLICY --model {folder} --prompts HELD_OUT.jsonl --output {beside}",
        )
    what = "does not exist" if not folder.exists() else f"holds neither `{VERDICT}` nor `{RECORD.as_posix()}`"
    raise DataError(
        f"`{folder}` {what}", help="name the output folder of `constraintc train` or `constraintc eval`"
    )


def _labels(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart; all of them when nothing does."""
    for count in range(1, max((len(folder.parts) for folder in folders), default=0) + 1):
        labels = ["/".join(folder.parts[-count:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def _judged_model(evaluation: Path) -> str | None:
    """What an evaluation judged, when it says so."""
    try:
        content = json.loads((evaluation / VERDICT).read_text(encoding="utf-8"))
        model = content["settings"]["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whoever reads the verdict itself complains
    return model if isinstance(model, str) and model else None
