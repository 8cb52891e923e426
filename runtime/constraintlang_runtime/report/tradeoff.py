"""The trade-off as inline SVG: what a statement measures against the loss on useful text, point by point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, grid_line, linear_scale, nice_axis
from .words import loss

LETTER = 7.6  # width of a letter as a phone shows it, in units of the view box
LINE = 16.0
MAX_LETTERS = 24
MAX_NAMED = 8  # of more points the ends and the marked one are named
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """A system or a checkpoint; ``colour`` counts from 1, ``marked`` is the one that the report is about.

    Points of one ``path`` are joined in their order.
    """

    label: str
    x: float
    y: float
    lower: float | None = None
    upper: float | None = None
    colour: int = 1
    marked: bool = False
    path: str = ""


def tradeoff_chart(
    points: Sequence[Point],
    *,
    title: str,
    describe: Callable[[float], str],
    bound: float | None = None,
    at_most: bool = True,
    axis: str = "utility loss, nats per token",
) -> Markup:
    """Points with vertical intervals, the bound as a dashed line, labels that keep off points and each other.

    Empty with fewer than two points whose numbers are finite.
    """
    points = [p for p in points if math.isfinite(p.x) and math.isfinite(p.y)]
    if len(points) < 2:
        return Markup("")
    values = [v for p in points for v in (p.y, p.lower, p.upper) if v is not None and math.isfinite(v)]
    values += [] if bound is None else [bound]
    low, high, ticks = nice_axis(0.0 if min(values) >= 0 else min(values), max(values))
    xs = [p.x for p in points]
    pad = 0.12 * (max(xs) - min(xs)) or 0.05
    first, last, x_ticks = nice_axis(min(xs) - pad, max(xs) + pad)
    x, y = linear_scale(first, last, LEFT, WIDTH - RIGHT), linear_scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [grid_line(y(t), describe(t)) for t in ticks]
    if bound is not None:
        top, end = (y(bound), HEIGHT - BOTTOM) if at_most else (TOP, y(bound))
        parts.append(
            Markup('<rect class="good-side" x="{l}" y="{y:.1f}" width="{w}" height="{h:.1f}"/>').format(
                l=LEFT, y=top, w=WIDTH - RIGHT - LEFT, h=max(0.0, end - top)
            )
        )
        parts.append(
            Markup(
                '<line class="level bound" x1="{l}" x2="{r}" y1="{y:.1f}" y2="{y:.1f}"><title>{label}</title></line>'
            ).format(l=LEFT, r=WIDTH - RIGHT, y=y(bound), label=f"bound {describe(bound)}")
        )
    parts += [
        Markup('<text class="axis" x="{x:.1f}" y="{y}" text-anchor="middle">{label}</text>').format(
            x=x(t), y=HEIGHT - BOTTOM + 18, label=f"{t:g}"
        )
        for t in x_ticks
    ]
    for path in dict.fromkeys(p.path for p in points if p.path):
        own = [p for p in points if p.path == path]
        line = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in own)
        parts.append(
            Markup('<polyline class="line thin c{c}" points="{p}"/>').format(c=own[0].colour, p=line)
        )
    for p in points:
        parts.append(_point(p, x(p.x), y, describe))
    discs = [(x(p.x), y(p.y)) for p in points]
    for p, box in _placed(points, discs):
        parts.append(_label(p, box, (x(p.x), y(p.y))))
    said = "; ".join(f"{p.label}: {describe(p.y)} at a loss of {loss(p.x)}" for p in points)
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">{body}'
        '<text class="axis" x="{tx}" y="{ty}" text-anchor="end">{axis}</text></svg>'
    ).format(
        w=WIDTH, h=HEIGHT, label=f"{title}. {said}", body=Markup("").join(parts), tx=WIDTH - RIGHT,
        ty=HEIGHT - 3, axis=axis,
    )  # fmt: skip


def _point(p: Point, x: float, y: Callable[[float], float], describe: Callable[[float], str]) -> Markup:
    label = f"{p.label}: {describe(p.y)}"
    whisker = Markup("")
    if p.lower is not None and p.upper is not None and math.isfinite(p.lower) and math.isfinite(p.upper):
        label += f" ({describe(p.lower)} to {describe(p.upper)})"
        whisker = Markup('<line class="whisker c{c}" x1="{x:.1f}" x2="{x:.1f}" y1="{a:.1f}" y2="{b:.1f}"/>').format(
            c=p.colour, x=x, a=y(p.lower), b=y(p.upper)
        )  # fmt: skip
    return Markup(
        '<g>{whisker}<circle class="dot c{c}{m}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/><title>{label}</title></g>'
    ).format(
        whisker=whisker, c=p.colour, m=" marked" if p.marked else "", x=x, y=y(p.y), r=6.5 if p.marked else 4.5,
        label=f"{label}, loss {loss(p.x)}",
    )  # fmt: skip


def short(label: str) -> str:
    """A label of at most ``MAX_LETTERS``."""
    return label if len(label) <= MAX_LETTERS else f"{label[: MAX_LETTERS - 1]}…"


def _placed(points: Sequence[Point], discs: Sequence[tuple[float, float]]) -> list[tuple[Point, Box]]:
    """A free place for each label, tried around its point from near to far; a label without one is left out."""
    named = [
        (p, disc)
        for number, (p, disc) in enumerate(zip(points, discs, strict=True))
        if len(points) <= MAX_NAMED or p.marked or number in (0, len(points) - 1)
    ]
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in discs]
    placed = []
    for p, (x, y) in sorted(named, key=lambda entry: not entry[0].marked):
        width = LETTER * len(short(p.label))
        for away in (0.0, 12.0, 24.0, 38.0, 54.0, 72.0):
            options = (
                (x + 10 + away / 2, y - LINE / 2 - away), (x - 10 - width - away / 2, y - LINE / 2 - away),
                (x + 10 + away / 2, y - LINE / 2 + away), (x - 10 - width - away / 2, y - LINE / 2 + away),
                (x - width / 2, y - 10 - LINE - away), (x - width / 2, y + 10 + away),
            )  # fmt: skip
            free = [
                box for left, top in options if _is_free(box := (left, top, left + width, top + LINE), taken)
            ]
            if free:
                taken.append(free[0])
                placed.append((p, free[0]))
                break
    return placed


def _is_free(box: Box, taken: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    if left < LEFT + 2 or right > WIDTH - 2 or top < 0 or bottom > HEIGHT - BOTTOM:
        return False
    return not any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom for other in taken
    )


def _label(p: Point, box: Box, disc: tuple[float, float]) -> Markup:
    left, top, right, bottom = box
    x, y = disc
    to_right = left > x
    anchor = "start" if to_right else "end" if right < x else "middle"
    at = left if to_right else right if right < x else (left + right) / 2
    line = Markup("")
    nearest = (min(max(x, left), right), min(max(y, top), bottom))
    if abs(nearest[0] - x) + abs(nearest[1] - y) > 16:
        line = Markup('<line class="leader" x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}"/>').format(
            a=x, b=y, c=nearest[0], d=nearest[1]
        )
    kind = "point-label marked" if p.marked else "point-label"
    return line + Markup('<text class="{k}" x="{x:.1f}" y="{y:.1f}" text-anchor="{a}">{label}</text>').format(
        k=kind, x=at, y=(top + bottom) / 2 + 4, a=anchor, label=short(p.label)
    )
