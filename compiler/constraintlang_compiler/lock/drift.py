"""Whether what a policy trusts is still what was locked: PC601 for what nothing pins, PC604 for what has moved."""

from __future__ import annotations

from collections.abc import Sequence

from constraintlang.diagnostics import Diagnostic, PolicyError, Severity, sort_diagnostics
from constraintlang.source import SourceFile
from constraintlang_compiler.lock.lock_file import Lock
from constraintlang_compiler.lock.pins import Part

_AGAIN = "if the change is wanted, write the lock again with `constraintc lock`"


def unpinned(parts: Sequence[Part], severity: Severity) -> list[Diagnostic]:
    """A finding for each part that nothing pins."""
    return [
        Diagnostic("PC601", severity, part.span, f"not pinned: {part.problem}", help=part.help)
        for part in parts
        if part.pin is None
    ]


def drift(parts: Sequence[Part], lock: Lock) -> list[Diagnostic]:
    """The findings, all errors, sorted; none when every part is pinned and as it was locked."""
    found = unpinned(parts, "error")
    for part in parts:
        locked = lock.parts.get(part.name)
        if part.pin is None:
            continue
        if locked is None:
            message = f"the {part.kind} `{part.source}` of {_quoted(part.name)} is not in the lock"
        elif (locked.kind, locked.source) != (part.kind, part.source):
            now = f"{part.kind} `{part.source}`"
            message = f"{_quoted(part.name)} was locked with {locked.kind} `{locked.source}`, now it is {now}"
        elif locked.pin != part.pin:
            message = f"the {part.kind} `{part.source}` of {_quoted(part.name)} is not what was locked"
        else:
            continue
        notes = () if locked is None else (f"locked: {locked.pin}", f"found: {part.pin}")
        found.append(Diagnostic("PC604", "error", part.span, message, help=_AGAIN, notes=notes))
    return sort_diagnostics(found)


def require_unmoved(parts: Sequence[Part], lock: Lock, source: SourceFile) -> None:
    """Refuse to go on when something is not pinned, or not what was locked.

    Raises: PolicyError with every finding.
    """
    found = drift(parts, lock)
    if found:
        raise PolicyError(found, source)


def _quoted(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return f"{kind} `{rest}`"
