"""What a run says when the world stops it: a full disk, a damaged checkpoint, no memory, weights that are NaN."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import LogitsProcessor

from constraintlang_runtime.divided import is_divided, own_part, shards
from constraintlang_runtime.errors import RuntimeFailure, TrainingError
from constraintlang_runtime.ranks import gathered

# torch.save and safetensors report a failed write as RuntimeError and SafetensorError
WRITING = (OSError, RuntimeError, SafetensorError)
WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors",
)  # fmt: skip


def reason_of(error: BaseException) -> str:
    """The first line of an error; the system's words where it has them."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: `{error.filename}`"
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextlib.contextmanager
def writing(what: str, *, help: str, staging: Path | None = None) -> Iterator[None]:
    """Turn a write that fails into a TrainingError; ``staging`` is cleared, because it may be what fills the disk."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except WRITING as error:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        raise TrainingError(f"cannot write {what}: {reason_of(error)}", help=help) from error


@contextlib.contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Turn a part of a checkpoint that cannot be read into a TrainingError that names the checkpoint."""
    try:
        yield
    except (RuntimeFailure, torch.OutOfMemoryError):
        raise
    except Exception as error:  # every reader raises its own kind
        lines = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
        raise damaged(folder, f"{what} cannot be read: {type(error).__name__}: {lines[:200]}") from error


def damaged(folder: Path, problem: str) -> TrainingError:
    """The error of a checkpoint that cannot be resumed."""
    return TrainingError(
        f"the checkpoint `{folder}` is damaged: {problem}",
        help="delete that folder and run the same command: it goes on from the checkpoint before it",
    )


def require_whole(folder: Path, *, process: int = 0, num_processes: int = 1) -> None:
    """Raise TrainingError when a file of a checkpoint is missing; transformers resumes without some, to other bits."""
    random_state = "rng_state.pth" if num_processes == 1 else f"rng_state_{process}.pth"
    for name in ("trainer_state.json", "scheduler.pt", random_state):
        if not (folder / name).is_file():
            raise damaged(folder, f"it has no `{name}`")
    names = [path.name for path in folder.iterdir()]
    if not any(name.startswith("optimizer") for name in names):  # FSDP and DeepSpeed write folders
        raise damaged(folder, "it has no `optimizer.pt`")
    sharded = any(name.startswith(("pytorch_model_fsdp", "global_step")) for name in names)
    if not sharded and not any(name in names for name in WEIGHTS):
        raise damaged(folder, f"it has no `{WEIGHTS[0]}`")
    with reading(folder, "`trainer_state.json`"):
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]


class Finite(LogitsProcessor):
    """Stops sampling from scores that are no numbers, where torch would fail in the middle of a kernel."""

    def begin(self) -> None:
        """It keeps nothing of a batch."""

    def select(self, rows: Tensor) -> None:
        """It keeps nothing of a row."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are."""
        top = scores.amax(-1)  # NaN where one is, and an infinity
        if bool((torch.isnan(top) | torch.isposinf(top)).any()):
            raise TrainingError(
                "the model's scores of the next token hold NaN or infinities",
                help="the run diverged: lower --learning_rate or --regularizer_weight; or the model cannot be run in "
                "its precision",
            )
        return scores


def not_finite(weights: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity; quantized ones, which cannot, are passed over."""
    for name, weight in weights.items():
        try:
            if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
                return name
        except NotImplementedError:  # a tensor class of a quantizer that does not compare its numbers
            continue
    return None


def require_finite(model: Any, step: int) -> None:
    """Raise TrainingError when a trained weight is no number any more."""
    own = not_finite({name: own_part(p.detach()) for name, p in shards(model).items() if p.requires_grad})
    # of divided weights another process may hold the broken part, and all have to stop
    name = next((one for one in gathered(own) if one is not None), None) if is_divided(model) else own
    if name is not None:
        raise TrainingError(
            f"the run diverged: the weights hold NaN or infinities at step {step}, first in `{name}`",
            help="lower --learning_rate or --regularizer_weight",
        )


@contextlib.contextmanager
def explained(
    step: Callable[[], int], tell: Callable[[str], None], kept: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Say how a run goes on that is interrupted or has no memory left; ``kept``: whether there is a checkpoint."""
    try:
        yield
    except KeyboardInterrupt:
        how = (
            "the same command with --resume goes on from the last checkpoint"
            if kept()
            else "there is no checkpoint yet (--save_steps), so that --resume starts from the beginning"
        )
        tell(f"interrupted at step {step()}; {how}")
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"out of memory at step {step()}: {reason_of(error)}",
            help="lower --per_device_train_batch_size, --sampling_batch_size or --max_length and start over; after "
            "freeing memory, --resume goes on from the last checkpoint",
        ) from error
