"""The controllers of all groups together: one dual for each clause, started by the joint projection, then moved.

A clause that spans several groups bounds the mean over all its prompts, so its dual and weight are the same in all of
them; what each group has of its own is the auxiliary model.
INVARIANT: the groups of a clause hold equal ``ControllerState`` records of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_runtime import control
from constraintlang_runtime.bin_laws import law_of_group, places_of, set_bin_values, settle
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.groups import Group, attach_target, set_point_of
from constraintlang_runtime.infeasibility import check_reachable, warn_unreachable
from constraintlang_runtime.pooling import Pooled, pool, shares
from constraintlang_runtime.priorities import ranks_of, solve_by_rank
from constraintlang_runtime.projection import LOG_FLOOR, GroupLaw, effective_sample_size, project_groups
from constraintlang_runtime.rounds import Measurement
from constraintlang_runtime.settings import ConstraintSettings

Floats = NDArray[np.float64]
logger = logging.getLogger(__name__)

LOW_SHARE, LOW_NUMBER = 0.05, 30  # an effective sample size below either says little


@dataclass(frozen=True)
class SoftClauses:
    """The soft clauses of all groups: their numbers in the policy, ascending, and where each group has them.

    ``columns`` [G][S_g]: for each soft clause of a group's target its place among ``indexes``.
    """

    indexes: tuple[int, ...]
    clauses: tuple[Clause, ...]
    columns: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(groups: Sequence[Group]) -> SoftClauses:
        """Those of groups that have targets."""
        found: dict[int, Clause] = {}
        numbers = []
        for group in groups:
            assert group.target is not None
            mine = [soft.clause for soft in group.target.soft]
            numbers.append([group.indexes[column] for column in mine])
            found |= {group.indexes[column]: group.clauses[column] for column in mine}
        order = tuple(sorted(found))
        return SoftClauses(
            order,
            tuple(found[index] for index in order),
            tuple(tuple(order.index(number) for number in some) for some in numbers),
        )


def group_laws(groups: Sequence[Group], parts: Sequence[GroupLaw], soft: SoftClauses) -> list[GroupLaw]:
    """What the projection is given: the law of each group and the values of its bins under all soft clauses.

    ``parts`` are the laws under the groups' own clauses (``law_of_group``).
    """
    found = []
    for part, columns, share in zip(parts, soft.columns, shares(groups), strict=True):
        values = np.zeros((len(part.values), len(soft.indexes)))
        applies = np.zeros(len(soft.indexes), dtype=bool)
        values[:, list(columns)], applies[list(columns)] = part.values, True
        samples = part.samples and part.samples.spread(list(columns), len(soft.indexes))
        found.append(GroupLaw(part.law, values, part.hard, applies, float(share), samples))
    return found


def start_controllers(
    groups: Sequence[Group],
    laws: Sequence[Floats],
    measured: Sequence[Measurement],
    config: ConstraintSettings,
    num_statements: int,
    texts: Callable[[Sequence[TokenRow]], list[str]] = lambda rows: [],
    seen: Sequence[NDArray[np.bool_]] | None = None,
    rehearsal: bool = False,
) -> list[dict[str, float]]:
    """Set-points, weights and first duals of all groups; returns what to log of each.

    The duals of the joint projection of the fitted laws [P, M] onto the set-points, each bin tilted inside as its
    samples are (``bin_laws.py``), plus the correction for the pull of the corpus (docs/method.md, "Control").
    ``texts`` gives prompts as text, for messages; ``seen`` [M] are the bins of each group that some response was in: a
    fitted law never quite leaves the others, so what can be reached, and what gives way, is decided without them.
    A ``rehearsal`` has few samples, perhaps of another model than the run's: what they cannot reach is no error.
    Raises: TrainingError for clauses that the projection cannot meet, ConfigError for impossible set-points.
    """
    regularizer = config.regularizer
    soft = SoftClauses.of(groups)
    pooled = pool(groups, [found.statistics for found in measured])
    points = np.array(
        [
            set_point_of(clause, config, num_statements, pooled[index].variance ** 0.5)
            for index, clause in zip(soft.indexes, soft.clauses, strict=True)
        ],
        dtype=np.float64,
    )
    own = [
        law_of_group(group, law, one.statistics, places_of(one.rows, len(one.statistics), law))
        for group, law, one in zip(groups, laws, measured, strict=True)
    ]
    parts = group_laws(groups, own, soft)
    caps = np.array([dual_cap(clause) for clause in soft.clauses])
    known = parts if seen is None else [_within(part, some) for part, some in zip(parts, seen, strict=True)]
    nearest, caps = solve_by_rank(known, points, caps, ranks_of(soft.clauses))
    check_reachable(
        soft.clauses,
        known,
        points,
        nearest,
        [found.rows for found in measured],
        texts,
        anchor=config.anchor,
        rehearsal=rehearsal,
    )
    solved = nearest if seen is None else project_groups(parts, points, caps)
    parts, solved = settle(parts, points, caps, solved)
    corpus = _corpus_means(groups, soft)
    if config.training_rows == "projected":  # then the rows themselves do not pull over the set-point
        corpus = np.minimum(corpus, points)
    weights = _weights(soft, points, corpus, shares(groups), config)
    by_group = [max((weights[k] for k in columns), default=1.0) for columns in soft.columns]
    duals = control.start_duals(
        parts, points, solved,
        corpus=corpus, weights=np.array(by_group), divergence=regularizer.divergence,
        alpha=regularizer.alpha, max_duals=caps,
    )  # fmt: skip
    states = []
    for k in range(len(points)):
        point, dual, cap = float(points[k]), float(duals[k]), float(caps[k])
        high, unit = _range_and_scale(soft.clauses[k], pooled[soft.indexes[k]])
        state = control.ControllerState(
            value=dual, weight=weights[k], set_point=point, gain=regularizer.gain, max_value=cap, cap=cap, unit=unit,
            min_samples=int(5 / max(point / high, 1e-3)), start=dual, fixed_dual=float(solved.duals[k]),
        )  # fmt: skip
        if regularizer.adaptive == "prompt":
            level = control.logit(1 - point)
            value = level + (dual - float(solved.duals[k]))
            state = replace(state, value=value, start=value, max_value=LOG_FLOOR + level)
        if regularizer.is_moving:
            log_weight = float(np.log(weights[k]))
            state = replace(
                state, kind="log_weight", value=log_weight, start=log_weight, max_value=6.0,
            )  # fmt: skip
        states.append(state)
    for group, columns, part in zip(groups, soft.columns, own, strict=True):
        group.controllers = [states[k] for k in columns]
        set_bin_values(group, part)
    return [
        _started(group, part, found, solved.duals, warns=not rehearsal)
        for group, part, found in zip(groups, parts, measured, strict=True)
    ]


def look_ahead(groups: Sequence[Group], measured: Sequence[Measurement]) -> list[str]:
    """Before a tuned anchor exists: what the start model's own samples say cannot be met, as warnings.

    The law is that of the samples as they are, over all prompts of a group: the most that a tilt could do.
    """
    sketches, laws, counts, said = [], [], [], []
    for group, found in zip(groups, measured, strict=True):
        sketch = replace(group, target=None)
        bins = attach_target(sketch, found.statistics)
        assert sketch.target is not None
        law = np.bincount(bins, minlength=sketch.target.num_bins) / max(1, len(bins))
        if law[~sketch.target.hard_bins].sum() > 0:
            sketches.append(sketch)
            laws.append(law_of_group(sketch, law[None, :], found.statistics, None))
            counts.append(len(bins))
        elif len(bins):
            names = ", ".join(f"`{group.clauses[k].name}`" for k in sketch.target.hard)
            said.append(f"every one of the {len(bins)} first samples of the start model violates {names}")
            logger.warning("%s; the rows may change that, else there is nothing to learn from", said[-1])
    if sketches:
        soft = SoftClauses.of(sketches)
        bounds = np.array([float(clause.bound) for clause in soft.clauses])
        said += warn_unreachable(soft.clauses, group_laws(sketches, laws, soft), bounds, counts)
    return said


def dual_cap(clause: Clause) -> float:
    """The largest dual of a clause: Λ, or the weight of a `prefer`, whose violation is then only a price.

    min KL + w (E f - b)+ has the dual of min KL s.t. E f <= b, held below w. Where the range of the statistic is
    shorter than 1, Λ is reached over all of it.
    """
    high = float(getattr(clause.statistic, "high", None) or 1.0)
    most = LOG_FLOOR / min(1.0, high) if high > 0 else LOG_FLOOR
    return most if clause.strength != "prefer" else min(most, float(clause.weight))


def control_groups(groups: Sequence[Group], measured: Sequence[Measurement]) -> None:
    """Move the controller of every clause by the mean over its whole scope, in all its groups alike.

    While a clause cannot be brought down to its set-point, those that rank behind it do not ask for more.
    """
    soft = SoftClauses.of(groups)
    pooled = pool(groups, [found.statistics for found in measured])
    states: dict[int, control.ControllerState] = {}
    for group, columns in zip(groups, soft.columns, strict=True):
        states |= dict(zip(columns, group.controllers, strict=True))
    ranks = ranks_of(soft.clauses)
    stuck = float("inf")  # the first rank with a clause at its cap and above its set-point
    moved: dict[int, control.ControllerState] = {}
    for k in np.argsort(ranks, kind="stable").tolist():
        clause, found, state = soft.clauses[k], pooled[soft.indexes[k]], states[k]
        high, scale = _range_and_scale(clause, found)
        scaled = replace(state, set_point=min(state.set_point / high, 0.999))
        after = control.update(scaled, found.count * found.mean / high, found.count, scale=scale)
        after = replace(after, set_point=state.set_point)
        if ranks[k] > stuck and (after.value > state.value or after.weight > state.weight):
            after = replace(after, value=state.value, weight=state.weight, doublings=state.doublings)
        if state.kind == "dual" and state.value >= state.max_value and found.mean > state.set_point:
            stuck = min(stuck, float(ranks[k]))
        moved[k] = after
    for group, columns in zip(groups, soft.columns, strict=True):
        group.controllers = [moved[k] for k in columns]


def control_hard(
    groups: Sequence[Group], measured: Sequence[Measurement], config: ConstraintSettings
) -> None:
    """Raise γ, and then ρ, of groups whose responses still violate a hard clause.

    Its potential is 0 from the start, so that no dual can carry on where the auxiliary model explains little. The
    controller is that of a soft clause (``control.update``) whose set-point no verification tells from none, and whose
    value is log of what γ is multiplied by, up to 4; at that cap ρ is doubled, at most 4 times. Where γ is fixed or the
    anchor moves, its value is log of what ρ is multiplied by. Nothing where the settings give both γ and ρ.
    """
    for group, found in zip(groups, measured, strict=True):
        if group.target is None or not group.target.hard:
            continue
        if config.regularizer.weight is not None and group.fixed_exponent:
            continue
        state = group.hard_control or _hard_control(group, config)
        broken = (found.statistics[:, list(group.target.hard)] > 0).any(axis=1)
        after = control.update(state, float(broken.sum()), float(len(found.statistics)))
        if after.kind == "log_weight":
            after = replace(after, value=max(0.0, after.value), weight=max(1.0, after.weight))
        group.hard_control = after


def _hard_control(group: Group, config: ConstraintSettings) -> control.ControllerState:
    point = 0.5 / config.verify_prompts
    state = control.ControllerState(
        value=0.0, weight=1.0, set_point=point, gain=config.regularizer.gain, min_samples=int(5 / point),
        max_value=float(np.log(control.MAX_EXPONENT_FACTOR)),
    )  # fmt: skip
    if group.fixed_exponent or config.regularizer.is_moving:
        most = control.MAX_WEIGHT_DOUBLINGS * float(np.log(2.0))
        state = replace(state, kind="log_weight", max_value=most)
    return state


def _range_and_scale(clause: Clause, found: Pooled) -> tuple[float, float]:
    """The top of a clause's statistic, and the logits of its mean that a unit of λ moves; 1 and 1 for an indicator."""
    if isinstance(clause.statistic, Indicator):
        return 1.0, 1.0
    high = float(getattr(clause.statistic, "high", None) or max(found.values.max(), 1.0))
    return high, control.sensitivity(found.values, high, found.weights)


