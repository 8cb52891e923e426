"""Measures a text in words, sentences or characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from constraintlang_runtime.errors import ConfigError

_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")  # a constant, linear pattern


def _sentences(text: str) -> int:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    return len(ends) + bool(rest.strip())


UNITS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "sentences": _sentences,
    "characters": len,
}


class LengthScorer:
    """Number of words (white-space separated), sentences (closed by . ! ?, plus an open rest) or characters."""

    def __init__(self, unit: str) -> None:
        if unit not in UNITS:
            raise ConfigError(f"length: got the unit {unit!r}, expected one of {', '.join(UNITS)}")
        self._count = UNITS[unit]

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [float(self._count(text)) for text in completions]
