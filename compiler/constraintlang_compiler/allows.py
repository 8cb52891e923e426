"""Comments that allow a finding, `# allow PC405: why`: what they cover, and those that allow nothing.

An allow behind an item covers it; an allow on a line of its own covers the item that follows, a whole group if
it is one. Errors cannot be allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constraintlang import nodes as n
from constraintlang.declarations import walk
from constraintlang.diagnostics import Diagnostic, sort_diagnostics
from constraintlang.parser import parse_detailed
from constraintlang.source import SourceFile, Span
from constraintlang_compiler.catalogue import all_pages

_MEANT = re.compile(r"#+\s*allow\s*:?\s*PC\d", re.IGNORECASE)
_WRITTEN = re.compile(r"#+\s*allow\s+(?P<codes>PC\d{3}(?:\s*,\s*PC\d{3})*)\s*:\s*(?P<reason>\S.*)")
_CODE = re.compile(r"PC\d{3}")
_ON_REQUEST = (
    *("PC301", "PC302", "PC303", "PC304", "PC401", "PC402", "PC403"),
    *("PC50", "PC601", "PC602", "PC604", "PC9"),
)
"""Codes of findings that come only when they are asked for; without them, an allow of theirs is not unused."""


@dataclass(frozen=True)
class Allow:
    """One code of one comment: ``covers`` is None when no item is near."""

    code: str
    reason: str
    span: Span
    covers: Span | None


@dataclass(frozen=True)
class Allowed:
    """A finding that is not reported, and why."""

    diagnostic: Diagnostic
    reason: str


def judged_by_check(code: str) -> bool:
    """Whether checking alone decides if a policy has findings of a code."""
    return not code.startswith(_ON_REQUEST)


def read_allows(tree: n.Policy, source: SourceFile) -> tuple[tuple[Allow, ...], tuple[Diagnostic, ...]]:
    """The allows of a file, and what is wrong with how some are written."""
    allows: list[Allow] = []
    findings: list[Diagnostic] = []
    items: list[n.Item] | None = None
    for comment in tree.comments:
        if not _MEANT.match(comment.text):
            continue
        written = _WRITTEN.match(comment.text)
        if written is None:
            message = "this `allow` is not written as one, and has no effect"
            help = "write the code and the reason, for example `# allow PC405: a higher score is wanted here`"
            findings.append(Diagnostic("PC411", "warning", comment.span, message, help=help))
            continue
        if items is None:
            items = [item for item, _ in walk(tree.items)]
        covers = _covered(comment, items, source)
        for code in _CODE.finditer(comment.text, written.start("codes"), written.end("codes")):
            start = comment.span.start + code.start()
            span = Span(start, start + len(code[0]))
            if code[0] in all_pages():
                allows.append(Allow(code[0], written["reason"].strip(), span, covers))
            else:
                message = f"there is no code `{code[0]}`"
                help = "copy the code that `constraintc check` prints in brackets"
                findings.append(Diagnostic("PC411", "warning", span, message, help=help))
    return tuple(allows), tuple(findings)


def apply_allows(
    allows: Sequence[Allow],
    diagnostics: Sequence[Diagnostic],
    judged: Callable[[str], bool] = judged_by_check,
) -> tuple[tuple[Diagnostic, ...], tuple[Allowed, ...]]:
    """The findings that remain, sorted, with one for each unused allow; and those that were allowed.

    ``judged`` says for which codes ``diagnostics`` are all that there are: other allows are left alone. While
    there are errors, nothing is called unused: a statement with an error has not been looked at to the end.
    """
    kept: list[Diagnostic] = []
    allowed: list[Allowed] = []
    used: set[Allow] = set()
    by_code: dict[str, list[Allow]] = {}
    for allow in allows:
        by_code.setdefault(allow.code, []).append(allow)
    for diagnostic in diagnostics:
        near = [a for a in by_code.get(diagnostic.code, ()) if _covers(a, diagnostic)]
        if diagnostic.is_error:
            kept += [diagnostic, *(_no_errors(allow) for allow in near)]
        elif near:
            allowed.append(Allowed(diagnostic, near[0].reason))
            used.update(near)
        else:
            kept.append(diagnostic)
    if not any(diagnostic.is_error for diagnostic in diagnostics):
        kept += [_unused(allow) for allow in allows if allow not in used and judged(allow.code)]
    return tuple(sort_diagnostics(kept)), tuple(allowed)


def apply_imported(
    diagnostics: Sequence[Diagnostic],
) -> tuple[list[Diagnostic], tuple[Allowed, ...]]:
    """The findings less those in imported files that a comment of their file allows; and the latter."""
    kept: list[Diagnostic] = []
    allowed: list[Allowed] = []
    by_file: dict[SourceFile, tuple[Allow, ...]] = {}
    for diagnostic in diagnostics:
        source = diagnostic.source
        if source is None or diagnostic.is_error:
            kept.append(diagnostic)
            continue
        if source not in by_file:
            by_file[source], _ = read_allows(parse_detailed(source).policy, source)
        near = [a for a in by_file[source] if a.code == diagnostic.code and _surrounds(a, diagnostic)]
        if near:
            allowed.append(Allowed(diagnostic, near[0].reason))
        else:
            kept.append(diagnostic)
    return kept, tuple(allowed)


def _covered(comment: n.Comment, items: Sequence[n.Item], source: SourceFile) -> Span | None:
    place = comment.span.start
    if not comment.own_line:
        line_start = source.text.rfind("\n", 0, place) + 1
        near = [item.span for item in items if item.span.start < place and item.span.end > line_start]
        return near[-1] if near else None
    around = [item for item in items if item.span.start < place < item.span.end]
    if around and not isinstance(around[-1], n.Group | n.Test):
        return around[-1].span
    following = next((item.span for item in items if item.span.start > place), None)
    inside = not around or (following is not None and following.end <= around[-1].span.end)
    return following if inside else None


def _covers(allow: Allow, diagnostic: Diagnostic) -> bool:
    return diagnostic.source is None and _surrounds(allow, diagnostic)


def _surrounds(allow: Allow, diagnostic: Diagnostic) -> bool:
    covers = allow.covers
    return covers is not None and covers.start <= diagnostic.span.start <= covers.end


def _no_errors(allow: Allow) -> Diagnostic:
    message = f"`{allow.code}` is an error here, and errors cannot be allowed"
    return Diagnostic("PC411", "warning", allow.span, message, help="correct what it complains about")


def _unused(allow: Allow) -> Diagnostic:
    message = f"this allows nothing: no `{allow.code}` is found in what it covers"
    return Diagnostic("PC410", "warning", allow.span, message, help="remove the comment, or the code from it")
