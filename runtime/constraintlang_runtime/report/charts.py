"""Inline SVG charts without scripts: the page's CSS gives the colours, so they follow light and dark.

Pure functions from numbers to ``Markup``; every label is escaped. Coordinates are in a fixed view box that
the page scales to the width of its column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from .data import ClauseResult, CurvePoint, Event
from .words import amount, is_rate

WIDTH, HEIGHT = 460, 256
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 16, 40
NUM_COLOURS = 6


@dataclass(frozen=True)
class Line:
    """One line of a chart: a name and its points, in order of step; ``colour`` counts from 1.

    ``is_reference``: what another line of this colour is compared with; it is dashed.
    """

    name: str
    points: tuple[CurvePoint, ...]
    colour: int
    is_reference: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal reference line, ``bound`` (dashes) or ``set-point`` (dots); the legend has its label."""

    kind: str
    value: float
    label: str


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    describe: Callable[[float], str],
    levels: Sequence[Level] = (),
    events: Sequence[Event] = (),
    from_zero: bool = True,
    axis: str = "step",
    span: tuple[float, float] | None = None,
    whole: bool = False,
) -> Markup:
    """Lines over training steps, with shaded intervals, reference levels and marks of events.

    ``describe`` turns a value into its label. Points without a finite value are left out; a chart without any
    point is an empty string. ``from_zero`` starts the vertical axis at 0; ``span`` are the ends of the horizontal one,
    so that charts of one run can be compared; ``axis`` names what it counts;
    ``whole`` labels whole numbers alone.
    """
    drawn = [(line, [p for p in line.points if _finite(p.value)]) for line in lines]
    drawn = [(line, points) for line, points in drawn if points]
    if not drawn:
        return Markup("")
    every = [p for _, points in drawn for p in points]
    values = _finites([v for p in every for v in (p.value, p.lower, p.upper)])
    values += [level.value for level in levels]
    steps = [p.step for p in every]
    low, high, ticks = nice_axis(0.0 if from_zero and min(values) >= 0 else min(values), max(values))
    first, last = (min(steps), max(steps)) if span is None else span
    step_ticks = nice_axis(first, last)[2]
    x = linear_scale(first, last, LEFT, WIDTH - RIGHT)
    y = linear_scale(low, high, HEIGHT - BOTTOM, TOP)

    parts = [
        *(grid_line(y(t), describe(t)) for t in ticks if not whole or t == round(t)),
        *(
            _step_tick(x(t), t)
            for t in step_ticks
            if first <= t <= last and (t == round(t) or axis != "round")
        ),
        *(_event(x(e.step), e.label) for e in events if first <= e.step <= last),
        *(_level(y(level.value), level) for level in levels),
    ]
    for line, points in drawn:
        parts.append(_band(points, x, y, line.colour))
        parts.append(_path(points, x, y, line))
        parts.extend(_dot(p, x, y, line, describe, axis) for p in points)
    ends = "; ".join(
        f"{line.name or title}: {describe(points[0].value or 0.0)} at {axis} {points[0].step:g}, "
        f"{describe(points[-1].value or 0.0)} at {axis} {points[-1].step:g}"
        for line, points in drawn
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{title}. {ends}">{body}'
        '<text class="axis" x="{tx}" y="{ty}" text-anchor="end">{axis}</text></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        title=title,
        ends=ends,
        body=Markup("").join(parts),
        tx=WIDTH - RIGHT,
        ty=HEIGHT - 3,
        axis=axis,
    )


def interval_chart(clause: ClauseResult, low: float, high: float) -> Markup:
    """One clause as a track from ``low`` to ``high``: allowed region, interval, estimate and bound.

    Numbers outside the track are drawn at its end; an infinite bound of the interval reaches the end.
    """
    begin, end, middle = 4.0, 216.0, 13.0
    along = linear_scale(low, high, begin, end)

    def x(value: float | None, missing: float) -> float:
        return max(begin, min(end, along(value))) if value is not None and math.isfinite(value) else missing

    def bar(kind: str, left: float, right: float, height: float) -> Markup:
        return Markup('<rect class="{k}" x="{x:.1f}" y="{y}" width="{w:.1f}" height="{h}" rx="{r}"/>').format(
            k=kind, x=left, y=middle - height / 2, w=max(right - left, 0.0), h=height, r=height / 2
        )

    parts = [bar("track", begin, end, 4)]
    has_bound = clause.bound is not None
    if has_bound:
        edge = x(clause.bound, end)
        parts.append(bar("allowed", *((begin, edge) if clause.direction == "at_most" else (edge, end)), 4))
    if clause.estimate is not None:
        parts.append(bar("interval", x(clause.lower, begin) - 1, x(clause.upper, end) + 1, 10))
        parts.append(
            Markup('<circle class="estimate" cx="{x:.1f}" cy="{y}" r="4.5"/>').format(
                x=x(clause.estimate, begin), y=middle
            )
        )
    if has_bound:
        parts.append(
            Markup('<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="25"/>').format(
                x=x(clause.bound, end)
            )
        )
    label = (
        f"estimate {amount(clause, clause.estimate)}, from {amount(clause, clause.lower)} "
        f"to {amount(clause, clause.upper)}, bound {amount(clause, clause.bound)}"
    )
    return Markup(
        '<svg class="interval-chart {v}" viewBox="0 0 220 26" role="img" aria-label="{label}">{body}</svg>'
    ).format(v=clause.verdict, label=label, body=Markup("").join(parts))


