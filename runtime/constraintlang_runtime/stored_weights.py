"""The weights in a folder of a checkpoint, put into a model that is whole or divided over processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from constraintlang_runtime.divided import divided_as, own_part, shards

MODEL_FILE, ADAPTER_FILE = "model.safetensors", "adapter_model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def take_weights(model: Any, folder: Path) -> None:
    """Write every tensor of a checkpoint into the model's own memory, one at a time; each process reads its part.

    An adapter's file has the names of its tensors without that of the adapter, as PEFT writes them.
    Raises: ValueError for a file that lacks a trained tensor, or has others than the model.
    """
    parameters = shards(model)
    adapters = [f".{name}" for name in getattr(model, "peft_config", {})]
    named = {_as_stored(name, adapters): parameter for name, parameter in parameters.items()}
    missing = {_as_stored(name, adapters) for name, p in parameters.items() if p.requires_grad}
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if name not in named:
                    raise ValueError(f"it has other tensors: {name}")  # `reading` names the checkpoint
                with torch.no_grad():
                    own = own_part(named[name].detach())
                    own.copy_(own_part(divided_as(file.get_tensor(name), named[name])))
                missing.discard(name)
    if missing:
        raise ValueError(f"it lacks: {', '.join(sorted(missing)[:3])}")


def _files(folder: Path) -> list[Path]:
    """The files of an adapter, else those of the model."""
    adapter = folder / ADAPTER_FILE
    if adapter.exists():
        return [adapter]
    parts = sorted(folder.glob("model-*.safetensors"))
    return parts if (folder / INDEX_FILE).exists() else [folder / MODEL_FILE]


def _as_stored(name: str, adapters: list[str]) -> str:
    for adapter in adapters:
        name = name.replace(f"{adapter}.", ".")
    return name
