"""Responses to prompts as they are judged, and where they come from: a model that answers, or a file."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from constraintlang_runtime.sampling_law import SamplingLaw


@dataclass(frozen=True, kw_only=True)
class Responses:
    """Responses in order, those of one prompt side by side; all but ``sizes`` have one entry per response.

    ``numbers`` say which prompt is answered, ``sizes`` how many responses each prompt has; ``ids`` are the rows of a
    file. ``rows`` and ``tokenizer`` are there where a model wrote them.
    """

    numbers: Sequence[int]
    sizes: Sequence[int]
    prompts: Sequence[str]
    completions: Sequence[str]
    tags: Sequence[Mapping[str, Any]]
    rows: Sequence[Any] = ()
    tokenizer: Any = None
    ids: Sequence[int] = ()


class Source(Protocol):
    """Prompts with tags, and their responses."""

    @property
    def prompts(self) -> Sequence[Hashable]:
        """What each prompt says, as text or tokens: tags may tell several of one text apart."""
        ...

    @property
    def tags(self) -> Sequence[Mapping[str, Any]]:
        """Of each prompt."""
        ...

    @property
    def has_base(self) -> bool:
        """Whether a start model can answer, too."""
        ...

    def responses(self, chosen: Sequence[int], law: SamplingLaw, count: int, part: int) -> Responses:
        """``count`` responses to each of the chosen prompts; ``part`` tells one batch of a run from another."""
        ...

    def base_responses(self, chosen: Sequence[int], law: SamplingLaw, count: int, part: int) -> Responses:
        """The same of the start model."""
        ...
