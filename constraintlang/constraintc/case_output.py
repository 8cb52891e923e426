"""The outcome of ``constraintc test`` for people, as JSON, and as JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from constraintc.output import visible_text
from constraintc.reason_text import reason_lines
from constraintlang.cases import Case
from constraintlang.diagnostics import Diagnostic, place_json
from constraintlang.source import SourceFile, Span
from constraintlang_runtime.policy_coverage import StatementCoverage
from constraintlang_runtime.policy_mutation import Mutation
from constraintlang_runtime.policy_tests import CaseResult, Finding, TestResult

SIGNS = {"passed": "ok", "failed": "FAIL", "skipped": "skip", "error": "ERROR"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class FileOutcome:
    """All that came out for one policy file."""

    source: SourceFile
    results: Sequence[TestResult]
    coverage: Sequence[StatementCoverage]
    mutation: Mutation | None = None

    def counts(self) -> Counter[str]:
        """How many cases have each status."""
        return Counter(case.status for result in self.results for case in result.cases)

    def sides(self) -> tuple[int, int]:
        """How many sides of thresholds were seen, and how many there are."""
        thresholds = [threshold for entry in self.coverage for threshold in entry.thresholds]
        return sum(2 - len(threshold.missing) for threshold in thresholds), 2 * len(thresholds)


@dataclass(frozen=True)
class FileFailure:
    """A file that could not be tested: it cannot be read, or its policy has errors, which are among the findings."""

    name: str
    message: str
    source: SourceFile | None = None
    findings: Sequence[Diagnostic] = ()


def case_name(case: Case) -> str:
    """An expectation as written."""
    text = f' "{_one_line(case.text)}"' if case.text is not None else ""
    return f"{case.outcome}{text}" + (f" on {case.on}" if case.on else "")


def _one_line(text: str) -> str:
    """Line breaks as they are written in a policy."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _place(source: SourceFile, span: Span) -> str:
    line, column = source.position(span.start)
    return f"{source.name}:{line}:{column}"


# ---------------------------------------------------------------- for people
def print_outcome(outcome: FileOutcome, *, show_coverage: bool) -> None:
    """One file for people."""
    for line in _lines(outcome, show_coverage):
        print(visible_text(line))


def _lines(outcome: FileOutcome, show_coverage: bool) -> Iterator[str]:
    source = outcome.source
    for result in outcome.results:
        yield f"{_place(source, result.test.span)}  {_one_line(result.test.name)}"
        for case in result.cases:
            yield f"  {SIGNS[case.status]:5} {case_name(case.case)}"
            if case.status != "passed":
                yield f"        {_place(source, case.case.span)}: {case.message}"
                for finding in case.findings if case.status == "failed" else ():
                    yield from (f"        {line}" for line in _finding_lines(finding, case))
    if show_coverage:
        yield "coverage:"
        for entry in outcome.coverage:
            yield from _coverage_lines(entry, source)
    if outcome.mutation is not None:
        killed = outcome.mutation.num_mutants - len(outcome.mutation.survivors)
        yield f"mutation: {killed} of {outcome.mutation.num_mutants} mutants fail a test"
        for mutant in outcome.mutation.survivors:
            yield f"  {_place(source, mutant.span)}: no test fails with {mutant.change}"


def _finding_lines(finding: Finding, case: CaseResult) -> Iterator[str]:
    if finding.reason is not None and (case.case.outcome == "fail" or finding.truth is not True):
        if finding.statement.label:
            yield f"{finding.statement.label}:"
        yield from (f"  {line}" for line in reason_lines(finding.reason))


def _coverage_lines(entry: StatementCoverage, source: SourceFile) -> Iterator[str]:
    name = entry.statement.label or entry.statement.text
    span = entry.statement.span or Span(0, 0)
    cases = (
        f"{entry.num_cases} case{'' if entry.num_cases == 1 else 's'}" if entry.num_cases else "never judged"
    )
    yield f"  {_place(source, span)}  {name}: {cases}"
    for threshold in entry.thresholds if entry.num_cases else ():
        if threshold.missing:
            yield f"    {threshold.text}: never {' nor '.join(threshold.missing)}"


