"""Strong Kleene logic: true, false, and None for unknown."""

from __future__ import annotations

from collections.abc import Sequence

Truth = bool | None


def kleene_not(value: Truth) -> Truth:
    """Unknown stays unknown."""
    return None if value is None else not value


def kleene_and(values: Sequence[Truth]) -> Truth:
    """One false decides; otherwise one unknown makes it unknown."""
    if any(value is False for value in values):
        return False
    return None if any(value is None for value in values) else True


def kleene_or(values: Sequence[Truth]) -> Truth:
    """One true decides; otherwise one unknown makes it unknown."""
    if any(value is True for value in values):
        return True
    return None if any(value is None for value in values) else False
