"""How long a text may be for scorers whose cost is not surely linear."""

from __future__ import annotations

MAX_CHARACTERS = 1_000_000
"""A longer text has no score (None) from a parser or from patterns that others wrote: unknown, neither good nor bad."""
MAX_PII = 200_000
"""The same for personal data, whose patterns are slow (up to some seconds for this many)."""
MAX_TOML = 50_000
"""The same for TOML: the reader of the standard library is quadratic in dotted keys (a second for this many)."""
