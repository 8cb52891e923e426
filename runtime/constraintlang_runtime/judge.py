"""Responses taken in, scored and kept as evidence: what every way of evaluating has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constraintlang_compiler.attributes import attributes_needed, parts_needed
from constraintlang_compiler.checkers import statistics
from constraintlang_compiler.domains import domain_name, matches
from constraintlang_compiler.ir import Clause, Indicator, PolicyIR, Value
from constraintlang_compiler.measurements import reads_base_model
from constraintlang_compiler.readings import Reading
from constraintlang_runtime.collapse import COMPARED_PROMPTS, Replies
from constraintlang_runtime.columns import WITHHELD
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.evidence import evidence_of, in_bet_order, joined, response_keys
from constraintlang_runtime.responses import Responses, Source
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.parts import Pool, Scored, score_responses
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.verification import Evidence, SumEvidence
from constraintlang_runtime.verify_sums import is_sum
from constraintlang_runtime.verify_tails import is_tail

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]
Scope = tuple[str, SamplingLaw, int]  # a domain and how its prompts are answered


class Judge:
    """Evidence, records and texts of everything judged so far.

    ``records`` has one entry per response and clause; ``replies`` the texts of each domain, those of the start model
    to the same prompts beside them. With an ``audit`` pool, clauses that read one of its attributes are judged by it
    as well.
    """

    def __init__(self, pool: Pool, *, audit: Pool | None = None, progress: Progress | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.replies: dict[Scope, Replies] = {}
        self.scopes: dict[str, Scope] = {}
        self._pool, self._audit, self._progress = pool, audit, progress
        self._parts: dict[str, list[Evidence | SumEvidence]] = {}
        self._audit_parts: dict[str, list[Evidence | SumEvidence]] = {}

    def take(
        self,
        members: Sequence[Clause],
        source: Source,
        chosen: Sequence[int],
        law: SamplingLaw,
        count: int,
        part: int = 0,
    ) -> dict[str, Evidence | SumEvidence]:
        """Have the chosen prompts answered, and judge the clauses by the answers; returns the new evidence by id."""
        found = source.responses(chosen, law, count, part)
        spoken = zip(found.completions, found.tags, strict=True)
        self.texts.extend(text for text, tags in spoken if tags.get(WITHHELD) is None)
        pool = PoolView(self._pool, members)
        scored = self._score(pool, members, found, self._progress)
        base, compared = self._base(members, source, chosen, law, count, part)
        of_base = ({}, {}) if base is None or not compared else self._score(pool, compared, base)
        audited = self.audited(members)
        by_audit: Scored | None = None
        base_by_audit: Scored = ({}, {})
        if audited and self._audit is not None:
            view = PoolView(self._pool, audited, replaced=self._audit)
            by_audit = self._score(view, audited, found)
            again = [clause for clause in audited if reads_base_model(clause)]
            base_by_audit = ({}, {}) if base is None or not again else self._score(view, again, base)
        said = response_keys(found.prompts, found.completions)
        new = {}
        for clause in members:
            self.scopes[clause.id] = (str(domain_name(clause.domain)), law, count)
            units = units_of(clause, found)
            inside = [i for unit in units for i in unit]
            sizes = [len(unit) for unit in units] or [max(1, count)]
            new[clause.id] = evidence_of(clause, found.tags, inside, scored, of_base, sizes, said)
            self._parts.setdefault(clause.id, []).append(new[clause.id])
            audit_values = None
            if by_audit is not None and clause in audited:
                self._audit_parts.setdefault(clause.id, []).append(
                    evidence_of(clause, found.tags, inside, by_audit, base_by_audit, sizes, said)
                )
                audit_values = _judged_values(clause, by_audit)
            self._record(clause, found, units, scored, audit_values)
        self._keep_texts(members, found, base)
        return new

    def evidence(self, clause: Clause) -> Evidence | SumEvidence:
        """Everything known about a clause."""
        return in_bet_order(joined(self._parts.get(clause.id, []), clause=clause))

    def audit_evidence(self, clause: Clause) -> Evidence | SumEvidence:
        """Everything that the audit scorers say about a clause that reads them."""
        return in_bet_order(joined(self._audit_parts.get(clause.id, []), clause=clause))

    def audited(self, clauses: Sequence[Clause]) -> list[Clause]:
        """The clauses that read an attribute of the audit pool."""
        names = set() if self._audit is None else set(self._audit.names)
        return [clause for clause in clauses if names & set(names_needed([clause]))]

    # ------------------------------------------------------------ parts
    def _score(
        self,
        pool: Pool,
        clauses: Sequence[Clause],
        found: Responses,
        progress: Progress | None = None,
    ) -> Scored:
        keys = {key for tags in found.tags for key in tags}
        columns = {key: [tags.get(key) for tags in found.tags] for key in keys}
        return score_responses(
            pool, clauses, found.rows, found.prompts, found.completions, found.tokenizer, columns=columns,
            progress=None if progress is None else lambda done, total: progress("scoring", done, total),
        )  # fmt: skip

    def _base(
        self, members: Sequence[Clause], source: Source, chosen: Sequence[int], law: SamplingLaw, count: int, part: int
    ) -> tuple[Responses | None, list[Clause]]:  # fmt: skip
        """The start model's responses, and the clauses that read them; a few prompts serve to compare texts."""
        compared = [clause for clause in members if reads_base_model(clause)]
        if compared:
            return source.base_responses(chosen, law, count, part), compared
        wanted: set[int] = set()
        for clause in members if source.has_base else ():
            known = self.replies.get((str(domain_name(clause.domain)), law, count))
            left = COMPARED_PROMPTS - (0 if known is None else len(known.base))
            inside = [i for i in chosen if matches(clause.domain, source.tags[i])]
            wanted.update(inside[: max(0, left)])
        if not wanted:
            return None, []
        return source.base_responses([i for i in chosen if i in wanted], law, count, part), []

    def _record(
        self, clause: Clause, found: Responses, units: Sequence[Sequence[int]], scored: Scored, audit: Floats | None
    ) -> None:  # fmt: skip
        values = _judged_values(clause, scored)
        for i, number_ in ((i, found.numbers[unit[0]]) for unit in units for i in unit):
            record: dict[str, Any] = {"prompt": found.prompts[i], "completion": found.completions[i]}
            record["scores"] = {name: number(series[i]) for name, series in scored[0].items()}
            record["clause"], record["domain"] = clause.name, domain_name(clause.domain)
            record["statistic"] = None if values is None else number(values[i])
            record["prompt_number"] = number_
            if found.ids:
                record["row"] = found.ids[i]
            if audit is not None:
                record["audit_statistic"] = number(audit[i])
            self.records.append(record)

    def _keep_texts(self, members: Sequence[Clause], found: Responses, base: Responses | None) -> None:
        of_base = _by_prompt(base) if base is not None else {}
        own = _by_prompt(found)
        for scope, clause in {self.scopes[clause.id]: clause for clause in members}.items():
            replies = self.replies.setdefault(scope, Replies())
            inside = {
                n for n, tags in zip(found.numbers, found.tags, strict=True) if matches(clause.domain, tags)
            }
            for number_, texts in own.items():
                if number_ in inside and texts:
                    replies.add(texts, of_base.get(number_))


