"""The names that every policy knows: read once from the policy text in ``constraintlang_policies``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import constraintlang_policies
from constraintlang import nodes as n
from constraintlang.attribute_declarations import attribute_info
from constraintlang.declarations import Declarations
from constraintlang.parser import parse
from constraintlang.report import Report
from constraintlang.source import SourceFile

# Not importlib.resources, whose own import takes longer than reading the file.
FOLDER = Path(constraintlang_policies.__path__[0])


@cache
def load_prelude(edition: int) -> Declarations:
    """The declarations of the prelude of an edition."""
    name = f"prelude_{edition}.policy"
    text = (FOLDER / name).read_text(encoding="utf-8")
    policy, diagnostics = parse(SourceFile(text, name))
    report = Report(diagnostics)
    found = Declarations(edition=edition)
    for item in policy.items:
        if isinstance(item, n.Attribute):
            info = attribute_info(item, report, {}, from_prelude=True)
            assert info is not None, report.diagnostics
            found.attributes[item.name] = info
    assert not report.diagnostics, report.diagnostics
    return found
