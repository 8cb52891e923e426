"""``constraintc score``: judge every row of existing data, streaming, and sum up what the rows say of the policy."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy, write_whole
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.scopes import compared_clauses, sample_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.columns import split_domain
from constraintlang_runtime.errors import ConfigError, ScorerError
from constraintlang_runtime.score.audit import ROWS_FILE, STATE_FILE, SUMMARY_FILE, Audit, Progress
from constraintlang_runtime.score.judged_clauses import decided_by_texts
from constraintlang_runtime.score.row_stream import Position, RowStream
from constraintlang_runtime.score.scoring import scoring
from constraintlang_runtime.scorers.binding import parse_scorer_options
from constraintlang_runtime.scorers.shared_pool import SharedScoringSettings
from constraintlang_runtime.small_writes import require_not_read
from constraintlang_runtime.verdicts import Verdict

BATCH = 4096
ENDS = 1 << 20  # bytes at either end of a data file by which it is known again
WORKERS_BATCH = 512  # of several workers, so that a file of some thousand rows is shared among them


@dataclass(frozen=True)
class ScoreSettings(SharedScoringSettings):
    """What to judge and where the result goes; the names are those of the command's flags."""

    data: tuple[str, ...]
    output: str | None = None
    resume: bool = False
    overwrite: bool = False
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"got {self.batch_size}, expected at least 1", parameter="batch_size")
        if self.resume and self.output is None:
            raise ConfigError("--resume needs the folder to go on in", help="add --output DIR")

    @property
    def rows_together(self) -> int:
        """The rows of a batch."""
        return self.batch_size or (BATCH if self.score_workers == 1 else WORKERS_BATCH)


@dataclass
class ScoreResult:
    """Verdicts on the law that the rows were drawn from, and how many rows satisfy the policy."""

    verdicts: list[Verdict]
    rows: int
    satisfied: int
    violating: int
    undecided: int
    not_judged: list[dict[str, str]]
    seconds: float
    settings: dict[str, Any]
    policy: str
    unavailable: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``summary.json``."""
        found = {"clauses": [verdict.to_dict() for verdict in self.verdicts], **asdict(self)}
        del found["verdicts"]
        return {**found, "seconds": round(self.seconds, 2)}


def score_run(
    policy: CompiledPolicy, settings: ScoreSettings, *, folder: Path, progress: Progress | None = None
) -> ScoreResult:
    """Judge the rows; with ``output`` write a record per row and go on from there after a kill.

    Raises: ConfigError, DataError, ScorerError; what was written before stays, and ``resume`` goes on behind it.
    """
    streams = [RowStream(spec) for spec in settings.data]
    policy, not_judged = _judged(policy, streams, settings.rows_together)
    clauses = (*sample_clauses(policy.ir), *compared_clauses(policy.ir))
    with (
        scoring(policy, settings, clauses, folder=folder) as scored,
        _workplace(settings) as place,
    ):
        audit = Audit(clauses, place, _fingerprint(policy, settings), records=settings.output is not None)
        if settings.resume:
            audit.load()
        elif settings.output is not None:
            audit.clear()
        audit.run(streams, settings.rows_together, scored, progress)
        result = ScoreResult(
            audit.verdicts(), audit.rows, audit.satisfied, audit.violating, audit.undecided, not_judged,
            audit.seconds, asdict(settings), policy.semantic_hash,
            dict(audit.unavailable),
        )  # fmt: skip
        if settings.output is not None:
            audit.save()
            summary = json.dumps(result.to_dict(), indent=1, ensure_ascii=False)
            write_whole(place / SUMMARY_FILE, summary.encode() + b"\n")
    return result


def _judged(
    policy: CompiledPolicy, streams: Sequence[RowStream], size: int
) -> tuple[CompiledPolicy, list[dict[str, str]]]:
    """The policy with the clauses that texts decide, its strata written out; and the other clauses, with the reason."""
    policy, left = decided_by_texts(policy)
    ir, kept = policy.ir, policy.ir.clauses
    if any(clause.per for clause in kept):
        ir = expand_strata(
            ir, _distinct_tags(streams, {key for clause in kept for key in clause.per}, size, kept)
        )
    return replace(policy, ir=ir), left


def _distinct_tags(
    streams: Sequence[RowStream], keys: set[str], size: int, clauses: Sequence[Clause]
) -> list[dict[str, Any]]:
    """One row of tags for each combination of stratum and domains: strata must be known before the rows are judged."""
    if any(stream.source == "-" for stream in streams):
        raise ConfigError(
            "`per` needs a first look at the data, and standard input can be read once", help="name a file"
        )
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for stream in streams:
        for batch in stream.batches(size, Position()):
            for row in batch.rows:
                scope = tuple(matches(clause.domain, row) for clause in clauses)
                found.setdefault((scope, *(str(row.get(key)) for key in sorted(keys))), row)
    return [{key: value for key, value in row.items() if value is not None} for row in found.values()]


@contextmanager
def _workplace(settings: ScoreSettings) -> Iterator[Path]:
    """The output folder, or one that is gone when the audit ends."""
    if settings.output is None:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    place = Path(settings.output)
    occupied = place.is_dir() and any(place.iterdir())
    if place.exists() and not place.is_dir():
        raise ConfigError(f"`{place}` is a file", help="name a folder", parameter="output")
    if occupied and not (settings.resume or settings.overwrite):
        raise ConfigError(
            f"`{place}` is not empty",
            help="add --resume to go on with the audit in it, --overwrite to start over, or name another folder",
            parameter="output",
        )
    if occupied and not _is_audit(place):
        raise ConfigError(
            f"`{place}` is not empty and not the output of `constraintc score`",
            help="name another folder",
            parameter="output",
        )
    written = [place / name for name in (ROWS_FILE, STATE_FILE, SUMMARY_FILE)]
    require_not_read(written, {"data": settings.data, "scorer": settings.scorer})
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield place
    except OSError as error:
        raise ScorerError(
            f"cannot write the audit to `{place}`: {error.strerror}",
            help="free space there; --resume goes on from the last state on disk",
        ) from error


def _is_audit(place: Path) -> bool:
    """Whether a folder is ours: an audit leaves its state there from its first row on."""
    try:
        return '"fingerprint"' in (place / STATE_FILE).read_text()
    except (OSError, UnicodeDecodeError):
        return False


def _digests(path: Path) -> dict[str, str]:
    """A file, or every file of a folder, by ``_digest``; nothing where there is neither."""
    if path.is_dir():
        files = sorted(part for part in path.rglob("*") if part.is_file())
        return {str(part.relative_to(path)): _digest(part) for part in files}
    return {"": _digest(path)} if path.is_file() else {}


def _digest(path: Path) -> str:
    """A file by its size and its ends: what is appended or changed there is seen, and no long file is read whole."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        found.update(file.read(ENDS))
        file.seek(max(0, size - ENDS))
        found.update(file.read(ENDS))
    return found.hexdigest()


def _fingerprint(policy: CompiledPolicy, settings: ScoreSettings) -> str:
    content = {
        "policy": policy.semantic_hash,
        "clauses": [clause.id for clause in policy.ir.clauses],
        "data": list(settings.data),
        "scorer": list(settings.scorer),
        "scorer files": {
            name: _digests(Path(path)) for name, (path, _) in parse_scorer_options(settings.scorer).items()
        },
        "files": [_digest(path) for spec in settings.data if (path := Path(split_domain(spec)[1])).is_file()],
        "word lists": {
            name: hashlib.sha256(content).hexdigest() for name, content in sorted(policy.contents.items())
        },
        "judge": [settings.judge.url, settings.judge.model],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
