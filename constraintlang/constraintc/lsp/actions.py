"""What an editor offers to do about a finding.

What a help text asks for is offered only when it has been tried and the finding is gone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from constraintc.lsp.document import Document
from constraintlang import nodes as n
from constraintlang import vocabulary as v
from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Edit, apply_edits, compatible
from constraintlang.printer import format_number
from constraintlang.source import Span

_WRITE = re.compile(r"write `([^`]+)`")
REASON = "why it is right"


@dataclass(frozen=True)
class Action:
    """A change with a name; a preferred one is what an editor does when it is asked to fix."""

    title: str
    edits: tuple[Edit, ...]
    diagnostic: Diagnostic
    preferred: bool = False


def actions(document: Document, within: Span) -> list[Action]:
    """The actions for the findings that touch a part of a file."""
    found: list[Action] = []
    for diagnostic in document.diagnostics:
        if diagnostic.source is not None:  # an imported file is not open here
            continue
        if diagnostic.span.start <= within.end and within.start <= diagnostic.span.end:
            found += [action for action in _repairs(diagnostic, document) if _helps(action, document)]
            found += [*_choices(diagnostic, document), *_allow(diagnostic, document)]
    return found


def _repairs(diagnostic: Diagnostic, document: Document) -> Iterator[Action]:
    """What the help of a finding asks for, as edits: those that it brings, else what can be read from its help."""
    help, span = diagnostic.help or "", diagnostic.span
    if diagnostic.fix is not None:
        comments = [comment.span for comment in document.tree.comments if comment.text]
        if diagnostic.fix.applicability != "placeholder" and compatible([diagnostic.fix], comments):
            line_end = "\r\n" if "\r\n" in document.text else "\n"
            edits = [Edit(edit.span, edit.text.replace("\n", line_end)) for edit in diagnostic.fix.edits]
            title = help[:1].upper() + help[1:]
            (first, *others) = edits
            replaces = first.span == span and span.end > span.start and not others
            if replaces and first.text.strip() and "\n" not in first.text:
                title = f"Write `{first.text}`"
            yield Action(title, tuple(edits), diagnostic, preferred=True)
        return
    written = _WRITE.fullmatch(help)
    if written is not None:
        edit = Edit(span, written[1])
        yield Action(f"Write `{written[1]}`", (edit,), diagnostic, preferred=True)
    if help.startswith("remove it") or help.startswith("remove the comment"):
        yield Action("Remove it", (Edit(_with_space(span, diagnostic, document), ""),), diagnostic)


def _choices(diagnostic: Diagnostic, document: Document) -> Iterator[Action]:
    """The ways to write down the reading that was inferred."""
    statement = document.statement_at(diagnostic.span.start)
    if diagnostic.code != "PC404" or statement is None:
        return
    tolerance = f"tolerance={format_number(v.DEFAULT_TOLERANCE, percent=True)}"
    under = next((clause for clause in statement.clauses if isinstance(clause, n.UnderClause)), None)
    condition = document.condition(statement)
    if under is None:
        end = condition.end
        edit = Edit(Span(end, end), f" under {tolerance}")
    else:
        end = under.span.start + len("under")
        edit = Edit(Span(end, end), f" {tolerance},")
    yield Action("State the tolerance", (edit,), diagnostic)
    before = Span(condition.start, condition.start)
    yield Action("Allow no exception", (Edit(before, "always "),), diagnostic)


def _with_space(span: Span, diagnostic: Diagnostic, document: Document) -> Span:
    """An unused allow goes with its whole comment and the space before it; anything else goes alone."""
    comment = next((c for c in document.tree.comments if c.span.start < span.start < c.span.end), None)
    if diagnostic.code != "PC410" or comment is None or "," in comment.text.partition(":")[0]:
        return span
    start = len(document.text[: comment.span.start].rstrip(" \t"))
    end = comment.span.end
    if comment.own_line and document.text[end : end + 1] == "\n":
        end += 1
    return Span(start, end)


def _helps(action: Action, document: Document) -> bool:
    """Whether the finding goes, and no other comes that counts as much."""
    after = document.changed(apply_edits(document.text, action.edits)).diagnostics
    before, left = _counted(document.diagnostics), _counted(after)
    target = (action.diagnostic.severity, action.diagnostic.code, action.diagnostic.message)
    worse = [key for key in left - before if key[0] == "error" or action.diagnostic.severity != "error"]
    return left[target] < before[target] and not worse


def _counted(diagnostics: tuple[Diagnostic, ...]) -> Counter[tuple[str, str, str]]:
    return Counter((d.severity, d.code, d.message) for d in diagnostics)


def _allow(diagnostic: Diagnostic, document: Document) -> list[Action]:
    """The comment that allows a warning or a note behind its place, with the reason left to write."""
    if diagnostic.is_error or diagnostic.code in ("PC410", "PC411"):
        return []
    end = document.text.find("\n", diagnostic.span.end)
    end = len(document.text) if end < 0 else end
    end -= document.text[end - 1 : end] == "\r"
    if any(diagnostic.span.end <= comment.span.start < end for comment in document.tree.comments):
        return []
    comment = f"  # allow {diagnostic.code}: {REASON}"
    return [Action(f"Allow {diagnostic.code} here", (Edit(Span(end, end), comment),), diagnostic)]
