"""The names that every policy knows: read once from the policy text in ``constraintlang_policies``."""

from __future__ import annotations

from functools import cache
from importlib import resources

from constraintlang import nodes as n
from constraintlang.declarations import Declarations, attribute_info
from constraintlang.parser import parse
from constraintlang.report import Report
from constraintlang.source import SourceFile


@cache
def load_prelude(edition: int) -> Declarations:
    """The declarations of the prelude of an edition."""
    name = f"prelude_{edition}.policy"
    text = resources.files("constraintlang_policies").joinpath(name).read_text(encoding="utf-8")
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
