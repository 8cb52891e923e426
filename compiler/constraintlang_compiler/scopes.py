"""Which clauses a row of prompts falls under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Choice, Clause, Combination, Hinge, Indicator, PolicyIR, Value


def sample_clauses(ir: PolicyIR) -> tuple[Clause, ...]:
    """The clauses with a statistic of one response, in order: what training acts on.

    INVARIANT: they come first in ``ir.clauses``, so an index into the result is an index into ``ir.clauses``.
    """
    return tuple(clause for clause in ir.clauses if isinstance(clause.statistic, (Indicator, Value, Hinge)))


def compared_clauses(ir: PolicyIR) -> tuple[Clause, ...]:
    """The clauses about responses that are verified only: comparisons of statistics, and choices."""
    return tuple(clause for clause in ir.clauses if isinstance(clause.statistic, (Combination, Choice)))


def utility_clauses(ir: PolicyIR) -> tuple[Clause, ...]:
    """The clauses about the user's rows, in order."""
    return tuple(clause for clause in ir.clauses if clause.kind == "utility")


def scopes_of(ir: PolicyIR, rows_tags: Sequence[Mapping[str, object]]) -> list[tuple[int, ...]]:
    """For each row the indexes, into ``sample_clauses(ir)``, of the clauses whose domain it lies in;
    ascending.

    Rows with equal results form one group: they share an auxiliary target.
    """
    clauses = sample_clauses(ir)
    return [
        tuple(index for index, clause in enumerate(clauses) if matches(clause.domain, tags))
        for tags in rows_tags
    ]
