"""What a compiled policy demands, in English: reading, prompts, bound, falsification, samples needed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from constraintlang_compiler.domains import describe, domain_name
from constraintlang_compiler.ir import Clause, Indicator, RowsLoss, Value
from constraintlang_compiler.operators import bound_sign
from constraintlang_compiler.planning import samples_needed
from constraintlang_compiler.render import negation, number_text, predicate_text, term_text, written_term

READINGS = {
    "violation": "pointwise",
    "mean": "mean",
    "probability": "probability",
    "utility": "utility",
}


@dataclass(frozen=True)
class Explanation:
    """One clause in words; ``num_samples`` is the least number of prompts that can show that it holds."""

    name: str
    text: str
    reading: str
    demand: str
    falsified_by: str
    evidence: str
    num_samples: int | None


def explain_clause(clause: Clause) -> Explanation:
    """One clause in words."""
    num_samples = samples_needed(clause)
    return Explanation(
        name=clause.name,
        text=clause.text,
        reading="hard" if clause.hard else READINGS[clause.kind],
        demand=_demand(clause) + _standing(clause),
        falsified_by=_falsified_by(clause),
        evidence=_evidence(clause, num_samples),
        num_samples=num_samples,
    )


def _prompts(clause: Clause) -> str:
    responses = (
        "responses" if clause.domain is None else f"responses to prompts with {describe(clause.domain)}"
    )
    settings = ", ".join(f"{name}={value}" for name, value in sorted(clause.sampling.items()))
    return f"{responses} (sampled under {settings})" if settings else responses


def _relation(clause: Clause, *, mirrored: bool) -> str:
    if mirrored:
        return "above" if clause.strict else "at least"
    return "below" if clause.strict else "at most"


def _bound(clause: Clause) -> str:
    shown = Fraction(clause.shown.offset) + clause.shown.scale * Fraction(clause.bound)
    return number_text(shown, percent=isinstance(clause.statistic, Indicator))


def _quantity(clause: Clause) -> str:
    match clause.statistic:
        case Indicator(predicate=predicate):
            event = predicate if clause.shown.scale == 1 else negation(predicate)
            return f"the share of {_prompts(clause)} with `{predicate_text(event)}`"
        case Value():
            term = term_text(written_term(clause.statistic, clause.shown))
            return f"the average of `{term}` over {_prompts(clause)}"
        case RowsLoss(quantity=quantity):
            rows = "your rows" if clause.domain is None else f"your rows with {describe(clause.domain)}"
            return f"the model's {quantity} on {rows}"


def _demand(clause: Clause) -> str:
    if clause.hard:
        assert isinstance(clause.statistic, Indicator)
        return f"None of the {_prompts(clause)} may have `{predicate_text(clause.statistic.predicate)}`."
    if clause.kind == "violation":
        assert isinstance(clause.statistic, Indicator)
        event = predicate_text(clause.statistic.predicate)
        return f"Of the {_prompts(clause)}, at most {_bound(clause)} may have `{event}` (the tolerance)."
    quantity = _quantity(clause)
    if clause.kind == "utility":
        relation = _relation(clause, mirrored=clause.at_least)
        return f"{_capital(quantity)} must be {relation} {_utility_bound(clause)}."
    relation = _relation(clause, mirrored=clause.shown.scale == -1)
    return f"{_capital(quantity)} must be {relation} {_bound(clause)}."


def _utility_bound(clause: Clause) -> str:
    offset = Fraction(clause.bound)
    if clause.base_factor is None:
        return number_text(offset, percent=False)
    factor = Fraction(clause.base_factor)
    base = "that of the reference model"
    text = base if factor == 1 else f"{number_text(factor, percent=False)} times {base}"
    if offset == 0:
        return text
    return f"{text} {'plus' if offset > 0 else 'minus'} {number_text(abs(offset), percent=False)}"


def _standing(clause: Clause) -> str:
    parts = []
    if clause.strength == "prefer":
        parts.append(f"a goal with weight {clause.weight}, not a requirement")
    if clause.priority:
        parts.append(f"priority {clause.priority}")
    return f" ({_capital('; '.join(parts))}.)" if parts else ""


def _falsified_by(clause: Clause) -> str:
    level = number_text(Fraction(clause.confidence), percent=True)
    if clause.hard:
        return "One such response breaks it."
    if clause.kind == "utility":
        return "A measurement on the other side of the bound breaks it."
    if clause.kind == "violation":
        return f"It is broken when the share is above {_bound(clause)} at {level} confidence."
    if clause.shown.scale == -1:
        side = "at most" if clause.strict else "below"
    else:
        side = "at least" if clause.strict else "above"
    return f"It is broken when the measured value is {side} {_bound(clause)} at {level} confidence."


def _evidence(clause: Clause, num_samples: int | None) -> str:
    level = number_text(Fraction(clause.confidence), percent=True)
    if clause.kind == "utility":
        return "It is measured on the rows themselves, against the reference model on the same rows."
    if clause.hard:
        return (
            "No number of samples proves it: n clean responses show a rate below about 3/n (at 95%); "
            "it holds for certain only when decoding masks or rejects every such response."
        )
    if num_samples is not None:
        best = (
            "none of them shows a violation"
            if isinstance(clause.statistic, Indicator)
            else "all are the best possible"
        )
        return f"At least {num_samples} prompts are needed at {level} confidence, when {best}."
    bound = Fraction(clause.bound)
    if bound < 0 or (bound == 0 and clause.strict):
        return "It cannot hold: the bound lies outside the range of what is measured."
    if bound == 0:
        return "No number of samples proves it, because the bound is the best possible value."
    if isinstance(clause.statistic, Value) and clause.statistic.high is None:
        return "The range is open: no number of samples gives an exact bound, only an asymptotic one."
    return "It holds for every law of responses: the bound is not below what is possible."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def clause_columns(clause: Clause) -> tuple[str, str, str, str]:
    """Name, kind, demand and domain of a clause, short, for one row of a table."""
    sign = bound_sign(at_least=False, strict=clause.strict)
    match clause.statistic:
        case Indicator(predicate=predicate):
            demand = (
                f"P({predicate_text(predicate)}) {sign} {number_text(Fraction(clause.bound), percent=True)}"
            )
        case Value():
            side = bound_sign(at_least=clause.shown.scale == -1, strict=clause.strict)
            demand = (
                f"mean({term_text(written_term(clause.statistic, clause.shown))}) {side} {_bound(clause)}"
            )
        case RowsLoss(quantity=quantity):
            demand = f"{quantity} {_relation(clause, mirrored=clause.at_least)} {_utility_bound(clause)}"
    kind = "hard" if clause.hard else clause.kind
    strength = "" if clause.strength == "require" else f" ({clause.strength})"
    return clause.name, kind + strength, demand, domain_name(clause.domain) or "every prompt"
