"""Repairs a policy: makes the fixes of its findings, looks again, and goes on until nothing is left to make.

INVARIANT: safe fixes leave the semantic hash of a policy that has one, and every comment, as they were. This
is verified on the spot, and a fix that breaks it is an error of ours: nothing is returned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from constraintlang.diagnostics import Diagnostic
from constraintlang.fixes import Applicability, Edit, apply_edits, compatible
from constraintlang.pages import Page
from constraintlang.parser import parse_detailed
from constraintlang.source import SourceFile
from constraintlang.style import check_style
from constraintlang_compiler.front import Front, check_and_lower

MAX_ROUNDS = 200
"""A statement shows one syntax error at a time, so each takes a round; what is left after these is reported."""


class UnsoundFix(Exception):
    """A bug of ours: a safe fix would change what the policy means, or lose a comment."""


@dataclass(frozen=True)
class MadeFix:
    """A finding whose fix was made, and where the finding stood at that time."""

    finding: Diagnostic
    line: int
    column: int


@dataclass(frozen=True)
class Fixed:
    """The repaired source, what was done to it, and the findings that are left."""

    source: SourceFile
    made: tuple[MadeFix, ...]
    diagnostics: tuple[Diagnostic, ...]


def fix_source(
    source: SourceFile,
    *,
    unsafe: bool = False,
    select: Sequence[str] = (),
    style: bool = False,
    allow_path: bool = False,
) -> Fixed:
    """Make the safe fixes, and with ``unsafe`` the others once no safe one is left; never placeholders.

    An unsafe fix is a guess, and one that would leave more errors than there were is not made.
    ``select`` keeps to the codes that begin with one of its prefixes; ``style`` looks for findings of style,
    too; ``allow_path`` lets the policy import and name files outside its folder. An imported file is left alone.
    Raises: UnsoundFix.

    >>> fix_source(SourceFile("toxicity =< 0.1")).source.text
    'toxicity <= 0.1'
    """
    made: list[MadeFix] = []
    refused: set[object] = set()
    most: int | None = None  # so many guesses are tried together
    front = check_and_lower(source, allow_path=allow_path)
    for _ in range(MAX_ROUNDS):
        findings = findings_of(source, front, style=style)
        own = [d for d in findings if d.source is None]
        wanted = [d for d in own if not select or d.code.startswith(tuple(select))]
        chosen = _together(wanted, "safe", source)
        is_sure = bool(chosen)
        if unsafe and not is_sure:
            chosen = _together([d for d in wanted if _key(d) not in refused], "unsafe", source)[:most]
        if not chosen:
            break
        after = SourceFile(apply_edits(source.text, _edits(chosen, source)), source.name, source.folder)
        after_front = check_and_lower(after, allow_path=allow_path)
        if is_sure:
            _require_same(source, front, after, after_front)
        elif not _are_good_guesses(chosen, front, after_front):
            # Half of them the next time, until it is known which is wrong.
            most = len(chosen) // 2 or None
            if most is None:
                refused.add(_key(chosen[0]))
            continue
        most = None
        made += [MadeFix(d, *source.position(d.span.start)) for d in chosen]
        source, front = after, after_front
    return Fixed(source, tuple(made), findings_of(source, front, style=style))


def with_style(source: SourceFile, front: Front) -> Front:
    """``front`` with the findings of style among the others, less those that a comment allows."""
    found = check_style(source, parse_detailed(source).policy)
    return front.with_findings(found, lambda code: code.startswith("PC9"))


def findings_of(source: SourceFile, front: Front, *, style: bool) -> tuple[Diagnostic, ...]:
    """The findings of a source, with ``style`` those of style among them."""
    return (with_style(source, front) if style else front).diagnostics


def fix_of(page: Page) -> Applicability | None:
    """How far the fix of the page's failing example can be trusted; None when it has none."""
    source = SourceFile(page.failing)
    findings = findings_of(source, check_and_lower(source), style=True)
    return next((d.fix.applicability for d in findings if d.code == page.code and d.fix), None)


def _are_good_guesses(chosen: Sequence[Diagnostic], before: Front, after: Front) -> bool:
    """Whether fixes leave no more errors; of several together none may be new, which the others could make up for."""
    found, left = (Counter((d.code, d.message) for d in f.diagnostics if d.is_error) for f in (before, after))
    return left.total() <= found.total() and (len(chosen) == 1 or left <= found)


def _key(finding: Diagnostic) -> object:
    """What tells a finding from others while its place moves."""
    texts = () if finding.fix is None else tuple(edit.text for edit in finding.fix.edits)
    return (finding.code, finding.message, texts)


def _together(findings: Sequence[Diagnostic], applicability: str, source: SourceFile) -> list[Diagnostic]:
    """The findings whose fixes, of this applicability, can be made in one go without losing a comment."""
    fixable = [(d, d.fix) for d in findings if d.fix is not None and d.fix.applicability == applicability]
    comments = [c.span for c in parse_detailed(source).policy.comments if c.text]
    return [fixable[index][0] for index in compatible([fix for _, fix in fixable], comments)]


def _edits(findings: Sequence[Diagnostic], source: SourceFile) -> list[Edit]:
    line_end = "\r\n" if "\r\n" in source.text else "\n"
    edits = [edit for d in findings if d.fix is not None for edit in d.fix.edits]
    return [Edit(edit.span, edit.text.replace("\n", line_end)) for edit in edits]


def _require_same(before: SourceFile, front: Front, after: SourceFile, after_front: Front) -> None:
    if _comments(before) != _comments(after):
        raise UnsoundFix(f"safe fixes of `{before.name}` would change its comments")
    if front.lowered is not None and _meaning(front) != _meaning(after_front):
        raise UnsoundFix(f"safe fixes of `{before.name}` would change what the policy means")


def _meaning(front: Front) -> object:
    """What the semantic hash is made of; None when the policy has errors."""
    if front.lowered is None:
        return None
    ir = front.lowered.ir
    return (ir.edition, ir.attributes, [clause.id for clause in ir.clauses])


def _comments(source: SourceFile) -> list[str]:
    return [comment.text for comment in parse_detailed(source).policy.comments if comment.text]
