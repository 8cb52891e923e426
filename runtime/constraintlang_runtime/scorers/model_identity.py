"""Names a scoring model by what is in its files, so that its scores can be kept beyond a run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import write_whole
from constraintlang_runtime.scorers.cache import default_folder
from constraintlang_runtime.versions import versions

MEMORY = "digests.json"  # digests of files that have not changed since
MAX_REMEMBERED = 10_000
READ = (".json", ".safetensors", ".txt", ".model", ".jinja")  # what loading reads of a folder
SETTLED = 2.0  # seconds after its last change from which on a file's times tell of another change
SHAPING = ("torch", "transformers", "sentence-transformers")

_VERSION = 1

Stamp = tuple[int, int, int, int]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFiles:
    """What a scorer loaded: the files of a folder as they stood then, or the commit of a model of the hub."""

    source: str
    commit: str | None
    stamps: tuple[tuple[str, Stamp], ...] = ()

    @classmethod
    def of(cls, name_or_path: str, *, revision: str | None, commit: str | None = None) -> ModelFiles:
        """``commit`` is that which the hub's files were of, else a ``revision`` that is one; ask before loading."""
        folder = Path(name_or_path)
        if folder.is_dir():
            return cls(str(folder), None, tuple((str(path), _stamp(path)) for path in _files(folder)))
        is_commit = revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None
        return cls(name_or_path, commit or (revision if is_commit else None))

    def digest(self) -> str | None:
        """A hash of the content; None for a branch of the hub, which may move, and for files changed since."""
        if not self.stamps:
            return None if self.commit is None else f"{self.source}@{self.commit}"
        known = _Digests()
        folder, found = Path(self.source), []
        for path, stamp in self.stamps:
            try:
                now = _stamp(Path(path))
                digest = known.of(Path(path), now)
            except OSError:
                now, digest = (0, 0, 0, 0), ""
            if now != stamp:
                logger.warning("`%s` has changed since it was loaded: its scores are not kept", path)
                return None
            found.append([os.path.relpath(path, folder), digest])
        known.save()
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()

    def identity(self, kind: str, *told: Any) -> str | None:
        """What scores of this model follow from; ``told`` is everything else that the scorer was told."""
        digest = self.digest()
        if digest is None:
            return None
        shaping = {name: version for name, version in versions().items() if name in SHAPING}
        return json.dumps([_VERSION, kind, digest, *told, shaping])


def _files(folder: Path) -> Iterator[Path]:
    """The files of a model: those of its folder, and of the folders that ``modules.json`` names."""
    folders = [folder]
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        folders += [folder / module["path"] for module in modules if module.get("path")]
    for place in folders:
        if place.is_dir():
            yield from sorted(path for path in place.iterdir() if path.suffix in READ and path.is_file())


def _stamp(path: Path) -> Stamp:
    """Differs after every change: the time of the last change of the inode cannot be set back."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class _Digests:
    """SHA-256 of files, computed once for each content; weights of gigabytes take seconds."""

    def __init__(self) -> None:
        self._path = default_folder() / MEMORY
        self._known: dict[str, Any] = {}
        self._is_new = False
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._path.read_text(encoding="utf-8"))
            self._known = found if isinstance(found, dict) else {}

    def of(self, path: Path, stamp: Stamp) -> str:
        """The digest of a file that has this stamp."""
        key = str(path.resolve())
        kept = self._known.get(key)
        if isinstance(kept, list) and kept[:-1] == list(stamp) and isinstance(kept[-1], str):
            return kept[-1]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # Two changes within one tick of the clock have the same times.
        if time.time() - max(stamp[1], stamp[2]) / 1e9 > SETTLED and _stamp(path) == stamp:
            self._known.pop(key, None)
            self._known[key] = [*stamp, digest]
            self._is_new = True
        return digest

    def save(self) -> None:
        """Keep what is new; what cannot be written is computed again next time."""
        if not self._is_new:
            return
        last = dict(list(self._known.items())[-MAX_REMEMBERED:])
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(last).encode())
