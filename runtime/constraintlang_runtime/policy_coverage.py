"""What the tests of a policy have seen: which statements were judged, and which sides of their thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.normal_form import Atom, Link, Valuation, atoms, normal_form, on_law, on_response, truth
from constraintlang.printer import format_formula, format_number
from constraintlang.source import Span
from constraintlang.tree import descendants
from constraintlang_runtime.policy_tests import CaseResult, TestResult


@dataclass
class Threshold:
    """A comparison or flag of a statement, and the truth values that it was seen to have."""

    text: str
    span: Span
    atom: Atom | None  # None: the tolerance of the statement
    of_law: bool
    seen: set[bool] = field(default_factory=set)

    @property
    def missing(self) -> tuple[str, ...]:
        """The sides that no case has seen."""
        kept = {True: "kept", False: "exceeded"}
        words = kept if self.atom is None else {True: "true", False: "false"}
        return tuple(word for side, word in words.items() if side not in self.seen)


@dataclass
class StatementCoverage:
    """What the cases of all tests have seen of one statement."""

    statement: CheckedStatement
    thresholds: list[Threshold]
    num_cases: int = 0


def coverage(policy: CheckedPolicy, results: Sequence[TestResult]) -> list[StatementCoverage]:
    """The coverage of every statement that tests can judge: all but those about the user's rows."""
    found = [
        StatementCoverage(statement, list(_thresholds(statement)))
        for statement in policy.statements
        if statement.reading != "rows"
    ]
    by_statement = {id(entry.statement): entry for entry in found}
    for result in results:
        for case in result.cases:
            for finding in case.findings if case.status in ("passed", "failed") else ():
                entry = by_statement[id(finding.statement)]
                entry.num_cases += 1
                _look(entry, case, finding.verdict)
    return found


def _thresholds(statement: CheckedStatement) -> Iterator[Threshold]:
    of_law = statement.reading == "distribution"
    yield from _atoms(statement.formula, of_law)
    for node in descendants(statement.formula) if of_law else ():
        if isinstance(node, n.Apply) and node.function == v.PROBABILITY:
            yield from _atoms(node.arguments[0], False)  # type: ignore[arg-type]
    if statement.reading == "pointwise" and statement.tolerance not in (0, v.DEFAULT_TOLERANCE):
        assert statement.tolerance is not None
        text = f"tolerance {format_number(statement.tolerance, percent=True)}"
        yield Threshold(text, statement.span or n.NO_SPAN, None, True)


def _atoms(formula: n.Formula, of_law: bool) -> Iterator[Threshold]:
    for atom in atoms(normal_form(formula)):
        yield Threshold(_text(atom), atom.span, atom, of_law)


def _text(atom: Atom) -> str:
    if isinstance(atom, Link):
        return f"{format_formula(atom.left)} {atom.operator} {format_formula(atom.right)}"
    return ("not " if atom.negated else "") + format_formula(atom.formula)


def _look(entry: StatementCoverage, case: CaseResult, verdict: str | None) -> None:
    law = [(Fraction(1, len(case.responses)), response) for response in case.responses]
    for threshold in entry.thresholds:
        if threshold.atom is None:
            if verdict in ("holds", "violated"):
                threshold.seen.add(verdict == "holds")
        elif threshold.of_law:
            _note(threshold, on_law(law))
        else:
            for response in case.responses:
                _note(threshold, on_response(response))


def _note(threshold: Threshold, valuation: Valuation) -> None:
    assert threshold.atom is not None
    value = truth(threshold.atom, valuation)
    if value is not None:
        threshold.seen.add(value)
