"""Scores kept on disk under the hash of what they follow from: one SQLite file, for several processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.protocol import Terms

FILE = "scores.sqlite"
MAX_SCORES = 2_000_000  # some 250 bytes each with their index
PRUNED_SHARE = 0.1  # of the scores, those least recently used, whenever there are too many
BUSY_SECONDS = 30.0
LOOKED_UP = 500  # keys in one query
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_VERSION = 1

logger = logging.getLogger(__name__)


def default_folder() -> Path:
    """``constraintlang`` below the user's folder for caches."""
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "constraintlang"


def open_cache(option: str | bool | None) -> ScoreCache | None:
    """The cache that ``score_cache`` asks for: a folder, ``off``, or nothing, for costly scorers alone in the user's.

    YAML reads ``off`` as false. Raises: ConfigError for a file, or for true.
    """
    if option is None:
        return ScoreCache(default_folder(), costly_only=True)
    if option is False or option == "off":
        return None
    if option is True or not str(option):
        raise ConfigError(f"score_cache: got {option!r}, expected a folder or `off`")
    folder = Path(str(option))
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"score_cache: `{option}` is a file, expected a folder", help="name another")
    return ScoreCache(folder)


def score_key(identity: str, prompt: str, completion: str) -> bytes:
    """What a score is kept under: SHA-256 of the scorer's identity and both texts; nothing of them can be read back."""
    content = json.dumps([_VERSION, identity, prompt, completion])
    return hashlib.sha256(content.encode("ascii")).digest()


class ScoreCache:
    """Numbers by key, at most ``max_scores``; those least recently used go first.

    It is a help and no more: a broken file is set aside with a warning and begun anew; a full disk, or a folder that
    cannot be written to, gives a warning and the run goes on without. Every ``put`` is on its way to disk when it
    returns, so that a run that is killed has kept what it paid for. Values are JSON, never pickled.
    """

    def __init__(self, folder: Path, *, max_scores: int = MAX_SCORES, costly_only: bool = False) -> None:
        self.path = folder / FILE
        self._costly_only = costly_only
        self._max_scores = max_scores
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process: int | None = None
        self._is_off = False
        self._until_check = 0
        self.hits = 0

    def takes(self, terms: Terms) -> bool:
        """Whether the scores of a scorer are kept."""
        return terms.identity is not None and (terms.is_costly or not self._costly_only)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """The scores that are kept."""
        found: dict[bytes, float] = {}
        with self._lock:
            for start in range(0, len(keys), LOOKED_UP):
                part = list(keys[start : start + LOOKED_UP])
                marks = ",".join("?" * len(part))
                with self._connected() as connection:
                    if connection is None:
                        return found
                    rows = connection.execute(
                        f"SELECT key, value FROM scores WHERE key IN ({marks})",
                        part,
                    ).fetchall()
                    found |= {key: value for key, text in rows if (value := _number(text)) is not None}
                    connection.execute(
                        f"UPDATE scores SET used = ? WHERE key IN ({marks})",
                        [time.time_ns(), *part],
                    )
            self.hits += len(found)
        return found

    def put(self, values: Mapping[bytes, float]) -> None:
        """Keep scores."""
        with self._lock, self._connected() as connection:
            if connection is None or not values:
                return
            now = time.time_ns()
            connection.executemany(
                "INSERT OR REPLACE INTO scores (key, value, used) VALUES (?, ?, ?)",
                [(key, json.dumps(value), now) for key, value in values.items()],
            )
            self._until_check -= len(values)
            if self._until_check <= 0:
                self._prune(connection)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            self._close()

    def _prune(self, connection: sqlite3.Connection) -> None:
        (count,) = connection.execute("SELECT count(*) FROM scores").fetchone()
        if count > self._max_scores:
            kept = int(self._max_scores * (1 - PRUNED_SHARE))
            connection.execute(
                "DELETE FROM scores WHERE key IN (SELECT key FROM scores ORDER BY used LIMIT ?)",
                [count - kept],
            )
            count = kept
        # Other processes write too: look again before this one alone could fill it.
        self._until_check = max(1, min(self._max_scores - count, self._max_scores // 20))

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection | None]:
        """The file in one transaction; None when it is of no use. Errors of SQLite in the block are dealt with."""
        connection = None
        for _ in range(2):  # a broken file is begun anew
            try:
                connection = self._open()
                break
            except (sqlite3.Error, OSError) as error:
                self._failed(error)
        if connection is None:
            yield None
            return
        try:
            with connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Begin a broken file anew; go on without one for any other reason."""
        self._close()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN:
            self._set_aside(error)
        else:
            self._is_off = True
            logger.warning("the score cache `%s` is not used: %s", self.path, error)

    def _open(self) -> sqlite3.Connection | None:
        if self._is_off:
            return None
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
        self._connection, self._process = connection, os.getpid()
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value TEXT NOT NULL, used INTEGER NOT NULL) "
            "WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS scores_used ON scores (used)")
        self._until_check = 0
        return connection

    def _close(self) -> None:
        if self._connection is not None and self._process == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _set_aside(self, error: Exception) -> None:
        """Rename a broken file, so that the next call begins another."""
        logger.warning("the score cache `%s` is broken (%s) and begun anew", self.path, error)
        try:
            os.replace(self.path, self.path.with_suffix(".broken"))
            for end in ("-wal", "-shm"):
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        except OSError:
            self._is_off = True


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let others read while one writes; the change itself does not wait for others, so it is tried again."""
    for attempt in range(100):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            time.sleep(0.01 * (1 + attempt % 5))
    connection.execute("PRAGMA journal_mode = WAL")


def _number(text: object) -> float | None:
    """The number of a row; None for what this program does not write."""
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (json.JSONDecodeError, RecursionError):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
