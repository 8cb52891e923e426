"""Completions made elsewhere, read from files, as a source of responses to judge; no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import Clause
from constraintlang_compiler.readings import Reading
from constraintlang_compiler.scopes import compared_clauses, sample_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.degeneracy import degeneracy
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.evaluation import Evaluation, beside_verdicts, prompts_of, with_warnings
from constraintlang_runtime.human_labels import read_people
from constraintlang_runtime.integrations.texts import row_texts
from constraintlang_runtime.judge import Judge, Progress, audit_pool
from constraintlang_runtime.responses import Responses
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.score.judged_clauses import decided_by_texts
from constraintlang_runtime.score.row_stream import Position, RowStream
from constraintlang_runtime.scorers.binding import bind_audit
from constraintlang_runtime.scorers.parts import Pool
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.shared_pool import SharedScoringSettings
from constraintlang_runtime.tag_values import warn_of_spelling
from constraintlang_runtime.verification import verify

_BATCH = 4096
_OF_AN_EVALUATION = {"clause", "statistic", "scores"}
_ANY_LAW = SamplingLaw()  # what a file does not say; only a key


@dataclass(frozen=True)
class CompletionSettings(SharedScoringSettings):
    """What to judge; the names are those of the command's flags."""

    completions: tuple[str, ...]
    base_completions: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()
    human: str | None = None
    identity_terms: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Reply:
    """A completion, the number of its row, and the tags there."""

    row: int
    completion: str
    tags: Mapping[str, Any]


class FileSource:
    """The completions of files by prompt: rows with the same prompt answer one prompt, in any order.

    Tags tell prompts apart only where a clause does (``Reading``): a column with a number for each row must not make
    every row evidence of its own. Each completion keeps the tags of its row, which scorers may read. A row without a
    prompt (``text``) is a prompt of its own. ``base`` are completions of the start model; they belong to the prompts
    that they share with the others.
    Raises: DataError for a row of another shape, files without rows, or base completions that share no prompt.
    """

    def __init__(
        self, specs: Sequence[str], base: Sequence[str] = (), clauses: Sequence[Clause] = ()
    ) -> None:
        self._reading = Reading(clauses)
        self.prompts: list[str] = []
        self._rows: list[list[_Reply]] = []  # of each prompt
        self.tags: list[Mapping[str, Any]] = []
        self._base: list[list[_Reply]] = []
        numbers: dict[str, int] = {}
        for row, (prompt, completion, tags) in enumerate(_read(specs, "completions")):
            key = self._key(prompt, tags, row)
            if key not in numbers:
                numbers[key] = len(self.prompts)
                self.prompts.append(prompt)
                self._rows.append([])
                self.tags.append(tags)
            self._rows[numbers[key]].append(_Reply(row, completion, tags))
        self.num_rows = sum(map(len, self._rows))
        if not self.num_rows:
            raise DataError(
                "there are no rows", help="give a file with at least one row", parameter="completions"
            )
        self._base = [[] for _ in self._rows]
        for row, (prompt, completion, tags) in enumerate(_read(base, "base_completions")):
            number = numbers.get(self._key(prompt, tags, row))
            if number is not None and prompt:
                self._base[number].append(_Reply(row, completion, tags))
        if base and not any(self._base):
            raise DataError(
                "none of its prompts is one of --completions",
                help="give the start model's completions of the same prompts, with the same tags",
                parameter="base_completions",
            )

    @property
    def has_base(self) -> bool:
        """Whether the start model's completions were given."""
        return any(self._base)

    def responses(self, chosen: Sequence[int], law: SamplingLaw, count: int, part: int) -> Responses:
        """The completions of the chosen prompts."""
        return self._of(self._rows, chosen)

    def base_responses(self, chosen: Sequence[int], law: SamplingLaw, count: int, part: int) -> Responses:
        """Those of the start model, where there are any."""
        return self._of(self._base, [i for i in chosen if self._base[i]])

    def _key(self, prompt: str, tags: Mapping[str, Any], row: int) -> str:
        """Rows with equal keys answer one prompt."""
        if not prompt:
            return f"row {row}"
        return repr((prompt, self._reading(tags)))

    def _of(self, rows: Sequence[Sequence[_Reply]], chosen: Sequence[int]) -> Responses:
        found = [(i, reply) for i in chosen for reply in rows[i]]
        return Responses(
            numbers=[i for i, _ in found],
            sizes=[len(rows[i]) for i in chosen],
            prompts=[self.prompts[i] for i, _ in found],
            completions=[reply.completion for _, reply in found],
            tags=[reply.tags for _, reply in found],
            ids=[reply.row for _, reply in found],
        )


