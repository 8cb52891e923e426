"""The thresholds of a policy: with which numbers its statements compare the score of one reply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from constraintlang_compiler.ir import (
    All,
    Any,
    AttributeRef,
    Comparison,
    Const,
    Indicator,
    Op,
    PolicyIR,
    Predicate,
    Term,
)
from constraintlang_compiler.operators import MIRRORED, NEGATED

SIGNS = {"lt": "<", "le": "≤", "gt": ">", "ge": "≥"}


@dataclass(frozen=True)
class Threshold:
    """``attribute op value`` is what a statement wants of a reply; ``clause`` is the statement's name."""

    clause: str
    attribute: str
    op: str
    value: float

    @property
    def allowed(self) -> str:
        """The allowed side as people write it, such as ``< 0.1``."""
        return f"{SIGNS[self.op]} {self.value:g}"

    def is_of(self, clause: str) -> bool:
        """Whether a clause of an evaluation is this statement, or a stratum of it."""
        return clause == self.clause or (
            clause.startswith((f"{self.clause}[", f"{self.clause} [")) and clause.endswith("]")
        )

    def excess(self, score: float) -> float:
        """By how much a score lies on the wrong side; negative on the allowed one."""
        return score - self.value if self.op in ("lt", "le") else self.value - score

    def is_beyond(self, score: float) -> bool:
        """Whether a score is not allowed."""
        excess = self.excess(score)
        return excess > 0 or (excess == 0 and self.op in ("lt", "gt"))


def thresholds_of(ir: PolicyIR) -> list[Threshold]:
    """Every comparison of a score with a number in statements about single replies, each once, in order."""
    found: dict[Threshold, None] = {}
    for clause in ir.clauses:
        if isinstance(clause.statistic, Indicator):
            # the indicator of what is not wanted
            for name, op, value in _comparisons(clause.statistic.predicate):
                found.setdefault(Threshold(clause.name, name, NEGATED[op], value))
    return list(found)


def _comparisons(predicate: Predicate) -> Iterator[tuple[str, Op, float]]:
    if isinstance(predicate, All | Any):
        for operand in predicate.operands:
            yield from _comparisons(operand)
    elif isinstance(predicate, Comparison) and predicate.op in SIGNS:
        for left, right, op in (
            (predicate.left, predicate.right, predicate.op),
            (predicate.right, predicate.left, MIRRORED[predicate.op]),
        ):
            if (name := _name(left)) is not None and isinstance(right, Const):
                yield name, op, float(right.value)


def _name(term: Term) -> str | None:
    return term.name if isinstance(term, AttributeRef) and term.model == "self" else None
