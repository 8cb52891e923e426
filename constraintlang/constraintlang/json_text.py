"""JSON for people and programs: readable text, with everything escaped that could move a terminal or is no UTF-8."""

from __future__ import annotations

import json
import re
from typing import Any

# What JSON leaves as it is and a terminal or an encoder does not: C1 controls, zero-width and bidi characters, line
# separators, tags, half surrogate pairs.
_UNSEEN = re.compile(
    "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def json_text(value: Any, **options: Any) -> str:
    r"""``value`` as JSON that reads back as the same value; ``options`` are those of ``json.dumps``.

    >>> json_text({"a": "é\x9b\u202e\ud800"})
    '{"a": "é\\u009b\\u202e\\ud800"}'
    """
    return _UNSEEN.sub(_escape, json.dumps(value, ensure_ascii=False, **options))


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]
