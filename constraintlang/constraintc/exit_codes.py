"""The exit codes of every command (docs/how-to-verify.md, "Gate a CI job")."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell sees."""

    OK = 0
    VIOLATED = 1
    """A verdict is ``violated``."""
    FINDINGS = 1
    """The same code: findings under ``--deny``."""
    USAGE = 2
    """Usage, configuration, missing file."""
    REJECTED = 3
    """The policy has errors."""
    FAILED = 4
    """The run failed, or a verdict is ``error`` or ``vacuous``."""
    INTERNAL = 70
    """Our bug."""
    INTERRUPTED = 130
    """Stopped by the user (128 + SIGINT)."""
    BROKEN_PIPE = 141
    """The reader of our output went away (128 + SIGPIPE)."""
