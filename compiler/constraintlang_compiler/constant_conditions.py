"""Conditions that name an attribute and are still decided before any score is known."""

from __future__ import annotations

from constraintlang.checked import CheckedPolicy
from constraintlang.diagnostics import Diagnostic
from constraintlang_compiler.ir import Indicator, Literally
from constraintlang_compiler.lower import Lowered


def check_constant_conditions(policy: CheckedPolicy, lowered: Lowered) -> list[Diagnostic]:
    """PC226 for every statement whose condition became ``true`` or ``false`` on the way to its clause."""
    found = []
    for clause, origins in zip(lowered.ir.clauses, lowered.origins, strict=True):
        if not isinstance(clause.statistic, Indicator) or not isinstance(
            clause.statistic.predicate, Literally
        ):
            continue
        for statement in (policy.statements[index] for index in origins):
            message = "a condition here is true or false whatever the scores are"
            help = "remove what decides it: `true`, `false`, or a comparison of two numbers"
            found.append(Diagnostic("PC226", "error", statement.formula.span, message, help=help))
    return found
