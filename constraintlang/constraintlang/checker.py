"""Source text to checked policy: the stages in order; each reports all that it finds, on what survived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.cases import PolicyTest
from constraintlang.characters import check_characters
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.declarations import Declarations, collect
from constraintlang.diagnostics import Diagnostic, PolicyError, sort_diagnostics
from constraintlang.idle import check_idle
from constraintlang.imports import Importer, Library
from constraintlang.judging import report_contradictions
from constraintlang.memory import Memory
from constraintlang.parser import parse_detailed
from constraintlang.prelude import load_prelude
from constraintlang.report import Report
from constraintlang.source import SourceFile, Span
from constraintlang.statement_memory import Outcome, StatementMemory
from constraintlang.statements import Scope, check_statement, enter
from constraintlang.tests_block import Found as FoundTest
from constraintlang.tests_block import check_tests
from constraintlang.tree import dotted, names_in


@dataclass(frozen=True)
class CheckResult:
    """``policy`` is None exactly when a diagnostic is an error; ``tree`` always holds what parsed.

    ``statements`` are those without errors, also where others have some; ``declarations`` are the names.
    ``imported`` are the texts of the imported files that could be read, ``imported_at`` the imports of this file
    by which they came, by the names of the files.
    """

    policy: CheckedPolicy | None
    tree: n.Policy
    diagnostics: tuple[Diagnostic, ...]
    source: SourceFile
    declarations: Declarations
    statements: tuple[CheckedStatement, ...]
    imported: Mapping[str, str] = field(default_factory=dict)
    imported_at: Mapping[str, Span] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that reject the policy."""
        return tuple(d for d in self.diagnostics if d.is_error)

    def require(self) -> CheckedPolicy:
        """The policy; raises PolicyError when there is none."""
        if self.policy is None:
            raise PolicyError(self.diagnostics, self.source)
        return self.policy


def check_source(
    source: SourceFile | str,
    memory: Memory | None = None,
    *,
    allow_path: bool = False,
    judge_tests: bool = True,
) -> CheckResult:
    """Parse and check a policy; reports every error of every stage, sorted by position, and raises nothing.

    With a ``memory`` of earlier checks of the file, only what changed is parsed and checked again.
    Imported files are read from the source's folder and below, from anywhere with ``allow_path``. Without
    ``judge_tests`` a test that contradicts the policy is no error: who runs the tests reports it.

    >>> check_source("toxicity < 0.1 for domain=toxigen").errors
    ()
    """
    source = source if isinstance(source, SourceFile) else SourceFile(source)
    parsed = parse_detailed(source, memory)
    report = Report(list(parsed.diagnostics), source)
    comments = [c.span for c in parsed.policy.comments if c.text]
    report.diagnostics.extend(check_characters(source, comments, parsed.diagnostics))
    library = Library(allow_path, memory=memory)
    if memory is not None:
        memory.begin("file")
    declarations = collect(
        parsed.policy,
        report,
        prelude=load_prelude(v.EDITIONS[-1]),
        lost_names=parsed.lost_names,
        importer=Importer.of(source, library),
    )
    statements = _Statements(declarations, report)
    if memory is not None:
        statements.memory = StatementMemory(memory, source, declarations, library.texts)
    statements.items(parsed.policy.items, Scope())
    tests = check_tests(statements.tests, statements.found, declarations, parsed.lost_labels, report)
    if not any(d.is_error for d in [*report.diagnostics, *library.findings]):
        check_idle(parsed.policy, declarations, report)
    policy = _checked(declarations, statements.found, statements.used, tests)
    if judge_tests:
        report_contradictions(policy, report)
    diagnostics = tuple(sort_diagnostics([*report.diagnostics, *library.findings]))
    rejected = any(d.is_error for d in diagnostics)
    return CheckResult(
        policy=None if rejected else policy,
        tree=parsed.policy,
        diagnostics=diagnostics,
        source=source,
        declarations=declarations,
        statements=tuple(statements.found),
        imported=dict(library.texts),
        imported_at=dict(library.places),
    )


class _Statements:
    def __init__(self, declarations: Declarations, report: Report) -> None:
        self.declarations = declarations
        self.report = report
        self.found: list[CheckedStatement] = []
        self.tests: list[FoundTest] = []
        self.groups: list[n.Group] = []  # those around the present item
        self.used: set[str] = set()  # the names in the statements without errors
        self.memory: StatementMemory | None = None

    def items(self, items: Sequence[n.Item], scope: Scope, group: Span | None = None) -> None:
        # Groups nest at most 200 deep, and a level takes one frame here.
        for item in items:
            if self.report.is_full:
                return
            if isinstance(item, n.Group):
                self.groups.append(item)
                inner = enter(scope, item.clauses, self.declarations, self.report)
                self.items(item.items, inner, item.span)
                self.groups.pop()
            elif isinstance(item, n.Statement):
                checked = self.statement(item, scope)
                if checked is not None:
                    self.found.append(checked)
            elif isinstance(item, n.Test):
                self.tests.append(FoundTest(item, group))

    def statement(self, item: n.Statement, scope: Scope) -> CheckedStatement | None:
        if self.memory is None:
            checked = check_statement(item, scope, self.declarations, self.report)
            self.used.update(() if checked is None else used_names([checked]))
            return checked

        def check() -> Outcome:
            report = replace(self.report, diagnostics=[])
            checked = check_statement(item, scope, self.declarations, report)
            names = () if checked is None else used_names([checked])
            return checked, tuple(report.diagnostics), names

        checked, found, names = self.memory.recall(item, self.groups, check)
        self.report.diagnostics.extend(found)
        self.used.update(names)
        return checked


def used_names(statements: Sequence[CheckedStatement]) -> tuple[str, ...]:
    """The names that some statements use, without the model."""
    return tuple(dict.fromkeys(dotted(name) for s in statements for name in names_in(s.formula)))


def policy_of(declarations: Declarations, statements: Sequence[CheckedStatement]) -> CheckedPolicy:
    """The checked policy of some statements: with the attributes that they use, and no others."""
    return _checked(declarations, statements, set(used_names(statements)), ())


def _checked(
    declarations: Declarations,
    statements: Sequence[CheckedStatement],
    used: set[str],
    tests: tuple[PolicyTest, ...],
) -> CheckedPolicy:
    attributes = {name: info for name, info in declarations.attributes.items() if name in used}
    return CheckedPolicy(declarations.edition, dict(sorted(attributes.items())), tuple(statements), tests)
