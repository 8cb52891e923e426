"""What a report is made of: plain records, checked at the door, unknown keys rejected.

``report_data`` and ``clause_result`` make records of plain dicts and check them. Every text in a record may
come from a user or a model and is escaped when it is rendered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from constraintlang_runtime.errors import DataError
from constraintlang_runtime.verdicts import Verdict

from .doubts import Doubts
from .records import ClauseResult as ClauseResult
from .records import Record, TaskFigure
from .sample_records import SampleText as SampleText
from .sample_records import ScoreHistogram

RecordT = TypeVar("RecordT", bound="Record")


class SystemReport(Record, frozen=True, kw_only=True):
    """One row of the comparison: a model, or a model with a decoding rule, on the same held-out prompts.

    Units: ``utility_loss`` and ``compliant_loss`` in nats per token (all rows; rows that obey the policy);
    ``seconds`` of wall-clock time to make it. ``samples`` are those that the page lists, of ``num_samples``
    judged; ``compared`` those shown beside another system's replies to the same prompts (default: the samples).
    """

    name: str
    label: str
    clauses: tuple[ClauseResult, ...]
    utility_loss: float | None = None
    compliant_loss: float | None = None
    seconds: float | None = None
    degeneracy: dict[str, float | int | None] | None = None
    samples: tuple[SampleText, ...] = ()
    tasks: tuple[TaskFigure, ...] = ()
    compared: tuple[SampleText, ...] = ()
    num_samples: int | None = None
    num_prompts: int | None = None
    num_violations: int | None = None
    doubts: Doubts = Doubts()


class CurvePoint(Record, frozen=True, kw_only=True):
    """One point of a training curve; ``domain`` names the line, ``lower`` and ``upper`` its interval."""

    step: float
    value: float | None
    domain: str = ""
    lower: float | None = None
    upper: float | None = None


class Event(Record, frozen=True, kw_only=True):
    """A mark on the step axis, such as the start of a round."""

    step: float
    label: str


class CandidateClause(Record, frozen=True, kw_only=True):
    """A clause on the selection prompts of one checkpoint; it is met when the estimate is within the limit."""

    clause: str
    estimate: float
    limit: float
    met: bool
    bound: float | None = None
    samples: int | None = None
    prompts: int | None = None


class Candidate(Record, frozen=True, kw_only=True):
    """A checkpoint that could have been kept; ``utility_loss`` in nats per token on held-out rows of its ``run``."""

    step: int
    chosen: bool
    clauses: tuple[CandidateClause, ...]
    utility_loss: float | None = None
    run: str = ""


class RunCurves(Record, frozen=True, kw_only=True):
    """The curves and bounds of one of several runs, keyed as in ``ReportData``."""

    label: str
    curves: dict[str, tuple[CurvePoint, ...]] = {}
    bounds: dict[str, float] = {}


class Reliability(Record, frozen=True, kw_only=True):
    """How an auxiliary model's predictions came true on samples that its fit held out.

    ``points``: mean predicted probability of the lowest bin, its actual share, the number of sites, cell by cell.
    """

    domain: str
    step: float
    points: tuple[tuple[float, float, float], ...]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: Σ count |predicted - actual| / Σ count; 0 without a site."""
        total = sum(count for _, _, count in self.points)
        return sum(c * abs(p - a) for p, a, c in self.points) / total if total else 0.0


class Fit(Record, frozen=True, kw_only=True):
    """One fit of an auxiliary model. Losses in nats per site on held-out samples; ``strength`` is the exponent γ."""

    domain: str
    step: float
    heldout_loss: float
    constant_loss: float
    calibration_error: float | None = None
    explained_share: float | None = None
    strength: float | None = None
    effective_sample_size: float | None = None


class StageTime(Record, frozen=True, kw_only=True):
    """Wall-clock seconds that a stage of a round took, over all groups."""

    round: int
    stage: str
    seconds: float


class Stamp(Record, frozen=True, kw_only=True):
    """The round whose state a round of the parallel schedule used, by what it used."""

    domain: str
    round: int
    samples: int | None = None
    auxiliary: int | None = None
    duals: int | None = None


class ReportData(Record, frozen=True, kw_only=True):
    """A whole report.

    ``headline`` names the system whose verdicts stand on top (default: the last), ``baseline`` the one it is
    compared with in the samples (default: the first). ``readings`` maps a clause's name to its sentence in
    words (default: made from the verdict). ``curves`` maps a series to its points; known names are
    ``violation_rate``, ``dual``, ``weight``, ``budget``, ``loss``, ``regularizer``, ``auxiliary_loss``,
    ``explained_share`` and ``effective_sample_size``, others keep their name as title. ``bounds`` and
    ``set_points`` are keyed like the lines of ``violation_rate`` (the ``domain`` of its points).
    ``candidates`` are the checkpoints of which one was kept. ``runs`` are compared where there are several, the one
    whose ``curves`` these are among them. ``unmeasured`` says of each loss that a system lacks how to measure it;
    ``unequal`` names what differs between the evaluations, such as prompts or scorers.
    """

    title: str
    policy_text: str
    systems: Annotated[tuple[SystemReport, ...], msgspec.Meta(min_length=1)]
    headline: str | None = None
    baseline: str | None = None
    readings: dict[str, str] = {}
    curves: dict[str, tuple[CurvePoint, ...]] = {}
    bounds: dict[str, float] = {}
    set_points: dict[str, float] = {}
    events: tuple[Event, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    histograms: tuple[ScoreHistogram, ...] = ()
    provenance: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    fits: tuple[Fit, ...] = ()
    stages: tuple[StageTime, ...] = ()
    stamps: tuple[Stamp, ...] = ()
    runs: tuple[RunCurves, ...] = ()
    unmeasured: tuple[str, ...] = ()
    unequal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the names of systems."""
        names = [system.name for system in self.systems]
        if len(set(names)) < len(names):
            raise ValueError(f"got system names {names}; expected each name once")
        for role, name in (("headline", self.headline), ("baseline", self.baseline)):
            if name is not None and name not in names:
                raise ValueError(f"got {role} {name!r}; expected the name of a system: {', '.join(names)}")

    def system(self, name: str | None, default: int) -> SystemReport:
        """The system of this name, or the one at index ``default`` when there is no name."""
        return self.systems[default] if name is None else next(s for s in self.systems if s.name == name)


def report_data(data: ReportData | Mapping[str, Any]) -> ReportData:
    """``data`` checked.

    Raises: DataError naming the first wrong key and its place.
    """
    return data if isinstance(data, ReportData) else _checked(data, ReportData)


def clause_result(verdict: Verdict | ClauseResult | Mapping[str, Any]) -> ClauseResult:
    """A verdict as the report shows it.

    Raises: DataError naming the first wrong key.
    """
    if isinstance(verdict, ClauseResult):
        return verdict
    return _checked(verdict.to_dict() if isinstance(verdict, Verdict) else verdict, ClauseResult)


def plain(record: Record) -> Any:
    """A record as JSON values; nan and infinity become None."""
    return _finite_only(msgspec.to_builtins(record))


def _finite_only(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite_only(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite_only(entry) for entry in value]
    return value


def _checked(data: Mapping[str, Any], kind: type[RecordT]) -> RecordT:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise DataError(
            f"this cannot be reported: {error}",
            help="pass what `constraintc eval` of this version writes, or the fields of `ReportData`",
        ) from error
