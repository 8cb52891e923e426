"""Curves of several runs on the same axes: a chart for each statement and series, a line for each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import words
from .charts import NUM_COLOURS, Level, Line, line_chart
from .data import ClauseResult, RunCurves
from .panels import CONTROLLED, LOSSES, Panel, PanelGroup, Series, legend_of

MEASURED = Series("Violation rate", "share of sampled replies", is_rate=True)
COMPARED: Mapping[str, Series] = {"violation_rate": MEASURED, **CONTROLLED, **LOSSES}


def run_panels(runs: Sequence[RunCurves], clauses: Sequence[ClauseResult]) -> list[PanelGroup]:
    """One group with a chart for every series and statement that any run has; none with fewer than two runs.

    All charts have the same horizontal axis, so that a run that was stopped early ends early. A run has the same
    colour everywhere; the seventh and later repeat the colours with dashes.
    """
    if len(runs) < 2:
        return []
    steps = [p.step for run in runs for name in COMPARED for p in run.curves.get(name, ())]
    if not steps:
        return []
    span = (min(steps), max(steps))
    kinds = {clause.clause: clause for clause in clauses}
    panels = []
    for name, series in COMPARED.items():
        for domain in dict.fromkeys(p.domain for run in runs for p in run.curves.get(name, ())):
            panel = _panel(runs, name, series, domain, kinds.get(domain), span)
            if panel is not None:
                panels.append(panel)
    lead = "A line for each run, all on the same axes; the charts below are of one run alone."
    return [PanelGroup("Runs compared", lead, tuple(panels))] if panels else []


def _panel(
    runs: Sequence[RunCurves], name: str, series: Series, domain: str, clause: ClauseResult | None,
    span: tuple[float, float],
) -> Panel | None:  # fmt: skip
    is_mean = name == "violation_rate" and clause is not None and not words.is_rate(clause)
    is_rate = series.is_rate and not is_mean
    title, note = ("Mean", "of the statistic; small is good") if is_mean else (series.title, series.note)
    describe = words.percent if is_rate else words.number
    lines = [
        Line(
            run.label,
            tuple(p for p in run.curves.get(name, ()) if p.domain == domain),
            number % NUM_COLOURS + 1,
            is_reference=number >= NUM_COLOURS,
        )
        for number, run in enumerate(runs)
    ]
    lines = [line for line in lines if line.points]
    bounds = (
        {run.bounds[domain] for run in runs if domain in run.bounds} if name == "violation_rate" else set()
    )
    levels = [Level("bound", value, f"bound {describe(value)}") for value in sorted(bounds)]
    if series.limit is not None:
        levels.append(Level("bound", 1.0, series.limit))
    svg = line_chart(
        lines, title=f"{title}, {domain}" if domain else title, describe=describe, levels=levels,
        from_zero=series.from_zero, span=span,
    )  # fmt: skip
    if not svg:
        return None
    legend = (*legend_of(lines), *((level.label, level.kind) for level in levels))
    return Panel(f"{title}, {domain}" if domain else title, note, svg, legend)
