"""What the planned verification cannot show, and which scorers it would rest on (PC501, PC502, PC602)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.diagnostics import Diagnostic
from constraintlang.nodes import NO_SPAN
from constraintlang.source import Span
from constraintlang.tree import names_in
from constraintlang_compiler.ir import Clause, Hinge, Indicator, Value
from constraintlang_compiler.lower import Lowered
from constraintlang_compiler.planning import UnitBound, unit_bound
from constraintlang_compiler.render import number_text


def evidence_findings(
    policy: CheckedPolicy, lowered: Lowered, num_prompts: int | None = None
) -> Iterator[Diagnostic]:
    """The findings; ``num_prompts`` is how many prompts of each domain the verification will have."""
    for clause, origins in zip(lowered.ir.clauses, lowered.origins, strict=True):
        span = policy.statements[origins[0]].span or NO_SPAN
        if num_prompts is not None:
            yield from _too_few(clause, span, num_prompts, len(lowered.ir.clauses))
        if isinstance(clause.statistic, Value | Hinge) and clause.statistic.high is None:
            yield Diagnostic(
                "PC502", "warning", span, "the range is open, so only an asymptotic interval exists",
                help="declare a range, as in `attribute grade: real in [0, 20]`, or bound a chance instead",
                notes=("a heavy tail that the sample has not met is not covered by such an interval",),
            )  # fmt: skip
    for statement in policy.statements:
        yield from _unrepeatable(policy, statement)


def _too_few(clause: Clause, span: Span, num_prompts: int, num_clauses: int) -> Iterator[Diagnostic]:
    unit = unit_bound(clause, num_clauses)
    least = unit.least if isinstance(unit, UnitBound) else None
    if not isinstance(unit, UnitBound) or least is None or least <= num_prompts:
        return
    confidence = number_text(Fraction(clause.confidence), percent=True)
    joint = f", shared by {num_clauses} clauses" if num_clauses > 1 else ""
    yield Diagnostic(
        "PC501", "warning", span,
        f"{num_prompts:,} prompts cannot decide this threshold at {confidence} confidence{joint}",
        label=_shown(clause, unit.value(unit.clean_upper(num_prompts)), num_prompts),
        help=f"verify at least {least:,} prompts, or weaken the bound",
    )  # fmt: skip


def _shown(clause: Clause, upper: float, num_prompts: int) -> str:
    """``upper`` is what the best possible outcome shows the number that the clause bounds to be below."""
    value = float(clause.shown.offset) + clause.shown.scale * upper
    side = "below" if clause.shown.scale == 1 else "above"
    if isinstance(clause.statistic, Indicator):
        return f"no failure in {num_prompts:,} only shows a share {side} {100 * value:.3g}%"
    return f"the best outcome of {num_prompts:,} only shows a {clause.kind} {side} {value:.4g}"


def _unrepeatable(policy: CheckedPolicy, statement: CheckedStatement) -> Iterator[Diagnostic]:
    """A requirement that rests on a plug-in which may answer differently each time."""
    if statement.strength != "require":
        return
    for name in dict.fromkeys(".".join(node.parts) for node in names_in(statement.formula)):
        info = policy.attributes.get(name)
        if info is None or info.backend is None or info.backend.function != "python":
            continue
        declared = dict(info.backend.keywords).get("deterministic")
        if declared is None or declared.value is not True:
            yield Diagnostic(
                "PC602", "warning", statement.span or NO_SPAN,
                f"this requirement rests on `{name}`, a plug-in that is not declared deterministic",
                help="write `deterministic=true` when equal texts always get equal scores, or use `prefer`",
            )  # fmt: skip
