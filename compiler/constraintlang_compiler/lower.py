"""From a checked policy to its clauses: every statement becomes one or more canonical expectations.

Input: ``CheckedPolicy`` (no errors, names resolved, kinds known). Output: ``PolicyIR`` in canonical form: two
policies that differ in statement order, labels, comments, or in any spelling that the passes of
``lower_terms``, ``lower_domains`` and ``lower_statistics`` normalise have equal clauses up to labels and
texts. Law kept: a law of the responses satisfies the statement exactly when it satisfies all of its clauses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from constraintlang import nodes
from constraintlang.checked import AttributeInfo, CheckedPolicy, CheckedStatement
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.printer import plain_text
from constraintlang.source import SourceFile
from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.automata_work import AutomataWork
from constraintlang_compiler.canonical import clause_id
from constraintlang_compiler.decimals import MAX_DIGITS, TooManyDigits, decimal_text
from constraintlang_compiler.expectation import Expectation
from constraintlang_compiler.ir import (
    AttributeRecord,
    Backend,
    Choice,
    Clause,
    Combination,
    DomainPredicate,
    Indicator,
    PolicyIR,
)
from constraintlang_compiler.lower_demands import demands
from constraintlang_compiler.lower_domains import both, lower_domain
from constraintlang_compiler.rejection import Rejection
from constraintlang_compiler.strata import MAX_STRATA, in_stratum, is_possible, stratum_suffix


@dataclass(frozen=True)
class Lowered:
    """The IR, and for each of its clauses the statements (indexes into ``policy.statements``) that say it."""

    ir: PolicyIR
    origins: tuple[tuple[int, ...], ...]
    warnings: tuple[Diagnostic, ...] = ()


NO_SOURCE = SourceFile("")
MAX_CLAUSES = 100_000


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
    warnings: list[Diagnostic] = []
    found: dict[str, list[tuple[int, Clause]]] = {}
    work, sum_clauses = AutomataWork(), 0
    for index, statement in enumerate(policy.statements):
        try:
            work.spend(statement)
            for part, demand in enumerate(demands(statement, attributes)):
                if demand.untrained is not None:
                    warnings.append(_untrained(statement, demand.untrained))
                for clause in _clauses(statement, demand, part):
                    found.setdefault(clause.id, []).append((index, clause))
                    sum_clauses += 1
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
        if sum_clauses > MAX_CLAUSES:
            message = (
                f"the policy amounts to more than {MAX_CLAUSES:,} clauses, and what follows is not compiled"
            )
            span = statement.span or nodes.NO_SPAN
            help_text = "use fewer statements with `per`, or keys with fewer values"
            diagnostics.append(_diagnostic(Rejection("PC010", message, help=help_text, span=span)))
            break
    if diagnostics:
        raise PolicyError(diagnostics, source)
    merged = [
        (
            min((clause for _, clause in same), key=lambda c: (c.label is None, c.name)),
            sorted({i for i, _ in same}),
        )
        for same in found.values()
    ]
    merged.sort(key=lambda pair: (_order(pair[0]), pair[0].priority, pair[0].id))
    clauses = tuple(clause for clause, _ in merged)
    keys = {*attributes_needed(clauses), *(key for found in parts_needed(clauses).values() for key in found)}
    used = sorted({key.removesuffix("@base") for key in keys})
    ir = PolicyIR(
        edition=policy.edition, attributes=tuple(attributes[name] for name in used), clauses=clauses
    )
    return Lowered(ir, tuple(tuple(origins) for _, origins in merged), tuple(dict.fromkeys(warnings)))


def _order(clause: Clause) -> int:
    """What training acts on comes first, the user's rows last: see ``scopes``."""
    if clause.kind == "utility":
        return 2
    return int(isinstance(clause.statistic, (Combination, Choice)))


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
        kind=call.function,
        arguments=tuple(plain_text(argument) for argument in call.arguments),
        keywords={key: plain_text(value) for key, value in sorted(call.keywords)},
    )


def _untrained(statement: CheckedStatement, reason: str) -> Diagnostic:
    return Diagnostic(
        "PC603",
        "warning",
        statement.span or nodes.NO_SPAN,
        f"this is verified, but training does not act on it: {reason}",
        help="add a statement that training acts on, such as a mean, a chance or a quantile with a number",
    )


def _clauses(statement: CheckedStatement, demand: Expectation, part: int) -> list[Clause]:
    """The clauses of a demand: one, or one for each stratum whose values are declared."""
    domain = None if statement.domain is None else lower_domain(statement.domain)
    num_strata = math.prod(len(values) for values in statement.per.values() if values is not None)
    if num_strata > MAX_STRATA:
        raise Rejection(
            "PC010",
            f"this statement is judged in {num_strata:,} strata, and {MAX_STRATA:,} are the most",
            help="choose a key with fewer values, or fewer keys",
            span=statement.span or nodes.NO_SPAN,
        )
    strata: list[dict[str, str]] = [{}]
    for key, values in statement.per.items():
        if values is not None:
            strata = [{**stratum, key: value} for stratum in strata for value in values]
    open_keys = tuple(sorted(key for key, values in statement.per.items() if values is None))
    possible = [stratum for stratum in strata if is_possible(domain, stratum)]
    return [_clause(statement, domain, demand, part, stratum, open_keys) for stratum in possible or strata]


def _clause(
    statement: CheckedStatement,
    domain: DomainPredicate | None,
    demand: Expectation,
    part: int,
    stratum: dict[str, str],
    open_keys: tuple[str, ...],
) -> Clause:
    own = in_stratum(domain, stratum)
    scopes = [scope for scope in (own, demand.given) if scope is not None]
    suffix = "" if part == 0 else f"[{part + 1}]"
    suffix += stratum_suffix(stratum)
    # E[f] <= 0 with f >= 0 leaves no mass on f > 0, whichever way it is written; a preference stays soft.
    is_indicator = isinstance(demand.statistic, Indicator)
    is_zero = demand.bound == 0 and demand.base_factor is None
    draft = Clause(
        id="",
        label=None if statement.label is None else statement.label + suffix,
        text=statement.text if statement.label is not None or not suffix else f"{statement.text} {suffix}",
        stratum=stratum,
        kind=demand.kind,
        strength=statement.strength,
        domain=both(scopes) if scopes else None,
        per=open_keys,
        statistic=demand.statistic,
        bound=decimal_text(demand.bound),
        strict=demand.strict,
        hard=is_indicator and is_zero and not demand.strict and statement.strength != "prefer",
        shown=demand.shown,
        base_factor=None if demand.base_factor is None else decimal_text(demand.base_factor),
        at_least=demand.at_least,
        weight=decimal_text(statement.weight),
        priority=statement.priority,
        confidence=decimal_text(statement.confidence),
        sampling={name: decimal_text(value) for name, value in sorted(statement.sampling.items())},
    )
    return replace(draft, id=clause_id(draft))


def _diagnostic(rejection: Rejection) -> Diagnostic:
    return Diagnostic(
        code=rejection.code,
        severity="error",
        span=rejection.span,
        message=rejection.message,
        help=rejection.help,
    )
