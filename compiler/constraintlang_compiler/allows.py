"""Comments that allow a finding, `# allow PC405: why`: what they cover, and those that allow nothing.

An allow behind an item covers it; an allow on a line of its own covers the item that follows, a whole group if
it is one. Errors cannot be allowed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
    items: _Nest | None = None
    blocks: set[Span] = set()
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
            all_items = [item for item, _ in walk(tree.items)]
            items = _Nest(item.span for item in all_items)
            blocks = {item.span for item in all_items if isinstance(item, n.Group | n.Test)}
        covers = _covered(comment, items, blocks, source)
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
    places = _Places(allows)
    for diagnostic in diagnostics:
        near = places.around(diagnostic) if diagnostic.source is None else []
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
    by_file: dict[SourceFile, _Places] = {}
    for diagnostic in diagnostics:
        source = diagnostic.source
        if source is None or diagnostic.is_error:
            kept.append(diagnostic)
            continue
        if source not in by_file:
            by_file[source] = _Places(read_allows(parse_detailed(source).policy, source)[0])
        near = by_file[source].around(diagnostic)
        if near:
            allowed.append(Allowed(diagnostic, near[0].reason))
        else:
            kept.append(diagnostic)
    return kept, tuple(allowed)


def _covered(comment: n.Comment, items: _Nest, blocks: Collection[Span], source: SourceFile) -> Span | None:
    """What a comment is about; ``blocks`` are the items that have others, or lines of their own, inside."""
    place = comment.span.start
    if not comment.own_line:
        line_start = source.text.rfind("\n", 0, place) + 1
        return next(items.around(place, line_start), None)
    around = next(items.around(place, place), None)
    if around is not None and around not in blocks:
        return around
    following = items.after(place)
    inside = around is None or (following is not None and following.end <= around.end)
    return following if inside else None


class _Nest:
    """Spans of which any two lie apart or one inside the other, so that a place is found without asking each."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = sorted(set(spans), key=lambda span: (span.start, -span.end))
        self.starts = [span.start for span in self.spans]
        self.outer: list[int] = []  # for each span the index of the next one around it, or -1
        around: list[int] = []
        for index, span in enumerate(self.spans):
            while around and self.spans[around[-1]].end <= span.start:
                around.pop()
            self.outer.append(around[-1] if around else -1)
            around.append(index)

    def around(self, before: int, beyond: int) -> Iterator[Span]:
        """The spans that begin before one offset and end beyond another, the innermost first."""
        index = bisect_left(self.starts, before) - 1
        while index >= 0:
            if self.spans[index].end > beyond:
                yield self.spans[index]
            index = self.outer[index]

    def after(self, place: int) -> Span | None:
        """The first span that begins after an offset."""
        index = bisect_right(self.starts, place)
        return self.spans[index] if index < len(self.spans) else None


class _Places:
    """The allows of a file by their codes and what they cover."""

    def __init__(self, allows: Iterable[Allow]) -> None:
        self.allows: dict[tuple[str, Span], list[Allow]] = {}
        covered: dict[str, list[Span]] = {}
        for allow in allows:
            if allow.covers is not None:
                self.allows.setdefault((allow.code, allow.covers), []).append(allow)
                covered.setdefault(allow.code, []).append(allow.covers)
        self.nests = {code: _Nest(spans) for code, spans in covered.items()}

    def around(self, diagnostic: Diagnostic) -> list[Allow]:
        """The allows of a finding, in the order of the file."""
        code, start = diagnostic.code, diagnostic.span.start
        if code not in self.nests:
            return []
        spans = self.nests[code].around(start + 1, start - 1)  # both ends included
        return sorted(
            (allow for span in spans for allow in self.allows[code, span]), key=lambda allow: allow.span.start
        )


def _no_errors(allow: Allow) -> Diagnostic:
    message = f"`{allow.code}` is an error here, and errors cannot be allowed"
    return Diagnostic("PC411", "warning", allow.span, message, help="correct what it complains about")


def _unused(allow: Allow) -> Diagnostic:
    message = f"this allows nothing: no `{allow.code}` is found in what it covers"
    return Diagnostic("PC410", "warning", allow.span, message, help="remove the comment, or the code from it")
