"""The `test` blocks of an open file, and what running one says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from constraintc.lsp.document import Document
from constraintlang import nodes as n
from constraintlang.declarations import walk
from constraintlang_compiler.front import check_and_lower


@dataclass(frozen=True)
class Ran:
    """What came out, in words; ``passed`` when all that was run did."""

    text: str
    passed: bool


def test_blocks(document: Document) -> list[n.Test]:
    """The tests of a file, those in groups too."""
    return [item for item, _ in walk(document.tree.items) if isinstance(item, n.Test)]


def run_test(document: Document, name: str) -> Ran:
    """Run the tests of a name on what they give, as ``constraintc test`` does: no model is loaded."""
    from constraintlang_runtime.policy_tests import Runner
    from constraintlang_runtime.text_scores import TextScores

    front = check_and_lower(document.source, judge_tests=False)
    if front.checked is None or front.lowered is None:
        return Ran("the policy has errors: correct them, then run its tests", passed=False)
    folder = document.folder or Path()
    scores = TextScores(front.lowered.ir, [], folder=folder, files=front.files, allow_path=False, live=False)
    results = Runner(front.checked, scores).run(lambda test: test.name == name)
    cases = [case for result in results for case in result.cases]
    counts = Counter(case.status for case in cases)
    shown = ", ".join(f"{number} {status}" for status, number in counts.items()) or "nothing to judge"
    lines = [f"`{name}`: {shown}"]
    for case in cases:
        if case.status != "passed":
            line, _ = document.source.position(case.case.span.start)
            lines.append(f"line {line}: {case.message}")
    return Ran("\n".join(lines), passed=bool(cases) and counts["passed"] == len(cases))
