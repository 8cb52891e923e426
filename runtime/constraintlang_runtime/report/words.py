"""Numbers and verdicts in words: pure functions from a ``ClauseResult`` to plain text.

Bounds are rounded away from the estimate (an upper bound up, a lower bound down), so that a printed bound
never claims more than was shown. Policy text stands in backticks; renderers turn them into their own code
style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from constraintlang_runtime.verdicts import VerdictName

from .data import ClauseResult

Rounding = Literal["nearest", "up", "down"]
SYMBOLS: dict[VerdictName, str] = {
    "holds": "✓",
    "violated": "✗",
    "inconclusive": "?",
    "vacuous": "∅",
    "error": "!",
}
# worst first: the order in which a reader must hear of them
SEVERITY: tuple[VerdictName, ...] = ("error", "violated", "vacuous", "inconclusive", "holds")
_PARTICIPLES: dict[VerdictName, str] = {
    "violated": "violated",
    "inconclusive": "inconclusive",
    "vacuous": "vacuous",
    "error": "without a verdict",
}
_SUBJECT = {
    "mean": "The mean in",
    "probability": "The probability in",
    "violation rate": "The violation rate of",
    "quantile": "The quantile in",
    "cvar": "The conditional value at risk in",
    "difference": "The difference in",
}


# ------------------------------------------------------------ numbers
def loss(value: float | None) -> str:
    """A loss in nats per token with four decimals, so that rows line up; an en dash for None."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4f}"


def measured_loss(value: float | None) -> str:
    """``loss``, or that there is none."""
    return "not measured" if value is None else loss(value)


def number(value: float | None, *, digits: int = 3, rounding: Rounding = "nearest") -> str:
    """``value`` to ``digits`` significant digits, at least its integer part; an en dash for None.

    >>> number(0.012345), number(14.3219, digits=4), number(1234.6), number(0.5, digits=1)
    ('0.0123', '14.32', '1,235', '0.5')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{_round(value, decimals, rounding):,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float | None, *, rounding: Rounding = "nearest") -> str:
    """A rate in per cent: one decimal, and below 1% and above 99% two significant digits of the rarer side.

    >>> percent(0.014), percent(0.05), percent(0.00432), percent(0.01941, rounding="up"), percent(0.0)
    ('1.4%', '5%', '0.43%', '2%', '0%')
    >>> percent(0.9996), percent(0.99999, rounding="down"), percent(1.0)
    ('99.96%', '99.999%', '100%')
    """
    if value is None or not math.isfinite(value):
        return "–"
    scaled = 100.0 * value
    if scaled == 0:
        return "0%"
    rarer = min(abs(scaled), abs(100.0 - abs(scaled)) or 100.0)
    decimals = 1 if rarer >= 1 else 1 - math.floor(math.log10(rarer) + 1e-9)
    text = f"{_round(scaled, decimals, rounding):.{decimals}f}"
    return text.rstrip("0").rstrip(".") + "%"


def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> duration(42.31), duration(754), duration(8040), duration(None)
    ('42 s', '12 min 34 s', '2 h 14 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{number(seconds, digits=2)} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def _round(value: float, decimals: int, rounding: Rounding) -> float:
    if rounding == "nearest":
        return round(value, decimals)
    # 1e-9: 100 * 0.05 is not exactly 5, and must not become 5.1
    scaled = value * 10**decimals
    whole = math.ceil(scaled - 1e-9) if rounding == "up" else math.floor(scaled + 1e-9)
    return whole / 10**decimals


def is_rate(clause: ClauseResult) -> bool:
    """True when the numbers of the clause are shares between 0 and 1."""
    return clause.quantity in ("violation rate", "probability", "accuracy") or (
        not clause.quantity and clause.kind in ("violation", "probability")
    )


def amount(clause: ClauseResult, value: float | None, rounding: Rounding = "nearest") -> str:
    """A number of the clause in its own unit: a percentage, or 3 significant digits (perplexity: 4)."""
    if is_rate(clause):
        return percent(value, rounding=rounding)
    return number(value, digits=4 if clause.kind == "utility" else 3, rounding=rounding)


def interval(clause: ClauseResult) -> str:
    """Both one-sided bounds, such as ``1% – 1.9%``."""
    return f"{amount(clause, clause.lower, 'down')} – {amount(clause, clause.upper, 'up')}"


def limit(clause: ClauseResult) -> str:
    """The allowed side and its bound, such as ``≤ 5%``."""
    sign = {"at_most": ("≤", "<"), "at_least": ("≥", ">")}[clause.direction][clause.strict]
    return f"{sign} {amount(clause, clause.bound)}"


def allowance(clause: ClauseResult) -> str:
    """What the policy grants, such as ``allowed ≤ 5%``, ``required ≥ 70%`` or ``none allowed``."""
    if clause.hard:
        return "none allowed"
    return f"{'allowed' if clause.direction == 'at_most' else 'required'} {limit(clause)}"


def deciding_bound(clause: ClauseResult) -> str:
    """The bound that earns `holds`, such as ``95% upper bound 1.9%``."""
    at_most = clause.direction == "at_most"
    side, value = ("upper", clause.upper) if at_most else ("lower", clause.lower)
    return f"{percent(clause.confidence)} {side} bound {amount(clause, value, 'up' if at_most else 'down')}"


# ------------------------------------------------------------ sentences
def name(clause: ClauseResult) -> str:
    """The clause's source text, else its name, in backticks."""
    return f"`{(clause.text or clause.clause).replace('`', chr(39))}`"


