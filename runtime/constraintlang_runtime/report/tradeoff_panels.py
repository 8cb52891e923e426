"""The trade-off charts of a report: one for each statement, systems apart from the checkpoints of runs."""

from __future__ import annotations

from collections.abc import Sequence

from constraintlang_compiler.bounds import clopper_pearson_lower, clopper_pearson_upper

from . import words
from .charts import NUM_COLOURS
from .data import Candidate, CandidateClause, ClauseResult, ReportData, SystemReport
from .panels import Panel
from .tradeoff import Point, tradeoff_chart

OF_SYSTEMS = ("systems, on held-out prompts", "utility loss, nats per token")
OF_CANDIDATES = ("checkpoints, on the selection prompts", "held-out loss, nats per token")


def tradeoff_panels(report: ReportData, headline: SystemReport) -> list[Panel]:
    """What each statement about replies measures against the utility loss; charts of a single point are left out.

    Systems are judged on held-out prompts and rows, checkpoints on those that chose among them: they do not share axes.
    """
    panels = []
    for clause in headline.clauses:
        if clause.kind in ("utility", "choice"):
            continue
        for points, (note, axis) in (
            (_of_systems(report.systems, clause, headline), OF_SYSTEMS),
            (_of_candidates(report.candidates, clause), OF_CANDIDATES),
        ):  # fmt: skip
            svg = tradeoff_chart(
                points, title=f"Trade-off of {clause.clause}, {note}",
                describe=words.percent if words.is_rate(clause) else words.number,
                bound=clause.bound, at_most=clause.direction == "at_most", axis=axis,
            )  # fmt: skip
            if svg:
                legend = () if clause.bound is None else ((f"bound {words.limit(clause)}", "bound"),)
                panels.append(Panel(clause.clause, note, svg, legend))
    return panels


def _of_systems(systems: Sequence[SystemReport], clause: ClauseResult, headline: SystemReport) -> list[Point]:
    points = []
    for number, system in enumerate(systems):
        own = next((c for c in system.clauses if c.clause == clause.clause), None)
        if own is not None and own.estimate is not None and system.utility_loss is not None:
            points.append(
                Point(
                    system.label, system.utility_loss, own.estimate, own.lower, own.upper,
                    colour=number % NUM_COLOURS + 1, marked=system.name == headline.name,
                )
            )  # fmt: skip
    return points


def _of_candidates(candidates: Sequence[Candidate], clause: ClauseResult) -> list[Point]:
    points = []
    runs = list(dict.fromkeys(candidate.run for candidate in candidates))
    for candidate in candidates:
        own = next((c for c in candidate.clauses if c.clause == clause.clause), None)
        if own is not None and candidate.utility_loss is not None:
            lower, upper = _interval(own, clause)
            label = f"{candidate.run}, step {candidate.step}" if len(runs) > 1 else f"step {candidate.step}"
            points.append(
                Point(
                    label + (", kept" if candidate.chosen else ""), candidate.utility_loss, own.estimate, lower, upper,
                    colour=runs.index(candidate.run) % NUM_COLOURS + 1, marked=candidate.chosen,
                    path=candidate.run or "run",
                )
            )  # fmt: skip
    return points


def _interval(own: CandidateClause, clause: ClauseResult) -> tuple[float | None, float | None]:
    """A 95% interval of a rate, the prompt the unit (older records count samples alone); none of other quantities,
    whose spread the record does not have.
    """
    n = own.prompts or own.samples
    if not n or not words.is_rate(clause) or not 0 <= own.estimate <= 1:
        return None, None
    events = round(own.estimate * n)
    return clopper_pearson_lower(events, n, 0.025), clopper_pearson_upper(events, n, 0.025)
