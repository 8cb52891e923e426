"""The weights of the reference model in a folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.divided import divided_as, shards, whole
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.mishaps import damaged
from constraintlang_runtime.ranks import rank_and_size

ANCHOR_FILE = "anchor.safetensors"


def save_anchor(folder: Path, anchor: Anchor) -> None:
    """Write the weights of a frozen anchor in the main process; all processes call it."""
    assert anchor.weights is not None
    writes = rank_and_size()[0] == 0
    tensors: dict[str, Tensor] = {}
    for name, weight in anchor.weights.items():
        found = whole(weight)  # one tensor at a time on the device
        if writes:
            tensors[name] = found.cpu().contiguous()
    if writes:
        save_file(tensors, folder / ANCHOR_FILE)


def load_anchor(folder: Path, model: Any) -> Anchor:
    """Inverse of ``save_anchor``, beside the model that is trained.

    Raises: TrainingError for a file that is damaged or of another model.
    """
    path = folder / ANCHOR_FILE
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(folder, f"the reference model `{path}` cannot be read: {error}") from error
    trained = {name: p for name, p in shards(model).items() if p.requires_grad}
    expected = {name: tuple(p.shape) for name, p in trained.items()}
    if {name: tuple(w.shape) for name, w in weights.items()} != expected:
        raise TrainingError(
            f"`{path}` holds {len(weights)} trained tensors, the model trains {len(expected)} (or of other shapes)",
            help="resume with the model and adapter settings that the run was started with",
        )
    return Anchor(model, {name: divided_as(weight, trained[name]) for name, weight in weights.items()})
