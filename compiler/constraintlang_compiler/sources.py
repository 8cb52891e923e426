"""Policy files as sources: read, decoded, and refused with a clear reason."""

from __future__ import annotations

import os
from pathlib import Path

from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.limits import MAX_BYTES, limit
from constraintlang.source import SourceFile, Span
from constraintlang_compiler.errors import SourceError

MAX_SOURCE_BYTES = MAX_BYTES


def read_source(path: str | os.PathLike[str]) -> SourceFile:
    """The text of a policy file; messages speak of it by the path given.

    Raises: SourceError when the file is missing or unreadable; PolicyError (PC007, PC010) when what it holds is not
    UTF-8 or larger than 4 MiB.
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

    Raises: PolicyError with PC010 when they are more than 4 MiB, with PC007 when they are not UTF-8.
    """
    if len(content) > MAX_BYTES:
        message, help = "the file is larger than 4 MiB", "split the policy into several files"
        raise PolicyError([limit(Span(0, 0), message, help)], SourceFile("", name))
    try:
        return SourceFile(content.decode("utf-8-sig"), name, folder)
    except UnicodeDecodeError as error:
        raise _not_utf8(content, error.start, name) from error


def _not_utf8(content: bytes, at: int, name: str) -> PolicyError:
    start = len(content[:at].decode("utf-8", "replace"))
    message = f"the byte 0x{content[at]:02x} is no UTF-8 text"
    help = "save the file as UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        message, help = "the file is encoded as UTF-16", "save the file as UTF-8"
    elif b"\x00" in content:
        help = "check the path: this is no text file"
    diagnostic = Diagnostic("PC007", "error", Span(start, start + 1), message, help=help)
    return PolicyError([diagnostic], SourceFile(content.decode("utf-8", "replace"), name))
