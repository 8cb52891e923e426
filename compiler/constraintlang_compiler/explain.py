"""What a compiled policy demands, in English: reading, prompts, bound, falsification, samples needed."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from constraintlang_compiler.attributes import bounds_in, overs_of, predicates_of, reads_first_part
from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.domains import describe, domain_name
from constraintlang_compiler.hinges import quantile_bound
from constraintlang_compiler.ir import (
    AnyOf,
    Choice,
    Clause,
    Combination,
    Hinge,
    Indicator,
    RowsLoss,
    Value,
)
from constraintlang_compiler.operators import bound_sign
from constraintlang_compiler.planning import samples_needed
from constraintlang_compiler.render import negation, number_text, predicate_text, term_text, written_term
from constraintlang_compiler.render_parts import comparison_text, condition_text

READINGS: dict[str, str] = {"violation": "pointwise"}  # every other kind is called what it is


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


def explain_clause(clause: Clause, num_clauses: int = 1) -> Explanation:
    """One clause in words, as one of so many that are verified together."""
    num_samples = samples_needed(clause, num_clauses)
    return Explanation(
        name=clause.name,
        text=clause.text,
        reading="hard" if clause.hard else READINGS.get(clause.kind, clause.kind),
        demand=_demand(clause) + _first_part(clause) + _standing(clause),
        falsified_by=_falsified_by(clause),
        evidence=_evidence(clause, num_samples, num_clauses),
        num_samples=num_samples,
    )


def _prompts(clause: Clause) -> str:
    responses = (
        "responses" if clause.domain is None else f"responses to prompts with {describe(clause.domain)}"
    )
    settings = ", ".join(f"{name}={value}" for name, value in sorted(clause.sampling.items()))
    responses = f"{responses} (sampled under {settings})" if settings else responses
    return f"{responses} of each {' and '.join(clause.per)}" if clause.per else responses


def _relation(*, at_least: bool, strict: bool) -> str:
    if at_least:
        return "above" if strict else "at least"
    return "below" if strict else "at most"


def _shown(clause: Clause) -> Fraction:
    return Fraction(clause.shown.offset) + clause.shown.scale * Fraction(clause.bound)


def _bound(clause: Clause) -> str:
    """The number, or the multiple of the base model's, on the other side of the comparison."""
    match clause.statistic:
        case RowsLoss():
            return _relative(clause.base_factor, Fraction(clause.bound), percent=False)
        case Indicator() if clause.kind == "quantile":
            return number_text(quantile_bound(clause).threshold, percent=False)
        case Hinge():
            return number_text(Fraction(clause.bound), percent=False)
        case Indicator():
            return _relative(clause.base_factor, _shown(clause), percent=True)
        case _:
            return _relative(clause.base_factor, _shown(clause), percent=False)


def _relative(base_factor: str | None, number: Fraction, *, percent: bool) -> str:
    if base_factor is None:
        return number_text(number, percent=percent)
    factor = Fraction(base_factor)
    base = "that of the reference model"
    text = base if factor == 1 else f"{number_text(factor, percent=False)} times {base}"
    if number == 0:
        return text
    return f"{text} {'plus' if number > 0 else 'minus'} {number_text(abs(number), percent=percent)}"


def _quantity(clause: Clause) -> str:
    match clause.statistic:
        case Indicator() if clause.kind == "quantile":
            found = quantile_bound(clause)
            level = number_text(found.level, percent=True)
            return f"the {level} quantile of `{term_text(found.term)}` over {_prompts(clause)}"
        case Indicator(predicate=predicate):
            event = predicate if clause.shown.scale == 1 else negation(predicate)
            return f"the share of {_prompts(clause)} with `{predicate_text(event)}`"
        case Value():
            term = term_text(written_term(clause.statistic, clause.shown))
            return f"the average of `{term}` over {_prompts(clause)}"
        case Hinge(term=term, level=level):
            worst = number_text(1 - Fraction(level), percent=True)
            return f"the average of `{term_text(term)}` over the {worst} of {_prompts(clause)} where it is largest"
        case RowsLoss(quantity=quantity):
            rows = "your rows" if clause.domain is None else f"your rows with {describe(clause.domain)}"
            return f"the model's {quantity} on {rows}"
        case Combination() | Choice():
            return f"over {_prompts(clause)}"


def _at_least(clause: Clause) -> bool:
    if clause.kind == "utility":
        return clause.at_least
    if clause.kind == "quantile" and isinstance(clause.statistic, Indicator):
        return quantile_bound(clause).at_least
    return clause.shown.scale == -1


def _is_strict(clause: Clause) -> bool:
    if clause.kind == "quantile" and isinstance(clause.statistic, Indicator):
        return quantile_bound(clause).strict
    return clause.strict


