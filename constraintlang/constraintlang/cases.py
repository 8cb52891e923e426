"""The tests of a policy after checking: what is given, what is expected, of which statements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from constraintlang.source import Span

Stub = Decimal | tuple[Decimal, ...]
ON_ONE_RESPONSE = ("pass", "fail")
ON_A_SAMPLE = ("holds", "violated", "inconclusive")


@dataclass(frozen=True)
class Case:
    """One expectation with what is given where it stands.

    ``statements`` are indexes into the policy's statements: the one that ``on`` names, or those that the case
    is about. ``stubs`` hold one number, or one for each response of a sample; keys are ``name`` or
    ``name@model``. ``text`` is the response of ``pass`` and ``fail``, a name elsewhere. ``tags`` are those of the
    prompts.
    """

    outcome: str
    span: Span
    statements: tuple[int, ...]
    stubs: Mapping[str, Stub] = field(default_factory=dict)
    text: str | None = None
    on: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def of_sample(self) -> bool:
        """Whether the outcome judges a sample; else one response."""
        return self.outcome in ON_A_SAMPLE

    @property
    def num_responses(self) -> int:
        """The size of the sample that the stubs give."""
        return next((len(stub) for stub in self.stubs.values() if isinstance(stub, tuple)), 1)

    def scores_of(self, index: int) -> dict[str, Decimal]:
        """The given scores of one response of the sample."""
        return {name: s[index] if isinstance(s, tuple) else s for name, s in self.stubs.items()}


@dataclass(frozen=True)
class PolicyTest:
    """A ``test`` block."""

    name: str
    span: Span
    cases: tuple[Case, ...]
