"""Says whether a text is a JSON value."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from constraintlang_runtime.scorers.limits import MAX_CHARACTERS
from constraintlang_runtime.scorers.protocol import TEXT_ALONE

if TYPE_CHECKING:
    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place

MAX_DEPTH = 200  # of arrays and objects in one another; RFC 8259, section 9, lets a reader set a limit
STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
BRACKET = re.compile(r"[\[\]{}]")


class JsonScorer:
    """1 when the whole text is one JSON value (RFC 8259), else 0.

    NaN, infinities, nesting beyond 200 and integers that Python does not read (over 4300 digits) are no JSON here. None
    above ``MAX_CHARACTERS``.
    """

    terms = TEXT_ALONE

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        return [None if len(text) > MAX_CHARACTERS else float(is_json(text)) for text in completions]


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> JsonScorer:
    """The scorer of `json()`."""
    return JsonScorer()


def is_json(text: str) -> bool:
    """Whether the text is one JSON value."""
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def read_json(text: str) -> Any:
    """The value that a text stands for; ValueError when it is none or is nested too deeply."""
    if _is_deep(text):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _is_deep(text: str) -> bool:
    """Whether brackets outside strings nest too deeply; asked first, so that the answer depends on no stack."""
    depth = 0
    for match in BRACKET.finditer(STRING.sub("", text)):
        depth += 1 if match.group() in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
