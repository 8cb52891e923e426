"""What one editing session remembers of the earlier checks of a file, so that the next does only what changed.

Law: a check with a memory finds what a check without one finds. So what is remembered must follow from its key
alone, up to the place where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace as struct_replace

from constraintlang.source import Span

KEPT_TURNS = 8
"""An entry that was not needed in so many checks is forgotten: a memory stays a few files large."""

T = TypeVar("T")
_WITHOUT_SPANS = frozenset([str, bool, int, Decimal, type(None)])
_PLAIN = frozenset(
    [
        "str",
        "bool",
        "int",
        "Decimal",
        "str | None",
        "Decimal | None",
        "tuple[str, ...]",
        "tuple[Comparator, ...]",
    ]
)
"""Annotations of fields that hold no spans; a field with another annotation is looked into."""


class Memory:
    """Results of one stage after the other, by what they were made from."""

    def __init__(self) -> None:
        self._found: dict[str, dict[Hashable, tuple[int, int, Any]]] = {}
        self._turns: dict[str, int] = {}

    def begin(self, stage: str) -> None:
        """A new check enters a stage."""
        turn = self._turns[stage] = self._turns.get(stage, 0) + 1
        entries = self._found.setdefault(stage, {})
        for key in [key for key, (used, _, _) in entries.items() if used < turn - KEPT_TURNS]:
            del entries[key]

    def recall(
        self,
        stage: str,
        key: Hashable,
        start: int,
        compute: Callable[[], T],
        fits: Callable[[T], bool] = lambda value: True,
    ) -> T:
        """The result for a key, its spans moved to where the text begins now; computed when it is new.

        ``fits`` says of a new result whether it may be remembered: whether all its spans move with the text.
        """
        entries = self._found[stage]
        known = entries.get(key)
        if known is None:
            value = compute()
            if not fits(value):
                return value
        else:
            value = moved(cast(T, known[2]), start - known[1])
        entries[key] = (self._turns[stage], start, value)
        return value


def moved(value: T, by: int) -> T:
    """A value with every span in it moved.

    >>> moved((Span(1, 2), "x"), 3)
    (Span(start=4, end=5), 'x')
    """
    return value if by == 0 else cast(T, _moved(value, by))


def _moved(value: Any, by: int) -> Any:
    # Thousands of nodes are moved after one key press: the frequent kinds first.
    kind: Any = type(value)
    if kind in _WITHOUT_SPANS:
        return value
    if kind is Span:
        return Span(value.start + by, value.end + by)
    if kind is tuple:
        return tuple([_moved(part, by) for part in value])
    names = _movable(kind)
    if not names:
        return value
    changed = {name: _moved(getattr(value, name), by) for name in names}
    return struct_replace(value, **changed) if isinstance(value, Struct) else replace(value, **changed)


@cache
def _movable(kind: type) -> tuple[str, ...]:
    """The fields of a record that may hold spans; what is no record holds none."""
    if issubclass(kind, Struct):
        types = {name: text for base in reversed(kind.__mro__) for name, text in _annotations(base)}
        return tuple(name for name in kind.__struct_fields__ if types[name] not in _PLAIN)
    return tuple(f.name for f in fields(kind) if f.type not in _PLAIN) if is_dataclass(kind) else ()


def _annotations(kind: type) -> list[tuple[str, Any]]:
    return list(vars(kind).get("__annotations__", {}).items())


def all_within(value: Any, place: Span) -> bool:
    """Whether every span in a value lies in ``place``."""
    if isinstance(value, Span):
        return place.start <= value.start and value.end <= place.end
    if isinstance(value, tuple):
        return all(all_within(part, place) for part in value)
    return all(all_within(getattr(value, name), place) for name in _movable(cast(Any, type(value))))
