"""How long a text may be for scorers whose cost is not surely linear."""

from __future__ import annotations

MAX_CHARACTERS = 1_000_000
"""A longer text has no score (None) from a parser or from patterns that others wrote: unknown, neither good nor bad."""
