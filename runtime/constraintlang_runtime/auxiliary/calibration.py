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
    predicted: Float[Tensor, " S"], happened: Bool[Tensor, " S"], cells: int = CELLS
) -> tuple[Cell, ...]:
    """The reliability curve over equal-width cells of the predicted probability; empty cells are left out."""
    cell = (predicted * cells).long().clamp(max=cells - 1)
    found = []
    for index in range(cells):
        inside = cell == index
        count = int(inside.sum())
        if count:
            found.append(
                Cell(float(predicted[inside].double().mean()), float(happened[inside].double().mean()), count)
            )
    return tuple(found)


def expected_error(curve: tuple[Cell, ...]) -> float:
    """Expected calibration error: Σ_cells (count / N) · |predicted - actual|. Source: Naeini et al. 2015 (AAAI)."""
    total = sum(cell.count for cell in curve)
    return sum(cell.count / total * abs(cell.predicted - cell.actual) for cell in curve)
