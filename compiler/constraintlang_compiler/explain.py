"""What a compiled policy demands, in English: reading, prompts, bound, falsification, samples needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from constraintlang_compiler.attributes import overs_of, predicates_of, reads_first_part
from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.domains import describe, domain_name
from constraintlang_compiler.hinges import quantile_bound
from constraintlang_compiler.ir import (
    AnyOf,
    Choice,
    Clause,
    Combination,
    DomainPredicate,
    Hinge,
    Indicator,
    Over,
    Part,
    Predicate,
    Quantity,
    RowsLoss,
    Share,
    Summary,
    Value,
)
from constraintlang_compiler.lower_domains import both
from constraintlang_compiler.measurements import measurements
from constraintlang_compiler.operators import bound_sign
from constraintlang_compiler.planning import MAX_CLEAN, UnitBound, Unplanned, unit_bound
from constraintlang_compiler.render import negation, number_text, predicate_text, term_text, written_term
from constraintlang_compiler.render_parts import comparison_text, condition_text, sides_of
from constraintlang_compiler.unplanned import WORDS

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
    unit = unit_bound(clause, num_clauses)
    num_samples = unit.least if isinstance(unit, UnitBound) else None
    return Explanation(
        name=clause.name,
        text=clause.text,
        reading="hard" if clause.hard else READINGS.get(clause.kind, clause.kind),
        demand=_demand(clause) + _first_part(clause) + _standing(clause),
        falsified_by=_falsified_by(clause),
        evidence=_evidence(clause, unit, num_samples, num_clauses),
        num_samples=num_samples,
    )


def _prompts(
    clause: Clause, given: DomainPredicate | None = None, model: Literal["self", "base"] = "self"
) -> str:
    """The responses that are spoken of: those to the prompts of the clause that lie in ``given``."""
    responses = "responses" if model == "self" else "responses of the reference model"
    scopes = [scope for scope in (clause.domain, given) if scope is not None]
    if scopes:
        responses += f" to prompts with {describe(both(scopes))}"
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
        case RowsLoss(quantity=quantity):
            rows = "your rows" if clause.domain is None else f"your rows with {describe(clause.domain)}"
            return f"the model's {quantity} on {rows}"
        case Combination() | Choice():
            return f"over {_prompts(clause)}"
        case Indicator(predicate=predicate) if clause.kind != "quantile":
            event = predicate if clause.shown.scale == 1 else negation(predicate)
            return _amount(Share(predicate=event), _prompts(clause))
        case Value():
            term = written_term(clause.statistic, clause.shown)
            return _amount(Summary(function="mean", term=term), _prompts(clause))
        case _:
            (measurement,) = measurements(clause)
            return _amount(measurement.quantity, _prompts(clause))


def _amount(quantity: Quantity, responses: str) -> str:
    """A quantity of some responses."""
    if isinstance(quantity, Share):
        return f"the share of {responses} with `{predicate_text(quantity.predicate)}`"
    term, level = term_text(quantity.term), Fraction(quantity.level or 0)
    match quantity.function:
        case "mean":
            return f"the average of `{term}` over {responses}"
        case "quantile":
            return f"the {number_text(level, percent=True)} quantile of `{term}` over {responses}"
        case "cvar":
            worst = number_text(1 - level, percent=True)
            return f"the average of `{term}` over the {worst} of {responses} where it is largest"


def _comparison(clause: Clause, combination: Combination) -> str:
    """A bound on a sum of quantities in words, every part on the side where its factor is positive."""

    def side(parts: Sequence[Part], number: Fraction) -> str:
        amounts = [
            ("" if part.factor == "1" else f"{part.factor} times ")
            + _amount(part.quantity, _prompts(clause, part.given, part.model))
            for part in parts
        ]
        text = " plus ".join(amounts)
        if not number:
            return text or "0"
        shown = number_text(abs(number) if text else number, percent=percent)
        return f"{text} {'plus' if number > 0 else 'minus'} {shown}" if text else shown

    percent = all(isinstance(part.quantity, Share) for part in combination.parts)
    left, right, number, at_least = sides_of(combination.parts, Fraction(clause.bound))
    relation = _relation(at_least=at_least, strict=clause.strict)
    return f"{_capital(side(left, Fraction(0)))} must be {relation} {side(right, number)}."


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
    if isinstance(statistic, Indicator) and (clause.hard or clause.kind == "violation"):
        verb, text = _violation(statistic.predicate)
        violation = f"{verb} `{text}`"
        if not clause.hard:
            return f"Of the {_prompts(clause)}, at most {_bound(clause)} may {violation} (the tolerance)."
        return f"None of the {_prompts(clause)} may {violation}."
    if isinstance(statistic, Combination):
        return _comparison(clause, statistic)
    quantity = _capital(_quantity(clause))
    if isinstance(statistic, Choice):
        alternatives = ", or ".join(f"`{condition_text(part)}`" for part in statistic.operands)
        return f"{quantity}, it must be true that {alternatives}."
    relation = _relation(at_least=_at_least(clause), strict=_is_strict(clause))
    return f"{quantity} must be {relation} {_bound(clause)}."


def _violation(predicate: Predicate) -> tuple[Literal["have", "break"], str]:
    """What a response must not do: be such, or break what is demanded, whichever order makes shorter to say."""
    text = predicate_text(predicate)
    if any(overs_of([predicate])):
        demanded = predicate_text(negation(predicate))
        if len(demanded) < len(text):
            return "break", demanded
    return "have", text


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


def _evidence(clause: Clause, unit: UnitBound | Unplanned, num_samples: int | None, num_clauses: int) -> str:
    if not isinstance(unit, UnitBound):
        if unit == "utility" and clause.base_factor is None:
            return "It is measured on the rows themselves."
        if unit == "hard" and any(overs_of(predicates_of(clause))):
            return UNMASKED
        one_part = isinstance(clause.statistic, Combination) and len(clause.statistic.parts) == 1
        return (
            "No least number of prompts is known for it."
            if unit == "several" and one_part
            else WORDS[unit].evidence
        )
    if num_samples is None:
        return f"It takes more than {MAX_CLEAN:,} prompts, even when all are the best possible."
    clean = isinstance(clause.statistic, Indicator)
    if num_samples == 1:
        prompts, needed = "1 prompt", "is needed"
        best = "it shows no violation" if clean else "it is the best possible"
    else:
        prompts, needed = f"{num_samples} prompts", "are needed"
        best = "none of them shows a violation" if clean else "all are the best possible"
    level = number_text(Fraction(clause.confidence), percent=True)
    together = f" for the {num_clauses} clauses together" if num_clauses > 1 else ""
    if clause.per:
        prompts += f" of each {' and '.join(clause.per)}"
        best += "; more of them, as the strata share the confidence"
    return f"At least {prompts} {needed} at {level} confidence{together}, when {best}."


UNMASKED = (
    "No number of samples proves it: n clean responses show a rate below about 3/n (at 95%); it is about the parts of "
    "a text, for which there are no token masks: it holds for certain only when decoding rejects every such response."
)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def clause_columns(clause: Clause) -> tuple[str, str, str, str]:
    """Name, kind, demand and domain of a clause, short, for one row of a table."""
    sign = bound_sign(at_least=_at_least(clause), strict=_is_strict(clause))
    match clause.statistic:
        case Indicator() if clause.kind == "quantile":
            found = quantile_bound(clause)
            demand = f"quantile({term_text(found.term)}, {decimal_text(found.level)}) {sign} {_bound(clause)}"
        case Indicator(predicate=predicate) if clause.kind == "violation":
            verb, text = _violation(predicate)
            shown = f"not {text if isinstance(predicate, Over) else f'({text})'}" if verb == "break" else text
            demand = f"P({shown}) {sign} {_bound(clause)}"
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
