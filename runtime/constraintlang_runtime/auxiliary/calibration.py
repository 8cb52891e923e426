"""How well predicted probabilities agree with what happened: the reliability curve and its expected error."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

CELLS = 10


@dataclass(frozen=True)
class Cell:
    """One cell of a reliability curve: mean predicted probability, share in which it happened, number of sites."""

    predicted: float
    actual: float
    count: int


def reliability(
    predicted: Float[Tensor, " S"], happened: Bool[Tensor, " S"], cells: int = CELLS,
    weights: Float[Tensor, " S"] | None = None,
) -> tuple[Cell, ...]:  # fmt: skip
    """The reliability curve over equal-width cells of the predicted probability; empty cells are left out.

    Means within a cell are weighted by ``weights``; ``count`` is of sites.
    """
    cell = (predicted * cells).long().clamp(max=cells - 1)
    found = []
    for index in range(cells):
        inside = cell == index
        count = int(inside.sum())
        if count:
            means = [_mean(values[inside].double(), weights, inside) for values in (predicted, happened)]
            found.append(Cell(means[0], means[1], count))
    return tuple(found)


def _mean(values: Tensor, weights: Tensor | None, inside: Tensor) -> float:
    if weights is None:
        return float(values.mean())
    own = weights[inside].double()
    return float((own * values).sum() / own.sum().clamp_min(1e-12))


def expected_error(curve: tuple[Cell, ...]) -> float:
    """Expected calibration error: Σ_cells (count / N) · |predicted - actual|. Source: Naeini et al. 2015 (AAAI)."""
    total = sum(cell.count for cell in curve)
    return sum(cell.count / total * abs(cell.predicted - cell.actual) for cell in curve)
