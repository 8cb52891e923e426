"""The settings of a verification of a model, checked together; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang_runtime.benchmark_tasks import TaskSettings
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.shared_pool import SharedScoringSettings


@dataclass(frozen=True)
class EvalSettings(SharedScoringSettings):
    """What to judge, on what, and how to sample; the names are those of the command's flags."""

    model: str
    prompts: tuple[str, ...]
    audit: tuple[str, ...] = ()
    human: str | None = None
    identity_terms: str | None = None
    rows: tuple[str, ...] = ()
    base: str | None = None
    num_prompts: int | None = None
    samples: int = 1
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    max_length: int = 512
    batch_size: int = 256
    seed: int = 0
    sequential: bool = False
    max_prompts: int | None = None
    chat: bool = False
    tasks: tuple[str, ...] = ()
    task_path: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None

    @property
    def benchmarks(self) -> TaskSettings:
        """What is asked of lm-eval."""
        return TaskSettings(self.tasks, self.task_path, self.num_fewshot, self.limit)

    @property
    def law(self) -> SamplingLaw:
        """The law of the samples."""
        return SamplingLaw(self.max_new_tokens, self.temperature, self.top_p, stop=self.stop)

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.benchmarks, self.law  # check their own
        for name in ("samples", "max_length", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"got {getattr(self, name)}, expected at least 1", parameter=name)
        if self.num_prompts is not None and self.num_prompts < 1:
            raise ConfigError(f"got {self.num_prompts}, expected at least 1", parameter="num_prompts")
        if self.sequential and self.human is not None:
            raise ConfigError(
                "--human with --sequential: the bounds with labels are for a number of prompts fixed before",
                help="leave out one of them",
            )
        if self.max_prompts is not None and not (self.sequential and self.max_prompts >= 1):
            raise ConfigError(
                f"got {self.max_prompts}, expected at least 1, with --sequential",
                help="without --sequential it is --num_prompts",
                parameter="max_prompts",
            )
