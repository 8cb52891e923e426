"""A Trainer whose checkpoints are whole or absent and hold the constraint's state, its reference model included."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime import checkpoint
from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.groups import Group


class SavingTrainer(Trainer):
    """Saves and restores groups, sums of loss terms and p_ref beside what transformers saves."""

    constraint: ConstraintConfig
    policy: CompiledPolicy
    groups: list[Group]
    anchor: Anchor | None
    start_anchor: Anchor | None
    _term_sums: dict[str, list[float]]

    # ------------------------------------------------------------------------------------------ p_ref
    def _start_anchor(self, model: Any, preserves: bool) -> Anchor | None:
        """The start model as a reference, when the settings need it."""
        constrained = self.constraint.method == "constraint"
        if not constrained or not (preserves or self.constraint.anchor == "start"):
            return None
        if hasattr(model, "disable_adapter"):
            return Anchor(model, disable_adapter=True)
        return Anchor.frozen_copy(model)

    def _take_anchor(self) -> None:
        """Set p_ref: the start model, a frozen copy of the model as it is now, or the live model."""
        kind = self.constraint.anchor
        if kind == "start":
            self.anchor = self.start_anchor
        elif kind == "current":
            self.anchor = Anchor(self.model)
        else:
            self.anchor = Anchor.frozen_copy(self.model)

    def _restore_anchor(self, folder: Path) -> None:
        if self.constraint.anchor in ("start", "current"):
            self._take_anchor()
            return
        frozen = Anchor.frozen_copy(self.model)
        loaded = type(self.model).from_pretrained(folder)
        frozen.model.load_state_dict(loaded.state_dict())
        self.anchor = frozen

    # ------------------------------------------------------------------------------------------ checkpoints
    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are written in a staging folder and renamed when whole."""
        return str(Path(super()._get_output_dir(trial)) / checkpoint.STAGING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """transformers' checkpoint plus ours, published in one step: a killed run never leaves a half checkpoint."""
        staging = Path(self._get_output_dir(trial))
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        super()._save_checkpoint(model, trial)
        if not self.args.should_save:
            return
        frozen = self.anchor is not None and self.constraint.anchor in ("tuned", "previous")
        if frozen:
            assert self.anchor is not None
            self.anchor.model.save_pretrained(staging / name / "anchor")
        sums = {key: values for key, values in self._term_sums.items()}
        checkpoint.save_groups(
            staging / name, self.groups,
            {"semantic_hash": self.policy.semantic_hash, "has_anchor": self.anchor is not None, "term_sums": sums},
        )  # fmt: skip
        checkpoint.publish(staging / name, staging.parent / name)
        shutil.rmtree(staging, ignore_errors=True)
        self._drop_old(staging.parent)

    def _drop_old(self, output_dir: Path) -> None:
        limit = self.args.save_total_limit
        found = sorted(
            (p for p in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if p.name.split("-")[-1].isdigit()),
            key=lambda path: int(path.name.split("-")[-1]),
        )
        for path in found[: -limit if limit else None] if limit else []:
            shutil.rmtree(path, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights by transformers, then the constraint's own state."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        extra = checkpoint.load_groups(folder, self.groups, self.args.device)
        if extra["semantic_hash"] != self.policy.semantic_hash:
            raise ConfigError(
                f"the checkpoint `{folder}` was made under another policy ({extra['semantic_hash']})",
                help="resume with the policy of the run, or start a new output folder",
            )
        self._term_sums = {key: list(values) for key, values in extra["term_sums"].items()}
        if extra["has_anchor"]:
            self._restore_anchor(folder / "anchor")
