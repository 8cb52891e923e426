"""Does the model obey the policy: sample on held-out prompts, score, and hand the evidence to verification."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import Clause, DomainIs, Indicator, RowsLoss, Value
from constraintlang_compiler.measurements import reads_base_model
from constraintlang_compiler.scopes import compared_clauses, sample_clauses, utility_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.checkpoint import write_atomic
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.degeneracy import degeneracy
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.evidence import evidence_of
from constraintlang_runtime.mishaps import writing
from constraintlang_runtime.row_losses import row_answers, row_losses
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.parts import Scored, score_responses
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.verification import (
    AnyEvidence,
    UtilityEvidence,
    Verdict,
    verify,
)

Progress = Callable[[str, int, int], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Verdicts, the samples they rest on (one record per sample and clause), losses on rows, degeneracy."""

    verdicts: list[Verdict]
    samples: list[dict[str, Any]]
    losses: dict[str, float]
    degeneracy: dict[str, Any]
    seconds: float
    law: SamplingLaw
    seed: int
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``verdict.json``."""
        return {
            "clauses": [verdict.to_dict() for verdict in self.verdicts],
            "losses": self.losses,
            "degeneracy": self.degeneracy,
            "sampling": {**self.law.__dict__, "seed": self.seed},
            "seconds": round(self.seconds, 2),
            **self.extra,
        }

    def save(self, folder: Path) -> None:
        """Write ``verdict.json`` and ``samples.jsonl``, each whole or not at all; the verdict last."""
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self.samples)
        verdict = json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"
        with writing(f"the evaluation to `{folder}`", help="free space there, or name another folder"):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "samples.jsonl", lines)
            write_atomic(folder / "verdict.json", verdict)


def evaluate(
    model: Any,
    tokenizer: Any,
    policy: CompiledPolicy,
    prompts: Sequence[TokenRow],
    pool: ScoringPool,
    *,
    law: SamplingLaw,
    samples_per_prompt: int = 1,
    seed: int = 0,
    batch_size: int = 256,
    rows: Mapping[str, Sequence[TokenRow]] | None = None,
    base_model: Any = None,
    logits_processor: Sequence[Any] = (),
    progress: Progress | None = None,
    benchmarks: Mapping[str, UtilityEvidence] | None = None,
) -> Evaluation:
    """Verify every clause of a policy on prompts.

    Clauses that share a sampling law share their samples. ``rows`` are named sets of held-out rows: the loss of each
    set is reported, and utility clauses are judged on the rows that lie in their domain, against ``base_model``. That
    model also answers the prompts of clauses that compare with what it writes. ``benchmarks`` are answers to the
    questions of tasks: a clause about accuracy whose domain is the name of one is judged on them. A stratum without
    prompts is vacuous.
    Raises: ConfigError when a clause lacks rows or a base model, DataError for a clause without prompts,
    StratumError for a key of ``per`` that no prompt has.
    """
    started = time.perf_counter()
    everything = [row for part in (rows or {}).values() for row in part]
    policy_ir = expand_strata(
        policy.ir, [row.tags for row in prompts], [row.tags for row in everything] or None
    )
    clauses = (*sample_clauses(policy_ir), *compared_clauses(policy_ir))
    evidence: dict[str, AnyEvidence] = {}
    records: list[dict[str, Any]] = []
    texts: list[str] = []
    for (clause_law, count), members in _by_law(clauses, law, samples_per_prompt).items():
        chosen = [i for i, row in enumerate(prompts) if any(matches(c.domain, row.tags) for c in members)]
        for clause in members:
            _require_prompts(clause, prompts)
        repeated = [prompts[i] for i in chosen for _ in range(count)]
        sampled = sample(
            model, tokenizer, repeated, clause_law, seed=derived_seed(seed, "evaluate", clause_law, count),
            batch_size=batch_size, logits_processor=logits_processor,
            progress=None if progress is None else lambda done, total: progress("sampling", done, total),
        )  # fmt: skip
        asked, replies = prompt_texts(sampled, tokenizer), completion_texts(sampled, tokenizer)
        texts.extend(replies)
        tags = [row.tags for row in sampled]
        columns = {key: [own.get(key) for own in tags] for key in {k for own in tags for k in own}}
        scores, parts = score_responses(
            pool, members, sampled, asked, replies, tokenizer, columns=columns,
            progress=None if progress is None else lambda done, total: progress("scoring", done, total),
        )  # fmt: skip
        of_base: Scored = ({}, {})
        if any(reads_base_model(clause) for clause in members):
            if base_model is None:
                names = ", ".join(f"`{clause.name}`" for clause in members if reads_base_model(clause))
                raise ConfigError(
                    f"{names} compare with what the start model writes",
                    help="add --base DIR_OR_ID, the model before training",
                )
            answers = sample(
                base_model, tokenizer, repeated, clause_law,
                seed=derived_seed(seed, "evaluate base", clause_law, count), batch_size=batch_size,
                progress=None if progress is None else lambda done, total: progress("sampling base", done, total),
            )  # fmt: skip
            of_base = score_responses(
                pool, members, answers, prompt_texts(answers, tokenizer), completion_texts(answers, tokenizer),
                tokenizer, columns=columns,
            )  # fmt: skip
        for clause in members:
            inside = [i for i, row in enumerate(sampled) if matches(clause.domain, row.tags)]
            evidence[clause.id] = evidence_of(clause, tags, inside, (scores, parts), of_base, count)
            values = _judged_values(clause, (scores, parts))
            records.extend(
                {
                    "prompt": asked[i],
                    "completion": replies[i],
                    "scores": {name: _number(series[i]) for name, series in scores.items()},
                    "clause": clause.name,
                    "domain": domain_name(clause.domain),
                    "statistic": None if values is None else _number(values[i]),
                }
                for i in inside
            )
    losses = {
        name: float(np.sum(nll) / max(1.0, np.sum(counts)))
        for name, (nll, counts) in (
            (name, row_losses(model, tokenizer, part, batch_size=batch_size // 4 or 1))
            for name, part in (rows or {}).items()
        )
    }
    for clause in utility_clauses(policy_ir):
        answers = _benchmark_of(clause, benchmarks or {}, everything)
        evidence[clause.id] = answers or _utility_evidence(
            clause, model, base_model, tokenizer, everything, batch_size // 4 or 1
        )
    verdicts = verify(policy_ir.clauses, evidence)
    return Evaluation(verdicts, records, losses, degeneracy(texts), time.perf_counter() - started, law, seed)


def _judged_values(clause: Clause, scored: Scored) -> Floats | None:
    """The statistic of each response where the clause judges single responses by it, else None."""
    if not isinstance(clause.statistic, (Indicator, Value)):
        return None
    return statistics([clause], *scored)[:, 0]


def _by_law(
    clauses: Sequence[Clause], law: SamplingLaw, samples_per_prompt: int
) -> dict[tuple[SamplingLaw, int], list[Clause]]:
    """Clauses by the sampling law and number of samples per prompt that they ask for."""
    grouped: dict[tuple[SamplingLaw, int], list[Clause]] = {}
    for clause in clauses:
        count = int(float(clause.sampling.get("samples", samples_per_prompt)))
        grouped.setdefault((law.under(dict(clause.sampling)), count), []).append(clause)
    return grouped


def _require_prompts(clause: Clause, prompts: Sequence[TokenRow]) -> None:
    if not clause.stratum and not any(matches(clause.domain, row.tags) for row in prompts):
        present = sorted({str(row.tags["domain"]) for row in prompts if "domain" in row.tags})
        raise DataError(
            f"no prompt lies in the domain of `{clause.name}` ({domain_name(clause.domain)}); "
            f"the prompts have {'the domains ' + ', '.join(present) if present else 'no domain'}",
            help="write --prompts DOMAIN=FILE, or give the rows a `domain` column",
        )


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


def _utility_evidence(
    clause: Clause, model: Any, base_model: Any, tokenizer: Any, rows: Sequence[TokenRow], batch_size: int
) -> UtilityEvidence:
    assert isinstance(clause.statistic, RowsLoss)
    mine = [row for row in rows if matches(clause.domain, row.tags)]
    if base_model is None:
        raise ConfigError(
            f"clause `{clause.name}` compares with the start model",
            help="add --base DIR_OR_ID, the model before training",
        )
    if not mine:
        raise ConfigError(
            f"clause `{clause.name}` speaks of rows, and none lie in its domain ({domain_name(clause.domain)})",
            help="add --rows DOMAIN=FILE with held-out rows, or --tasks NAME where the domain is a benchmark",
        )
    measure = row_answers if clause.statistic.quantity == "accuracy" else row_losses
    sums, counts = measure(model, tokenizer, mine, batch_size=batch_size)
    base_sums, _ = measure(base_model, tokenizer, mine, batch_size=batch_size)
    return UtilityEvidence(model_sums=sums, base_sums=base_sums, counts=counts)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
