"""Findings as workflow commands of GitHub Actions, which shows them beside the lines of a pull request."""

from __future__ import annotations

from pathlib import Path

from constraintlang.diagnostics import Diagnostic, visible
from constraintlang.source import SourceFile

COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def workflow_command(diagnostic: Diagnostic, source: SourceFile, *, denied: bool = False) -> str:
    """One finding as one line; a denied one is shown as an error, because it fails the run.

    The last column is that behind the place, as ruff writes it.
    """
    source = diagnostic.source or source
    line, column = source.position(diagnostic.span.start)
    end_line, end_column = source.position(diagnostic.span.end)
    command = "error" if denied else COMMANDS[diagnostic.severity]
    properties = {
        "file": shown_path(source.name),
        "line": line,
        "col": column,
        "endLine": end_line,
        "endColumn": end_column,
        "title": diagnostic.code,
    }
    written = ",".join(f"{name}={_escape_property(str(value))}" for name, value in properties.items())
    return f"::{command} {written}::{_escape(diagnostic.text())}"


def shown_path(name: str) -> str:
    """A path with forward slashes, relative to the present folder when it lies below it."""
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()


def _escape(text: str) -> str:
    # INVARIANT: text of a policy cannot begin a command of its own: it never starts a line.
    lines = "\n".join(visible(line) for line in text.split("\n"))
    return lines.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
