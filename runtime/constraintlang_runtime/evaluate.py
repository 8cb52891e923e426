"""Does the model obey the policy: sample on held-out prompts, score, and hand the evidence to verification."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.clean_bounds import corrected_alpha
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause, DomainIs, RowsLoss
from constraintlang_compiler.scopes import compared_clauses, sample_clauses, utility_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.degeneracy import degeneracy
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.evaluation import Evaluation, beside_verdicts, by_law, prompts_of, with_warnings
from constraintlang_runtime.judge import Judge, require_base
from constraintlang_runtime.measured_rows import MeasuredRows
from constraintlang_runtime.model_source import ModelSource
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.parts import Pool
from constraintlang_runtime.sequential import Track
from constraintlang_runtime.sequential_run import run_sequentially
from constraintlang_runtime.tag_values import warn_of_spelling
from constraintlang_runtime.verification import AnyEvidence, UtilityEvidence, Verdict, verify

Progress = Callable[[str, int, int], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sequential:
    """Prompts are taken in batches until every clause is decided, and at most ``max_prompts`` of them."""

    max_prompts: int | None = None


def evaluate(
    model: Any,
    tokenizer: Any,
    policy: CompiledPolicy,
    prompts: Sequence[TokenRow],
    pool: Pool,
    *,
    law: SamplingLaw,
    samples_per_prompt: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    rows: Mapping[str, Sequence[TokenRow]] | None = None,
    base_model: Any = None,
    logits_processor: Sequence[Any] = (),
    progress: Progress | None = None,
    audit: Pool | None = None,
    sequential: Sequential | None = None,
    benchmarks: Mapping[str, UtilityEvidence] | None = None,
) -> Evaluation:
    """Verify every clause of a policy on prompts.

    Clauses that share a sampling law share their samples. ``rows`` are named sets of held-out rows: the loss of each
    set is reported, and utility clauses are judged on the rows that lie in their domain, against ``base_model``. That
    model also answers the prompts of clauses that compare with what it writes, and some of every domain, so that
    replies that have collapsed are seen. A stratum without prompts is vacuous. ``audit`` scorers judge the clauses
    that read them a second time, beside the verdicts. ``sequential`` stops early; utility clauses, whose rows have no
    part in when it stops, keep their fixed bounds. ``benchmarks`` are answers to the
    questions of tasks: a clause about accuracy whose domain is the name of one is judged on them.
    Several processes that call it together share the sampling and the rows, and all get the same result.
    Raises: ConfigError when a clause lacks rows or a base model, DataError for a clause without prompts,
    StratumError for a key of ``per`` that no prompt has.
    """
    started = time.perf_counter()
    measured = MeasuredRows(rows or {}, model, base_model, tokenizer, batch_size // 4 or 1)
    policy_ir = expand_strata(
        policy.ir, [row.tags for row in prompts], [row.tags for row in measured.every] or None
    )
    clauses = (*sample_clauses(policy_ir), *compared_clauses(policy_ir))
    source = ModelSource(
        model, tokenizer, prompts, base_model=base_model, seed=seed, batch_size=batch_size,
        logits_processor=logits_processor, progress=progress,
    )  # fmt: skip
    require_base(clauses, source)
    prompts_of(clauses, source)
    warn_of_spelling(clauses, source.tags)
    answers = {
        clause.id: _benchmark_of(clause, benchmarks or {}, measured.every)
        for clause in utility_clauses(policy_ir)
    }
    own_rows = {
        clause.id: measured.of(clause) for clause in utility_clauses(policy_ir) if answers[clause.id] is None
    }
    judge = Judge(pool, audit=audit, progress=progress)
    early: dict[str, Verdict] = {}
    ended: dict[str, Any] = {}
    if sequential is not None:
        early, ended = run_sequentially(
            clauses, source, judge, law=law, samples_per_prompt=samples_per_prompt, seed=seed,
            num_clauses=len(policy_ir.clauses), max_prompts=sequential.max_prompts,
        )  # fmt: skip
    else:
        for (own_law, count), members in by_law(clauses, law, samples_per_prompt).items():
            judge.take(members, source, prompts_of(members, source), own_law, count)
    evidence: dict[str, AnyEvidence] = {clause.id: judge.evidence(clause) for clause in clauses}
    losses = measured.losses()
    for clause in utility_clauses(policy_ir):
        evidence[clause.id] = answers[clause.id] or measured.evidence(clause, own_rows[clause.id])
    verdicts = [early.get(verdict.id, verdict) for verdict in verify(policy_ir.clauses, evidence)]
    verdicts = with_warnings(verdicts, policy_ir, judge)
    audited = judge.audited(clauses)
    if sequential is None:
        by_audit = {clause.id: judge.audit_evidence(clause) for clause in audited}
        found = {one.id: one for one in verify(policy_ir.clauses, evidence | by_audit)}
    else:
        found = {clause.id: _anytime(clause, judge, len(policy_ir.clauses)) for clause in audited}
    by_audit_scorers = with_warnings([found[clause.id] for clause in audited], policy_ir, judge)
    return Evaluation(
        verdicts, judge.records, losses, degeneracy(judge.texts), time.perf_counter() - started, law, seed,
        beside=beside_verdicts(clauses, judge, by_audit_scorers, seed) | ended,
        clauses=clauses, audit_verdicts=tuple(by_audit_scorers),
    )  # fmt: skip


def _anytime(clause: Clause, judge: Judge, num_clauses: int) -> Verdict:
    """What the audit scorers say; the run stopped for the sake of the others."""
    track = Track(clause, corrected_alpha(float(clause.confidence), num_clauses))
    found = judge.audit_evidence(clause)
    track.add(found)
    return track.verdict()


def _benchmark_of(
    clause: Clause, benchmarks: Mapping[str, UtilityEvidence], rows: Sequence[TokenRow]
) -> UtilityEvidence | None:
    """The answers that a clause `preserve mean(accuracy) ... for domain=TASK` is judged on; None for other clauses."""
    assert isinstance(clause.statistic, RowsLoss)
    domain = clause.domain
    if clause.statistic.quantity != "accuracy" or not isinstance(domain, DomainIs) or domain.key != "domain":
        return None
    named = [name for name in domain.values if name in benchmarks]
    if not named:
        return None
    if len(domain.values) > 1 or any(matches(domain, row.tags) for row in rows):
        raise ConfigError(
            f"clause `{clause.name}` is about the benchmark `{named[0]}` and about rows or other tasks too",
            help="name the --rows otherwise, or write one clause for each",
        )
    return benchmarks[named[0]]
