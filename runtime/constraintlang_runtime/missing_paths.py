"""What to say of a path that does not exist: similar names beside it, and how an id of the hub looks; no torch."""

from __future__ import annotations

import os
from pathlib import Path

from constraintlang.suggestions import closest
from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.model_names import HUB_ID, is_hub_id


def exists(path: Path | str) -> bool:
    """Whether there is something, also asked of a name that is too long for any."""
    return os.path.exists(path)


def near_path(path: Path) -> str | None:
    """A path in the same folder whose name is similar; None when there is none."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return None
    near = closest(path.name, names)
    return None if near is None else str(path.with_name(near))


def looked(path: Path) -> str:
    """A help for a path that does not exist: one that does and has a similar name, else where it was looked for."""
    near = near_path(path)
    return f"a similar name exists: `{near}`" if near else f"looked in {Path.cwd()}; check the path"


def require_folder(name: str, what: str, where: str = "") -> None:
    """Raise the error of ``no_model`` for what is neither a folder here nor written as an id of the hub."""
    if not os.path.isdir(name) and (exists(name) or not is_hub_id(name)):
        raise no_model(name, what, where=where)


def no_model(name: str, what: str, reason: str = "", where: str = "") -> ModelError:
    """The error for ``what`` that no folder here holds; ``reason`` is why the hub did not have it either."""
    path, place = Path(name), f"{where}: " if where else ""
    if exists(path):
        return ModelError(
            f"{place}`{name}` is a file, expected the folder of a {what}",
            help=f"name the folder with config.json and model.safetensors, or a hub id such as {HUB_ID}",
        )
    hub, help = "", f"{looked(path)}; a hub id looks like {HUB_ID} or {HUB_ID}@REVISION"
    if reason and is_hub_id(name):
        hub = f", and it could not be had from the hub: {reason}"
        help += "; log in for a gated or private model"
        if "trust_remote_code" in reason:
            help = "its code is not run: take a model that transformers has, or give ConstraintTrainer a loaded one"
    return ModelError(f"{place}no {what} at `{name}`: there is no such folder{hub}", help=help)
