"""What commands print: results to stdout, for people or as JSON; messages to stderr.

Text from a policy or a file passes through ``visible`` first, so that it cannot move the cursor or colour the
terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from constraintlang.diagnostics import Diagnostic, render_all, visible
from constraintlang.json_text import json_text
from constraintlang.source import SourceFile


def print_json(value: object) -> None:
    """A result as indented JSON with sorted keys on stdout."""
    print(json_text(value, indent=2, sort_keys=True, allow_nan=False))


def print_message(text: str) -> None:
    """A message or progress line on stderr."""
    print(text, file=sys.stderr)


def print_error(message: str, help_text: str | None = None) -> None:
    """An error of the caller on stderr: what was got and expected, then what to do."""
    print_message(f"error: {visible_text(message)}")
    if help_text:
        print_message(f"  help: {visible_text(help_text)}")


def print_diagnostics(diagnostics: Sequence[Diagnostic], source: SourceFile, stream: TextIO) -> None:
    """Findings for people."""
    if diagnostics:
        print(render_all(diagnostics, source, colour=uses_colour(stream)), end="\n\n", file=stream)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout: drawn by rich on a terminal, aligned plain text elsewhere."""
    cells = [[visible(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, header_style="bold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console(no_color=not uses_colour(sys.stdout)).print(table)
        return
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    for line in [list(columns), *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_reasons(verdicts: Iterable[Any]) -> None:
    """Below a table of verdicts: why a clause could not be judged."""
    for one in verdicts:
        if one.verdict == "error" and one.note:
            print(visible_text(f"{one.clause}: {one.note}"))


def uses_colour(stream: TextIO) -> bool:
    """Whether to colour: a terminal, and the user did not ask for plain text (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def visible_text(text: str) -> str:
    """``visible`` applied to each line."""
    return "\n".join(visible(line) for line in text.split("\n"))
