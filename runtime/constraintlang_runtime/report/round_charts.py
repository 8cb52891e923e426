"""Two more inline SVG charts: seconds by stage as stacked bars, and predicted against actual probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from .charts import BOTTOM, HEIGHT, LEFT, NUM_COLOURS, RIGHT, TOP, WIDTH, grid_line, linear_scale, nice_axis
from .data import Reliability, StageTime
from .words import number, percent

MAX_LABELS = 12  # rounds that are named under the bars


def stage_chart(times: Sequence[StageTime], stages: Sequence[str], *, title: str) -> Markup:
    """A bar for each round, its stages on top of each other in the order of ``stages``; empty without times."""
    if not times:
        return Markup("")
    rounds = sorted({entry.round for entry in times})
    spent = {(entry.round, entry.stage): max(entry.seconds, 0.0) for entry in times}
    totals = [sum(spent.get((r, stage), 0.0) for stage in stages) for r in rounds]
    _, high, ticks = nice_axis(0.0, max(totals) or 1.0)
    y = linear_scale(0.0, high, HEIGHT - BOTTOM, TOP)
    slot = (WIDTH - RIGHT - LEFT) / len(rounds)
    width = min(34.0, 0.72 * slot)
    parts = [grid_line(y(tick), f"{number(tick)} s") for tick in ticks]
    every = -(-len(rounds) // MAX_LABELS)
    for place, (number_, total) in enumerate(zip(rounds, totals, strict=True)):
        middle, base = LEFT + (place + 0.5) * slot, 0.0
        for colour, stage in enumerate(stages):
            own = spent.get((number_, stage), 0.0)
            if own == 0:
                continue
            label = f"round {number_}, {stage}: {number(own)} s of {number(total)} s"
            parts.append(
                Markup(
                    '<rect class="bar c{c}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}">'
                    "<title>{label}</title></rect>"
                ).format(
                    c=colour % NUM_COLOURS + 1,
                    x=middle - width / 2,
                    y=y(base + own),
                    w=width,
                    h=max(y(base) - y(base + own), 0.0),
                    label=label,
                )
            )
            base += own
        if place % every == 0:
            parts.append(_below(middle, f"{number_}"))
    whole = number(sum(totals))
    return _svg(f"{title}. {len(rounds)} rounds, {whole} seconds", parts, "round")


def reliability_chart(found: Reliability, colour: int, *, title: str) -> Markup:
    """Predicted probability against its actual share, one disc per cell, its area the number of sites.

    On the diagonal predictions come true as often as they say. Empty when no cell has a site.
    """
    points = [point for point in found.points if point[2] > 0]
    if not points:
        return Markup("")
    x, y = linear_scale(0.0, 1.0, LEFT, WIDTH - RIGHT), linear_scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    most = max(count for _, _, count in points)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    parts = [grid_line(y(tick), percent(tick)) for tick in ticks]
    parts += [_below(x(tick), percent(tick)) for tick in ticks]
    parts.append(
        Markup('<line class="ideal" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>').format(
            x1=x(0.0), y1=y(0.0), x2=x(1.0), y2=y(1.0)
        )
    )
    path = " ".join(f"{x(p):.1f},{y(a):.1f}" for p, a, _ in sorted(points))
    parts.append(Markup('<polyline class="line thin c{c}" points="{p}"/>').format(c=colour, p=path))
    for predicted, actual, count in sorted(points, key=lambda point: -point[2]):
        label = f"predicted {percent(predicted)}, actual {percent(actual)}, {count:,.0f} sites"
        parts.append(
            Markup(
                '<circle class="dot c{c}" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"><title>{label}</title></circle>'
            ).format(c=colour, x=x(predicted), y=y(actual), r=2.5 + 6.5 * (count / most) ** 0.5, label=label)
        )
    parts.append(Markup('<text class="axis" x="{x}" y="{y}">actual</text>').format(x=LEFT, y=TOP - 4))
    error = percent(found.expected_error)
    return _svg(f"{title}. Expected calibration error {error}", parts, "predicted")


def _below(x: float, label: str) -> Markup:
    return Markup('<text class="axis" x="{x:.1f}" y="{y}" text-anchor="middle">{label}</text>').format(
        x=x, y=HEIGHT - BOTTOM + 18, label=label
    )


def _svg(label: str, parts: Sequence[Markup], axis: str) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">{body}'
        '<text class="axis" x="{tx}" y="{ty}" text-anchor="end">{axis}</text></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        label=label,
        body=Markup("").join(parts),
        tx=WIDTH - RIGHT,
        ty=HEIGHT - 3,
        axis=axis,
    )
