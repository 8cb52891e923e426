"""transformers' Trainer with checkpoints that are whole or not there, and steps that are the same after a resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from constraintlang_runtime import checkpoint
from constraintlang_runtime.divided import is_divided
from constraintlang_runtime.mishaps import reading, require_finite, require_whole, writing
from constraintlang_runtime.ranks import barrier
from constraintlang_runtime.stored_weights import take_weights

FSDP_FILE = "pytorch_model_fsdp.bin"  # the model once more, as a pickle


class StagedTrainer(Trainer):
    """Writes a checkpoint in a staging folder and renames it when it is whole; what cannot be read is refused.

    A subclass adds its own state by ``write_state`` and ``read_state``.
    """

    def before_checkpoint(self, step: int) -> None:
        """What has to be known of a checkpoint before it is written; in every process."""

    def write_state(self, folder: Path) -> None:
        """Write the subclass's own state into a checkpoint; called in every process, the main one writes."""

    def read_state(self, folder: Path) -> None:
        """Inverse of ``write_state``; in every process."""

    def best_checkpoint(self) -> int | None:
        """The step of a checkpoint that is kept whatever its age."""
        return None

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """transformers takes one step too many when it resumes from the checkpoint of the last step."""
        if self.state.global_step >= self.args.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _get_output_dir(self, trial: Any) -> str:
        """Checkpoints are written in a staging folder and renamed when whole."""
        return str(Path(super()._get_output_dir(trial)) / checkpoint.STAGING)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """transformers' checkpoint plus ours, published in one step: a killed run never leaves a half checkpoint."""
        staging = Path(self._get_output_dir(trial))
        step = self.state.global_step
        require_finite(self.model, step)  # else it would push out the last checkpoint that can be resumed
        self.before_checkpoint(step)
        help = "free space there; --resume goes on from the checkpoint before it, which is whole"
        with writing(f"the checkpoint of step {step} below `{staging.parent}`", help=help, staging=staging):
            self._write_checkpoint(model, trial, staging, f"{PREFIX_CHECKPOINT_DIR}-{step}")

    def _write_checkpoint(self, model: Any, trial: Any, staging: Path, name: str) -> None:
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        barrier()
        super()._save_checkpoint(model, trial)
        barrier()  # each process has written its random state
        self.write_state(staging / name)
        if self.is_fsdp_enabled and self.args.should_save:
            (staging / name / FSDP_FILE).unlink(missing_ok=True)
        if not self.args.should_save:
            return
        checkpoint.publish(staging / name, staging.parent / name)
        shutil.rmtree(staging, ignore_errors=True)
        self._drop_old(staging.parent)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """transformers' file of the model, with tied weights once: it knows them by memory, and parts share none."""
        if state_dict is not None and is_divided(self.model):
            once: dict[int, str] = {}
            for name, parameter in self.model.named_parameters(remove_duplicate=False):
                once.setdefault(id(parameter), name)
            tied = {
                name
                for name, parameter in self.model.named_parameters(remove_duplicate=False)
                if once[id(parameter)] != name
            }
            state_dict = {name: tensor for name, tensor in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict=state_dict)

    def _drop_old(self, output_dir: Path) -> None:
        """Keep ``save_total_limit`` checkpoints: the newest, the best so far, then newer before older.

        Those of later steps are of an earlier run in this folder, and go first.
        """
        limit, now = self.args.save_total_limit, self.state.global_step
        steps = {
            path: int(path.name.split("-")[-1])
            for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
            if path.name.split("-")[-1].isdigit()
        }
        found = sorted(steps, key=lambda path: (steps[path] <= now, steps[path]))
        best = self.best_checkpoint()
        spare = [path for path in found[:-1] if path.name != f"{PREFIX_CHECKPOINT_DIR}-{best}"]
        for path in spare[: max(0, len(found) - limit)] if limit else []:
            shutil.rmtree(path, ignore_errors=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Weights by transformers, then the constraint's own state."""
        folder = Path(resume_from_checkpoint)
        require_whole(folder, process=self.args.process_index, num_processes=self.args.world_size)
        with reading(folder, "its model"):
            if self.is_fsdp_enabled:
                take_weights(self.model, folder)
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
        with reading(folder, "the constraint's state"):
            self.read_state(folder)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint of other tensors than the model's is refused; tied ones are stored once."""
        tensors = self.model.state_dict(keep_vars=True)
        loaded = {tensors[name].data_ptr() for name in set(tensors) - set(load_result.missing_keys)}
        missing = [
            name
            for name in load_result.missing_keys
            if name not in tensors or tensors[name].data_ptr() not in loaded
        ]
        for what, names in (("lacks", missing), ("has other tensors", load_result.unexpected_keys)):
            if names:
                raise ValueError(f"it {what}: {', '.join(names[:3])}")  # `reading` names the checkpoint

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(Path(checkpoint or ""), "the optimizer's state"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading(Path(checkpoint or ""), "the random state"):
            super()._load_rng_state(checkpoint)