def sentence(clause: ClauseResult) -> str:
    """What was found, as one plain sentence without its verdict.

    Example: ``Replies violate `toxicity < 0.1` in 1.4% of 2,000 held-out prompts (95% upper bound 1.9%,
    allowed 5%)``.
    """
    if clause.verdict == "vacuous":
        return f"Nothing was checked for {name(clause)}: no held-out prompt lies in its domain"
    if clause.kind == "choice" and clause.verdict != "error":
        return f"Of the alternatives in {name(clause)}, over {clause.n:,} held-out prompts: {clause.note}"
    if clause.verdict == "error" or clause.estimate is None:
        return f"No verdict for {name(clause)}: {clause.note or 'scores are missing'}"
    prompts = f"{clause.n:,} held-out prompt{'' if clause.n == 1 else 's'}"
    if clause.hard and clause.estimate == 0:
        return f"No reply violates {name(clause)} in {prompts} ({deciding_bound(clause)}; allowed: none)"
    word = "allowed" if clause.direction == "at_most" else "required"
    bounds = f"({deciding_bound(clause)}, {word} {'none' if clause.hard else amount(clause, clause.bound)})"
    found = amount(clause, clause.estimate)
    if clause.kind == "violation":
        where = f"of the replies to {prompts}" if clause.samples not in (None, 1) else f"of {prompts}"
        return f"Replies violate {name(clause)} in {found} {where} {bounds}"
    if clause.kind == "utility":
        what = (clause.quantity or "utility").capitalize()
        return f"{what} is {found} on {clause.n:,} rows, for {name(clause)} {bounds}"
    subject = _SUBJECT.get(clause.quantity, "The value in")
    return f"{subject} {name(clause)} is {found} over {prompts} {bounds}"


def domain_words(domain: str | None) -> str:
    """A domain as a policy writes it; ``all`` when unscoped."""
    if not domain:
        return "all"
    return domain if any(mark in domain for mark in "= ") else f"domain={domain}"


def reading(clause: ClauseResult) -> str:
    """What the statement demands, in words."""
    where = "" if not clause.domain else f" for prompts with `{domain_words(clause.domain)}`"
    wish = "Preferably, " if clause.strength == "prefer" else ""
    if clause.hard:
        body = f"no reply{where} may violate it"
    elif clause.kind in ("choice", "difference"):
        body = f"over the replies{where} it is true that {name(clause)}"
    elif clause.kind == "violation":
        body = f"at most {amount(clause, clause.bound)} of the replies{where} may violate it"
    else:
        side = {
            ("at_most", False): "at most",
            ("at_most", True): "less than",
            ("at_least", False): "at least",
            ("at_least", True): "more than",
        }[clause.direction, clause.strict]
        subject = {"utility": clause.quantity or "utility", "probability": "the probability"}
        what = subject.get(clause.kind, f"the {clause.kind}")
        body = f"{what}{where} is {side} {amount(clause, clause.bound)}"
    text = f"{wish}{body}, judged at {percent(clause.confidence)} confidence"
    return text[0].upper() + text[1:]


def overall(clauses: Sequence[ClauseResult]) -> VerdictName:
    """The worst verdict among the clauses that are not ``prefer``; ``vacuous`` when there is none."""
    found = {clause.verdict for clause in clauses if not is_soft(clause)}
    return next((verdict for verdict in SEVERITY if verdict in found), "vacuous")


def is_soft(clause: ClauseResult) -> bool:
    """True for ``prefer``."""
    return clause.soft or clause.strength == "prefer"


def summary(clauses: Sequence[ClauseResult]) -> str:
    """The headline of several clauses, such as ``2 of 3 requirements hold; 1 is inconclusive``."""
    hard = [clause for clause in clauses if not is_soft(clause)]
    total = len(hard)
    if total == 0:
        return "No requirement was verified"
    counts = {verdict: sum(clause.verdict == verdict for clause in hard) for verdict in SEVERITY}
    if counts["holds"] == total:
        return "The requirement holds" if total == 1 else f"All {total} requirements hold"
    if total == 1:
        return f"The requirement is {_PARTICIPLES[hard[0].verdict]}"
    parts = [f"{counts['holds']} of {total} requirements hold{'s' if counts['holds'] == 1 else ''}"]
    for verdict, word in _PARTICIPLES.items():
        if counts[verdict]:
            parts.append(f"{counts[verdict]} {'is' if counts[verdict] == 1 else 'are'} {word}")
    return "; ".join(parts)