def _demand(clause: Clause) -> str:
    statistic = clause.statistic
    if isinstance(statistic, Indicator) and clause.hard:
        return f"None of the {_prompts(clause)} may have `{predicate_text(statistic.predicate)}`."
    if isinstance(statistic, Indicator) and clause.kind == "violation":
        event = predicate_text(statistic.predicate)
        return f"Of the {_prompts(clause)}, at most {_bound(clause)} may have `{event}` (the tolerance)."
    quantity = _capital(_quantity(clause))
    if isinstance(statistic, Combination):
        text = comparison_text(statistic.parts, clause.bound, strict=clause.strict)
        return f"{quantity}, it must be true that `{text}`."
    if isinstance(statistic, Choice):
        alternatives = ", or ".join(f"`{condition_text(part)}`" for part in statistic.operands)
        return f"{quantity}, it must be true that {alternatives}."
    relation = _relation(at_least=_at_least(clause), strict=_is_strict(clause))
    return f"{quantity} must be {relation} {_bound(clause)}."


def _first_part(clause: Clause) -> str:
    levels = {over.level for over in overs_of(predicates_of(clause)) if reads_first_part(over.formula)}
    return "".join(
        f" Outside a word of order, `over {level}` is about the first {level.removesuffix('s')}."
        for level in sorted(levels)
    )


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
    if clause.kind == "choice":
        return f"It is broken when every alternative is, at {level} confidence together."
    if isinstance(clause.statistic, Combination):
        return f"It is broken when the measured values contradict it at {level} confidence."
    side = {
        (True, True): "at most",
        (True, False): "below",
        (False, True): "at least",
        (False, False): "above",
    }[_at_least(clause), _is_strict(clause)]
    return f"It is broken when the measured value is {side} {_bound(clause)} at {level} confidence."


def _evidence(clause: Clause, num_samples: int | None, num_clauses: int) -> str:
    level = number_text(Fraction(clause.confidence), percent=True)
    if clause.kind == "utility":
        against = "" if clause.base_factor is None else ", against the reference model on the same rows"
        return f"It is measured on the rows themselves{against}."
    if clause.base_factor is not None or _reads_base(clause):
        return "It is measured against the reference model's own responses to the same prompts."
    if isinstance(clause.statistic, (Combination, Choice)):
        return (
            "Every statistic in it gets a bound of its own, and all of them hold at this confidence together."
        )
    if clause.hard:
        return (
            "No number of samples proves it: n clean responses show a rate below about 3/n (at 95%); "
            "it holds for certain only when decoding masks or rejects every such response."
        )
    if num_samples is not None:
        prompts, clean, best = (
            ("prompt is", "it shows no violation", "it is the best possible")
            if num_samples == 1
            else ("prompts are", "none of them shows a violation", "all are the best possible")
        )
        when = clean if isinstance(clause.statistic, Indicator) else best
        together = f" for the {num_clauses} clauses together" if num_clauses > 1 else ""
        return f"At least {num_samples} {prompts} needed at {level} confidence{together}, when {when}."
    bound = Fraction(clause.bound)
    if bound < 0 or (bound == 0 and clause.strict):
        return "It cannot hold: the bound lies outside the range of what is measured."
    if bound == 0:
        return "No number of samples proves it, because the bound is the best possible value."
    if isinstance(clause.statistic, (Value, Hinge)) and clause.statistic.high is None:
        return "The range is open: no number of samples gives an exact bound, only an asymptotic one."
    return "It holds for every law of responses: the bound is not below what is possible."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _reads_base(clause: Clause) -> bool:
    match clause.statistic:
        case Combination(parts=parts):
            return any(part.model == "base" for part in parts)
        case Choice(operands=operands):
            return any(part.model == "base" for bound in bounds_in(operands) for part in bound.parts)
        case _:
            return False


def clause_columns(clause: Clause) -> tuple[str, str, str, str]:
    """Name, kind, demand and domain of a clause, short, for one row of a table."""
    sign = bound_sign(at_least=_at_least(clause), strict=_is_strict(clause))
    match clause.statistic:
        case Indicator() if clause.kind == "quantile":
            found = quantile_bound(clause)
            demand = f"quantile({term_text(found.term)}, {decimal_text(found.level)}) {sign} {_bound(clause)}"
        case Indicator(predicate=predicate) if clause.base_factor is None:
            sign = bound_sign(at_least=False, strict=clause.strict)
            demand = (
                f"P({predicate_text(predicate)}) {sign} {number_text(Fraction(clause.bound), percent=True)}"
            )
        case Indicator(predicate=predicate):
            event = predicate if clause.shown.scale == 1 else negation(predicate)
            demand = f"P({predicate_text(event)}) {sign} {_bound(clause)}"
        case Value():
            demand = (
                f"mean({term_text(written_term(clause.statistic, clause.shown))}) {sign} {_bound(clause)}"
            )
        case Hinge(term=term, level=level):
            demand = f"cvar({term_text(term)}, {level}) {sign} {_bound(clause)}"
        case RowsLoss(quantity=quantity):
            relation = _relation(at_least=clause.at_least, strict=clause.strict)
            demand = f"{quantity} {relation} {_bound(clause)}"
        case Combination(parts=parts):
            demand = comparison_text(parts, clause.bound, strict=clause.strict)
        case Choice(operands=operands):
            demand = condition_text(AnyOf(operands=operands))
    kind = "hard" if clause.hard else clause.kind
    strength = "" if clause.strength == "require" else f" ({clause.strength})"
    domain = domain_name(clause.domain) or "every prompt"
    per = f" per {', '.join(clause.per)}" if clause.per else ""
    return clause.name, kind + strength, demand, domain + per
