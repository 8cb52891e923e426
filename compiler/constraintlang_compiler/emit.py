"""The canonical policy: the clauses of the IR written back as policy text, without labels and comments.

Law kept: compiling the text gives the same semantic hash. Two policies mean the same exactly when their texts
are equal.
"""

from __future__ import annotations

from fractions import Fraction

from constraintlang.nodes import Scalar
from constraintlang.printer import format_scalar
from constraintlang.vocabulary import BACKENDS
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.decimals import decimal_text
from constraintlang_compiler.domains import describe
from constraintlang_compiler.hinges import quantile_bound
from constraintlang_compiler.ir import (
    AnyOf,
    AttributeRecord,
    Backend,
    Choice,
    Clause,
    Combination,
    Hinge,
    Indicator,
    PolicyIR,
    RowsLoss,
    Value,
)
from constraintlang_compiler.operators import bound_sign
from constraintlang_compiler.render import negation, predicate_text, term_text, written_term
from constraintlang_compiler.render_parts import comparison_text, condition_text


def canonical_policy(ir: PolicyIR) -> str:
    """The policy as text: edition, attributes by name, one statement per clause in the order of the IR."""
    lines = [f"edition {ir.edition}"]
    levels = _levels_read(ir)
    lines += [_attribute(attribute, levels[attribute.name]) for attribute in ir.attributes]
    lines += [canonical_statement(clause) for clause in ir.clauses]
    return "\n".join(lines) + "\n"


def _levels_read(ir: PolicyIR) -> dict[str, list[str]]:
    """The levels at which the clauses read each attribute."""
    read: dict[str, list[str]] = {attribute.name: [] for attribute in ir.attributes}
    for level, keys in (("sequence", attributes_needed(ir.clauses)), *parts_needed(ir.clauses).items()):
        for key in keys:
            name = key.removesuffix("@base")
            if level not in read[name]:
                read[name].append(level)
    return read


def canonical_statement(clause: Clause) -> str:
    """One clause as a statement without its label."""
    words: list[str] = [] if clause.strength == "require" else [clause.strength]
    words.append(_formula(clause))
    if clause.domain is not None:
        words.append(f"for {describe(clause.domain)}")
    if clause.per:
        words.append("per " + ", ".join(clause.per))
    settings = dict(sorted(clause.sampling.items()))
    if clause.kind == "violation" and clause.bound != "0":
        settings["tolerance"] = clause.bound
    if settings:
        words.append("under " + ", ".join(f"{name}={value}" for name, value in settings.items()))
    if clause.weight != "1":
        words.append(f"weight {clause.weight}")
    if clause.priority:
        words.append(f"priority {clause.priority}")
    words.append(f"confidence {clause.confidence}")
    return " ".join(words)


def _formula(clause: Clause) -> str:
    statistic = clause.statistic
    sign = bound_sign(at_least=clause.shown.scale == -1, strict=clause.strict)
    match statistic:
        case RowsLoss(quantity=quantity):
            sign = bound_sign(at_least=clause.at_least, strict=clause.strict)
            return f"mean({quantity}) {sign} {_against(clause.base_factor, Fraction(clause.bound))}"
        case Combination(parts=parts):
            return comparison_text(parts, clause.bound, strict=clause.strict)
        case Choice(operands=operands):
            return condition_text(AnyOf(operands=operands))
        case Hinge(term=term, level=level):
            return f"cvar({term_text(term)}, {level}) {sign} {clause.bound}"
        case Indicator(predicate=predicate) if clause.kind == "violation":
            formula = predicate_text(negation(predicate))
            return f"always {formula}" if clause.bound == "0" else formula
        case Indicator() if clause.kind == "quantile":
            found = quantile_bound(clause)
            sign = bound_sign(at_least=found.at_least, strict=found.strict)
            level, threshold = decimal_text(found.level), decimal_text(found.threshold)
            return f"quantile({term_text(found.term)}, {level}) {sign} {threshold}"
        case Indicator(predicate=predicate):
            event = negation(predicate) if clause.shown.scale == -1 else predicate
            return f"P({predicate_text(event)}) {sign} {_against(clause.base_factor, _shown_bound(clause))}"
        case Value():
            written = term_text(written_term(statistic, clause.shown))
            return f"mean({written}) {sign} {_against(clause.base_factor, _shown_bound(clause))}"


def _shown_bound(clause: Clause) -> Fraction:
    return Fraction(clause.shown.offset) + clause.shown.scale * Fraction(clause.bound)


def _against(factor: str | None, number: Fraction) -> str:
    """The right side of a comparison: a number, or a multiple of ``base`` plus a number."""
    if factor is None:
        return decimal_text(number)
    base = "base" if factor == "1" else f"{factor} * base"
    if number == 0:
        return base
    return f"{base} {'-' if number < 0 else '+'} {decimal_text(abs(number))}"


def _attribute(attribute: AttributeRecord, levels: list[str]) -> str:
    text = f"attribute {attribute.name}: {attribute.type}"
    has_range = attribute.low is not None or attribute.high is not None
    if has_range and attribute.type != "flag":
        low = "-inf" if attribute.low is None else attribute.low
        text += f" in [{low}, {'inf' if attribute.high is None else attribute.high}]"
    if attribute.direction is not None:
        text += f" {attribute.direction}_is_better"
    fields = [] if attribute.backend is None else [f"backend = {_backend(attribute.backend)}"]
    if levels != ["sequence"]:
        fields.append(f"levels = {{{', '.join(levels)}}}")
    return f"{text} {{ {', '.join(fields)} }}" if fields else text


def _backend(backend: Backend) -> str:
    shape = BACKENDS[backend.kind]
    arguments = [_scalar(kind, value) for kind, value in zip(shape.arguments, backend.arguments, strict=True)]
    arguments += [
        f"{key}={_scalar(shape.keywords[key], value)}" for key, value in sorted(backend.keywords.items())
    ]
    return f"{backend.kind}({', '.join(arguments)})"


def _scalar(kind: str, value: str) -> str:
    """A value as the vocabulary wants it: words and truths bare, patterns and texts in their quotes."""
    if kind == "regex":
        return f're"{value}"'
    return value if kind in ("choice", "truth") else format_scalar(Scalar(value=value, kind="string"))
