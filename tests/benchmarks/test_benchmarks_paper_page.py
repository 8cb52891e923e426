"""The chart on the page of the paper's tables."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))

from scatter import scatter


def row(system: str, toxic: float, loss: float) -> dict[str, Any]:
    return {
        "system": system, "toxicity": {"mean": toxic, "low": toxic * 0.8, "high": toxic * 1.2},
        "neutral_loss": {"mean": loss, "low": None, "high": None},
    }  # fmt: skip


ROWS = [
    row("plain", 0.09, 4.55),
    row("rl", 0.013, 4.59),
    row("ours", 0.01, 4.55),
    row("filtering", 0.054, 4.53),
]


def test_every_row_is_named_and_no_label_lies_on_another() -> None:
    crowd = ROWS + [row(f"system_{n}", 0.012 + n * 1e-4, 4.55 + n * 1e-3) for n in range(8)]
    page = scatter(crowd, "neutral_loss", "neutral")
    found = re.findall(r"<text x='([\d.]+)' y='([\d.]+)' fill='var\(--(?:ours|bar)\)'>([^<]+)<", page)
    assert sorted(name for _, _, name in found) == sorted(one["system"] for one in crowd)
    boxes = [(float(x), float(y), float(x) + 6.4 * len(name)) for x, y, name in found]
    for i, (left, base, right) in enumerate(boxes):
        assert not any(left < r and x < right and abs(base - y) < 12 for x, y, r in boxes[:i])


def test_lower_and_further_left_is_where_less_is_measured() -> None:
    page = scatter(ROWS, "neutral_loss", "neutral")
    dots = dict(
        (name, (float(x), float(y)))
        for x, y, name in re.findall(r"<circle cx='([\d.]+)' cy='([\d.]+)'[^>]*><title>(\w+):", page)
    )
    assert dots["rl"][0] > dots["ours"][0] > dots["filtering"][0]
    assert dots["plain"][1] < dots["filtering"][1] < dots["rl"][1] < dots["ours"][1]


@pytest.mark.parametrize("loss", [5.8, 400.0])
def test_a_row_far_off_is_named_below_and_does_not_squeeze_the_others(loss: float) -> None:
    page = scatter([*ROWS, row("base", 0.07, loss)], "neutral_loss", "neutral")
    assert "base is at" in page
    assert page.count("<circle") == len(ROWS)


def test_two_rows_are_no_chart() -> None:
    assert scatter(ROWS[:2], "neutral_loss", "neutral") == ""
    assert scatter([{"system": "x"}] * 5, "neutral_loss", "neutral") == ""
