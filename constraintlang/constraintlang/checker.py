"""Source text to checked policy: the stages in order; each reports all that it finds, on what survived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.characters import check_characters
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.declarations import Declarations, collect
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.parser import parse_detailed
from constraintlang.prelude import load_prelude
from constraintlang.report import Report
from constraintlang.source import SourceFile
from constraintlang.statements import Scope, check_statement, enter
from constraintlang.tests_block import check_test
from constraintlang.tree import names_in


@dataclass(frozen=True)
class CheckResult:
    """``policy`` is None exactly when a diagnostic is an error; ``tree`` always holds what parsed."""

    policy: CheckedPolicy | None
    tree: n.Policy
    diagnostics: tuple[Diagnostic, ...]
    source: SourceFile

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that reject the policy."""
        return tuple(d for d in self.diagnostics if d.is_error)

    def require(self) -> CheckedPolicy:
        """The policy; raises PolicyError when there is none."""
        if self.policy is None:
            raise PolicyError(self.diagnostics, self.source)
        return self.policy


def check_source(source: SourceFile | str) -> CheckResult:
    """Parse and check a policy; reports every error of every stage, sorted by position, and raises nothing.

    >>> check_source("toxicity < 0.1 for domain=toxigen").errors
    ()
    """
    source = source if isinstance(source, SourceFile) else SourceFile(source)
    parsed = parse_detailed(source)
    report = Report(list(parsed.diagnostics))
    comments = [c.span for c in parsed.policy.comments if c.text]
    report.diagnostics.extend(check_characters(source, comments, parsed.diagnostics))
    declarations = collect(
        parsed.policy, report, prelude=load_prelude(v.EDITIONS[-1]), lost_names=parsed.lost_names
    )
    statements = _Statements(declarations, report, parsed.lost_labels)
    statements.items(parsed.policy.items, Scope())
    diagnostics = tuple(sort_diagnostics(report.diagnostics))
    policy = None
    if not any(d.is_error for d in diagnostics):
        policy = _checked(declarations, statements.found)
    return CheckResult(policy, parsed.policy, diagnostics, source)


class _Statements:
    def __init__(self, declarations: Declarations, report: Report, lost_labels: frozenset[str]) -> None:
        self.declarations = declarations
        self.report = report
        self.lost_labels = lost_labels
        self.found: list[CheckedStatement] = []

    def items(self, items: Sequence[n.Item], scope: Scope) -> None:
        # Groups nest at most 200 deep, and a level takes one frame here.
        for item in items:
            if self.report.is_full:
                return
            if isinstance(item, n.Group):
                self.items(item.items, enter(scope, item.clauses, self.declarations, self.report))
            elif isinstance(item, n.Statement):
                checked = check_statement(item, scope, self.declarations, self.report)
                if checked is not None:
                    self.found.append(checked)
            elif isinstance(item, n.Test):
                check_test(item, self.declarations, self.lost_labels, self.report)


def _checked(declarations: Declarations, statements: list[CheckedStatement]) -> CheckedPolicy:
    used = {name.parts[0] for s in statements for name in names_in(s.formula) if len(name.parts) == 1}
    attributes = {name: info for name, info in declarations.attributes.items() if name in used}
    return CheckedPolicy(declarations.edition, dict(sorted(attributes.items())), tuple(statements))
