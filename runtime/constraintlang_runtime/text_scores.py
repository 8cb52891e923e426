"""Scores of single texts by the scorers of a policy, without any model to sample from; no torch by itself.

``regex`` and ``length`` are computed from the policy and the text alone. Word lists, classifiers and what is
bound with ``--scorer`` are *live*: they read files or load models, and only where that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constraintlang_compiler.ir import AttributeRecord, PolicyIR
from constraintlang_runtime.errors import ConfigError

if TYPE_CHECKING:
    from constraintlang_runtime.scorers.pool import ScoringPool

PURE_UNITS = ("words", "sentences", "characters")


class TextScores:
    """Scores texts; a scorer is built when its attribute is first asked for."""

    def __init__(
        self,
        policy: PolicyIR,
        options: Sequence[str] = (),
        *,
        folder: Path,
        files: Mapping[str, Path] | None = None,
        allow_path: bool = False,
        allow_code: bool = False,
        allow_plugins: bool = False,
        live: bool = True,
    ) -> None:
        self._policy = policy
        self._folder, self._files = folder, files or {}
        self._allowed: dict[str, Any] = {
            "allow_path": allow_path,
            "allow_code": allow_code,
            "allow_plugins": allow_plugins,
        }
        self._live = live
        self._pools: dict[str, ScoringPool] = {}
        self._options: dict[str, tuple[str, str | None]] = {}
        if options:
            from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options

            self._options = parse_scorer_options(options)
            names = {attribute.name for attribute in policy.attributes}
            if unknown := {name: self._options[name] for name in self._options if name not in names}:
                bind_scorers(policy, unknown, folder=folder)  # says what is wrong with the name

    def can_score(self, name: str) -> bool:
        """Whether the attribute can be scored: always when live, else without files and models."""
        return self._live or _is_pure(self._policy.attribute(name))

    def score(
        self, name: str, texts: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[Decimal | None]:
        """The score of each text, None where the scorer has none.

        Raises: ConfigError without a scorer, ModelError when one cannot be loaded, ScorerError when it fails.
        """
        if name not in self._pools:
            self._pools[name] = self._pool(self._policy.attribute(name))
        values = self._pools[name].score(prompts or [""] * len(texts), texts)[name]
        return [None if math.isnan(value) else Decimal(repr(float(value))) for value in values]

    def _pool(self, attribute: AttributeRecord) -> ScoringPool:
        from constraintlang_runtime.scorers.binding import bind_scorers
        from constraintlang_runtime.scorers.pool import ScoringPool

        if not self.can_score(attribute.name):
            raise ConfigError(
                f"`{attribute.name}` is scored from a file or a model", help="allow it with --live"
            )
        alone = PolicyIR(edition=self._policy.edition, attributes=(attribute,), clauses=())
        options = {name: bound for name, bound in self._options.items() if name == attribute.name}
        scorers = bind_scorers(alone, options, folder=self._folder, files=self._files, **self._allowed)
        return ScoringPool(alone.attributes, scorers)


def _is_pure(attribute: AttributeRecord) -> bool:
    backend = attribute.backend
    if backend is None:
        return False
    return backend.kind == "regex" or (backend.kind == "length" and backend.arguments[0] in PURE_UNITS)


def gather(
    names: Sequence[str],
    given: Mapping[str, Decimal | None],
    source: TextScores,
    text: str | None,
    prompt: str = "",
) -> tuple[dict[str, Decimal | None], dict[str, str]]:
    """The scores of one text, given ones first, and why others are missing.

    Raises: ModelError when a scorer cannot be loaded, ScorerError when one fails.
    """
    scores, problems = dict(given), {}
    for name in names:
        if name in scores:
            continue
        scores[name] = None
        if text is None or "@" in name:
            problems[name] = f"`{name}` is not given"
            continue
        try:
            scores[name] = source.score(name, [text], [prompt])[0]
        except ConfigError as error:
            problems[name] = error.message + (f" ({error.help})" if error.help else "")
        else:
            if scores[name] is None:
                problems[name] = f"the scorer of `{name}` has no score for this text"
    return scores, problems