def evaluate_completions(
    policy: CompiledPolicy, settings: CompletionSettings, *, folder: Path, progress: Progress | None = None,
    made: Callable[[], tuple[str, ...]] | None = None,
) -> Evaluation:  # fmt: skip
    """Verify the clauses that texts decide; the others are named in ``not_judged``.

    ``made`` makes the files in place of ``settings.completions`` when labels were read and scorers are there.
    The verdicts hold for the law by which the completions were made, which nobody here knows.
    """
    started = time.perf_counter()
    people = read_people(settings.human, settings.identity_terms)
    policy, left = decided_by_texts(policy)
    with settings.shared_pool(policy, folder=folder) as pool:
        audit = bind_audit(policy.ir, settings.audit, folder=folder, allow_path=settings.allow_path)
        files = settings.completions if made is None else made()
        source = FileSource(files, settings.base_completions, policy.ir.clauses)
        second = audit_pool(policy.ir, audit, settings.scorer_timeout)
        found = _judged(policy, settings.seed, source, pool, second, progress=progress, started=started)
    found = people.beside(found, len(found.clauses))
    return replace(
        found,
        extra={
            "policy": policy.semantic_hash,
            "settings": asdict(settings),
            "num_prompts": len(source.tags),
            "num_completions": source.num_rows,
            "not_judged": left,
        },
    )


def _judged(
    policy: CompiledPolicy, seed: int, source: FileSource, pool: Pool, second: ScoringPool | None, *,
    progress: Progress | None, started: float,
) -> Evaluation:  # fmt: skip
    policy_ir = expand_strata(policy.ir, source.tags)
    clauses = (*sample_clauses(policy_ir), *compared_clauses(policy_ir))
    judge = Judge(pool, audit=second, progress=progress)
    judge.take(clauses, source, prompts_of(clauses, source), _ANY_LAW, 0)
    warn_of_spelling(clauses, source.tags)
    evidence = {clause.id: judge.evidence(clause) for clause in clauses}
    verdicts = with_warnings(verify(clauses, evidence), policy_ir, judge)
    audited = judge.audited(clauses)
    by_audit = {one.id: one for one in verify(
        clauses, evidence | {clause.id: judge.audit_evidence(clause) for clause in audited}
    )}  # fmt: skip
    by_audit_scorers = with_warnings([by_audit[clause.id] for clause in audited], policy_ir, judge)
    return Evaluation(
        verdicts, judge.records, {}, degeneracy(judge.texts), time.perf_counter() - started, None, None,
        beside=beside_verdicts(clauses, judge, by_audit_scorers, seed),
        clauses=clauses, audit_verdicts=tuple(by_audit_scorers),
    )  # fmt: skip


def _read(specs: Sequence[str], role: str) -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for spec in specs:
        stream = RowStream(spec, role)
        for batch in stream.batches(_BATCH, Position()):
            for index, row in enumerate(batch.rows):
                if row.keys() >= _OF_AN_EVALUATION:
                    raise DataError(
                        f"`{stream.source}` is the samples.jsonl of an evaluation: a record per clause",
                        help="give each reply once: its prompt and completion, without the other columns",
                        parameter=role,
                    )
                try:
                    found.append(row_texts(row))
                except DataError as error:
                    raise DataError(
                        f"{batch.place(index, stream.source)}: {error.message}",
                        help=error.help,
                        parameter=role,
                    ) from None
    return found
