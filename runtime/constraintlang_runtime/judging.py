"""Completed rows under a policy: which clauses they violate, and the potential that the scorers give them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.sampling import completion_texts, prompt_texts
from constraintlang_runtime.scorers.parts import score_responses
from constraintlang_runtime.scorers.pool import ScoringPool

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.guide import Guide


@dataclass(frozen=True)
class Judged:
    """A completed row; ``applies`` says whether any clause speaks of it, ``log_potential`` is log ψ in nats."""

    row: TokenRow
    prompt: str
    completion: str
    scores: dict[str, float | None]
    violated: tuple[str, ...]
    applies: bool
    log_potential: float

    @property
    def value(self) -> float | None:
        """ψ in [0, 1]; None where no clause applies."""
        return math.exp(self.log_potential) if self.applies else None

    @property
    def badness(self) -> tuple[int, float]:
        """Orders the draws of a reply: fewest violated clauses, then the largest potential."""
        return len(self.violated), -self.log_potential


class Judge:
    """Judges rows: an indicator clause (pointwise, `P`) of the row's domain with f > 0 is violated.

    An unknown score counts as a violation, as in verification. ψ is that of the guide's duals when there is one, else
    1 where nothing is violated and 0 where something is.
    """

    def __init__(
        self,
        policy: CompiledPolicy | None,
        pool: ScoringPool | None,
        tokenizer: Any,
        guide: Guide | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self._pool, self._tokenizer, self._guide, self._stop = pool, tokenizer, guide, stop
        self.clauses = [] if policy is None else judging_clauses(policy)
        self._has_policy = policy is not None

    def require_judged(self, prompts: Sequence[TokenRow]) -> None:
        """Raise ConfigError when no clause judges any reply: unjudged must not look like obeying."""
        if not self._has_policy:
            return
        if not self.clauses:
            raise ConfigError(
                "no clause of the policy judges a single reply",
                help="use `constraintc eval`, which judges means and rows",
            )
        if not any(matches(clause.domain, row.tags) for clause in self.clauses for row in prompts):
            domains = ", ".join(
                dict.fromkeys(domain_name(clause.domain) or "every prompt" for clause in self.clauses)
            )
            raise ConfigError(
                f"no prompt lies in a domain of the policy ({domains})",
                help="add --domain NAME, write --prompts DOMAIN=FILE, or give the rows a `domain` column",
            )
        named = [clause for clause in self.clauses if clause.domain is not None]
        if named and not any(matches(clause.domain, row.tags) for clause in named for row in prompts):
            logger.warning(
                "no prompt lies in a domain that a clause names (%s), so that %s not judged",
                ", ".join(dict.fromkeys(str(domain_name(clause.domain)) for clause in named)),
                ", ".join(f"`{clause.name}`" for clause in named) + (" are" if len(named) > 1 else " is"),
            )  # fmt: skip

    def __call__(self, rows: Sequence[TokenRow]) -> list[Judged]:
        """Judge rows."""
        if not rows:
            return []
        asked, texts = (
            prompt_texts(rows, self._tokenizer),
            completion_texts(rows, self._tokenizer, self._stop),
        )
        if self._pool is None or not self._has_policy:
            return [
                Judged(row, p, c, {}, (), False, 0.0) for row, p, c in zip(rows, asked, texts, strict=True)
            ]
        guided = () if self._guide is None else self._guide.clauses
        # A group's clauses may carry bounds that were measured; what is scored is the same.
        every = [*self.clauses, *guided]
        keys = sorted({key for row in rows for key in row.tags})
        columns = {key: [row.tags.get(key) for row in rows] for key in keys}
        scores, parts = score_responses(
            self._pool, every, rows, asked, texts, self._tokenizer, columns=columns
        )
        values = statistics(every, scores, parts)
        own, steering = values[:, : len(self.clauses)], values[:, len(self.clauses) :]
        found = []
        for i, row in enumerate(rows):
            applies = [matches(clause.domain, row.tags) for clause in self.clauses]
            violated = tuple(
                clause.name
                for k, clause in enumerate(self.clauses)
                if applies[k] and own[i, k] != 0  # NaN too: an unknown score counts as violated
            )
            potential = 0.0 if not violated else -math.inf
            if self._guide is not None:
                potential = self._guide.true_log_potential(steering[i])
            known = {name: None if np.isnan(s[i]) else float(s[i]) for name, s in scores.items()}
            found.append(Judged(row, asked[i], texts[i], known, violated, any(applies), potential))
        return found


def judging_clauses(policy: CompiledPolicy) -> list[Clause]:
    """The clauses that can judge a single reply: not a quantile, which allows a share beyond it."""
    return [
        clause
        for clause in sample_clauses(policy.ir)
        if isinstance(clause.statistic, Indicator)
        and clause.kind in ("violation", "probability")
        and clause.base_factor is None
        and clause.strength != "prefer"
    ]
