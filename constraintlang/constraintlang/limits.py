"""What is refused before anything is parsed, so that an untrusted file takes bounded time and memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from constraintlang.diagnostics import Diagnostic
from constraintlang.layout import MAX_ERRORS
from constraintlang.source import Span
from constraintlang.tokens import OPENING, span_of

MAX_BYTES = 4 * 1024 * 1024
MAX_LINE = 100_000
MAX_NESTING = 200
MAX_DIGITS = 100
MAX_NAME = 200
MAX_TOKENS = 1_000_000
_LONE_RETURN = re.compile(r"\r(?!\n)")
_SURROGATE = re.compile("[\ud800-\udfff]")


def limit(span: Span, message: str, help: str) -> Diagnostic:
    """PC010."""
    return Diagnostic("PC010", "error", span, message, help=help)


def text_limits(text: str) -> Diagnostic | None:
    """What keeps a text from being cut into tokens: its size, a huge line, lines that end in another way."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return limit(Span(0, 0), "the file is larger than 4 MiB", "split the policy into several files")
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if end - start > MAX_LINE:
            message = f"the line is longer than {MAX_LINE} characters"
            return limit(Span(start, start + 1), message, "break the line inside brackets or before `and`")
        start = end + 1
    lone = _LONE_RETURN.search(text)
    if lone is not None:
        # Some editors end a line here and others do not: two readers would see two policies.
        message = "a carriage return without a line feed does not end a line"
        return Diagnostic(
            "PC007", "error", Span(*lone.span()), message, help="save the file with LF line ends"
        )
    half = _SURROGATE.search(text)
    if half is not None:
        message = "half of a surrogate pair is no character"
        return Diagnostic("PC007", "error", Span(*half.span()), message, help="remove it")
    return None


def too_many_errors(span: Span) -> Diagnostic:
    """The error that ends the list of errors."""
    message = f"there are more than {MAX_ERRORS} errors, and what follows is not checked"
    return limit(span, message, "correct the first errors and check again")


def token_limits(tokens: Sequence[Any]) -> Diagnostic | None:
    """The first token that is beyond a limit."""
    if len(tokens) > MAX_TOKENS:
        message = f"the file has more than {MAX_TOKENS} words and signs"
        return limit(span_of(tokens[-1]), message, "split the policy into several files")
    depth = 0
    for token in tokens:
        kind = token.type
        if kind == "NAME":
            if len(token) > MAX_NAME:
                message = f"the name is longer than {MAX_NAME} characters"
                return limit(span_of(token), message, "choose a shorter name")
        elif kind in OPENING:
            depth += 1
            if depth > MAX_NESTING:
                message = f"brackets are nested more than {MAX_NESTING} deep"
                return limit(span_of(token), message, "name parts with `let` or split the statement")
        elif kind in _CLOSING:
            depth = max(0, depth - 1)
        elif kind in _NUMBERS and written_digits(token) > MAX_DIGITS:
            message = f"the number has more than {MAX_DIGITS} digits when it is written out"
            return limit(span_of(token), message, "shorten the number")
    return None


_CLOSING = frozenset(OPENING.values())
_NUMBERS = frozenset(["INT", "NUMBER", "PERCENT"])


def written_digits(text: str) -> int:
    """Digits of a number once it is written out, so that an exponent cannot hide a huge one.

    >>> written_digits("0.25"), written_digits("1e-5"), written_digits("5%")
    (3, 6, 3)
    """
    mantissa, _, exponent = text.removesuffix("%").lower().partition("e")
    digits = len(mantissa.replace(".", "")) + 2 * text.endswith("%")
    if not exponent:
        return digits
    return digits + (abs(int(exponent)) if len(exponent) < 6 else MAX_DIGITS)
