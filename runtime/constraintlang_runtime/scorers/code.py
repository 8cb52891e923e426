"""Says whether the code in an answer can be parsed; nothing is run."""

from __future__ import annotations

import ast
import tomllib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.fences import code_of
from constraintlang_runtime.scorers.json_text import is_json
from constraintlang_runtime.scorers.limits import MAX_CHARACTERS, MAX_TOML
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


def is_python(text: str) -> bool:
    """Whether the running Python's parser accepts the text; what is too deep for it is no code."""
    try:
        with warnings.catch_warnings():  # the answer must not depend on the user's filters
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def is_toml(text: str) -> bool:
    """Whether the text is TOML 1.0."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


PARSERS: dict[str, Callable[[str], bool]] = {"python": is_python, "json": is_json, "toml": is_toml}


class CodeScorer:
    """1 when the code parses, else 0; the code is the first fenced block when there is one, else the whole text.

    An empty text is a Python and a TOML program, and no JSON. None above ``MAX_CHARACTERS``,
    for TOML above ``MAX_TOML``.
    """

    terms = TEXT_ALONE

    def __init__(self, language: str) -> None:
        if language not in PARSERS:
            raise ConfigError(f"code: got {language!r}, expected one of {', '.join(PARSERS)}")
        self._parses = PARSERS[language]
        self._longest = MAX_TOML if language == "toml" else MAX_CHARACTERS

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [
            None if len(text) > self._longest else float(self._parses(code_of(text))) for text in completions
        ]


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> CodeScorer:
    """The scorer of `code(LANGUAGE)`."""
    return CodeScorer(backend.arguments[0])
