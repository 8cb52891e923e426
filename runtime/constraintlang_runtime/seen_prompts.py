"""Which prompts a run has seen: short hashes kept beside its model, and their overlap with other prompts.

A row is known by what its prompt says: the prompt, the whole of a `text` row (which has no fixed prompt), or the turns
before the last answer. Case, white space and Unicode forms do not count.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from constraintlang_runtime.columns import Row
from constraintlang_runtime.errors import DataError

FILE = Path("constraint") / "prompts.safetensors"
Hashes = NDArray[np.uint64]


def prompt_hashes(rows: Iterable[Row]) -> Hashes:
    """Sorted distinct hashes [n] of the rows' prompts: the first 8 bytes of SHA-256, 8 bytes of memory each."""
    return np.unique(np.fromiter((prompt_hash(row) for row in rows), dtype=np.uint64))


def prompt_hash(row: Mapping[str, Any]) -> int:
    """The hash of one row's prompt."""
    text = " ".join(unicodedata.normalize("NFKC", _said(row)).casefold().split())
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _said(row: Mapping[str, Any]) -> str:
    turns = row.get("messages")
    if isinstance(turns, Sequence) and not isinstance(turns, str):
        last = turns[-1] if turns else {}
        answered = isinstance(last, Mapping) and last.get("role") == "assistant"
        kept = turns[:-1] if answered else turns
        return "\n".join(str(turn.get("content")) for turn in kept if isinstance(turn, Mapping))
    prompt = row.get("prompt")
    return str(row.get("text") if prompt is None else prompt)


def write_seen(output: Path, hashes: Hashes) -> None:
    """Write the hashes below the folder of a trained model."""
    (output / FILE).parent.mkdir(parents=True, exist_ok=True)
    save_file({"sha256_8": hashes}, output / FILE)


def read_seen(model: str | Path) -> Hashes | None:
    """The hashes beside a model; None for a model without them, such as one from the hub.

    Raises: DataError for a damaged file.
    """
    path = Path(model) / FILE
    if not path.is_file():
        return None
    try:
        return np.asarray(load_file(path)["sha256_8"], dtype=np.uint64)
    except (OSError, KeyError, SafetensorError) as error:
        raise DataError(
            f"`{path}` cannot be read: {error}",
            help="it tells which prompts were trained on; delete it to judge without that check",
        ) from error


def is_seen(seen: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    """For each hash [n] whether it is among the sorted ``seen``; n log of the seen ones."""
    if not len(seen):
        return np.zeros(len(hashes), dtype=np.bool_)
    places = np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)
    return np.asarray(seen[places] == hashes)
