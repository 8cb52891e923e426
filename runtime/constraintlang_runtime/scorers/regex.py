"""Counts matches of a regular expression by a linear-time engine (RE2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class RegexScorer:
    """Number of non-overlapping matches; 0 or 1 for an attribute of type flag."""

    terms = TEXT_ALONE

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
        self.text = pattern
        self._flag = flag
        self.pattern = pattern

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        text = utf8(text)
        if self._flag:
            return float(self._pattern.search(text) is not None)
        return float(sum(1 for _ in self._pattern.finditer(text)))


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> RegexScorer:
    """The scorer of `regex(re"PATTERN")`."""
    return RegexScorer(backend.arguments[0], flag=attribute.type == "flag")


def utf8(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair becomes a replacement character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
