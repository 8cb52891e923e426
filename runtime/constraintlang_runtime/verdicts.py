"""The verdict on one clause as a record, and what a set of verdicts means for the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from constraintlang_compiler.ir import ClauseKind

VerdictName = Literal["holds", "violated", "inconclusive", "vacuous", "error"]
Direction = Literal["at_most", "at_least"]
Quantity = Literal[
    "violation rate",
    "probability",
    "mean",
    "quantile",
    "cvar",
    "difference",
    "choice",
    "perplexity",
    "accuracy",
]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the samples say about one clause, in the quantity that the policy's author wrote.

    ``estimate``, ``lower``, ``upper`` and ``bound`` share one unit: a rate for ``violation`` and
    ``probability``, a score for ``mean``, ``quantile`` and ``cvar``, else that of the perplexity or accuracy; for a
    ``difference`` it is the sum that the clause bounds, for a ``choice`` there are none. With a threshold
    relative to the base model ``bound`` is the number that the base model gives it, and the interval holds what
    the comparison is uncertain about. ``direction`` says which side of ``bound`` is good. None stands for a number
    that does not exist (no prompts) or is infinite.
    """

    clause: str
    domain: str | None  # the value of `domain=`, else the predicate's text; None when unscoped
    kind: ClauseKind
    n: int
    estimate: float | None
    lower: float | None
    upper: float | None
    bound: float | None
    verdict: VerdictName
    strength: Literal["require", "prefer", "preserve"]
    direction: Direction
    strict: bool
    hard: bool
    confidence: float  # joint, over all clauses of the policy
    alpha: float  # error probability of `lower` and of `upper`, after correction
    method: str
    quantity: Quantity
    samples: int | None  # per prompt; None when they differ or are not known
    unavailable: int
    text: str
    id: str
    note: str = ""
    warnings: tuple[str, ...] = ()  # what a reader of the verdict must not miss

    @property
    def soft(self) -> bool:
        """True for ``prefer``: reported, never a failure of the run."""
        return self.strength == "prefer"

    def in_numbers(self) -> str:
        """The verdict with its numbers in one line, the note where there are none or where it is ``always``'s."""
        numbers = (self.estimate, self.lower, self.upper, self.bound)
        shown = self.note if None in numbers else "{:.3g} in [{:.3g}, {:.3g}], bound {:.3g}".format(*numbers)
        said = f"; {self.note}" if self.hard and self.note and self.note != shown else ""
        return f"{self.verdict}, {self.quantity} {shown}{said}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: every field under its own name, and ``soft``."""
        return {**asdict(self), "warnings": list(self.warnings), "soft": self.soft}


def exit_code(
    verdicts: Sequence[Verdict], *, require_holds: bool = False, not_judged: Sequence[Mapping[str, str]] = ()
) -> int:
    """The command's exit code: 4 when a verdict is ``error`` or ``vacuous``, else 1 when violated, else 0.

    ``prefer`` clauses never make it 1. ``require_holds`` makes ``inconclusive`` a 1 as well, and a verdict
    with a warning; with it a binding clause that is among the ``not_judged`` of ``decided_by_texts`` is a 4. No verdict
    at all is 4: a policy that was not verified has not passed.
    Source: docs/method.md, "Verification".
    """
    if not verdicts or any(verdict.verdict in ("error", "vacuous") for verdict in verdicts):
        return 4
    if require_holds and any(left["strength"] != "prefer" for left in not_judged):
        return 4
    failing = {"violated", "inconclusive"} if require_holds else {"violated"}
    binding = [verdict for verdict in verdicts if not verdict.soft]
    warned = require_holds and any(verdict.warnings for verdict in binding)
    return int(warned or any(verdict.verdict in failing for verdict in binding))
