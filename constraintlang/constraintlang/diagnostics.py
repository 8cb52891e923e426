"""What is said about a policy: code, span, message, help; rendered for people or as plain data."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from constraintlang.errors import ConstraintLangError
from constraintlang.fixes import Fix, apply_edits
from constraintlang.source import SourceFile, Span

Severity = Literal["error", "warning", "note"]

_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
_BLUE, _BOLD, _RESET = "\x1b[1;34m", "\x1b[1m", "\x1b[0m"
MAX_SHOWN_COLUMNS = 160
"""A longer source line is cut to a window around what is underlined."""


@dataclass(frozen=True)
class Label:
    """A second place that belongs to the message, and what it has to do with it."""

    span: Span
    text: str

    def to_json(self, source: SourceFile) -> dict[str, str | int]:
        """The place as plain data, counted like those of findings."""
        line, column = source.position(self.span.start)
        end_line, end_column = source.position(self.span.end)
        place = {"line": line, "column": column, "end_line": end_line, "end_column": end_column}
        return {"text": self.text, **place}


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    ``message`` stands alone: one line, lower case, no final stop, source text in backticks. ``label``
    stands under the underlined text. ``help`` says what to write instead; ``notes`` state facts; ``fix`` does
    what ``help`` says. ``source`` is the imported file that the spans point into; None is the file that was
    checked.
    """

    code: str
    severity: Severity
    span: Span
    message: str
    help: str | None = None
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    label: str | None = None
    source: SourceFile | None = None
    fix: Fix | None = None

    @property
    def is_error(self) -> bool:
        """Whether the policy is rejected because of it."""
        return self.severity == "error"

    def text(self) -> str:
        """All that is said, without the source: for tools that show the place themselves."""
        said = self.message if self.label is None else f"{self.message} ({self.label})"
        return "\n".join(
            [said, *(f"note: {note}" for note in self.notes), *([f"help: {self.help}"] if self.help else [])]
        )

    def to_json(self, source: SourceFile) -> dict[str, Any]:
        """The finding as plain data; lines and columns count from 1, the end column is exclusive."""
        source = self.source or source
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "help": self.help,
            "file": source.name,
            **place_json(self.span, source),
            "label": self.label,
            "labels": [label.to_json(source) for label in self.labels],
            "notes": list(self.notes),
            "fix": None if self.fix is None else fix_json(self.fix, source),
        }

    def render(self, source: SourceFile, *, colour: bool = False) -> str:
        """The finding for people: the message, the source lines with carets, then notes and help."""
        return _Renderer(self, self.source or source, colour).render()


def place_json(span: Span, source: SourceFile) -> dict[str, int]:
    """A span as plain data."""
    line, column = source.position(span.start)
    end_line, end_column = source.position(span.end)
    return {"line": line, "column": column, "end_line": end_line, "end_column": end_column}


def fix_json(fix: Fix, source: SourceFile) -> dict[str, Any]:
    """A fix as plain data."""
    edits = [{**place_json(edit.span, source), "text": edit.text} for edit in fix.edits]
    return {"applicability": fix.applicability, "edits": edits}


class PolicyError(ConstraintLangError):
    """A policy was rejected; ``diagnostics`` say why and ``source`` is the text they point into."""

    def __init__(self, diagnostics: Sequence[Diagnostic], source: SourceFile) -> None:
        super().__init__(diagnostics, source)
        self.diagnostics = tuple(diagnostics)
        self.source = source

    def __str__(self) -> str:
        errors = [d for d in self.diagnostics if d.is_error] or list(self.diagnostics)
        head = f"{self.source.name}: the policy has {len(errors)} error{'s' if len(errors) != 1 else ''}"
        return "\n\n".join([head, *(d.render(self.source) for d in errors)])


def sort_diagnostics(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By file, imported ones last, position, severity, then code; the same finding is listed once."""
    order = {"error": 0, "warning": 1, "note": 2}

    def key(d: Diagnostic) -> tuple[str, int, int, int, str, str]:
        file = "" if d.source is None else d.source.name
        return file, d.span.start, d.span.end, order[d.severity], d.code, d.message

    return sorted(dict.fromkeys(diagnostics), key=key)


def render_all(diagnostics: Iterable[Diagnostic], source: SourceFile, *, colour: bool = False) -> str:
    """All findings for people, in order, separated by empty lines."""
    return "\n\n".join(d.render(source, colour=colour) for d in diagnostics)


def visible(text: str) -> str:
    """``text`` with every control, bidi and invisible character shown as one replacement sign.

    INVARIANT: what we print cannot move the cursor, colour the terminal or reorder the line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if char == "\t" else "\N{REPLACEMENT CHARACTER}" if _is_unseen(char) else char for char in text
    )