def interval_range(clauses: Sequence[ClauseResult]) -> tuple[float, float]:
    """Common ends of the tracks of one clause over several systems: from 0 where 0 is not far away."""
    values = _finites([v for c in clauses for v in (c.estimate, c.lower, c.upper, c.bound)])
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    pad = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    from_zero = low >= 0 and low < 0.5 * high
    ceiling = 1.0 if clauses and is_rate(clauses[0]) else math.inf
    return (0.0 if from_zero else low - pad), min(high + pad, max(ceiling, high))


def nice_axis(low: float, high: float, *, num_ticks: int = 4) -> tuple[float, float, list[float]]:
    """An axis that covers [low, high] with round ticks: ``(first tick, last tick, ticks)``.

    >>> nice_axis(0.0, 0.34)
    (0.0, 0.4, [0.0, 0.1, 0.2, 0.3, 0.4])
    """
    if high - low <= 1e-12 * max(1.0, abs(high)):
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    raw = (high - low) / num_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


# ------------------------------------------------------------ parts of a line chart
Scale = Callable[[float], float]


def _finites(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def linear_scale(low: float, high: float, begin: float, end: float) -> Scale:
    """The map of [low, high] onto [begin, end]."""
    span = (high - low) or 1.0
    return lambda value: begin + (value - low) / span * (end - begin)


def grid_line(y: float, label: str) -> Markup:
    """A horizontal line over the plot with its label to the left."""
    return Markup(
        '<line class="grid" x1="{l}" x2="{r}" y1="{y:.1f}" y2="{y:.1f}"/>'
        '<text class="axis" x="{t}" y="{b:.1f}" text-anchor="end">{label}</text>'
    ).format(l=LEFT, r=WIDTH - RIGHT, y=y, t=LEFT - 8, b=y + 4, label=label)


def _step_tick(x: float, step: float) -> Markup:
    return Markup('<text class="axis" x="{x:.1f}" y="{y}" text-anchor="middle">{label}</text>').format(
        x=x, y=HEIGHT - BOTTOM + 18, label=f"{step:,.6g}"
    )


def _event(x: float, label: str) -> Markup:
    return Markup(
        '<g><title>{label}</title><line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{t}" y2="{b}"/>'
        '<text class="event-label" x="{tx:.1f}" y="{ty}">{label}</text></g>'
    ).format(label=label, x=x, t=TOP, b=HEIGHT - BOTTOM, tx=x + 3, ty=TOP - 4)


def _level(y: float, level: Level) -> Markup:
    return Markup(
        '<line class="level {kind}" x1="{l}" x2="{r}" y1="{y:.1f}" y2="{y:.1f}"><title>{label}</title></line>'
    ).format(kind=level.kind, l=LEFT, r=WIDTH - RIGHT, y=y, label=level.label)


def _band(points: Sequence[CurvePoint], x: Scale, y: Scale, colour: int) -> Markup:
    banded = [(p.step, p.lower, p.upper) for p in points if p.lower is not None and p.upper is not None]
    banded = [(s, lo, up) for s, lo, up in banded if math.isfinite(lo) and math.isfinite(up)]
    if len(banded) < 2:
        return Markup("")
    path = [f"{x(s):.1f},{y(up):.1f}" for s, _, up in banded]
    path += [f"{x(s):.1f},{y(lo):.1f}" for s, lo, _ in reversed(banded)]
    return Markup('<polygon class="band c{c}" points="{p}"/>').format(c=colour, p=" ".join(path))


def _path(points: Sequence[CurvePoint], x: Scale, y: Scale, line: Line) -> Markup:
    path = " ".join(f"{x(p.step):.1f},{y(p.value or 0.0):.1f}" for p in points)
    kind = "line reference" if line.is_reference else "line"
    return Markup('<polyline class="{k} c{c}" points="{p}"/>').format(k=kind, c=line.colour, p=path)


def _dot(
    p: CurvePoint, x: Scale, y: Scale, line: Line, describe: Callable[[float], str], axis: str
) -> Markup:
    """An invisible target with a tooltip at every point; visible where points are few."""
    value = p.value or 0.0
    label = f"{line.name + ', ' if line.name else ''}{axis} {p.step:g}: {describe(value)}"
    if p.lower is not None and p.upper is not None:
        label += f" ({describe(p.lower)} to {describe(p.upper)})"
    visible = "dot" if len(line.points) <= 24 and not line.is_reference else "dot hidden"
    return Markup(
        '<circle class="{v} c{c}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{label}</title></circle>'
    ).format(v=visible, c=line.colour, x=x(p.step), y=y(value), label=escape(label))
