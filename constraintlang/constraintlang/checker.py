"""Source text to checked policy: the stages in order; each reports all that it finds, on what survived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.characters import check_characters
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.declarations import Declarations, collect
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.memory import Memory
from constraintlang.parser import parse_detailed
from constraintlang.prelude import load_prelude
from constraintlang.report import Report
from constraintlang.source import SourceFile
from constraintlang.statement_memory import Outcome, StatementMemory
from constraintlang.statements import Scope, check_statement, enter
from constraintlang.tests_block import check_test
from constraintlang.tree import names_in


@dataclass(frozen=True)
class CheckResult:
    """``policy`` is None exactly when a diagnostic is an error; ``tree`` always holds what parsed.

    ``statements`` are those without errors, also where others have some; ``declarations`` are the names.
    """

    policy: CheckedPolicy | None
    tree: n.Policy
    diagnostics: tuple[Diagnostic, ...]
    source: SourceFile
    declarations: Declarations
    statements: tuple[CheckedStatement, ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that reject the policy."""
        return tuple(d for d in self.diagnostics if d.is_error)

    def require(self) -> CheckedPolicy:
        """The policy; raises PolicyError when there is none."""
        if self.policy is None:
            raise PolicyError(self.diagnostics, self.source)
        return self.policy


def check_source(source: SourceFile | str, memory: Memory | None = None) -> CheckResult:
    """Parse and check a policy; reports every error of every stage, sorted by position, and raises nothing.

    With a ``memory`` of earlier checks of the file, only what changed is parsed and checked again.

    >>> check_source("toxicity < 0.1 for domain=toxigen").errors
    ()
    """
    source = source if isinstance(source, SourceFile) else SourceFile(source)
    parsed = parse_detailed(source, memory)
    report = Report(list(parsed.diagnostics))
    comments = [c.span for c in parsed.policy.comments if c.text]
    report.diagnostics.extend(check_characters(source, comments))
    declarations = collect(
        parsed.policy, report, prelude=load_prelude(v.EDITIONS[-1]), lost_names=parsed.lost_names
    )
    statements = _Statements(declarations, report, parsed.lost_labels)
    if memory is not None:
        statements.memory = StatementMemory(memory, source, declarations)
    statements.items(parsed.policy.items, Scope())
    diagnostics = tuple(sort_diagnostics(report.diagnostics))
    policy = None
    if not any(d.is_error for d in diagnostics):
        policy = policy_of(declarations, statements.found)
    return CheckResult(policy, parsed.policy, diagnostics, source, declarations, tuple(statements.found))


class _Statements:
    def __init__(self, declarations: Declarations, report: Report, lost_labels: frozenset[str]) -> None:
        self.declarations = declarations
        self.report = report
        self.lost_labels = lost_labels
        self.found: list[CheckedStatement] = []
        self.groups: list[n.Group] = []  # those around the present item
        self.memory: StatementMemory | None = None

    def items(self, items: Sequence[n.Item], scope: Scope) -> None:
        # Groups nest at most 200 deep, and a level takes one frame here.
        for item in items:
            if isinstance(item, n.Group):
                self.groups.append(item)
                self.items(item.items, enter(scope, item.clauses, self.declarations, self.report))
                self.groups.pop()
            elif isinstance(item, n.Statement):
                checked = self.statement(item, scope)
                if checked is not None:
                    self.found.append(checked)
            elif isinstance(item, n.Test):
                check_test(item, self.declarations, self.lost_labels, self.report)

    def statement(self, item: n.Statement, scope: Scope) -> CheckedStatement | None:
        if self.memory is None:
            return check_statement(item, scope, self.declarations, self.report)

        def check() -> Outcome:
            report = replace(self.report, diagnostics=[])
            return check_statement(item, scope, self.declarations, report), tuple(report.diagnostics)

        checked, found = self.memory.recall(item, self.groups, check)
        self.report.diagnostics.extend(found)
        return checked


def policy_of(declarations: Declarations, statements: Sequence[CheckedStatement]) -> CheckedPolicy:
    """The checked policy of some statements: with the attributes that they use, and no others."""
    used = {name.parts[0] for s in statements for name in names_in(s.formula) if len(name.parts) == 1}
    attributes = {name: info for name, info in declarations.attributes.items() if name in used}
    return CheckedPolicy(declarations.edition, dict(sorted(attributes.items())), tuple(statements))
