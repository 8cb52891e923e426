"""What a scorer is: a callable in the shape of TRL's reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Scorer(Protocol):
    """``scorer(prompts=..., completions=..., **columns)`` gives one float, or None when unavailable, per completion.

    Scores must not depend on the other completions of the call: the pool batches and reorders as it likes.
    """

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        ...
