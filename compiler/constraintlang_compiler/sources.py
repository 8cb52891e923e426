"""Policy files as sources: read, decoded, and refused with a clear reason."""

from __future__ import annotations

import os
from pathlib import Path

from constraintlang.source import SourceFile
from constraintlang_compiler.errors import SourceError

MAX_SOURCE_BYTES = 4 * 1024 * 1024


def read_source(path: str | os.PathLike[str]) -> SourceFile:
    """The text of a policy file; messages speak of it by the path given.

    Raises: SourceError when the file is missing, unreadable, not UTF-8 or larger than 4 MiB.
    """
    place = Path(path)
    try:
        with place.open("rb") as file:
            content = file.read(MAX_SOURCE_BYTES + 1)
    except FileNotFoundError as error:
        raise SourceError(
            f"no policy file `{place}`",
            help="check the path, or write a first policy with `constraintc init`",
        ) from error
    except IsADirectoryError as error:
        raise SourceError(f"`{place}` is a directory, expected a policy file") from error
    except OSError as error:
        raise SourceError(f"cannot read `{place}`: {error.strerror or error}") from error
    return decode_source(content, str(place), place.parent)


def decode_source(content: bytes, name: str, folder: Path | None = None) -> SourceFile:
    """Bytes as a policy source; ``folder`` is where files that it names lie.

    Raises: SourceError when they are not UTF-8 or more than 4 MiB.
    """
    if len(content) > MAX_SOURCE_BYTES:
        raise SourceError(
            f"`{name}` is larger than {MAX_SOURCE_BYTES} bytes (4 MiB)",
            help="split the policy into several files",
        )
    try:
        return SourceFile(content.decode("utf-8-sig"), name, folder)
    except UnicodeDecodeError as error:
        raise SourceError(
            f"`{name}` is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}",
            help="save the file as UTF-8",
        ) from error
