"""Measures a text in words, sentences or characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from constraintlang.segments import sentences
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


UNITS: dict[str, Callable[[str], int]] = {
    "words": lambda text: len(text.split()),
    "sentences": lambda text: len(sentences(text)),
    "characters": len,
}


class LengthScorer:
    """Number of words (white-space separated), sentences (those that `over sentences` speaks of) or characters."""

    terms = TEXT_ALONE

    def __init__(self, unit: str) -> None:
        if unit not in UNITS:
            raise ConfigError(f"length: got the unit {unit!r}, expected one of {', '.join(UNITS)}")
        self.count = UNITS[unit]

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [float(self.count(text)) for text in completions]


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> LengthScorer:
    """The scorer of `length(UNIT)`."""
    return LengthScorer(backend.arguments[0])
