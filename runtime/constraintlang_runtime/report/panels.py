"""The charts of a report in reading order: what is controlled, the losses, the auxiliary models, time and schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from . import words
from .charts import NUM_COLOURS, Level, Line, line_chart
from .data import ClauseResult, CurvePoint, ReportData
from .history import REFERENCE
from .round_charts import reliability_chart, stage_chart

STAGES = ("sampling", "scoring", "fitting", "training")


@dataclass(frozen=True)
class Panel:
    """One chart with its title, a note in small print, and the lines that its colours mean."""

    title: str
    note: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()
    """Names and the class of the mark beside each: ``c1`` to ``c6``, or the kind of a level."""


@dataclass(frozen=True)
class PanelGroup:
    """Charts under one heading."""

    title: str
    lead: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Series:
    """How a series of curves is drawn; ``few``: a chart of single points is left out, a table has them.

    ``limit`` names the line at 1, where there is one.
    """

    title: str
    note: str
    is_rate: bool = False
    from_zero: bool = True
    few: bool = False
    limit: str | None = None


CONTROLLED = {
    "dual": Series("Dual variable λ", "how hard each statement is pushed, nats per unit"),
    "weight": Series("Weight ρ", "of the regularizer, relative to the corpus loss"),
    "budget": Series(
        "Budgets",
        "share of what each preserve clause allows, broken above 100%",
        is_rate=True,
        limit="all spent",
    ),
}
LOSSES = {
    "loss": Series("Training loss", "on the corpus, nats per token", from_zero=False),
    "regularizer": Series("Regularizer", "divergence from the projected target, nats per token"),
}
AUXILIARY = {
    "auxiliary_loss": Series(
        "Held-out loss", "of the auxiliary model, nats per site", from_zero=False, few=True
    ),
    "speed": Series(
        "Balance of the two learners",
        "nats per site that training cost the auxiliary model and that the fit after it won back",
        from_zero=False,
        few=True,
    ),
    "refit_steps": Series("Steps of each refit", "fewer while they win nothing", few=True),
    "explained_share": Series("Explained share", "of what tells replies apart", is_rate=True, few=True),
    "effective_sample_size": Series("Effective sample size", "of the weighted samples", few=True),
}
KNOWN = {"violation_rate", *CONTROLLED, *LOSSES, *AUXILIARY}


def panel_groups(report: ReportData, clauses: Sequence[ClauseResult]) -> list[PanelGroup]:
    """The groups that have at least one chart; ``clauses`` say in which unit a statement is measured."""
    maker = _Maker(report, {clause.clause: clause for clause in clauses})
    others = {name: Series(name.replace("_", " "), "") for name in report.curves if name not in KNOWN}
    groups = [
        PanelGroup(
            "What is controlled",
            "λ rises until what is measured reaches its set-point, which lies below the bound so that the final "
            "verification can confirm it. Bands are 95% intervals.",
            (*maker.measured(), *maker.of(CONTROLLED)),
        ),
        PanelGroup("Losses", "", (*maker.of(LOSSES), *maker.of(others))),
        PanelGroup(
            "The auxiliary models",
            "They predict, at every token, how the reply will turn out. A loss below the constant law's says that "
            "they learned something; on the diagonal their probabilities come true.",
            (*maker.of(AUXILIARY), *maker.reliability()),
        ),
        PanelGroup("Time and schedule", "", (*maker.stages(), *maker.stamps())),
    ]
    return [group for group in groups if group.panels]


class _Maker:
    """Makes panels; a line has the same colour in all of them."""

    def __init__(self, report: ReportData, clauses: dict[str, ClauseResult]) -> None:
        self._report = report
        self._clauses = clauses
        points = [p for series in report.curves.values() for p in series]
        self._names = list(dict.fromkeys(p.domain.removesuffix(REFERENCE) for p in points))
        steps = [p.step for p in points]
        self._span = (min(steps), max(steps)) if steps else None

    def _colour(self, name: str) -> int:
        return (self._names.index(name) if name in self._names else 0) % NUM_COLOURS + 1

    def _lines(self, points: Sequence[CurvePoint]) -> list[Line]:
        return [
            Line(
                name,
                tuple(p for p in points if p.domain == name),
                self._colour(name.removesuffix(REFERENCE)),
                is_reference=name.endswith(REFERENCE),
            )
            for name in dict.fromkeys(p.domain for p in points)
        ]

    def measured(self) -> list[Panel]:
        """A chart per statement: what was measured of it, with its bound and set-point."""
        panels = []
        for line in self._lines(self._report.curves.get("violation_rate", ())):
            clause = self._clauses.get(line.name)
            is_rate = clause is None or words.is_rate(clause)
            describe = words.percent if is_rate else words.number
            what = "Violation rate" if is_rate else "Mean"
            note = "share of sampled replies" if is_rate else "of the statistic; small is good"
            title = f"{what}, {line.name}" if line.name else what
            levels = self._levels(line.name, describe)
            svg = self._chart([line], title, describe, levels=levels)
            panels.append(Panel(title, note, svg, tuple((level.label, level.kind) for level in levels)))
        return [panel for panel in panels if panel.svg]

    def of(self, known: dict[str, Series]) -> list[Panel]:
        """A chart per series."""
        panels = []
        for name, series in known.items():
            lines = self._lines(self._report.curves.get(name, ()))
            if series.few and all(len(line.points) < 2 for line in lines):
                continue
            describe = words.percent if series.is_rate else words.number
            levels = [Level("bound", 1.0, series.limit)] if series.limit is not None else []
            svg = self._chart(lines, series.title, describe, levels=levels, from_zero=series.from_zero)
            if svg:
                panels.append(
                    Panel(series.title, series.note, svg, legend_of(lines) if len(lines) > 1 else ())
                )
        return panels

    def reliability(self) -> list[Panel]:
        """A chart per group: the last fit's predictions against what happened."""
        panels = []
        for found in self._report.reliability:
            title = f"Calibration, {found.domain}" if found.domain else "Calibration"
            svg = reliability_chart(found, self._colour(found.domain), title=title)
            note = f"expected calibration error {words.percent(found.expected_error)}, fit at step {found.step:g}"
            if svg:
                panels.append(Panel(title, note, svg))
        return panels

    def stages(self) -> list[Panel]:
        """Seconds by stage, a bar per round."""
        found = {entry.stage for entry in self._report.stages}
        stages = [*(s for s in STAGES if s in found), *sorted(found - set(STAGES))]
        svg = stage_chart(self._report.stages, stages, title="Seconds by stage")
        legend = tuple((stage, f"c{k % NUM_COLOURS + 1}") for k, stage in enumerate(stages))
        return [Panel("Seconds by stage", "wall clock of each round, all groups", svg, legend)] if svg else []

    def stamps(self) -> list[Panel]:
        """How old what a round used was, per group, when the schedule stamps it."""
        panels = []
        for domain in dict.fromkeys(stamp.domain for stamp in self._report.stamps):
            own = [stamp for stamp in self._report.stamps if stamp.domain == domain]
            series: dict[tuple[CurvePoint, ...], list[str]] = {}  # what is equally old shares a line
            for what in ("samples", "auxiliary", "duals"):
                ages = tuple(
                    CurvePoint(step=stamp.round, value=stamp.round - of)
                    for stamp in own
                    if (of := getattr(stamp, what)) is not None
                )
                if ages:
                    series.setdefault(ages, []).append(what)
            if not any(point.value for ages in series for point in ages):
                continue  # the sequential schedule uses what it has just made
            lines = [Line(", ".join(names), ages, k) for k, (ages, names) in enumerate(series.items(), 1)]
            title = f"Staleness, {domain}" if domain else "Staleness"
            svg = line_chart(lines, title=title, describe=words.number, axis="round", whole=True)
            if svg:
                panels.append(Panel(title, "age of what a round used, in rounds", svg, legend_of(lines)))
        return panels

    def _chart(
        self, lines: Sequence[Line], title: str, describe: Callable[[float], str], *,
        levels: Sequence[Level] = (), from_zero: bool = True,
    ) -> Markup:  # fmt: skip
        return line_chart(
            lines, title=title, describe=describe, levels=levels, events=self._report.events, from_zero=from_zero,
            span=self._span,
        )  # fmt: skip

    def _levels(self, name: str, describe: Callable[[float], str]) -> list[Level]:
        levels = []
        if name in self._report.bounds:
            value = self._report.bounds[name]
            levels.append(Level("bound", value, f"bound {describe(value)}"))
        if name in self._report.set_points:
            value = self._report.set_points[name]
            levels.append(Level("set-point", value, f"set-point {describe(value)}"))
        return levels


def legend_of(lines: Sequence[Line]) -> tuple[tuple[str, str], ...]:
    """Names of lines, each with the class of its mark."""
    return tuple(
        (line.name, f"c{line.colour}" + (" reference" if line.is_reference else ""))
        for line in lines
        if line.name
    )
