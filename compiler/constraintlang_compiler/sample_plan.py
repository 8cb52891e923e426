"""How many prompts the verification of each clause needs, before any is sampled.

The bounds are those of verification (``bounds.py``), at its level: ``alpha = (1 - confidence) / clauses``.
``least`` is the number with which the best possible outcome is called ``holds``; ``needed`` the number with
which a model whose true value lies at a given share of the bound is called ``holds`` with the given power;
``set_point`` the largest true value that a given number of prompts calls ``holds`` with that power.
A clause that no number of prompts decides says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from constraintlang_compiler.betting_power import betting_power
from constraintlang_compiler.bounds import (
    clean_log_capital,
    clopper_pearson_upper,
    corrected_alpha,
    set_point,
)
from constraintlang_compiler.domains import domain_name
from constraintlang_compiler.explain import clause_columns
from constraintlang_compiler.ir import Clause, Indicator, RowsLoss, Value
from constraintlang_compiler.planning import clean_samples_needed

POWER = 0.9
SHARE = 0.5
MAX_PROMPTS = 10**8
MAX_CLEAN = 10**7  # values of 0 that are tried for a mean: each try costs time that grows with them
SHARES = ("violation", "probability", "quantile", "hard")


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
        if value is None:
            return "-"
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

    ``share`` says where the true value is assumed: at this share of the bound, counted from the best possible
    value. With ``num_prompts`` each plan says whether so many can show that the clause holds, and its set-point.
    Raises: ValueError unless ``share`` and ``power`` lie between 0 and 1 and ``num_prompts`` is at least 1.
    """
    if not (0 < share < 1 and 0 < power < 1):
        raise ValueError(f"got share {share:g} and power {power:g}; expected numbers between 0 and 1")
    if num_prompts is not None and num_prompts < 1:
        raise ValueError(f"got {num_prompts} prompts; expected at least 1")
    return [_plan(clause, len(clauses), share, power, num_prompts) for clause in clauses]


def least_prompts(clause: Clause, num_clauses: int) -> int | None:
    """The number of prompts with which the best possible outcome is called ``holds``; None when none is."""
    bound, statistic = float(clause.bound), clause.statistic
    alpha = corrected_alpha(float(clause.confidence), num_clauses)
    if clause.hard or clause.base_factor is not None:
        return None
    if isinstance(statistic, Indicator) and num_samples(clause) == 1:
        return clean_samples_needed(bound, alpha) if 0 < bound < 1 else None
    if isinstance(statistic, Indicator | Value):
        high = _high(statistic)
        if high is None or not 0 < bound < high:
            return None
        return _least_clean(bound / high, alpha)
    return None


def prompts_for_rate(bound: float, rate: float, alpha: float, power: float) -> int | None:
    """The least number of prompts of which a model with a violation rate is called ``holds`` with a power.

    With c failures allowed the number is the least n whose upper bound after c failures is within ``bound``;
    the first c that ``rate`` exceeds with probability at most ``1 - power`` gives the answer. Exact.

    >>> prompts_for_rate(0.05, 0.025, 0.05, 0.9)
    506
    """
    from scipy.stats import binom

    def prompts(failures: int) -> int | None:
        return _first(lambda n: n > failures and clopper_pearson_upper(failures, n, alpha) <= bound)

    def enough(failures: int) -> bool:
        n = prompts(failures)
        return n is None or bool(binom.cdf(failures, n, rate) >= power)

    failures = 0 if enough(0) else _first(enough)
    return None if failures is None else prompts(failures)


def prompts_for_mean(bound: float, mean: float, alpha: float, power: float) -> int | None:
    """The number of prompts with which a mean is called ``holds`` with a power, to 2%; None beyond simulation.

    Units: values in [0, 1], spread as widely as the mean allows.
    """
    high = _least_clean(bound, alpha)
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


def num_samples(clause: Clause) -> int:
    """How many responses of each prompt a clause asks for."""
    return int(float(clause.sampling.get("samples", "1")))


