"""``test`` blocks: names and words are checked; a note says that running them comes with a later release."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.declarations import Declarations
from constraintlang.names import unknown_attribute
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.statements import Scope, enter
from constraintlang.suggestions import closest


def check_test(test: n.Test, declarations: Declarations, lost_labels: frozenset[str], report: Report) -> None:
    """Check one block; statements that it names must exist."""
    enter(Scope(), test.clauses, declarations, report)
    for item in test.items:
        if isinstance(item, n.Given):
            if item.name not in declarations.attributes and item.name not in declarations.quiet:
                start = item.span.start + len("given ")
                name = n.Name(parts=(item.name,), span=item.name_span or Span(start, start + len(item.name)))
                unknown_attribute(name, declarations, report)
            continue
        if item.outcome not in v.OUTCOMES:
            head = Span(item.span.start, item.span.start + len(item.outcome))
            report.unknown_word(head, "outcome of a test", item.outcome, v.OUTCOMES, "PC701")
        if item.on is not None and item.on not in declarations.labels and item.on not in lost_labels:
            near = closest(item.on, declarations.labels)
            help = f"write `{near}`" if near else "label the statement that the test is about"
            place = Span(item.span.end - len(item.on), item.span.end)
            report.error("PC701", place, f"no statement is labelled `{item.on}`", help)
    report.note(
        "PC121",
        Span(test.span.start, test.span.start + len("test")),
        "this test is checked but not run: `constraintc test` comes with a later release",
    )
