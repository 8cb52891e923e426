"""One statement with the clauses of its groups becomes one checked statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.base_model import write_out
from constraintlang.checked import CheckedStatement, Reading
from constraintlang.constants import NO_DECIMAL, exact_decimal, fold, number_node, substitute
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Label
from constraintlang.directions import check_directions
from constraintlang.first_parts import check_first_parts
from constraintlang.fixes import Fix, removing, replacing
from constraintlang.kinds import Kinds
from constraintlang.percentages import check_percentages
from constraintlang.printer import format_number, format_statement, plain_text
from constraintlang.prompts import check_domain
from constraintlang.ranges import check_ranges
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.splitting import split_fix
from constraintlang.tree import descendants, dotted, names_in


@dataclass(frozen=True)
class Scope:
    """The clauses in force at a place, outer groups first."""

    domains: tuple[n.DomainPredicate, ...] = ()
    settings: dict[str, tuple[Decimal, Span]] = field(default_factory=dict)
    weight: tuple[Decimal, Span] | None = None
    priority: int = 0
    confidence: Decimal = v.DEFAULT_CONFIDENCE
    because: str | None = None
    per: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)


def enter(scope: Scope, clauses: Sequence[n.Clause], declarations: Declarations, report: Report) -> Scope:
    """``scope`` with more clauses: ``for`` is conjoined, everything else is replaced."""
    first: dict[type, Span] = {}
    for index, clause in enumerate(clauses):
        word = type(clause).__name__.removesuffix("Clause").lower()
        if type(clause) in first:
            help = "join the conditions with `and` or `or`" if word == "for" else "keep one of the two"
            label = Label(first[type(clause)], "first given here")
            fix = _joining_fix(clauses[index - 1], clause)
            report.error("PC114", clause.span, f"`{word}` is given twice", help, labels=(label,), fix=fix)
            continue
        first[type(clause)] = clause.span
        scope = _with_clause(scope, clause, declarations, report)
    return scope


def _joining_fix(before: n.Clause, clause: n.Clause) -> Fix | None:
    """``for a=b for c=d`` becomes ``for a=b and c=d``."""
    if not isinstance(before, n.ForClause) or not isinstance(clause, n.ForClause):
        return None
    if isinstance(before.predicate, n.DomainOr) or isinstance(clause.predicate, n.DomainOr):
        return None  # `and` would bind tighter than the `or`
    if _keys(before.predicate) & _keys(clause.predicate):
        return None  # no prompt has two values of one tag
    return replacing(Span(clause.span.start, clause.span.start + len("for")), "and")


def _keys(predicate: n.DomainPredicate) -> set[str]:
    parts = [predicate, *descendants(predicate)]
    return {part.key for part in parts if isinstance(part, n.DomainEquals | n.DomainIn)}


def _with_clause(scope: Scope, clause: n.Clause, declarations: Declarations, report: Report) -> Scope:
    if isinstance(clause, n.ForClause):
        check_domain(clause.predicate, declarations, report)
        return replace(scope, domains=(*scope.domains, clause.predicate))
    if isinstance(clause, n.UnderClause):
        return replace(scope, settings=scope.settings | _settings(clause, report))
    if isinstance(clause, n.WeightClause):
        value = _number(clause.value, declarations, report, "weight", v.WEIGHT)
        return scope if value is None else replace(scope, weight=(value, clause.span))
    if isinstance(clause, n.PriorityClause):
        if not v.PRIORITY.accepts(Decimal(clause.value)):
            help = "a small number does: a lower one is never traded for a higher one"
            report.error("PC209", clause.span, f"`priority` takes {v.PRIORITY.words}", help)
            return scope
        return replace(scope, priority=clause.value)
    if isinstance(clause, n.ConfidenceClause):
        value = _number(clause.value, declarations, report, "confidence", v.CONFIDENCE)
        if value is None:
            return scope
        if value < v.LEAST_CONFIDENCE:
            _low_confidence(clause, value, report)
        return replace(scope, confidence=value)
    if isinstance(clause, n.BecauseClause):
        return replace(scope, because=clause.reason)
    return replace(scope, per={key: _strata(key, clause, declarations, report) for key in clause.keys})


def _low_confidence(clause: n.ConfidenceClause, value: Decimal, report: Report) -> None:
    """PC408: the share of wrong verdicts may have been written for that of right ones."""
    share, meant = format_number(value, percent=True), format_number(1 - value, percent=True)
    report.warning(
        "PC408",
        clause.value.span,
        f"with a confidence of {share} a verdict may be wrong more often than right",
        f"write `{meant}` for verdicts that are wrong at most {share} of the time",
        fix=replacing(clause.value.span, meant),
    )


def _strata(
    key: str, clause: n.PerClause, declarations: Declarations, report: Report
) -> tuple[str, ...] | None:
    """The declared values of a key of ``per``; None when they are found in the data."""
    if clause.keys.count(key) > 1:
        report.error("PC114", clause.span, f"`{key}` is given twice", "keep one of the two")
    if key in declarations.tags:
        return tuple(sorted({plain_text(value) for value in declarations.tags[key].values}))
    if declarations.tag_keys and key not in declarations.tag_keys | declarations.quiet:
        report.unknown_word(clause.span, "tag", key, sorted(declarations.tag_keys), "PC102")
    return None


def _number(
    node: n.Expr, declarations: Declarations, report: Report, what: str, allowed: v.Setting
) -> Decimal | None:
    if any({name.parts[0], dotted(name)} & declarations.quiet for name in names_in(node)):
        return None
    value = fold(node, declarations.values.fractions)
    decimal = None if value is None else exact_decimal(value)
    if value is not None and decimal is None:
        report.error("PC223", node.span, *NO_DECIMAL)
        return None
    if decimal is None or not allowed.accepts(decimal):
        help = allowed.suggestion(decimal)
        report.error("PC209", node.span, f"`{what}` takes {allowed.words}", help)
        return None
    return decimal


def _settings(clause: n.UnderClause, report: Report) -> dict[str, tuple[Decimal, Span]]:
    found: dict[str, tuple[Decimal, Span]] = {}
    for index, (key, scalar) in enumerate(clause.settings):
        place = clause.key_spans[index] if index < len(clause.key_spans) else scalar.span
        allowed = v.UNDER.get(key)
        if allowed is None:
            report.unknown_word(place, "setting of `under`", key, v.UNDER, beside=place is scalar.span)
        elif key in found:
            report.error("PC114", place, f"`{key}` is given twice", "keep one of the two")
        elif not isinstance(scalar.value, Decimal) or not allowed.accepts(scalar.value):
            help = allowed.suggestion(scalar.value if isinstance(scalar.value, Decimal) else None)
            report.error("PC209", scalar.span, f"`{key}` takes {allowed.words}", help)
        else:
            found[key] = (scalar.value, scalar.span)
    return found


def check_statement(
    statement: n.Statement, outer: Scope, declarations: Declarations, report: Report
) -> CheckedStatement | None:
    """The statement with everything filled in, or None when something is wrong with it."""
    errors_before = report.num_errors
    scope = enter(outer, statement.clauses, declarations, report)
    settings = [clause for clause in statement.clauses if not isinstance(clause, n.ForClause)]
    own = enter(Scope(), settings, declarations, Report())
    before = len(report.diagnostics)
    level = Kinds(declarations, report, preserve=statement.strength == "preserve").formula(statement.formula)
    _offer_split(statement, declarations, report, before)
    if level == "const":
        message = "this statement names no attribute: it says nothing about the model"
        report.error(
            "PC226", statement.formula.span, message, "name an attribute, for example `toxicity < 0.1`"
        )
    reading: Reading = {"dist": "distribution", "rows": "rows"}.get(level, "pointwise")  # type: ignore[assignment]
    if level not in ("error", "const"):
        _clauses_fit(statement, own, reading, report)
    if level == "error" or report.num_errors > errors_before:
        return None
    formula = substitute(statement.formula, declarations.values.decimals)
    check_directions(statement.formula, declarations, report, preserve=statement.strength == "preserve")
    check_ranges(statement.formula, declarations, report)
    check_percentages(statement.formula, declarations, report)
    check_first_parts(statement.formula, report)
    tolerance = None
    if reading == "pointwise":
        tolerance = _tolerance(statement, scope, own, report)
    checked = CheckedStatement(
        formula=formula,
        text="",
        label=statement.label,
        strength=statement.strength,
        always=statement.always,
        reading=reading,
        domain=_conjunction(scope.domains),
        tolerance=tolerance,
        confidence=scope.confidence,
        weight=scope.weight[0] if scope.weight and statement.strength == "prefer" else Decimal(1),
        priority=scope.priority,
        sampling={k: value for k, (value, _) in sorted(scope.settings.items()) if k != "tolerance"},
        per=scope.per,
        because=scope.because,
        span=statement.span,
    )
    text = canonical_text(checked)
    return replace(checked, text=text, formula=formula if reading == "rows" else write_out(formula))


def _offer_split(statement: n.Statement, declarations: Declarations, report: Report, first: int) -> None:
    """Give the finding that readings are mixed, when it is the only one, the fix that separates them."""
    found = report.diagnostics[first:]
    if len(found) != 1 or found[0].code != "PC201" or not isinstance(statement.formula, n.And):
        return
    preserve = statement.strength == "preserve"
    levels = [Kinds(declarations, Report(), preserve=preserve).formula(p) for p in statement.formula.operands]
    fix = split_fix(
        statement, levels, report.source, labels=declarations.labels.keys(), tested=declarations.tested
    )
    if fix is not None:
        report.diagnostics[first] = replace(found[0], fix=fix)


def _tolerance(statement: n.Statement, scope: Scope, own: Scope, report: Report) -> Decimal:
    if statement.always:
        return Decimal(0)
    if "tolerance" in scope.settings:
        return scope.settings["tolerance"][0]
    shown = format_number(v.DEFAULT_TOLERANCE, percent=True)
    report.note(
        "PC404",
        statement.formula.span,
        f"read as pointwise: at most {shown} of the responses may violate it",
        "write `always` for none, `under tolerance=2%` for another share, `mean(...)` for a statistic",
    )
    return v.DEFAULT_TOLERANCE


def _clauses_fit(statement: n.Statement, own: Scope, reading: Reading, report: Report) -> None:
    tolerance = own.settings.get("tolerance")
    if statement.always and reading != "pointwise":
        message = "`always` judges single responses, and this statement speaks of all of them together"
        word = report.source.find(r"\balways\b\s*", Span(statement.span.start, statement.formula.span.start))
        fix = None if word is None else removing(word)
        report.error("PC224", statement.span, message, "remove `always`", fix=fix)
    if tolerance is not None and statement.always:
        message = "`always` leaves no tolerance"
        report.error("PC224", tolerance[1], message, "remove `always` or the tolerance")
    elif tolerance is not None and reading != "pointwise":
        message = "a tolerance belongs to statements about single responses"
        report.error("PC224", tolerance[1], message, "move the slack into the bound")
    if own.weight is not None and statement.strength != "prefer":
        message = f"`weight` belongs to `prefer`, and this statement is `{statement.strength}`"
        report.error("PC224", own.weight[1], message, "write `prefer`, or remove the weight")
    if reading == "rows":
        for key, (_, span) in own.settings.items():
            if key != "tolerance":
                message = f"`{key}` changes how responses are sampled, and your rows are not sampled"
                report.error("PC224", span, message, "remove it")


def _conjunction(domains: Sequence[n.DomainPredicate]) -> n.DomainPredicate | None:
    if len(domains) <= 1:
        return domains[0] if domains else None
    return n.DomainAnd(operands=tuple(domains), span=domains[0].span.to(domains[-1].span))


def canonical_text(checked: CheckedStatement) -> str:
    """One line that means the same anywhere: constants and clauses of groups filled in, no label."""
    clauses: list[n.Clause] = []
    if checked.domain is not None:
        clauses.append(n.ForClause(predicate=checked.domain))
    if checked.per:
        clauses.append(n.PerClause(keys=tuple(checked.per)))
    settings = dict(checked.sampling)
    if checked.reading == "pointwise" and not checked.always and checked.tolerance != v.DEFAULT_TOLERANCE:
        assert checked.tolerance is not None
        settings["tolerance"] = checked.tolerance
    if settings:
        scalars = (
            (key, n.Scalar(value=value, kind="percent" if key == "tolerance" else "number"))
            for key, value in sorted(settings.items())
        )
        clauses.append(n.UnderClause(settings=tuple(scalars)))
    if checked.weight != 1:
        clauses.append(n.WeightClause(value=number_node(checked.weight, n.NO_SPAN)))
    if checked.priority != 0:
        clauses.append(n.PriorityClause(value=checked.priority))
    if checked.confidence != v.DEFAULT_CONFIDENCE:
        clauses.append(n.ConfidenceClause(value=n.Number(value=checked.confidence)))
    if checked.because is not None:
        clauses.append(n.BecauseClause(reason=checked.because))
    return format_statement(
        n.Statement(
            formula=checked.formula, strength=checked.strength, always=checked.always, clauses=tuple(clauses)
        )
    )
