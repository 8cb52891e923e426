"""Policy files changed in place: written whole or not at all, or shown as a difference."""

from __future__ import annotations

import codecs
import difflib
import os
import secrets
import sys
from pathlib import Path

from constraintc.output import visible_text
from constraintlang_compiler.errors import SourceError


def rewrite(name: str, text: str) -> None:
    """Put ``text`` in the place of a file: a reader sees the old content or the new one, never a part.

    Permissions, a byte order mark and a symbolic link to the file stay as they are.
    Raises: SourceError when the file cannot be written; it is then unchanged.
    """
    path = Path(os.path.realpath(name))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        mark = codecs.BOM_UTF8 if path.read_bytes().startswith(codecs.BOM_UTF8) else b""
        with temporary.open("xb") as file:
            file.write(mark + text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SourceError(
            f"cannot write `{name}`: {error.strerror or error}", help="the file was left as it was"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def difference(name: str, before: str, after: str) -> str:
    """The changes of a file as a unified difference that ``patch`` reads; empty without changes."""
    lines = difflib.unified_diff(_lines(before), _lines(after), name, name)
    ended = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return "".join(ended)


def _lines(text: str) -> list[str]:
    # Not splitlines: a policy's lines end with a newline only.
    return [f"{line}\n" for line in text.split("\n")[:-1]] + [
        rest for rest in [text.rpartition("\n")[2]] if rest
    ]


def print_difference(text: str) -> None:
    """A difference on stdout, exact in a pipe, harmless on a terminal."""
    print(visible_text(text) if sys.stdout.isatty() else text, end="")
