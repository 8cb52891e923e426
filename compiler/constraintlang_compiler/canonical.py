"""Canonical bytes (RFC 8785) and the hashes made of them.

Anything of ours that is hashed holds only strings, integers, truth values, null, lists and objects: no
floats, so two platforms cannot disagree about a digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TypeAlias

import msgspec
import rfc8785

Json: TypeAlias = "bool | int | str | list[Json] | tuple[Json, ...] | dict[str, Json] | None"


def canonical_bytes(value: Json) -> bytes:
    """The one JSON spelling of a value: keys sorted by UTF-16 code units, no white space, UTF-8.

    Raises: TypeError when the value holds a float; integers beyond 2**53 are rejected by rfc8785.
    """
    _reject_floats(value)
    return rfc8785.dumps(value)


def sha256_of(value: Json) -> str:
    """``sha256:`` and the hexadecimal digest of the canonical bytes."""
    return f"sha256:{hashlib.sha256(canonical_bytes(value)).hexdigest()}"


def record_json(record: msgspec.Struct, *, exclude: Collection[str] = ()) -> dict[str, Json]:
    """A record as plain JSON values, without the fields named."""
    fields: dict[str, Json] = msgspec.to_builtins(record)
    return {name: value for name, value in fields.items() if name not in exclude}


def sort_key(record: msgspec.Struct) -> bytes:
    """The JSON of a record, keys sorted: the order in which operands that commute are written."""
    return msgspec.json.encode(record, order="sorted")


def _reject_floats(value: Json) -> None:
    if isinstance(value, float):
        raise TypeError(f"got the float {value!r} in something hashed, expected a decimal string")
    if isinstance(value, (list, tuple)):
        for item in value:
            _reject_floats(item)
    elif isinstance(value, dict):
        for item in value.values():
            _reject_floats(item)
