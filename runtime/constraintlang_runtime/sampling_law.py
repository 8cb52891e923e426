"""The law that completions are drawn by, which every verdict names; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from constraintlang_runtime.errors import ConfigError


def stop_texts(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """One text or several as ``SamplingLaw.stop``. Raises: ConfigError for anything else."""
    texts = (given,) if isinstance(given, str) else tuple(given or ())
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"stop: got {given!r}, expected a text or a list of them")
    return texts


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text up to the first place where one of the others begins."""
    found = [place for one in stop if (place := text.find(one)) >= 0]
    return text[: min(found)] if found else text


@dataclass(frozen=True)
class SamplingLaw:
    """The law that verdicts speak of: ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 do not truncate.

    A completion ends where one of the texts ``stop`` begins in it, and is judged without it.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: got {self.max_new_tokens}, expected at least 1")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ConfigError(
                f"sampling: got temperature={self.temperature}, top_p={self.top_p}, top_k={self.top_k}; "
                "expected temperature >= 0, 0 < top_p <= 1, top_k >= 0"
            )
        if not all(self.stop):
            raise ConfigError(f"stop: got {self.stop!r}, expected texts, none of them empty")

    def under(self, settings: dict[str, str]) -> SamplingLaw:
        """This law with a clause's ``under`` settings put over it."""
        changes: dict[str, Any] = {}
        for key, value in settings.items():
            if key == "max_tokens":
                changes["max_new_tokens"] = int(value)
            elif key == "top_k":
                changes[key] = int(value)
            elif key in ("temperature", "top_p"):
                changes[key] = float(value)
        return replace(self, **changes)
