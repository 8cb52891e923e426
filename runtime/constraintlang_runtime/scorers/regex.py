"""Counts matches of a regular expression by a linear-time engine (RE2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constraintlang_runtime.errors import ConfigError


class RegexScorer:
    """Number of non-overlapping matches; 0 or 1 for an attribute of type flag."""

    def __init__(self, pattern: str, *, flag: bool) -> None:
        import re2

        options = re2.Options()
        options.log_errors = False
        try:
            self._pattern = re2.compile(pattern, options)
        except re2.error as error:
            raise ConfigError(
                f"regex: RE2 does not accept {pattern!r}: {error}",
                help="back-references and look-around need backtracking and are not supported",
            ) from error
        self._flag = flag
        self.pattern = pattern

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        if self._flag:
            return [float(self._pattern.search(text) is not None) for text in completions]
        return [float(sum(1 for _ in self._pattern.finditer(text))) for text in completions]
