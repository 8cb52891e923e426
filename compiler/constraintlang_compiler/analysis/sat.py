"""All that ``check --sat`` adds: the findings of the analysis and of the planned verification, sorted."""

from __future__ import annotations

from constraintlang.diagnostics import Diagnostic, sort_diagnostics
from constraintlang_compiler.analysis.evidence import evidence_findings
from constraintlang_compiler.analysis.findings import find_all
from constraintlang_compiler.analysis.limits import SECONDS, Budget
from constraintlang_compiler.front import Front


def analyse(
    front: Front, *, num_prompts: int | None = None, seconds: float = SECONDS
) -> tuple[Diagnostic, ...]:
    """The findings about a source without errors, sorted; nothing for one with errors.

    >>> from constraintlang.source import SourceFile
    >>> from constraintlang_compiler.front import check_and_lower
    >>> [d.code for d in analyse(check_and_lower(SourceFile("mean(toxicity) >= 0")))]
    ['PC401']
    """
    if front.checked is None or front.lowered is None or not front.checked.statements:
        return ()
    found = find_all(front.checked, Budget(seconds))
    found += evidence_findings(front.checked, front.lowered, num_prompts)
    return tuple(sort_diagnostics(found))


def with_analysis(front: Front, *, num_prompts: int | None = None) -> Front:
    """``front`` with the findings of ``analyse``, less those that a comment allows."""
    found = analyse(front, num_prompts=num_prompts)
    undecided = front.lowered is None or any(d.code == "PC304" for d in found)
    judged = {"PC502", "PC602"}
    if num_prompts is not None:
        judged |= {"PC501"}
    if not undecided:
        judged |= {"PC303", "PC304", "PC401", "PC402", "PC403"}
    return front.with_findings(found, judged.__contains__)
