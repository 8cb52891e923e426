"""How many steps the next refit of an auxiliary model gets, by how fast it and the language model move."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from constraintlang_runtime.auxiliary import FitReport

REFIT_SHARE = 4  # a refit starts from the last fit, so a quarter of the steps is enough
FEWEST_SHARE = 8  # an eighth of these still follows a little, and shows what the language model does
NOTHING = 0.01  # of what the constant law lost in the first fit: less is nothing
ERRORS = 2.0  # standard errors below which a loss is chance


def most_refit_steps(auxiliary_steps: int) -> int:
    """Steps of a refit at most, and of the first refit.

    >>> most_refit_steps(800)
    200
    """
    return max(1, auxiliary_steps // REFIT_SHARE)


@dataclass(frozen=True)
class Balance:
    """What is kept of an auxiliary model's fits so far: the ``steps`` of the next, and losses in nats per site.

    ``constant`` is the held-out loss of the constant law in the first fit. ``excess`` is that of the auxiliary model
    after the last fit, less the constant law's on the same samples, which makes rounds of different rates comparable;
    0 at most, since a constant is always there to be learned. ``error`` is its standard error.
    """

    steps: int
    constant: float
    excess: float
    error: float

    @staticmethod
    def of_first(report: FitReport, auxiliary_steps: int) -> Balance:
        """After the first fit."""
        return _balance(most_refit_steps(auxiliary_steps), report.constant_loss, report)

    def speed_lm(self, report: FitReport) -> float:
        """What the language model's movement since the last fit cost the auxiliary model, in nats per site.

        Equation: the excess of the auxiliary model as it was, on held-out samples of the model as it is now, less
        ``excess``. The two are of different samples, so it may be below 0.
        """
        return report.start_loss - report.constant_loss - self.excess

    def after(self, report: FitReport, auxiliary_steps: int) -> Balance:
        """After a refit.

        Equation: n' = 2n if speed_lm > max(θ, 2 standard errors) or the second half of the n steps won more than θ on
        held-out samples, else n / 2; within [most / 8, most]; θ = NOTHING · constant.
        """
        nothing = NOTHING * self.constant
        chance = ERRORS * math.hypot(report.start_error, self.error)
        moves = self.speed_lm(report) > max(nothing, chance)
        wanted = 2 * report.steps if moves or report.late_gain > nothing else report.steps // 2
        most = most_refit_steps(auxiliary_steps)
        return _balance(min(most, max(1, most // FEWEST_SHARE, wanted)), self.constant, report)


def _balance(steps: int, constant: float, report: FitReport) -> Balance:
    return Balance(steps, constant, min(0.0, report.end_loss - report.constant_loss), report.end_error)