class PoolView:
    """The scores of a pool that some clauses read; those of ``replaced`` in place of its own where it has them."""

    def __init__(self, pool: Pool, clauses: Sequence[Clause], *, replaced: Pool | None = None) -> None:
        needed = set(names_needed(clauses))
        self._pool, self._replaced = pool, replaced
        self._names = [name for name in pool.names if name in needed]

    @property
    def names(self) -> list[str]:
        """The attributes that the clauses read."""
        return self._names

    @property
    def follow_columns(self) -> bool:
        """As of the pools behind."""
        return self._pool.follow_columns or (self._replaced is not None and self._replaced.follow_columns)

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Floats]:
        """Scores [n] per attribute, as of ``ScoringPool``."""
        wanted = self._names if names is None else list(names)
        others = [] if self._replaced is None else [n for n in wanted if n in self._replaced.names]
        own = [name for name in wanted if name not in others]
        found = self._pool.score(prompts, completions, own, columns, progress)
        if self._replaced is not None and others:
            found |= self._replaced.score(prompts, completions, others, columns, progress)
        return found


def audit_pool(policy: PolicyIR, scorers: Mapping[str, Scorer], timeout: float | None) -> ScoringPool | None:
    """The pool of the second scorers; None when there are none."""
    attributes = [policy.attribute(name) for name in scorers]
    return ScoringPool(attributes, scorers, timeout=timeout) if scorers else None


def require_base(clauses: Sequence[Clause], source: Source) -> None:
    """Raise ConfigError for clauses that read the start model's responses where there are none; before any is drawn."""
    compared = [clause for clause in clauses if reads_base_model(clause)]
    if compared and not source.has_base:
        names = ", ".join(f"`{clause.name}`" for clause in compared)
        raise ConfigError(
            f"{names} compare with what the start model writes",
            help="add --base DIR_OR_ID, the model before training (in Python base=...)",
        )


def names_needed(clauses: Sequence[Clause]) -> list[str]:
    """The attributes that the clauses read, on whole responses or on their parts."""
    parts = [key for keys in parts_needed(clauses).values() for key in keys]
    return list(dict.fromkeys([*attributes_needed(clauses), *parts]))


def number(value: float) -> float | None:
    """A number for JSON; nan is None."""
    return None if np.isnan(value) else float(value)


def _judged_values(clause: Clause, scored: Scored) -> Floats | None:
    """The statistic of each response where the clause judges single responses by it, else None."""
    if not isinstance(clause.statistic, (Indicator, Value)):
        return None
    return statistics([clause], *scored)[:, 0]


def units_of(clause: Clause, found: Responses) -> list[list[int]]:
    """The responses in the domain of a clause, prompt by prompt.

    The unit of evidence is the prompt: where the source holds one twice, because tags tell its rows apart that this
    clause does not read, its responses are those of one prompt. Tails and comparisons, which need as many responses to
    each prompt as to every other, take those of the first alone.
    """
    reading = Reading([clause])
    units: dict[object, dict[int, list[int]]] = {}
    for i, (prompt, tags) in enumerate(zip(found.prompts, found.tags, strict=True)):
        if matches(clause.domain, tags):
            key = (prompt, reading(tags)) if prompt else found.numbers[i]
            units.setdefault(key, {}).setdefault(found.numbers[i], []).append(i)
    if is_tail(clause) or is_sum(clause):
        return [next(iter(unit.values())) for unit in units.values()]
    return [[i for own in unit.values() for i in own] for unit in units.values()]


def _by_prompt(found: Responses) -> dict[int, list[str]]:
    texts: dict[int, list[str]] = {}
    for number_, completion, tags in zip(found.numbers, found.completions, found.tags, strict=True):
        if tags.get(WITHHELD) is None:  # what a server withheld is no silence of the model
            texts.setdefault(number_, []).append(completion)
    return texts
