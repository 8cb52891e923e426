"""What single responses say of the tests: whether an expectation is met, and PC701 where it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from constraintlang.cases import Case
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.diagnostics import Label
from constraintlang.fixes import replacing
from constraintlang.normal_form import NormalForm, normal_form, on_response, truth
from constraintlang.reasons import Reason, reasons, value_text
from constraintlang.report import Report
from constraintlang.semantics import Scores, Truth, kleene_and, kleene_not
from constraintlang.source import Span


def met_by_truths(outcome: str, truths: Sequence[Truth]) -> Truth:
    """Whether `pass` or `fail` is met by the truth values of the statements that it is about.

    >>> met_by_truths("fail", [True, None, False])
    True
    """
    passed = kleene_and(truths)
    return passed if outcome == "pass" else kleene_not(passed)


def met_by_verdicts(outcome: str, verdicts: Sequence[str]) -> bool:
    """Whether `holds`, `violated` or `inconclusive` is met by the verdicts on the statements.

    >>> met_by_verdicts("violated", ["holds", "violated"]), met_by_verdicts("holds", ["holds", "inconclusive"])
    (True, False)
    """
    return outcome == joint_verdict(verdicts)


def joint_verdict(verdicts: Sequence[str]) -> str:
    """The verdict on several statements together: violated when one is, and it holds when all do.

    >>> joint_verdict(["error", "violated"]), joint_verdict(["holds", "error"])
    ('violated', 'error')
    """
    for worst in ("violated", "error", "vacuous", "inconclusive"):
        if worst in verdicts:
            return worst
    return "holds"


def report_contradictions(policy: CheckedPolicy, report: Report) -> None:
    """PC701 for every `pass` and `fail` that what is given decides against."""

    @cache
    def form_of(index: int) -> NormalForm:
        return normal_form(policy.statements[index].formula)

    for test in policy.tests:
        for case in test.cases:
            if not case.of_sample:
                _report_contradiction(case, policy, form_of, report)


def _report_contradiction(
    case: Case, policy: CheckedPolicy, form_of: Callable[[int], NormalForm], report: Report
) -> None:
    scores: Scores = case.scores_of(0)
    statements = [policy.statements[i] for i in case.statements]
    truths = [truth(form_of(index), on_response(scores)) for index in case.statements]
    if met_by_truths(case.outcome, truths) is not False:
        return
    other = "fail" if case.outcome == "pass" else "pass"
    head = Span(case.span.start, case.span.start + len(case.outcome))
    labels = tuple(
        Label(statement.formula.span, _why(statement, scores, policy))
        for statement, truth in zip(statements, truths, strict=True)
        if case.outcome == "fail" or truth is False
    )
    report.error(
        "PC701",
        case.span,
        "this test contradicts the policy",
        f"expect `{other}`, or change the statement",
        label=f"what is given makes it {other}",
        labels=labels[:3],
        fix=replacing(head, other),
    )


def _why(statement: CheckedStatement, scores: Scores, policy: CheckedPolicy) -> str:
    root = reasons(statement.formula, on_response(scores), policy.attributes)
    word = "true" if root.truth else "false"
    return f"{word}: {values_text(root)}"


def values_text(root: Reason) -> str:
    """The values that a formula read, each once: ``toxicity = 0.1, words = 20``."""
    found = {name: value for leaf in root.leaves() for name, value in leaf.values}
    return ", ".join(f"{name} = {value_text(value)}" for name, value in found.items())
