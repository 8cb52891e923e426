"""A fitted guide on disk: its group as in a checkpoint, and what it was fitted for, so that no other model takes it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from constraintlang_runtime.anchor import Anchor
from constraintlang_runtime.checkpoint import STATE_FILE, load_groups, save_groups
from constraintlang_runtime.errors import ConfigError, TrainingError
from constraintlang_runtime.groups import Group
from constraintlang_runtime.integrations.guide import Guide, Round
from constraintlang_runtime.report.assemble import read_json

PROBED = 64  # numbers of each parameter that tell two models apart


def save_guide(guide: Guide, folder: Path, *, model: Any, semantic_hash: str) -> None:
    """Write a guide into a folder, made when it is not there; raises ConfigError where that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_groups(
            folder, [guide.group],
            {
                "semantic_hash": semantic_hash,
                "model": model_digest(model),
                "history": [{"number": r.number, "means": dict(r.means)} for r in guide.history],
            },
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(
            f"the guide cannot be written to `{folder}`: {error.strerror}", help="name another folder"
        ) from error


def load_guide(folder: Path, *, model: Any, semantic_hash: str) -> Guide:
    """Inverse of ``save_guide``, for the same model and policy.

    Raises: ConfigError for a guide of another model or policy, TrainingError for a damaged one.
    """
    record = read_json(folder / STATE_FILE)
    groups = record.get("groups", [])
    if len(groups) != 1 or groups[0].get("head") is None or "model" not in record:
        raise ConfigError(
            f"`{folder}` holds no guide", help="name the folder that `--guide` or `save_guide` wrote"
        )
    if record["semantic_hash"] != semantic_hash:
        raise ConfigError(
            f"the guide in `{folder}` was fitted for another policy ({record['semantic_hash']})",
            help="fit it again into another folder; duals and bins are those of one policy",
        )
    if record["model"] != model_digest(model):
        raise ConfigError(
            f"the guide in `{folder}` was fitted to another model",
            help="use the model that it was fitted to, or fit it again into another folder",
        )
    own = groups[0]
    group = Group(own["name"], (), tuple(own["indexes"]), [], 0.0, np.zeros(0))
    load_groups(folder, [group], next(model.parameters()).device)
    if group.target is None or group.head is None:
        raise TrainingError(f"the guide in `{folder}` has no target", help="fit it again")
    group.head.attach(Anchor(model))
    return Guide(group, [Round(int(r["number"]), dict(r["means"])) for r in record["history"]])


@torch.no_grad()
def model_digest(model: Any) -> str:
    """A hash of some numbers of every parameter: training a model changes it, moving it does not."""
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        probed = flat[:: max(1, flat.numel() // PROBED)].float().cpu().numpy()
        found.update(name.encode() + np.ascontiguousarray(probed).tobytes())
    return found.hexdigest()
