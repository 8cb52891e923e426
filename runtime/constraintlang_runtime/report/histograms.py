"""Score histograms: the scores of systems in shared bins, as records and as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from .charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, grid_line, linear_scale, nice_axis
from .sample_file import SampleFile
from .sample_records import ScoreHistogram, ScoreSeries, ScoreThreshold
from .thresholds import Threshold
from .words import number, percent

NUM_BINS = 20


def score_histograms(
    systems: Sequence[tuple[str, SampleFile]], thresholds: Sequence[Threshold]
) -> list[ScoreHistogram]:
    """A histogram for each clause and attribute with a threshold, in the order of the samples.

    Bins are round numbers that cover the scores of all systems and the thresholds; scores that are not finite are
    counted as missing.
    """
    places = list(dict.fromkeys(place for _, file in systems for place in file.scores))
    found = []
    for clause, attribute in places:
        own = [t for t in thresholds if t.attribute == attribute and t.is_of(clause)]
        scores = [np.array(file.scores.get((clause, attribute), ())) for _, file in systems]
        kept = [values[np.isfinite(values)] for values in scores]
        every = np.concatenate([*kept, [t.value for t in own]])
        if not any(len(values) for values in kept):
            continue
        _, _, edges = nice_axis(float(every.min()), float(every.max()), num_ticks=NUM_BINS)
        series = [
            ScoreSeries(
                system=name,
                counts=tuple(int(n) for n in np.histogram(values, bins=edges)[0]),
                beyond=sum(map(own[0].is_beyond, values.tolist())),
                missing=file.missing.get((clause, attribute), 0) + len(all_) - len(values),
            )
            for (name, file), values, all_ in zip(systems, kept, scores, strict=True)
        ]
        found.append(
            ScoreHistogram(
                attribute=attribute,
                clause=clause,
                edges=tuple(edges),
                thresholds=tuple(ScoreThreshold(value=t.value, allowed=t.allowed) for t in own),
                series=tuple(series),
            )
        )
    return found


def histogram_chart(found: ScoreHistogram, shown: Sequence[tuple[str, str]]) -> Markup:
    """The histogram of some systems (name, label): the first filled, the others as outlines.

    The vertical axis is the share of the replies on a square-root scale, so that rare scores stay visible.
    """
    series = {one.system: one for one in found.series}
    drawn = [(label, series[name]) for name, label in shown if name in series and any(series[name].counts)]
    if not drawn:
        return Markup("")
    shares = [[n / sum(one.counts) for n in one.counts] for _, one in drawn]
    top = max(max(values) for values in shares)
    ticks = [t for t in (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0) if t <= 1.15 * top or t <= 0.01]
    ceiling = max(top * 1.04, ticks[-1])
    across = linear_scale(found.edges[0], found.edges[-1], LEFT, WIDTH - RIGHT)
    root = linear_scale(0.0, ceiling**0.5, HEIGHT - BOTTOM, TOP)
    shown_ticks: list[float] = []
    for tick in ticks:  # labels keep their distance
        if not shown_ticks or abs(root(tick**0.5) - root(shown_ticks[-1] ** 0.5)) > 17:
            shown_ticks.append(tick)
    parts = [grid_line(root(tick**0.5), percent(tick)) for tick in shown_ticks]
    every = max(1, -(-(len(found.edges) - 1) // 5))
    parts += [_tick(across(edge), number(edge)) for edge in found.edges[::every]]
    base = HEIGHT - BOTTOM
    for place, ((label, one), values) in enumerate(zip(drawn, shares, strict=True)):
        for k, (count, share) in enumerate(zip(one.counts, values, strict=True)):
            left, right = across(found.edges[k]), across(found.edges[k + 1])
            height = base - root(share**0.5)
            span = f"from {found.edges[k]:g} to {found.edges[k + 1]:g}"
            title = f"{label}: {count:,} of {sum(one.counts):,} replies {span}"
            if count:
                parts.append(
                    Markup(
                        '<rect class="hist h{p}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}">'
                        "<title>{title}</title></rect>"
                    ).format(
                        p=place + 1, x=left + 1, y=base - height, w=max(right - left - 2, 1.0), h=height, title=title
                    )
                )  # fmt: skip
    for threshold in found.thresholds:
        x = across(threshold.value)
        near_end = x > WIDTH - 110
        parts.append(
            Markup(
                '<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{t}" y2="{b}"/>'
                '<text class="threshold-label" x="{tx:.1f}" y="{ty}" text-anchor="{a}">{label}</text>'
            ).format(
                x=x, t=TOP - 8, b=base, tx=x - 5 if near_end else x + 5, ty=TOP - 1,
                a="end" if near_end else "start", label=f"allowed {threshold.allowed}",
            )
        )  # fmt: skip
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">{body}'
        '<text class="axis" x="{tx}" y="{ty}" text-anchor="end">{axis}</text></svg>'
    ).format(
        w=WIDTH, h=HEIGHT, label=summary(found, drawn), body=Markup("").join(parts), tx=WIDTH - RIGHT,
        ty=HEIGHT - 3, axis=found.attribute,
    )  # fmt: skip


def summary(found: ScoreHistogram, drawn: Sequence[tuple[str, ScoreSeries]]) -> str:
    """The histogram in a sentence for each system."""
    allowed = found.thresholds[0].allowed if found.thresholds else ""
    return f"Scores of {found.attribute}, allowed {allowed}. " + " ".join(
        f"{label}: {one.beyond:,} of {sum(one.counts):,} replies are not"
        + (f", {one.missing:,} without a score." if one.missing else ".")
        for label, one in drawn
    )


def _tick(x: float, label: str) -> Markup:
    return Markup('<text class="axis" x="{x:.1f}" y="{y}" text-anchor="middle">{label}</text>').format(
        x=x, y=HEIGHT - BOTTOM + 18, label=label
    )
