"""Values of literals: exact numbers, texts without their escapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from constraintlang.fixes import Fix, inserting
from constraintlang.source import Span

_ESCAPES = {'"': '"', "\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def exact_number(text: str) -> Decimal:
    """The value of a literal, ``%`` included, without the rounding of the decimal context."""
    if text.endswith("%"):
        sign, digits, exponent = Decimal(text[:-1]).as_tuple()
        assert isinstance(exponent, int)
        return Decimal((sign, digits, exponent - 2))
    return Decimal(text)


def as_pattern(text: str) -> str:
    """What stands between the quotes of `"..."`, as it stands in `re"..."`, where a backslash is itself.

    Text whose backslashes are no escapes was meant as a pattern from the beginning.
    """
    unknown: list[Span] = []
    value = unescape(text, 0, lambda code, span, *rest: unknown.append(span))
    return text if unknown or "\n" in value else value.replace('"', '\\"')


def unescape(text: str, offset: int, error: Callable[[str, Span, str, str, Fix], None]) -> str:
    """The text that stands between quotes at ``offset``; an unknown escape is reported and kept as it is."""

    def replace(match: re.Match[str]) -> str:
        escape = match[1]
        if escape in _ESCAPES:
            return _ESCAPES[escape]
        # Half of a surrogate pair is no character: it could not be written to any file.
        if len(escape) == 5 and not 0xD800 <= int(escape[1:], 16) <= 0xDFFF:
            return chr(int(escape[1:], 16))
        error(
            "PC013",
            Span(offset + match.start(), offset + match.end()),
            f"`{match[0]}` is no escape sequence",
            r"known are `\"`, `\\`, `\n`, `\t`, `\r` and `\u0000`; write `\\` for a backslash",
            inserting(offset + match.start(), "\\", "safe"),
        )
        return match[0]

    return _ESCAPE.sub(replace, text)