def _is_unseen(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")  # the last two end a line for some programs


@dataclass(frozen=True)
class _Mark:
    start: int  # columns within the shown line, from 0
    end: int
    text: str
    primary: bool


class _Renderer:
    def __init__(self, diagnostic: Diagnostic, source: SourceFile, colour: bool) -> None:
        self.diagnostic = diagnostic
        self.source = source
        self.colour = colour

    def paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self.colour and text else text

    def render(self) -> str:
        d = self.diagnostic
        style = _COLOURS[d.severity]
        head = self.paint(style, f"{d.severity}[{d.code}]")
        out = [f"{head}{self.paint(_BOLD, ': ' + visible(d.message))}"]
        marks = self.marks_by_line()
        width = len(str(max(marks)))
        margin = " " * width
        line, column = self.source.position(d.span.start)
        arrow = self.paint(_BLUE, "-->")
        out.append(f"{margin} {arrow} {visible(self.source.name)}:{line}:{column}")
        previous = None
        for number in sorted(marks):
            if previous is not None and number > previous + 1:
                out.append(f"{margin} {self.paint(_BLUE, '...')}")
            out.extend(self.render_line(number, marks[number], width))
            previous = number
        tail = [("note", note) for note in d.notes] + ([("help", self.help())] if d.help else [])
        for word, text in tail:
            first, *rest = visible_lines(text)
            out.append(f"{margin} {self.paint(_BLUE, '=')} {self.paint(_BOLD, word)}: {first}")
            out.extend(f"{margin} {self.paint(_BLUE, '|')}   {line}" for line in rest)
        return "\n".join(out)

    def help(self) -> str:
        """The help, how far its fix can be trusted, and the new lines where one would not do."""
        fix = self.diagnostic.fix
        if fix is None:
            return self.diagnostic.help or ""
        first = f"{self.diagnostic.help}  [{fix.applicability}]"
        return "\n".join([first, *new_lines(fix, self.source)])

    def marks_by_line(self) -> dict[int, list[_Mark]]:
        d = self.diagnostic
        by_line: dict[int, list[_Mark]] = {}
        for span, text, primary in [
            (d.span, d.label or "", True),
            *((x.span, x.text, False) for x in d.labels),
        ]:
            line, column = self.source.position(span.start)
            end_line, end_column = self.source.position(span.end)
            # A span over several lines is underlined on its first line only.
            end = end_column - 1 if end_line == line else len(self.source.line(line))
            mark = _Mark(column - 1, max(end, column), text, primary)
            by_line.setdefault(line, []).append(mark)
        return by_line

    def render_line(self, number: int, marks: list[_Mark], width: int) -> list[str]:
        marks = sorted(marks, key=lambda m: (m.start, m.end))
        text, marks = _cut(self.source.line(number), marks)
        text = visible(text)
        bar = self.paint(_BLUE, "|")
        margin = " " * width
        out = [f"{self.paint(_BLUE, str(number).rjust(width))} {bar} {text}".rstrip()]
        underline = self.underline(marks)
        last = marks[-1].text
        out.append(f"{margin} {bar} {underline}{' ' + visible(last) if last else ''}")
        # The other labels stand under their own place, the rightmost first.
        for mark in reversed(marks[:-1]):
            if mark.text:
                out.append(f"{margin} {bar} {' ' * mark.start}{visible(mark.text)}")
        return out

    def underline(self, marks: list[_Mark]) -> str:
        # A short mark is drawn over a longer one, so that a part of the main place stays visible in it.
        strokes = [" "] * max(mark.start + max(mark.end - mark.start, 1) for mark in marks)
        for mark in sorted(marks, key=lambda m: (m.start - m.end, m.primary)):
            for column in range(mark.start, mark.start + max(mark.end - mark.start, 1)):
                strokes[column] = "^" if mark.primary else "-"
        style = {" ": "", "-": _BLUE, "^": _COLOURS[self.diagnostic.severity]}
        runs = ["".join(run) for _, run in groupby(strokes)]
        return "".join(self.paint(style[run[0]], run) if run[0] != " " else run for run in runs)


def new_lines(fix: Fix, source: SourceFile) -> list[str]:
    """The lines that a fix writes, when it writes more than one."""
    if not any("\n" in edit.text.strip() for edit in fix.edits):
        return []
    start = min(edit.span.start for edit in fix.edits)
    end = max(edit.span.end for edit in fix.edits)
    start = source.text.rfind("\n", 0, start) + 1
    behind = source.text.find("\n", end)
    behind = len(source.text) if behind < 0 else behind
    after = apply_edits(source.text, fix.edits)
    return after[start : len(after) - (len(source.text) - behind)].split("\n")


def _cut(text: str, marks: list[_Mark]) -> tuple[str, list[_Mark]]:
    if len(text) <= MAX_SHOWN_COLUMNS:
        return text, marks
    first = max(0, marks[0].start - 40)
    last = first + MAX_SHOWN_COLUMNS
    before, after = ("..." if first else ""), ("..." if last < len(text) else "")
    shift = len(before) - first

    def move(column: int) -> int:
        return max(0, min(column, last)) + shift

    kept = [m for m in marks if m.start <= last]
    moved = [_Mark(move(m.start), max(move(m.end), move(m.start) + 1), m.text, m.primary) for m in kept]
    return before + text[first:last] + after, moved


def visible_lines(text: str) -> list[str]:
    """``visible`` applied to each line of a help or note text."""
    return [visible(line) for line in text.split("\n")]
