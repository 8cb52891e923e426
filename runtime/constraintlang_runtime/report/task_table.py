"""The rich table of benchmark figures for the terminal, with the base model beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import ROUNDED
from rich.table import Table
from rich.text import Text

DASH = "–"


def task_table(figures: Sequence[Mapping[str, Any]]) -> Table:
    """One row per task and metric; the base model and the paired difference where there is one."""
    compared = any(figure["base"] is not None for figure in figures)
    table = Table(box=ROUNDED, header_style="bold", expand=False)
    table.add_column("benchmark", overflow="fold", min_width=10)
    table.add_column("metric", no_wrap=True)
    for column in ("n", "value", "chance", *(("base", "difference") if compared else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for figure in figures:
        cells = [with_error(figure["value"], figure["stderr"]), with_error(figure["chance"], None)]
        if compared:
            cells.append(with_error(figure["base"], figure["base_stderr"]))
            cells.append(with_error(figure["difference"], figure["difference_stderr"], signed=True))
        shown = [cell.replace(" ±", "\n±") for cell in cells]  # narrow enough for 80 columns
        table.add_row(Text(figure["task"]), Text(figure["metric"]), f"{figure['n']:,}", *shown)
    return table


def with_error(value: float | None, error: float | None, *, signed: bool = False) -> str:
    """``0.251 ± 0.019``; a dash for what is not known."""
    if value is None:
        return DASH
    return f"{value:{'+' if signed else ''}.4g}" + ("" if error is None else f" ± {error:.2g}")
