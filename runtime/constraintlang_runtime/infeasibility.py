"""Bounds that no tilt of the reference model meets: which clauses conflict, what could be reached, on which prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from constraintlang_compiler.ir import Clause
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.priorities import ranks_of
from constraintlang_runtime.projection import GroupLaw, Projection, project_groups

Floats = NDArray[np.float64]
Texts = Callable[[Sequence[TokenRow]], list[str]]
logger = logging.getLogger(__name__)
EXAMPLES = 3
SHOWN = 60  # characters of a prompt


@dataclass(frozen=True)
class Reachable:
    """The least mean of a statistic over the scope of its clause, with a one-sided bound on either side."""

    mean: float
    low: float
    high: float


def check_reachable(
    clauses: Sequence[Clause],
    groups: Sequence[GroupLaw],
    points: Floats,
    solved: Projection,
    rows: Sequence[Sequence[TokenRow]],
    texts: Texts,
    *,
    anchor: str,
    rehearsal: bool = False,
) -> None:
    """Look at the requirements that the projection leaves above their set-points.

    One that clauses of an earlier rank stand against gives way: a warning. One whose least mean might still be the
    set-point, given how few prompts it was estimated on: a warning; so is any in a ``rehearsal``, whose reference model
    the run itself does not have.
    Raises: TrainingError for any other, with the clauses that conflict and the prompts that are furthest from it.
    """
    ranks = ranks_of(clauses)
    for k in np.flatnonzero(solved.saturated).tolist():
        clause = clauses[k]
        if clause.strength == "prefer":
            continue
        conflict = conflicting(clauses, groups, points, k)
        others = [i for i in conflict if i != k]
        found = reachable(groups, solved.duals, k, float(clause.confidence))
        said = (
            f"clause `{clause.name}` cannot be met{_together(clauses, others)}: even the strongest tilt of the "
            f"{anchor} model leaves {found.mean:.3g} (between {found.low:.3g} and {found.high:.3g} with confidence "
            f"{float(clause.confidence):g}), the set-point is {points[k]:.3g}"
        )
        if any(ranks[i] < ranks[k] for i in others):
            logger.warning("%s; it gives way", said)
        elif found.low <= points[k]:
            logger.warning("%s; more prompts or samples may show that it can", said)
        elif rehearsal:
            logger.warning("%s; if that is so in the run itself, it ends with an error", said)
        else:
            where = worst_prompts(groups, solved.duals, k, rows, texts)
            shown = f"; furthest from it: {', '.join(map(repr, where))}" if where else ""
            raise TrainingError(
                said + shown,
                help="loosen the bound"
                + (" of one of them, give them different prompts or priorities" if others else "")
                + ", raise --anchor_samples so that compliant answers are seen, or choose another start model",
            )


def conflicting(
    clauses: Sequence[Clause], groups: Sequence[GroupLaw], points: Floats, k: int
) -> tuple[int, ...]:
    """A smallest set of requirements, k among them when it can be, that cannot all be met: leave out any, and they can.

    ``(k,)`` for a clause that cannot be met alone. Found by leaving out one after the other, those that give way first
    before the others, so that what is named is what stands fast.
    """
    if not _feasible(groups, points, [i for i in range(len(clauses)) if i == k]):
        return (k,)
    kept = [i for i, clause in enumerate(clauses) if clause.strength != "prefer"]
    ranks = ranks_of(clauses)
    for i in sorted(kept, key=lambda i: (-int(ranks[i]), -i)):
        fewer = [j for j in kept if j != i]
        if i != k and not _feasible(groups, points, fewer):
            kept = fewer
    return tuple(kept)


def _feasible(groups: Sequence[GroupLaw], points: Floats, chosen: list[int]) -> bool:
    """Whether some tilt within the caps meets the bounds of these clauses."""
    some = [group.under(chosen) for group in groups if group.applies[chosen].any()]
    return not some or not project_groups(some, points[chosen]).saturated.any()


def reachable(groups: Sequence[GroupLaw], duals: Floats, k: int, confidence: float) -> Reachable:
    """The mean of a statistic under the tilt, over the prompts of its scope, with a normal bound on either side.

    The unit of evidence is the prompt: the law at each is taken as it was fitted.
    """
    mean, variance, scope = 0.0, 0.0, sum(g.share for g in groups if g.applies[k])
    for group in groups:
        if group.applies[k]:
            each = group.means(duals)[:, k]
            mean += group.share / scope * float(each.mean())
            variance += (group.share / scope) ** 2 * float(each.var()) / len(each)
    margin = float(ndtri(confidence)) * variance**0.5
    return Reachable(mean, max(0.0, mean - margin), mean + margin)


def worst_prompts(
    groups: Sequence[GroupLaw], duals: Floats, k: int, rows: Sequence[Sequence[TokenRow]], texts: Texts
) -> list[str]:
    """Up to three prompts on which the strongest tilt leaves most of the statistic."""
    totals: dict[tuple[int, ...], tuple[float, TokenRow]] = {}
    for group, sampled in zip(groups, rows, strict=True):
        kept = [row for row in sampled if row.completion]  # those that the law was fitted on, in this order
        if group.applies[k] and len(kept) == len(group.law):
            for row, value in zip(kept, group.means(duals)[:, k], strict=True):
                totals.setdefault(row.prompt, (float(value), row))
    worst = sorted(totals.values(), key=lambda found: -found[0])[:EXAMPLES]
    return [
        text if len(text) <= SHOWN else text[: SHOWN - 3] + "..." for text in texts([r for _, r in worst])
    ]


def warn_unreachable(
    clauses: Sequence[Clause], groups: Sequence[GroupLaw], bounds: Floats, counts: Sequence[int]
) -> list[str]:
    """Before a tuned anchor exists: the requirements that the start model's own samples do not reach, as warnings.

    ``groups`` are the laws of its samples as they are, unsmoothed and over all prompts of a group, which is the most
    that a tilt could do; so what is said here may change with the rows, but is no matter of a fit.
    """
    said = []
    solved = project_groups(groups, bounds)
    for k in np.flatnonzero(solved.saturated).tolist():
        if clauses[k].strength == "prefer":
            continue
        others = [i for i in conflicting(clauses, groups, bounds, k) if i != k]
        num = sum(count for count, group in zip(counts, groups, strict=True) if group.applies[k])
        said.append(
            f"clause `{clauses[k].name}` may not be met{_together(clauses, others)}: by the {num} first samples of the "
            f"start model no tilt of it has less than {solved.means[k]:.3g}, the bound is {bounds[k]:.3g}; the "
            "rows may change that, else training stops where the tuned reference is taken"
        )
    for text in said:
        logger.warning("%s", text)
    return said


def _together(clauses: Sequence[Clause], others: Sequence[int]) -> str:
    return f" together with {', '.join(f'`{clauses[i].name}`' for i in others)}" if others else ""
