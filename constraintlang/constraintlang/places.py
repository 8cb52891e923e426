"""Where an import leads: a file of the standard library, or one below the folder of the file that imports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from constraintlang.source import SourceFile
from constraintlang.suggestions import closest
from constraintlang_policies.library import PREFIX, SUFFIX, std_names, std_path


@dataclass(frozen=True)
class Place:
    """A file; ``name`` is for messages, and equal files have equal ``key``."""

    path: Path
    name: str
    key: str


@dataclass(frozen=True)
class Refusal:
    """Why an import leads nowhere."""

    code: str
    message: str
    help: str


def key_of(source: SourceFile) -> str | None:
    """The key of a source; None for a text that is no file."""
    return None if source.folder is None else _key(source.folder / _written(source).name)


def find_place(written: str, source: SourceFile, *, allow_path: bool) -> Place | Refusal:
    """The file that ``import "written"`` in ``source`` names.

    ``std/...`` is the standard library wherever it is written. Everything else is relative to the folder of
    the file, and below it unless ``allow_path``, because a policy is untrusted.
    """
    if not written.endswith(SUFFIX) or "\\" in written or not written.isprintable():
        help = 'write it like `"std/safety.policy"`, with `/` and the ending'
        if written and "\\" not in written and written.isprintable() and not Path(written).suffix:
            help = f'write `"{written.rstrip("/")}{SUFFIX}"`, with the ending'
        return Refusal("PC107", f"`{written}` names no policy file", help)
    if written.startswith(PREFIX):
        return _standard(written)
    if source.folder is None:
        message = f"`{written}` is relative to a file, and this text is no file"
        return Refusal("PC107", message, "check the policy by the path of its file")
    path = source.folder / written
    try:
        if not allow_path and not is_below(path, source.folder):
            message = f"`{written}` leaves the folder of the file that imports it"
            help = "move it below that folder, or pass --allow-path if you trust the policy"
            return Refusal("PC119", message, help)
        if path.is_file():
            name = Path(os.path.normpath(_written(source).parent / written)).as_posix()
            return Place(path, name, _key(path))
        if path.is_dir():
            help = f'import a file of it, for example `"{written}/rules{SUFFIX}"`'
            return Refusal("PC107", f"`{written}` is a folder, not a policy file", help)
        beside = [file.name for file in path.parent.glob(f"*{SUFFIX}")]
    except (OSError, RuntimeError):  # a name that is too long, a loop of links
        beside = []
    near = closest(path.name, beside)
    help = f"beside it stands `{near}`" if near else "the path begins at the folder of this file"
    return Refusal("PC107", f"there is no file `{written}`", help)


def is_below(path: Path, folder: Path) -> bool:
    """Whether a file lies below a folder, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _standard(written: str) -> Place | Refusal:
    names = std_names()
    name = written.removeprefix(PREFIX).removesuffix(SUFFIX)
    if name in names:
        return Place(std_path(written), written, written)
    near = closest(name, names)
    listed = f"write `{PREFIX}{near}{SUFFIX}`" if near else f"there are {', '.join(names)}"
    help = f"{listed}; `./{written}` is a file of your own"
    return Refusal("PC107", f"the standard library has no `{written}`", help)


def _written(source: SourceFile) -> Path:
    return Path(source.name.replace("\\", "/"))


def _key(path: Path) -> str:
    return str(path.resolve())