# ---------------------------------------------------------------- as data
def record_json(record: FileOutcome | FileFailure) -> dict[str, Any]:
    """One file as plain data, with ``error`` where it could not be tested."""
    if isinstance(record, FileOutcome):
        return outcome_json(record)
    if record.source is None:
        return {"file": record.name, "error": "unreadable", "message": record.message}
    findings = [found.to_json(record.source) for found in record.findings]
    return {"file": record.source.name, "error": "rejected", "findings": findings}


def outcome_json(outcome: FileOutcome) -> dict[str, Any]:
    """One file as plain data; lines and columns count from 1."""
    source = outcome.source
    seen, sides = outcome.sides()
    return {
        "file": source.name,
        "tests": [
            {
                "name": result.test.name,
                **place_json(result.test.span, source),
                "cases": [_case_json(case, source) for case in result.cases],
            }
            for result in outcome.results
        ],
        "coverage": {
            "sides": sides,
            "sides_seen": seen,
            "statements": [_coverage_json(entry, source) for entry in outcome.coverage],
        },
        "mutation": None if outcome.mutation is None else _mutation_json(outcome.mutation, source),
    }


def _case_json(result: CaseResult, source: SourceFile) -> dict[str, Any]:
    statements = [
        {
            "statement": f.statement.label or f.statement.text,
            "truth": f.truth,
            "verdict": f.verdict,
            "reason": None if f.reason is None else f.reason.to_json(),
        }
        for f in result.findings
    ]
    case = result.case
    return {
        "outcome": case.outcome,
        "text": case.text,
        "on": case.on,
        "status": result.status,
        "message": result.message,
        "statements": statements,
        **place_json(case.span, source),
    }


def _coverage_json(entry: StatementCoverage, source: SourceFile) -> dict[str, Any]:
    return {
        "statement": entry.statement.label or entry.statement.text,
        "cases": entry.num_cases,
        "thresholds": [
            {"text": t.text, "never": list(t.missing), **place_json(t.span, source)} for t in entry.thresholds
        ],
    }


def _mutation_json(mutation: Mutation, source: SourceFile) -> dict[str, Any]:
    survivors = [{"change": m.change, **place_json(m.span, source)} for m in mutation.survivors]
    return {"mutants": mutation.num_mutants, "survivors": survivors}


def junit(records: Sequence[FileOutcome | FileFailure]) -> str:
    """All files as JUnit XML, one suite for each file."""
    root = ET.Element("testsuites", name="constraintc test")
    for outcome in records:
        if isinstance(outcome, FileFailure):
            _junit_failure(root, outcome)
            continue
        counts = outcome.counts()
        suite = ET.SubElement(
            root,
            "testsuite",
            name=_xml(outcome.source.name),
            tests=str(counts.total()),
            failures=str(counts["failed"]),
            errors=str(counts["error"]),
            skipped=str(counts["skipped"]),
        )
        for result in outcome.results:
            for case in result.cases:
                _junit_case(suite, result, case, outcome.source)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _junit_failure(root: ET.Element, failure: FileFailure) -> None:
    """A suite whose only case is the file itself, so that a report of tests cannot look as if all had passed."""
    name = _xml(failure.name)
    suite = ET.SubElement(root, "testsuite", name=name, tests="1", failures="0", errors="1", skipped="0")
    element = ET.SubElement(suite, "testcase", classname=name, name="the policy can be tested", file=name)
    errors = [found for found in failure.findings if found.is_error]
    message, lines = failure.message, []
    if failure.source is not None and errors:
        message = f"{errors[0].code} {errors[0].message}"
        lines = [f"{_place(failure.source, found.span)}: {found.code} {found.message}" for found in errors]
    ET.SubElement(element, "error", message=_xml(message)).text = _xml("\n".join(lines))


def _junit_case(suite: ET.Element, result: TestResult, case: CaseResult, source: SourceFile) -> None:
    line, _ = source.position(case.case.span.start)
    element = ET.SubElement(
        suite,
        "testcase",
        classname=_xml(source.name),
        name=_xml(f"{result.test.name}: {case_name(case.case)}"),
        file=_xml(source.name),
        line=str(line),
    )
    kind = {"failed": "failure", "error": "error", "skipped": "skipped"}.get(case.status)
    if kind is not None:
        failed = case.findings if case.status == "failed" else ()
        details = [line for finding in failed for line in _finding_lines(finding, case)]
        ET.SubElement(element, kind, message=_xml(case.message)).text = _xml("\n".join(details))


def _xml(text: str) -> str:
    """The text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
