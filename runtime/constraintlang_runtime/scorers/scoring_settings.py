"""What a command is told about scoring: which scorers, within which limits, and what a policy may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.scorers.binding import bind_scorers, parse_scorer_options
from constraintlang_runtime.scorers.cache import open_cache
from constraintlang_runtime.scorers.judge_settings import JudgeSettings
from constraintlang_runtime.scorers.pool import MAX_REMEMBERED, ScoringPool
from constraintlang_runtime.settings import DEFAULT_TIMEOUT, check_timeout


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """The names are those of the commands' flags. Raises: ConfigError for a time-out that no call can keep."""

    scorer: tuple[str, ...] = ()
    scorer_timeout: float | None = DEFAULT_TIMEOUT
    score_cache: str | None = None
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    allow_path: bool = False
    allow_code: bool = False
    allow_plugins: bool = False

    def __post_init__(self) -> None:
        check_timeout(self.scorer_timeout)

    def pool(
        self,
        policy: CompiledPolicy,
        *,
        folder: Path,
        base: str | None = None,
        max_remembered: int = MAX_REMEMBERED,
    ) -> ScoringPool:
        """The scorers of a policy that stands in ``folder``, behind one pool; ``base`` as in ``bind_scorers``.

        Raises: ConfigError for an attribute that nothing measures, ModelError for a scorer that cannot be loaded.
        """
        scorers = bind_scorers(
            policy.ir, parse_scorer_options(self.scorer), folder=folder, files=policy.files,
            allow_path=self.allow_path, allow_code=self.allow_code, allow_plugins=self.allow_plugins,
            judge=self.judge, base=base,
        )  # fmt: skip
        return ScoringPool(
            policy.ir.attributes, scorers, timeout=self.scorer_timeout, cache=open_cache(self.score_cache),
            max_remembered=max_remembered,
        )  # fmt: skip
