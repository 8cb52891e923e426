"""How many prompts the verification of each clause needs, before any is sampled.

The bounds are those of verification (``planning.py``), at its level: ``alpha = (1 - confidence) / clauses``.
``least`` is the number with which the best possible outcome is called ``holds``; ``needed`` the number with
which a model whose true value lies at a given share of the way to the bound is called ``holds`` with the given power;
``set_point`` the largest true value that a given number of prompts calls ``holds`` with that power.
A clause that no number of prompts decides says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction

from constraintlang_compiler.bands import other_ends
from constraintlang_compiler.betting_power import betting_power
from constraintlang_compiler.bounds import chernoff_upper, clopper_pearson_upper
from constraintlang_compiler.clean_bounds import corrected_alpha
from constraintlang_compiler.domains import domain_name
from constraintlang_compiler.explain import clause_columns
from constraintlang_compiler.ir import Clause, RowsLoss
from constraintlang_compiler.planning import (
    MAX_CLEAN,
    UnitBound,
    least_that,
    num_samples,
    unit_bound,
)
from constraintlang_compiler.set_points import set_point
from constraintlang_compiler.unplanned import WORDS

POWER = 0.9
SHARE = 0.5
MAX_PROMPTS = 10**8
SHARES = ("violation", "probability", "quantile", "hard")
Upper = Callable[[int, int, float], float]  # the bound of a rate after failures in n prompts, at a level


@dataclass(frozen=True, kw_only=True)
class ClausePlan:
    """What one clause needs; ``bound``, ``assumed`` and ``set_point`` in the quantity that the author wrote."""

    name: str
    text: str
    demand: str
    domain: str | None
    kind: str
    method: str
    bound: float
    at_most: bool
    confidence: float
    alpha: float
    samples: int
    least: int | None = None
    assumed: float | None = None
    needed: int | None = None
    set_point: float | None = None
    can_hold: bool | None = None
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """The plan as plain data."""
        return asdict(self)

    def cells(self, *, with_prompts: bool) -> list[str]:
        """The plan as one row of a table."""
        row = [self.name, self.demand, f"{100 * self.confidence:g}%", _count(self.least)]
        row += [self._value(self.assumed), _count(self.needed)]
        if with_prompts:
            can = {True: f"set-point {self._value(self.set_point)}", False: "cannot hold", None: "-"}
            row.append(can[self.can_hold])
        return row

    def _value(self, value: float | None) -> str:
        return "-" if value is None else self.number(value)

    def number(self, value: float) -> str:
        """A value of the quantity as text."""
        return f"{100 * value:.3g}%" if self.kind in SHARES else f"{value:.4g}"


def domains_of(plans: Sequence[ClausePlan]) -> dict[str, int]:
    """How many prompts of each domain serve all of its clauses: the largest ``needed``."""
    found: dict[str, int] = {}
    for one in plans:
        if one.needed is not None:
            name = one.domain or "every prompt"
            found[name] = max(found.get(name, 0), one.needed)
    return dict(sorted(found.items()))


def plan(
    clauses: Sequence[Clause], *, share: float = SHARE, power: float = POWER, num_prompts: int | None = None
) -> list[ClausePlan]:
    """The plan of every clause of a policy, in their order.

    ``share`` says where the true value is assumed: at this share of the way to the bound, counted from the best
    possible value, or from the other end where the policy bounds the number from both sides (0.5 is then the middle).
    With ``num_prompts`` each plan says whether so many can show that the clause holds, and its set-point.
    Raises: ValueError unless ``share`` and ``power`` lie between 0 and 1 and ``num_prompts`` is at least 1.
    """
    if not (0 < share < 1 and 0 < power < 1):
        raise ValueError(f"got share {share:g} and power {power:g}; expected numbers between 0 and 1")
    if num_prompts is not None and num_prompts < 1:
        raise ValueError(f"got {num_prompts} prompts; expected at least 1")
    ends = other_ends(clauses)
    plans = [
        _plan(clause, len(clauses), end, share, power, num_prompts)
        for clause, end in zip(clauses, ends, strict=True)
    ]
    found = {clause.id: one for clause, one in zip(clauses, plans, strict=True)}
    return [
        one if end is None else _beside(one, found[end[0].id]) for one, end in zip(plans, ends, strict=True)
    ]


def prompts_for_rate(
    bound: float, rate: float, alpha: float, power: float, upper: Upper = clopper_pearson_upper
) -> int | None:
    """The least number of prompts of which a model with a violation rate is called ``holds`` with a power.

    With c failures allowed the number is the least n whose upper bound after c failures is within ``bound``;
    the first c that ``rate`` exceeds with probability at most ``1 - power`` gives the answer. Exact.
    ``upper`` is the bound of a rate.

    >>> prompts_for_rate(0.05, 0.025, 0.05, 0.9)
    506
    """
    from scipy.stats import binom

    def prompts(failures: int) -> int | None:
        return least_that(lambda n: n > failures and upper(failures, n, alpha) <= bound, MAX_PROMPTS)

    def enough(failures: int) -> bool:
        n = prompts(failures)
        return n is None or bool(binom.cdf(failures, n, rate) >= power)

    failures = 0 if enough(0) else least_that(enough, MAX_PROMPTS)
    return None if failures is None else prompts(failures)


def prompts_for_mean(bound: float, mean: float, alpha: float, power: float) -> int | None:
    """The number of prompts with which a mean is called ``holds`` with a power, to 2%; None beyond simulation.

    Units: values in [0, 1], spread as widely as the mean allows.
    """
    high = UnitBound(bound, 0.0, 1.0, alpha, "betting").least
    if high is None:
        return None
    while (reached := betting_power(mean, bound, high, alpha)) is not None and reached < power:
        high *= 2
    if reached is None:
        return None
    low = high // 2
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        if (betting_power(mean, bound, middle, alpha) or 0.0) >= power:
            high = middle
        else:
            low = middle
    return high


def _plan(
    clause: Clause,
    num_clauses: int,
    end: tuple[Clause, Fraction] | None,
    share: float,
    power: float,
    num_prompts: int | None,
) -> ClausePlan:
    """``end`` is the bound on the other side of the clause's number, in its own unit, and whose it is."""
    alpha = corrected_alpha(float(clause.confidence), num_clauses)
    offset, scale = Fraction(clause.shown.offset), clause.shown.scale

    def shown(value: float) -> float:
        # Rounding takes back what the way through floats has added.
        return float(round(offset + scale * Fraction(repr(value)), 12))

    draft = ClausePlan(
        name=clause.name,
        text=clause.text,
        demand=clause_columns(clause)[2],
        domain=domain_name(clause.domain),
        kind="hard" if clause.hard else str(clause.kind),
        method="",
        bound=shown(float(clause.bound)),
        at_most=not clause.at_least if isinstance(clause.statistic, RowsLoss) else scale == 1,
        confidence=float(clause.confidence),
        alpha=alpha,
        samples=num_samples(clause),
    )
    unit = unit_bound(clause, num_clauses)
    if not isinstance(unit, UnitBound):
        method, note, _ = WORDS[unit]
        if unit == "hard" and num_prompts is not None:
            earned = clopper_pearson_upper(0, num_prompts, alpha)
            note += f"; {num_prompts:,} clean prompts show a rate below {100 * earned:.3g}%"
        return replace(draft, method=method, note=note)
    least = unit.least
    notes = [] if least is not None else [f"it takes more than {MAX_CLEAN:,} prompts, where the search ends"]
    best = 0.0 if end is None else max(0.0, (float(end[1]) - unit.low) / unit.width)
    rate = assumed = needed = None
    if end is None or best < unit.bound:
        rate = best + share * (unit.bound - best)
        assumed = shown(unit.value(rate))
        needed = _needed(unit, rate, power)
        if needed is None and least is not None:
            notes.append("more prompts are needed than are tried")
    if end is not None and best > 0.0:
        away = "" if rate is None else draft.number(unit.width * (unit.bound - rate))
        notes.append(
            f"`{end[0].name}` leaves no room for a true value within this bound"
            if rate is None
            else f"the true value lies within the bound of `{end[0].name}` as well, {away} from this one"
        )
    point = None
    if num_prompts is not None and least is not None and num_prompts >= least:
        point = _set_point(unit, num_prompts, float(clause.confidence), num_clauses, power)
    return replace(
        draft,
        method=unit.method,
        least=least,
        assumed=assumed,
        needed=needed,
        set_point=None if point is None else shown(unit.value(point)),
        can_hold=None if num_prompts is None or least is None else num_prompts >= least,
        note="; ".join([*notes, *_remarks(clause, unit)]),
    )


