"""Small files written without torch: what cannot be written ends the run with its reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from constraintlang_runtime.errors import ConfigError, TrainingError


@contextlib.contextmanager
def writing_small(what: str, *, help: str) -> Iterator[None]:
    """Turn a write that fails into a TrainingError, as ``mishaps.writing`` does for weights."""
    try:
        yield
    except OSError as error:
        place = "" if error.filename is None else f": `{error.filename}`"
        raise TrainingError(f"cannot write {what}: {error.strerror}{place}", help=help) from error


def require_not_read(written: Iterable[Path], read: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError where a file that a command reads, by its parameter, is one that it would write.

    Files are named as their parameters have them, with or without ``NAME=`` before and ``#LABEL`` behind.
    """
    targets = {path.resolve() for path in written}
    for parameter, specs in read.items():
        for spec in specs:
            for name in {spec, spec.partition("=")[2], spec.partition("=")[2].partition("#")[0]} - {""}:
                if Path(name).resolve() in targets:
                    raise ConfigError(
                        f"`{name}` would be overwritten, --output writes a file of that name",
                        help="name another --output",
                        parameter=parameter,
                    )
