"""Where a shape comes from: a folder, the hub, or sizes that are given; of weights it reads the header alone."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.estimate.model_shape import ModelShape, shape_of
from constraintlang_runtime.missing_paths import looked
from constraintlang_runtime.model_names import split_revision

MAX_HEADER = 100_000_000  # the limit of the safetensors format itself
MAX_CONFIG = 10_000_000
TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def read_shape(name: str) -> ModelShape:
    """The shape of a model in a folder or on the hub; of local weights number and type are counted.

    Raises: ModelError when there is no configuration, or none that is understood.
    """
    folder = Path(name)
    if not folder.is_dir():
        return shape_of(_hub_config(name), name)
    shape = shape_of(_config(folder / "config.json"), name)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return shape
    counted: dict[str, int] = {}
    for file in files:
        for kind, number in header_counts(file).items():
            counted[kind] = counted.get(kind, 0) + number
    kind = max(counted, key=lambda one: counted[one], default="")
    if kind not in TYPES:
        raise ModelError(
            f"the weights in `{name}` are of type `{kind}`, expected one of {', '.join(TYPES)}",
            help="quantised weights are not trained",
        )
    weight_type = TYPES[kind]
    return replace(
        shape, parameters=sum(counted.values()), weight_type=weight_type, source=f"{name}, weights counted",
        weight_bytes=4 if kind == "F32" else 2,
    )  # fmt: skip


def header_counts(path: Path) -> dict[str, int]:
    """How many numbers of each type a safetensors file holds, from its header.

    Raises: ModelError for a file that is no safetensors file.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        found: dict[str, int] = {}
        for name, entry in header.items():
            if name != "__metadata__":
                kind = str(entry["dtype"])
                found[kind] = found.get(kind, 0) + math.prod(int(size) for size in entry["shape"])
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ModelError(
            f"cannot read the header of `{path}`: {error}", help="it is not a whole safetensors file"
        ) from error


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise ValueError("it is too large")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"cannot read `{path}`: {error.strerror if isinstance(error, OSError) else error}",
            help="--model names a folder with config.json, or a hub id",
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"`{path}` holds no configuration", help="it is not a model's config.json")
    return content


def _hub_config(name: str) -> dict[str, Any]:
    """config.json of a hub id, from the cache or the network."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        raise ModelError(
            f"`{name}` is not a folder here, and the package `huggingface_hub` is not installed",
            help="pip install 'constraintlang[train]', or give --parameters, --hidden, --layers and --vocab",
        ) from error
    try:
        own, revision = split_revision(name)
        return _config(Path(hf_hub_download(own, "config.json", revision=revision)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"no model at `{name}`: it is not a folder here, and its config.json could not be had from the hub: "
            f"{reason}",
            help=f"{looked(Path(name))}, or give its sizes: --parameters 7b --hidden 4096 --layers 32 --vocab 128000",
        ) from error