def _within(part: GroupLaw, seen: NDArray[np.bool_]) -> GroupLaw:
    """The law over the bins that were seen."""
    law = part.law * (seen if (seen & ~part.hard).any() else 1.0)
    return replace(part, law=law / law.sum(axis=1, keepdims=True))


def _corpus_means(groups: Sequence[Group], soft: SoftClauses) -> Floats:
    """The mean of each statistic over the corpus rows of each group [G, S]; NaN without rows or out of scope."""
    found = np.full((len(groups), len(soft.indexes)), np.nan)
    for number, (group, columns) in enumerate(zip(groups, soft.columns, strict=True)):
        assert group.target is not None
        for k, bins in zip(columns, group.target.soft, strict=True):
            mean = float(group.corpus_means[bins.clause])
            found[number, k] = min(mean, 0.999) if bins.is_indicator else mean
    return found


def _weights(
    soft: SoftClauses, points: Floats, corpus: Floats, share: Floats, config: ConstraintSettings
) -> list[float]:
    """ρ of each clause, by rule from the mean of its corpus rows unless the settings say it."""
    weights = []
    for k, point in enumerate(points):
        has = ~np.isnan(corpus[:, k])
        mean = float(share[has] @ corpus[has, k] / share[has].sum()) if has.any() else float(point)
        by_rule = control.initial_weight(
            max(mean, float(point)), float(point), config.regularizer.divergence, config.regularizer.alpha
        )
        weights.append(config.regularizer.weight or by_rule)
    return weights


def _started(
    group: Group, part: GroupLaw, found: Measurement, duals: Floats, *, warns: bool
) -> dict[str, float]:
    """What is logged of a group when its controllers start; a tilt that few samples carry is warned of."""
    assert group.target is not None
    columns = [soft.clause for soft in group.target.soft]
    log_z, tilted, values = part.tilted(duals)
    kl = float(-(duals @ (tilted.mean(axis=0) @ values)) - log_z.mean())
    potential = group.target.log_potential(group.duals, group.bin_values)
    size = effective_sample_size(potential[group.target.bin_index(found.statistics)])
    count = len(found.statistics)
    if warns and (size < LOW_NUMBER or size < LOW_SHARE * count):
        logger.warning(
            "`%s`: of its %d samples only about %.0f carry the tilted law (effective sample size), so its auxiliary "
            "model and duals are uncertain; raise --anchor_samples, start from a model that complies more often "
            "(train on compliant rows first), or loosen the bounds",
            group.name, count, size,
        )  # fmt: skip
    means = found.statistics.mean(axis=0)
    return {
        "projection_kl": kl,
        "effective_sample_size": size,
        **{f"anchor_mean/{group.clauses[c].name}": float(means[c]) for c in columns},
    }
