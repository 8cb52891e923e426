"""One verification of a served model: sample it through its endpoint, then judge the completions."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.readings import Reading
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.chat import chat_options
from constraintlang_runtime.columns import Row, row_tags
from constraintlang_runtime.completions import CompletionSettings, evaluate_completions
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.evaluation import Evaluation, require_prompts
from constraintlang_runtime.samplers.endpoint import (
    KEYS,
    NEUTRAL,
    Asked,
    EndpointSampler,
    Progress,
    fingerprint,
    prompt_turns,
    require_own,
)
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.score.judged_clauses import decided_by_texts
from constraintlang_runtime.score.row_stream import Position, RowStream
from constraintlang_runtime.scorers.endpoint import Endpoint, only_model
from constraintlang_runtime.seeds import derived_seed

_BATCH = 4096


@dataclass(frozen=True)
class EndpointSettings:
    """Which served model to sample on what, and how; the names are those of the command's flags."""

    endpoint: str
    endpoint_model: str | None
    prompts: tuple[str, ...]
    endpoint_rate: float | None = None
    endpoint_timeout: float = 120.0
    num_prompts: int | None = None
    samples: int = 1
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    chat: bool = False
    output: str | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"got {self.samples}, expected at least 1", parameter="samples")
        if self.num_prompts is not None and self.num_prompts < 1:
            raise ConfigError(f"got {self.num_prompts}, expected at least 1", parameter="num_prompts")

    @property
    def law(self) -> SamplingLaw:
        """What is asked of the server."""
        return SamplingLaw(self.max_new_tokens, self.temperature, self.top_p, stop=self.stop)


def evaluate_endpoint(
    policy: CompiledPolicy,
    settings: EndpointSettings,
    judging: CompletionSettings,
    *,
    folder: Path,
    progress: Progress | None = None,
) -> Evaluation:
    """Verify the clauses that texts decide on samples of a served model; ``judging`` says how they are scored.

    With ``output`` the completions are kept there as they come, and a second run asks for the missing ones alone. What
    is wrong with prompts, scorers or labels is said before the first request.
    Raises: ConfigError for a clause with a sampling law of its own, DataError for a clause without prompts,
    ServerFailure for prompts without a completion.
    """
    own, _ = decided_by_texts(policy)
    _require_one_law(own.ir.clauses)
    rows = _prompts(settings, Reading(own.ir.clauses))
    tags = [row_tags(row) for row in rows]
    require_prompts(expand_strata(own.ir, tags).clauses, tags)
    if settings.endpoint_model is None:
        name = only_model(settings.endpoint, "endpoint", KEYS, settings.endpoint_timeout)
        settings = replace(settings, endpoint_model=name)
    assert settings.endpoint_model is not None
    endpoint = Endpoint(
        settings.endpoint, settings.endpoint_model, "endpoint", KEYS, settings.endpoint_timeout,
        settings.endpoint_rate,
    )  # fmt: skip
    asked = [
        Asked(number, row, derived_seed(judging.seed, "endpoint", number))
        for number, row in enumerate(row for row in rows for _ in range(settings.samples))
    ]
    with _place(settings, rows, judging.seed) as path:
        sampler = EndpointSampler(endpoint, settings.law, chat=settings.chat)

        def sampled() -> tuple[str, ...]:
            sampler.complete(asked, path, seed=judging.seed, progress=progress)
            return (str(path),)

        found = evaluate_completions(policy, judging, folder=folder, progress=progress, made=sampled)
    given = {**found.extra.get("settings", {}), **asdict(settings)}
    given.pop("completions", None)
    left = list(NEUTRAL) if sampler.left_to_the_server else []
    extra = {**found.extra, "settings": given, "left_to_the_server": left,
             "withheld": dict(sampler.withheld)}  # fmt: skip
    return replace(found, law=settings.law, seed=judging.seed, extra=extra)


def _require_one_law(clauses: Sequence[Clause]) -> None:
    own = [clause.name for clause in clauses if clause.sampling]
    if own:
        raise ConfigError(
            f"{', '.join(f'`{name}`' for name in own)} say by `under` how to sample, and a served model is "
            "sampled in one way for all",
            help="use --model, or a policy without these statements and the settings as flags",
            parameter="endpoint",
        )


def _prompts(settings: EndpointSettings, reading: Reading) -> list[Row]:
    """The first distinct prompts of each file; tags tell rows of one prompt apart where a clause reads them."""
    found: dict[str, Row] = {}
    for spec in settings.prompts:
        seen: dict[str, Row] = {}
        for row in _read(spec):
            turns = prompt_turns(row, chat=settings.chat)  # also refuses what is no prompt
            asked = row["prompt"] if turns is None else [turns, chat_options(row, f"a row of `{spec}`")]
            key = fingerprint([asked, reading(row_tags(row))])
            seen.setdefault(key, row)
        for key, row in islice(seen.items(), settings.num_prompts):
            found.setdefault(key, row)  # what two files share is evidence once
    return list(found.values())


def _read(spec: str) -> Iterator[Row]:
    for batch in RowStream(spec, "prompts").batches(_BATCH, Position()):
        yield from batch.rows


@contextlib.contextmanager
def _place(settings: EndpointSettings, rows: list[Row], seed: int) -> Iterator[Path]:
    """Where the completions go: the output folder, or a temporary one."""
    what = {**asdict(settings), "output": None, "endpoint_rate": None, "endpoint_timeout": None}
    digest = fingerprint([what, rows, seed])
    if settings.output is not None:
        yield require_own(Path(settings.output), digest)
        return
    with tempfile.TemporaryDirectory(prefix="constraintc-") as folder:
        yield require_own(Path(folder), digest)
