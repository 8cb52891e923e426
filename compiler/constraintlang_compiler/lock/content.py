"""Hashes of what files and folders hold; names of folders above, times and permissions do not matter."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK = 1 << 20


def content_hash(path: Path) -> str:
    """``sha256:`` of a file, or of a folder: of the sorted names and hashes of its files.

    Hidden files and folders are left out: download tools keep times in them. A link counts as what it leads to;
    linked folders are left out.
    Raises: OSError when something cannot be read, and for an empty folder.
    """
    if not path.is_dir():
        return f"sha256:{_file(path)}"
    lines = [f"{name}\0{_file(path / name)}\n" for name in _names(path, path)]
    if not lines:
        raise FileNotFoundError(2, "the folder holds no file", str(path))
    return f"sha256:{hashlib.sha256(''.join(sorted(lines)).encode()).hexdigest()}"


def _names(folder: Path, root: Path) -> list[str]:
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                found += _names(entry, root)
        else:
            found.append(entry.relative_to(root).as_posix())
    return found


def _file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
