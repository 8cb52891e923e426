"""Findings as SARIF 2.1.0, which code-scanning services read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import constraintlang
from constraintc.github import shown_path
from constraintlang.diagnostics import Diagnostic
from constraintlang.source import SourceFile, Span
from constraintlang_compiler.allows import Allowed
from constraintlang_compiler.catalogue import all_pages

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif_log(
    checked: Sequence[tuple[SourceFile, Sequence[Diagnostic], Sequence[Allowed]]],
    unreadable: Sequence[str],
    exit_code: int,
) -> dict[str, Any]:
    """One run over some files; ``unreadable`` are messages about files that could not be read.

    What a comment allows is listed as suppressed, with its reason.
    """
    codes = sorted(
        {d.code for _, shown, allowed in checked for d in [*shown, *(a.diagnostic for a in allowed)]}
    )
    results = []
    for source, shown, allowed in checked:
        results += [_result(diagnostic, source, codes) for diagnostic in shown]
        for one in allowed:
            suppression = {"kind": "inSource", "justification": one.reason}
            results.append({**_result(one.diagnostic, source, codes), "suppressions": [suppression]})
    notifications = [{"level": "error", "message": {"text": message}} for message in unreadable]
    uris = dict.fromkeys(file_uri(source.name) for source, _, _ in checked)
    run = {
        "tool": {
            "driver": {
                "name": "constraintc",
                "version": constraintlang.__version__,
                "rules": [_rule(code) for code in codes],
            }
        },
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": {"uri": uri}} for uri in uris],
        "invocations": [
            {
                "executionSuccessful": not unreadable,
                "exitCode": exit_code,
                "toolExecutionNotifications": notifications,
            }
        ],
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def file_uri(name: str) -> str:
    """A relative reference for a file below the present folder, else a ``file:`` URI."""
    path = shown_path(name)
    return Path(name).as_uri() if Path(path).is_absolute() else quote(path)


def _rule(code: str) -> dict[str, Any]:
    page = all_pages()[code]
    markdown = (
        f"{page.explanation}\n\nInstead of\n\n```policy\n{page.failing}\n```\n\n"
        f"write\n\n```policy\n{page.repaired}\n```\n"
    )
    return {
        "id": code,
        "shortDescription": {"text": page.title},
        "fullDescription": {"text": page.explanation},
        "help": {"text": page.text(), "markdown": markdown},
    }


def _result(diagnostic: Diagnostic, source: SourceFile, codes: Sequence[str]) -> dict[str, Any]:
    source = diagnostic.source or source
    related = [
        {"id": number, "message": {"text": label.text}, **_location(label.span, source)}
        for number, label in enumerate(diagnostic.labels)
    ]
    return {
        "ruleId": diagnostic.code,
        "ruleIndex": codes.index(diagnostic.code),
        "level": diagnostic.severity,
        "message": {"text": diagnostic.text()},
        "locations": [_location(diagnostic.span, source)],
        **({"relatedLocations": related} if related else {}),
    }


def _location(span: Span, source: SourceFile) -> dict[str, Any]:
    line, column = source.position(span.start)
    end_line, end_column = source.position(span.end)
    region = {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column}
    return {"physicalLocation": {"artifactLocation": {"uri": file_uri(source.name)}, "region": region}}
