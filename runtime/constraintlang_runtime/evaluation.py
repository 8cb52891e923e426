"""What an evaluation found: verdicts, the samples they rest on, and what stands beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from constraintlang_compiler.artifact import write_whole
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause, PolicyIR
from constraintlang_runtime.collapse import warnings_of
from constraintlang_runtime.judge import Judge
from constraintlang_runtime.responses import Source
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.small_writes import writing_small
from constraintlang_runtime.tag_values import empty_domains, no_prompt
from constraintlang_runtime.verdicts import Verdict
from constraintlang_runtime.worst_prompts import worst_prompts


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Verdicts, the samples they rest on (one record per sample and clause), losses on rows, degeneracy.

    ``law`` and ``seed`` are None for completions made elsewhere. ``beside`` is what stands beside the verdicts: the
    figures of degeneracy by clause, the worst prompts, the audit scorers, human labels, where a sequential run ended.
    ``clauses`` are those about responses, strata written out; ``audit_verdicts`` those of the audit scorers.
    """

    verdicts: list[Verdict]
    samples: list[dict[str, Any]]
    losses: dict[str, float]
    degeneracy: dict[str, Any]
    seconds: float
    law: SamplingLaw | None
    seed: int | None
    extra: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    clauses: tuple[Clause, ...] = ()
    audit_verdicts: tuple[Verdict, ...] = ()

    def __repr__(self) -> str:
        """A line for each verdict; the samples, which are long and may be offensive, are counted."""
        lines = [f"\n  {verdict.clause}: {verdict.in_numbers()}" for verdict in self.verdicts]
        return f"Evaluation, {len(self.samples)} samples in `samples`{''.join(lines)}"

    def deciding(self, *, audit: bool = False) -> list[Verdict]:
        """The verdicts that make the exit code: with ``audit`` those of the audit scorers where there are any."""
        by_audit = {verdict.id: verdict for verdict in self.audit_verdicts} if audit else {}
        return [by_audit.get(verdict.id, verdict) for verdict in self.verdicts]

    @property
    def warnings(self) -> list[str]:
        """What the reader of a verdict must not miss, each with the clauses that it concerns."""
        found: dict[str, list[str]] = {}
        for verdict in self.verdicts:
            for warning in verdict.warnings:
                found.setdefault(warning, []).append(f"`{verdict.clause}` {verdict.verdict}")
        return [f"{', '.join(names)}, but {warning}" for warning, names in found.items()]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``verdict.json``."""
        law = None if self.law is None else {**self.law.__dict__, "seed": self.seed}
        return {
            "clauses": [verdict.to_dict() for verdict in self.verdicts],
            "warnings": self.warnings,
            # JSON has no nan.
            "losses": {name: loss if math.isfinite(loss) else None for name, loss in self.losses.items()},
            "degeneracy": self.degeneracy,
            "sampling": law,
            "seconds": round(self.seconds, 2),
            **self.beside,
            **self.extra,
        }

    def save(self, folder: Path) -> None:
        """Write ``verdict.json`` and ``samples.jsonl``, each whole or not at all; the verdict last."""
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in self.samples)
        verdict = json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"
        escaped = "backslashreplace"  # half a surrogate pair, which is a JSON escape then
        with writing_small(f"the evaluation to `{folder}`", help="free space there, or name another folder"):
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / "samples.jsonl", lines.encode(errors=escaped))
            write_whole(folder / "verdict.json", verdict.encode(errors=escaped))


def by_law(
    clauses: Sequence[Clause], law: SamplingLaw, samples_per_prompt: int
) -> dict[tuple[SamplingLaw, int], list[Clause]]:
    """Clauses by the sampling law and number of samples per prompt that they ask for."""
    grouped: dict[tuple[SamplingLaw, int], list[Clause]] = {}
    for clause in clauses:
        count = int(float(clause.sampling.get("samples", samples_per_prompt)))
        grouped.setdefault((law.under(dict(clause.sampling)), count), []).append(clause)
    return grouped


def prompts_of(clauses: Sequence[Clause], source: Source) -> list[int]:
    """The prompts that lie in a domain of the clauses, in order.

    Raises: DataError as ``require_prompts``.
    """
    require_prompts(clauses, source.tags)
    return [i for i, tags in enumerate(source.tags) if any(matches(c.domain, tags) for c in clauses)]


def require_prompts(clauses: Sequence[Clause], prompts: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError for a clause without prompts, of which these are the tags; a stratum may be without."""
    for clause in clauses:
        if not clause.stratum and (empty := empty_domains(clause, prompts)):
            raise no_prompt(clause, empty[0], prompts, "--prompts DOMAIN=FILE")


def with_warnings(verdicts: Sequence[Verdict], policy: PolicyIR, judge: Judge) -> list[Verdict]:
    """The verdicts with what their domain's replies have lost against the start model's."""
    by_scope = {scope: tuple(warnings_of(replies)) for scope, replies in judge.replies.items()}
    scopes = {clause.id: judge.scopes.get(clause.id) for clause in policy.clauses}
    return [
        replace(verdict, warnings=by_scope.get(scope, ())) if (scope := scopes[verdict.id]) else verdict
        for verdict in verdicts
    ]


def beside_verdicts(
    clauses: Sequence[Clause], judge: Judge, audit_verdicts: Sequence[Verdict], seed: int
) -> dict[str, Any]:
    """Degeneracy by clause, the worst prompts where there are several samples, and the audit."""
    figures = {scope: replies.summary() for scope, replies in judge.replies.items()}
    found: dict[str, Any] = {
        "clause_degeneracy": {
            clause.name: figures[judge.scopes[clause.id]] for clause in clauses if clause.id in judge.scopes
        }
    }
    if worst := worst_prompts(clauses, judge.records, seed):
        found["worst_prompts"] = worst
    if audit_verdicts:
        records: dict[str, list[dict[str, Any]]] = {}
        for record in judge.records:
            records.setdefault(record["clause"], []).append(record)
        found["audit"] = [
            {**verdict.to_dict(), **_agreement(verdict, records.get(verdict.clause, ()))}
            for verdict in audit_verdicts
        ]
    return found


def _agreement(verdict: Verdict, records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """``agreement``: the share of responses on which both scorers say the same; of a mean, ``mean_difference``.

    Over the responses that both could score; None where there are none, or for the other of the two.
    """
    pairs = [(record["statistic"], record.get("audit_statistic")) for record in records]
    known = [(own, other) for own, other in pairs if own is not None and other is not None]
    found: dict[str, float | None] = {"agreement": None, "mean_difference": None}
    if known and verdict.quantity == "mean":
        found["mean_difference"] = sum(abs(own - other) for own, other in known) / len(known)
    elif known:
        found["agreement"] = sum(own == other for own, other in known) / len(known)
    return found