def _plan(
    clause: Clause, num_clauses: int, share: float, power: float, num_prompts: int | None
) -> ClausePlan:
    alpha = corrected_alpha(float(clause.confidence), num_clauses)
    offset, scale = float(clause.shown.offset), clause.shown.scale
    bound, statistic = float(clause.bound), clause.statistic

    def shown(value: float) -> float:
        # Rounding takes back what the way through floats has added.
        return float(round(Fraction(clause.shown.offset) + scale * Fraction(repr(value)), 12))

    common = {
        "name": clause.name,
        "text": clause.text,
        "demand": clause_columns(clause)[2],
        "domain": domain_name(clause.domain),
        "kind": "hard" if clause.hard else str(clause.kind),
        "bound": offset + scale * bound,
        "at_most": not clause.at_least if isinstance(statistic, RowsLoss) else scale == 1,
        "confidence": float(clause.confidence),
        "alpha": alpha,
        "samples": num_samples(clause),
    }
    reason = _not_planned(clause)
    if reason is not None:
        method, note = reason
        if clause.hard and num_prompts is not None:
            earned = clopper_pearson_upper(0, num_prompts, alpha)
            note += f"; {num_prompts:,} clean prompts show a rate below {100 * earned:.3g}%"
        return ClausePlan(**common, method=method, note=note)  # type: ignore[arg-type]
    assert isinstance(statistic, Indicator | Value)
    single = isinstance(statistic, Indicator) and num_samples(clause) == 1
    high = _high(statistic) or 1.0
    least = least_prompts(clause, num_clauses)
    rate = share * bound
    find = prompts_for_rate if single else prompts_for_mean
    needed = find(bound / high, rate / high, alpha, power)
    point = None
    if num_prompts is not None and least is not None and num_prompts >= least:
        if single:
            confidence = float(clause.confidence)
            point = set_point(
                bound, num_prompts, confidence=confidence, power=power, num_statements=num_clauses
            )
        else:
            point = _certified_mean(bound / high, num_prompts, alpha, power)
            point = None if point is None else point * high
    return ClausePlan(
        **common,  # type: ignore[arg-type]
        method="clopper-pearson" if single else "betting",
        least=least,
        assumed=shown(rate),
        needed=needed,
        set_point=None if point is None else shown(point),
        can_hold=None if num_prompts is None or least is None else num_prompts >= least,
        note=_note(clause, simulated=not single, too_many=least is None and bound < high and not single),
    )


def _not_planned(clause: Clause) -> tuple[str, str] | None:
    """The method and the reason why no number of prompts can be named; None when one can."""
    statistic, bound = clause.statistic, float(clause.bound)
    if clause.hard:
        return "clopper-pearson", "samples alone never show that nothing violates it"
    if clause.kind == "utility":
        return (
            "paired ratio estimator (asymptotic)",
            "depends on how differently the two models do row by row",
        )
    if clause.base_factor is not None:
        return "none", "depends on what the base model does"
    if not isinstance(statistic, Indicator | Value):
        return "none", "no plan is known for this kind of clause"
    high = _high(statistic)
    if high is None:
        return "student-t (asymptotic)", "the range is open, so the number depends on the spread"
    if bound >= high and not (bound == high and clause.strict):
        return "none", "it holds for every model: the bound is not below what is possible"
    if bound <= 0:
        return "none", "no number of prompts shows it: the bound is the best possible value, or beyond it"
    return None


def _note(clause: Clause, *, simulated: bool, too_many: bool) -> str:
    notes = []
    if too_many:
        notes.append(f"it takes more than {MAX_CLEAN:,} prompts, where the search ends")
    if clause.kind == "quantile":
        notes.append("the true value is the share beyond the threshold")
    if clause.per:
        notes.append("for one stratum: each stratum needs as many, and all of them share the confidence")
    if simulated:
        notes.append("simulated for values that spread as widely as they can")
    return "; ".join(notes)


def _high(statistic: Indicator | Value) -> float | None:
    if isinstance(statistic, Indicator):
        return 1.0
    return None if statistic.high is None else float(statistic.high)


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


def _least_clean(bound: float, alpha: float) -> int | None:
    """How many values of 0 have a mean that the betting bound puts within ``bound``; None beyond ``MAX_CLEAN``."""
    if bound >= 1.0:  # no values are needed
        return None
    enough = math.log(1.0 / alpha)
    return _first(lambda n: clean_log_capital(n, 1.0 - bound) >= enough, MAX_CLEAN)


def _first(holds: Callable[[int], bool], most: int = MAX_PROMPTS) -> int | None:
    """The least positive number for which a condition holds that stays true; None beyond ``most``."""
    high = 1
    while not holds(high):
        high *= 2
        if high > most:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
