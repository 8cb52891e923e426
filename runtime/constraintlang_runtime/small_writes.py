"""Small files written without torch: what cannot be written ends the run with its reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from constraintlang_runtime.errors import TrainingError


@contextlib.contextmanager
def writing_small(what: str, *, help: str) -> Iterator[None]:
    """Turn a write that fails into a TrainingError, as ``mishaps.writing`` does for weights."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f": `{error.filename}`"
        raise TrainingError(f"cannot write {what}: {error.strerror}{place}", help=help) from error
