"""The standard library's files by name; a name that begins with ``std/`` means them wherever it is written."""

from __future__ import annotations

from pathlib import Path

PREFIX = "std/"
FOLDER = Path(__file__).parent
SUFFIX = ".policy"


def std_path(name: str) -> Path:
    """The file that ``std/NAME`` stands for; it need not exist, but never lies elsewhere.

    Raises: ValueError for a name without the prefix, or one that climbs out.

    >>> std_path("std/no_pii.policy").name
    'no_pii.policy'
    """
    parts = name.split("/")
    if not name.startswith(PREFIX) or any(part in ("", ".", "..") or "\\" in part for part in parts):
        raise ValueError(f"got {name!r}, expected a name below `{PREFIX}`")
    return FOLDER.joinpath(*parts)


def std_names() -> tuple[str, ...]:
    """The names of the standard policies, sorted: ``brevity``, ``brand``, ..."""
    return tuple(sorted(path.stem for path in (FOLDER / "std").glob(f"*{SUFFIX}")))


def std_summary(name: str) -> str:
    """The first comment line of a standard policy: what it demands."""
    first = std_path(f"{PREFIX}{name}{SUFFIX}").read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip()
