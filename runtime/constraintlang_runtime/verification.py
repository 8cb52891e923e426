"""From scores of held-out samples to a verdict per clause, with the confidence bounds that earn it.

The unit of evidence is the prompt: several samples of one prompt enter as their mean. ``lower`` and ``upper``
are each one-sided at ``alpha = (1 - confidence) / number of clauses`` (Bonferroni), so with probability at
least the confidence no clause of the policy is called ``holds`` wrongly. Nothing here samples, scores or
trains.

Verdicts: ``holds`` when the upper bound is within the clause's bound, ``violated`` when the lower bound is
beyond it, else ``inconclusive``; ``vacuous`` without prompts; ``error`` when missing scores stand in the way
of a decision. A score that is missing, nan or outside its declared range counts as a violation in the upper
bound and as clean in the lower one: it can never help a policy to pass. Prompts stand in an order that does not
depend on their values (``bet_order``), those without a score in their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from constraintlang_compiler import ir
from constraintlang_compiler.clean_bounds import corrected_alpha

from .degeneracy import degeneracy
from .verdicts import Direction, Quantity, Verdict, VerdictName, exit_code
from .verify_plain import CountEvidence, Evidence, is_indicator, is_plain, verify_clause, verify_counts
from .verify_rows import UtilityEvidence, verify_accuracy, verify_utility
from .verify_sums import SumEvidence, is_sum, verify_sum
from .verify_tails import is_tail, verify_tail

__all__ = [
    "AnyEvidence",
    "CountEvidence",
    "Direction",
    "Evidence",
    "Quantity",
    "SumEvidence",
    "UtilityEvidence",
    "Verdict",
    "VerdictName",
    "degeneracy",
    "exit_code",
    "verify",
    "verify_accuracy",
    "verify_clause",
    "verify_counts",
    "verify_utility",
]

AnyEvidence = Evidence | CountEvidence | UtilityEvidence | SumEvidence


def verify(clauses: Sequence[ir.Clause], evidence: Mapping[str, AnyEvidence]) -> list[Verdict]:
    """Verdicts of all clauses of one policy, jointly at each clause's confidence.

    ``evidence`` is keyed by ``clause.id``. Each bound is taken at ``(1 - confidence) / len(clauses)``:
    clauses that are vacuous, ``prefer`` or ``always`` count too, so that the correction never depends on the
    data.
    Raises: ValueError when a clause has no evidence or evidence of the wrong sort.
    """
    verdicts = []
    for clause in clauses:
        found = evidence.get(clause.id)
        alpha = corrected_alpha(float(clause.confidence), len(clauses))
        if isinstance(clause.statistic, ir.RowsLoss) and isinstance(found, UtilityEvidence):
            judge = verify_accuracy if clause.statistic.quantity == "accuracy" else verify_utility
            verdicts.append(judge(clause, found.model_sums, found.base_sums, found.counts, alpha=alpha))
        elif is_sum(clause) and isinstance(found, SumEvidence):
            verdicts.append(verify_sum(clause, found, alpha=alpha))
        elif is_tail(clause) and isinstance(found, Evidence):
            values = np.asarray(found.statistic_per_prompt, dtype=np.float64)
            verdicts.append(verify_tail(clause, values, alpha=alpha))
        elif is_indicator(clause) and isinstance(found, CountEvidence):
            verdicts.append(verify_counts(clause, found, alpha=alpha))
        elif is_plain(clause) and isinstance(found, Evidence):
            verdicts.append(
                verify_clause(
                    clause,
                    found.statistic_per_prompt,
                    alpha=alpha,
                    single_sample=found.single_sample,
                )
            )
        else:
            is_rows = isinstance(clause.statistic, ir.RowsLoss)
            wanted = "UtilityEvidence" if is_rows else "SumEvidence" if is_sum(clause) else "Evidence"
            raise ValueError(
                f"got {type(found).__name__} for clause `{clause.name}` ({clause.id}); expected {wanted}: "
                "score every clause, with empty arrays where its domain has no prompts"
            )
    return verdicts
