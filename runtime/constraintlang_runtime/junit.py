"""Verdicts as JUnit XML, which CI servers show: a test case per clause."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as etree

from constraintlang_compiler.artifact import write_whole
from constraintlang_runtime.small_writes import writing_small
from constraintlang_runtime.verdicts import Verdict

# XML 1.0 has no way to write these, not even escaped
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(
    verdicts: Sequence[Verdict], path: Path, *, name: str, seconds: float, require_holds: bool = False,
    not_judged: Sequence[Mapping[str, str]] = (),
) -> None:  # fmt: skip
    """Write the file, whole or not at all."""
    with writing_small(f"--junit `{path}`", help="name a file in a folder that exists"):
        content = junit(
            verdicts, name=name, seconds=seconds, require_holds=require_holds, not_judged=not_judged
        )
        write_whole(path, content)


def junit(
    verdicts: Sequence[Verdict], *, name: str, seconds: float, require_holds: bool = False,
    not_judged: Sequence[Mapping[str, str]] = (),
) -> bytes:  # fmt: skip
    """A ``testsuites`` document.

    ``violated`` is a failure, ``error`` and ``vacuous`` are errors, ``inconclusive`` is skipped, and so is a
    ``prefer`` clause that does not hold. With ``require_holds`` an inconclusive clause, or one with a warning, is a
    failure. A clause that was ``not_judged`` is skipped, with ``require_holds`` an error. Warnings stand in
    ``system-out``. Characters that XML cannot hold become U+FFFD.
    """
    cases = [_case(verdict, name, require_holds) for verdict in verdicts]
    cases += [_left(clause, name, require_holds) for clause in not_judged]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    attributes = {key: str(value) for key, value in counts.items()} | {"time": f"{seconds:.3f}"}
    root = etree.Element("testsuites", attributes)
    suite = etree.SubElement(root, "testsuite", {"name": _clean(name), **attributes})
    suite.extend(cases)
    etree.indent(root)
    return etree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _case(verdict: Verdict, suite: str, require_holds: bool) -> etree.Element:
    case = etree.Element("testcase", {"classname": _clean(suite), "name": _clean(verdict.clause)})
    kind = _outcome(verdict, require_holds)
    if kind is not None:
        message = f"{verdict.verdict}: {_numbers(verdict)}"
        found = etree.SubElement(case, kind, {"message": _clean(message)})
        if kind != "skipped":
            found.set("type", verdict.verdict)
        found.text = _clean("\n".join([verdict.text, verdict.note, *verdict.warnings]).strip())
    if verdict.warnings:
        lines = [f"WARNING: {warning}" for warning in verdict.warnings]
        etree.SubElement(case, "system-out").text = _clean("\n".join(lines))
    return case


def _left(clause: Mapping[str, str], suite: str, require_holds: bool) -> etree.Element:
    """A clause that nothing was said of."""
    case = etree.Element("testcase", {"classname": _clean(suite), "name": _clean(clause["clause"])})
    is_error = require_holds and clause["strength"] != "prefer"
    found = etree.SubElement(
        case, "error" if is_error else "skipped", {"message": _clean(f"not judged: {clause['reason']}")}
    )
    if is_error:
        found.set("type", "not judged")
    return case


def _outcome(verdict: Verdict, require_holds: bool) -> str | None:
    if verdict.verdict in ("error", "vacuous"):
        return "error"
    if verdict.verdict == "holds":
        return "failure" if verdict.warnings and require_holds and not verdict.soft else None
    if verdict.soft:
        return "skipped"
    return "failure" if verdict.verdict == "violated" or require_holds else "skipped"


def _numbers(verdict: Verdict) -> str:
    ends = [f"{value:.6g}" if value is not None else "-" for value in (verdict.lower, verdict.upper)]
    estimate = "-" if verdict.estimate is None else f"{verdict.estimate:.6g}"
    bound = "none" if verdict.bound is None else f"{verdict.bound:.6g}"
    side = "at most" if verdict.direction == "at_most" else "at least"
    return f"{verdict.quantity} {estimate} in [{ends[0]}, {ends[1]}], {side} {bound}, n = {verdict.n:,}"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
