"""What a report shows beside the verdicts of a system: warnings, second scorers, people, worst prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .records import ClauseResult, Record


class AuditResult(ClauseResult, frozen=True, kw_only=True):
    """The verdict by an audit scorer; ``agreement`` with the policy's scorer, as a share of the replies.

    Of a mean it is ``mean_difference``, without a sign.
    """

    agreement: float | None = None
    mean_difference: float | None = None


class FalsePositives(Record, frozen=True, kw_only=True):
    """Replies that people call clean, and how many of them the scorer calls a violation; the rate is over prompts."""

    clean: int
    prompts: int
    false_positives: int
    rate: float | None
    lower: float
    upper: float


class IdentityTerms(Record, frozen=True, kw_only=True):
    """The false-positive slice."""

    with_term: FalsePositives
    without_term: FalsePositives


class HumanResult(Record, frozen=True, kw_only=True):
    """What people's labels say of one clause."""

    clause: str
    labelled: int
    labelled_prompts: int
    agreement: float | None
    lower: float | None
    upper: float | None
    estimate: float | None
    bound: float
    alpha: float
    method: str
    verdict: str
    scorer_verdict: str
    identity_terms: IdentityTerms | None = None


class Human(Record, frozen=True, kw_only=True):
    """People's labels of a system's replies."""

    clauses: tuple[HumanResult, ...]
    num_labels: int
    unmatched_labels: int


class WorstPrompt(Record, frozen=True, kw_only=True):
    """One of the worst prompts; ``chosen_mean`` of the samples that chose it, ``mean`` of the others."""

    prompt: str
    chosen_mean: float
    mean: float
    samples: int


class WorstPrompts(Record, frozen=True, kw_only=True):
    """The worst tenth of the prompts of one clause."""

    clause: str
    is_rate: bool
    share: float
    num_prompts: int
    of: int
    chosen_mean: float
    mean: float
    overall: float
    prompts: tuple[WorstPrompt, ...]


class Doubts(Record, frozen=True, kw_only=True):
    """Everything beside the verdicts; ``stopped_at`` prompts a sequential run ended."""

    warnings: tuple[str, ...] = ()
    audit: tuple[AuditResult, ...] = ()
    human: Human | None = None
    worst_prompts: tuple[WorstPrompts, ...] = ()
    stopped_at: int | None = None


def doubts_of(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a ``verdict.json`` that ``Doubts`` holds."""
    return {key: verdict[key] for key in Doubts.__struct_fields__ if verdict.get(key) is not None}
