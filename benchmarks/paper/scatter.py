"""Toxicity against a loss, a named point for each row, as inline SVG: lower left is better."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 14, 44
LETTER, LINE = 6.4, 13.0  # of a label at 11.5 px
FAR = 3.0  # a loss further from the median than this many times the middle half is not drawn

Box = tuple[float, float, float, float]


def scatter(rows: Sequence[Mapping[str, Any]], loss: str, title: str) -> str:
    """Points with the intervals of toxicity; empty with fewer than three rows. Rows far to the right are named below."""
    found = [row for row in rows if _has(row, "toxicity") and _has(row, loss)]
    values = sorted(row[loss]["mean"] for row in found)
    if len(found) < 3:
        return ""
    middle = values[3 * len(values) // 4] - values[len(values) // 4]
    limit = values[len(values) // 2] + max(FAR * middle, 0.1)
    far = [row for row in found if row[loss]["mean"] > limit]
    shown = [row for row in found if row not in far]
    xs = [row[loss]["mean"] for row in shown]
    pad = 0.1 * (max(xs) - min(xs)) or 0.01
    first, last = min(xs) - pad, max(xs) + 2.2 * pad
    top = 1.08 * max(row["toxicity"]["high"] or row["toxicity"]["mean"] for row in shown)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (min(max(value, first), last) - first) / (last - first)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, top) / (top or 1.0))

    parts = [_axes(x, y, first, last, top, title)]
    places = [(x(row[loss]["mean"]), y(row["toxicity"]["mean"])) for row in shown]
    taken: list[Box] = [(px - 5, py - 5, px + 5, py + 5) for px, py in places]
    for row, (px, py) in sorted(zip(shown, places, strict=True), key=lambda pair: pair[1]):
        colour = "var(--ours)" if row["system"].startswith("ours") else "var(--bar)"
        low, high = row["toxicity"].get("low"), row["toxicity"].get("high")
        if low is not None and high is not None:
            parts.append(
                f"<line x1='{px:.1f}' y1='{y(low):.1f}' x2='{px:.1f}' y2='{y(high):.1f}' stroke='var(--line)'/>"
            )
        label = row["system"]
        box = _free(px, py, LETTER * len(label), taken)
        taken.append(box)
        tip = f"{label}: toxic {row['toxicity']['mean']:.4f}, loss {row[loss]['mean']:.3f}"
        parts.append(
            f"<circle cx='{px:.1f}' cy='{py:.1f}' r='4.5' fill='{colour}'><title>{html.escape(tip)}</title></circle>"
            f"<text x='{box[0]:.1f}' y='{box[3] - 3:.1f}' fill='{colour}'>{html.escape(label)}</text>"
        )
    note = "".join(
        f" {row['system']} is at {row[loss]['mean']:.2f}, {row['toxicity']['mean']:.3f}." for row in far
    )
    aside = f"<p><small>Not drawn, further right:{html.escape(note)}</small></p>" if far else ""
    return (
        f"<figure><svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' role='img' font-size='11.5' "
        f"aria-label='toxicity against {html.escape(title)}'>{''.join(parts)}</svg>{aside}</figure>"
    )


def _axes(x: Any, y: Any, first: float, last: float, top: float, title: str) -> str:
    parts = []
    for value in _ticks(0.0, top):
        parts.append(
            f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(value):.1f}' y2='{y(value):.1f}' stroke='var(--line)'/>"
            f"<text x='{LEFT - 6}' y='{y(value) + 4:.1f}' text-anchor='end' fill='var(--soft)'>{value:.1%}</text>"
        )
    for value in _ticks(first, last):
        parts.append(
            f"<text x='{x(value):.1f}' y='{HEIGHT - BOTTOM + 16}' text-anchor='middle' fill='var(--soft)'>{value:.3g}</text>"
        )
    parts.append(
        f"<text x='{WIDTH - RIGHT}' y='{HEIGHT - 6}' text-anchor='end' fill='var(--soft)'>{html.escape(title)}, "
        "nats per token; vertical: toxic completions</text>"
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, four to eight of them."""
    raw = (high - low) / 5 or 1.0
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _free(x: float, y: float, width: float, taken: Sequence[Box]) -> Box:
    """Where a label goes: the first place near its point that meets nothing."""
    places = []
    for reach in range(24):
        for side in (1, -1):
            left = x + 8 if side > 0 else x - 8 - width
            for down in (0, -reach, reach) if reach else (0,):
                places.append((left, y - LINE / 2 + down * LINE, left + width, y + LINE / 2 + down * LINE))
    inside = [p for p in places if p[0] > LEFT and p[2] < WIDTH and p[1] > 0 and p[3] < HEIGHT - BOTTOM + 4]
    for place in inside:
        if not any(
            place[0] < t[2] and t[0] < place[2] and place[1] < t[3] and t[1] < place[3] for t in taken
        ):
            return place
    return inside[0] if inside else places[0]


def _has(row: Mapping[str, Any], name: str) -> bool:
    figure = row.get(name)
    return isinstance(figure, Mapping) and figure.get("mean") is not None