def _beside(one: ClausePlan, other: ClausePlan) -> ClausePlan:
    """A plan beside that of the other end of its band, whose set-point may leave it no room."""
    points = [plan.set_point for plan in (one, other)]
    low, high = points if other.at_most else reversed(points)
    if low is None or high is None or low <= high:
        return one
    warning = f"no true value is within this set-point and that of `{other.name}`: verify more prompts"
    return replace(one, note="; ".join(filter(None, [one.note, warning])))


def _remarks(clause: Clause, unit: UnitBound) -> list[str]:
    notes = []
    if clause.kind == "quantile":
        notes.append("the true value is the share beyond the threshold")
    if clause.per:
        notes.append("for one stratum: each stratum needs as many, and all of them share the confidence")
    if unit.method == "betting":
        notes.append("simulated for values that spread as widely as they can")
    elif unit.method == "chernoff":
        notes.append("for responses to one prompt that are all alike")
    return notes


def _needed(unit: UnitBound, mean: float, power: float) -> int | None:
    if unit.method == "betting":
        return prompts_for_mean(unit.bound, mean, unit.alpha, power)
    return prompts_for_rate(unit.bound, mean, unit.alpha, power, _upper(unit))


def _set_point(
    unit: UnitBound, num_prompts: int, confidence: float, num_clauses: int, power: float
) -> float | None:
    if unit.method == "betting":
        return _certified_mean(unit.bound, num_prompts, unit.alpha, power)
    return set_point(
        unit.bound,
        num_prompts,
        confidence=confidence,
        power=power,
        num_statements=num_clauses,
        upper=_upper(unit),
    )


def _upper(unit: UnitBound) -> Upper:
    if unit.method == "chernoff":
        return lambda failures, n, _alpha: chernoff_upper(failures / n, n, unit.alpha)
    return clopper_pearson_upper


def _certified_mean(bound: float, n: int, alpha: float, power: float) -> float | None:
    """The largest mean that ``n`` prompts certify with a power, to a share of 2**-12 of the bound; simulated."""
    low, top = 0.0, bound
    for _ in range(12):
        middle = 0.5 * (low + top)
        reached = betting_power(middle, bound, n, alpha)
        if reached is None:
            return None
        if reached >= power:
            low = middle
        else:
            top = middle
    return low


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
