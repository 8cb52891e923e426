"""From a checked policy to its clauses: every statement becomes one or more canonical expectations.

Input: ``CheckedPolicy`` (no errors, names resolved, kinds known). Output: ``PolicyIR`` in canonical form: two
policies that differ in statement order, labels, comments, or in any spelling that the passes of
``lower_terms``, ``lower_domains`` and ``lower_statistics`` normalise have equal clauses up to labels and
texts. Law kept: a law of the responses satisfies the statement exactly when it satisfies all of its clauses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from msgspec.structs import replace

from constraintlang import nodes
from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.attributes import attributes_needed
from constraintlang_compiler.canonical import record_json, sha256_of
from constraintlang_compiler.decimals import MAX_DIGITS, TooManyDigits, decimal_text
from constraintlang_compiler.ir import (
    AttributeRecord,
    Backend,
    Clause,
    DomainPredicate,
    Indicator,
    Op,
    PolicyIR,
)
from constraintlang_compiler.lower_domains import both, lower_domain, scalar_text
from constraintlang_compiler.lower_statistics import Expectation, lower_comparison
from constraintlang_compiler.lower_terms import lower_predicate
from constraintlang_compiler.operators import MIRRORED, NEGATED, OP_OF
from constraintlang_compiler.rejection import Rejection

UNHASHED = {"id", "label", "text"}  # what names a clause to people; everything else is what it means


@dataclass(frozen=True)
class Lowered:
    """The IR, and for each of its clauses the statements (indexes into ``policy.statements``) that say it."""

    ir: PolicyIR
    origins: tuple[tuple[int, ...], ...]


NO_SOURCE = SourceFile("")


def lower(policy: CheckedPolicy, source: SourceFile = NO_SOURCE) -> PolicyIR:
    """The clauses of a policy; sample clauses before utility clauses, then by (priority, id).

    ``source`` is what the spans point into: error messages quote it.
    Raises: PolicyError with one diagnostic per statement that cannot be lowered.
    """
    return lower_with_origins(policy, source).ir


def lower_with_origins(policy: CheckedPolicy, source: SourceFile = NO_SOURCE) -> Lowered:
    """``lower``, with the way back from clauses to statements.

    Two statements that mean the same become one clause; it carries the first of their labels in alphabetical
    order.
    """
    attributes = {name: _attribute(info) for name, info in policy.attributes.items()}
    diagnostics: list[Diagnostic] = []
    found: dict[str, list[tuple[int, Clause]]] = {}
    for index, statement in enumerate(policy.statements):
        try:
            for clause in _clauses(statement, attributes):
                found.setdefault(clause.id, []).append((index, clause))
        except Rejection as rejection:
            diagnostics.append(_diagnostic(rejection))
        except (RecursionError, TooManyDigits) as error:
            span = statement.span or nodes.NO_SPAN
            message, help_text = (
                "this statement is nested too deeply",
                "split it, or name parts of it with `let`",
            )
            if isinstance(error, TooManyDigits):
                message = f"the numbers of this statement amount to one of more than {MAX_DIGITS} digits"
                help_text = "calculate with shorter numbers"
            diagnostics.append(_diagnostic(Rejection("PC010", message, help=help_text, span=span)))
    if diagnostics:
        raise PolicyError(diagnostics, source)
    merged = [
        (
            min((clause for _, clause in same), key=lambda c: (c.label is None, c.name)),
            sorted({i for i, _ in same}),
        )
        for same in found.values()
    ]
    merged.sort(key=lambda pair: (pair[0].kind == "utility", pair[0].priority, pair[0].id))
    clauses = tuple(clause for clause, _ in merged)
    used = sorted({name.removesuffix("@base") for name in attributes_needed(clauses)})
    ir = PolicyIR(
        edition=policy.edition, attributes=tuple(attributes[name] for name in used), clauses=clauses
    )
    return Lowered(ir, tuple(tuple(origins) for _, origins in merged))


def clause_id(clause: Clause) -> str:
    """The hash of what the clause means: its canonical JSON without id, label and text."""
    return sha256_of(record_json(clause, exclude=UNHASHED))


def _attribute(info: AttributeInfo) -> AttributeRecord:
    return AttributeRecord(
        name=info.name,
        type=info.type,
        low=_end(info.low),
        high=_end(info.high),
        direction=info.direction,
        backend=None if info.backend is None else _backend(info.backend),
    )


def _end(value: Decimal | None) -> str | None:
    return None if value is None or value.is_infinite() else decimal_text(value)


def _backend(call: nodes.Call) -> Backend:
    return Backend(
        kind=call.function,  # type: ignore[arg-type]  # the checker admits only these kinds
        arguments=tuple(scalar_text(argument) for argument in call.arguments),
        keywords={key: scalar_text(value) for key, value in sorted(call.keywords)},
    )


def _clauses(statement: CheckedStatement, attributes: Mapping[str, AttributeRecord]) -> list[Clause]:
    span = statement.span or nodes.NO_SPAN
    if statement.per:
        raise Rejection(
            "PC120",
            "`per` is not compiled in this version",
            help="write one statement for each value, as in `for lang=en`",
            span=span,
        )
    domain = None if statement.domain is None else lower_domain(statement.domain)
    if statement.reading == "pointwise":
        tolerance = Fraction(statement.tolerance if statement.tolerance is not None else Decimal(0))
        violation = Indicator(predicate=lower_predicate(statement.formula, negated=True))
        return [
            _clause(
                statement, domain, "violation", Expectation("probability", violation, tolerance, False), 0
            )
        ]
    rows = statement.reading == "rows"
    unique: dict[str, Clause] = {}
    for left, op, right in _conjuncts(statement.formula, negated=False):
        expectation = lower_comparison(
            left, op, right, rows=rows, attributes=attributes, span=left.span.to(right.span)
        )
        clause = _clause(statement, domain, expectation.kind, expectation, len(unique))
        unique.setdefault(clause.id, clause)
    return list(unique.values())


def _clause(
    statement: CheckedStatement,
    domain: DomainPredicate | None,
    kind: str,
    expectation: Expectation,
    part: int,
) -> Clause:
    scopes = [scope for scope in (domain, expectation.given) if scope is not None]
    suffix = "" if part == 0 else f"[{part + 1}]"
    # E[f] <= 0 with f >= 0 leaves no mass on f > 0, whichever way it is written; a preference stays soft.
    is_indicator = isinstance(expectation.statistic, Indicator)
    hard = (
        is_indicator and expectation.bound == 0 and not expectation.strict and statement.strength != "prefer"
    )
    draft = Clause(
        id="",
        label=None if statement.label is None else statement.label + suffix,
        text=statement.text if statement.label is not None or not suffix else f"{statement.text} {suffix}",
        kind=kind,  # type: ignore[arg-type]  # one of the four kinds by construction
        strength=statement.strength,
        domain=both(scopes) if scopes else None,
        statistic=expectation.statistic,
        bound=decimal_text(expectation.bound),
        strict=expectation.strict,
        hard=hard,
        shown=expectation.shown,
        base_factor=None if expectation.base_factor is None else decimal_text(expectation.base_factor),
        at_least=expectation.at_least,
        weight=decimal_text(statement.weight),
        priority=statement.priority,
        confidence=decimal_text(statement.confidence),
        sampling={name: decimal_text(value) for name, value in sorted(statement.sampling.items())},
    )
    return replace(draft, id=clause_id(draft))


def _conjuncts(formula: nodes.Formula, *, negated: bool) -> list[tuple[nodes.Expr, Op, nodes.Expr]]:
    """The comparisons whose conjunction the formula is, with ``not`` pushed into the comparators."""
    match formula:
        case nodes.Not(operand=inner):
            return _conjuncts(inner, negated=not negated)
        case nodes.And(operands=parts) if not negated:
            return [link for part in parts for link in _conjuncts(part, negated=False)]
        case nodes.Or(operands=parts) if negated:
            return [link for part in parts for link in _conjuncts(part, negated=True)]
        case nodes.Implies(left=premise, right=conclusion) if negated:
            return _conjuncts(premise, negated=False) + _conjuncts(conclusion, negated=True)
        case nodes.InRange(operand=operand, low=low, high=high) if not negated:
            return [(operand, "ge", low), (operand, "le", high)]
        case nodes.Compare(operands=operands, operators=operators) if not negated or len(operators) == 1:
            links = list(zip(operands, operators, operands[1:], strict=False))
            return [
                _link(left, NEGATED[OP_OF[op]] if negated else OP_OF[op], right) for left, op, right in links
            ]
        case _:
            raise Rejection(
                "PC120",
                "requirements on the distribution can be joined by `and` only",
                help="write the alternatives as separate policies, or move the choice inside one `P(...)`",
                span=formula.span,
            )


def _link(left: nodes.Expr, op: Op, right: nodes.Expr) -> tuple[nodes.Expr, Op, nodes.Expr]:
    # A plain number on the left reads better, and `base` resolves, with the statistic on the left.
    return (right, MIRRORED[op], left) if isinstance(left, nodes.Number) else (left, op, right)


def _diagnostic(rejection: Rejection) -> Diagnostic:
    return Diagnostic(
        code=rejection.code,
        severity="error",
        span=rejection.span,
        message=rejection.message,
        help=rejection.help,
    )
