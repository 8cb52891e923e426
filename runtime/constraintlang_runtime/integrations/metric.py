"""Verdicts on completions that somebody else sampled, and the same as a metric for evaluation loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_compiler.domains import matches
from constraintlang_compiler.measurements import reads_base_model
from constraintlang_compiler.scopes import compared_clauses, sample_clauses, utility_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.evidence import evidence_of, in_bet_order, response_keys
from constraintlang_runtime.integrations.texts import as_text
from constraintlang_runtime.verdicts import Verdict
from constraintlang_runtime.verification import verify

if TYPE_CHECKING:
    from constraintlang_runtime.integrations.policy import Policy


def verify_texts(
    policy: Policy,
    completions: Sequence[str],
    prompts: Sequence[str],
    tags: Sequence[Mapping[str, Any]] | None = None,
) -> list[Verdict]:
    """The verdict of every clause on one completion per prompt, as ``constraintc eval`` would give it.

    The bounds hold for the law that the completions were drawn from, on prompts drawn like these.
    Raises: ConfigError for a clause that needs a model (rows, or the base model's answers) or tokens; DataError for
    a prompt with several completions, whose answers are no independent evidence; ScorerError.
    """
    ir = policy.compiled.ir
    beyond = [c.name for c in (*utility_clauses(ir), *filter(reads_base_model, ir.clauses))]
    if beyond:
        raise ConfigError(
            f"texts do not decide {', '.join(f'`{name}`' for name in beyond)}, which need a model",
            help="verify the policy with `constraintc eval`, or leave these clauses out",
        )
    if len(set(prompts)) < len(prompts):
        raise DataError("a prompt has several completions", help="give one completion for each prompt")
    known = [{}] * len(prompts) if tags is None else tags
    expanded = expand_strata(ir, known, None)
    clauses = (*sample_clauses(expanded), *compared_clauses(expanded))
    scored = policy.scored(clauses, completions, prompts, tags)
    said = response_keys(prompts, completions)
    evidence = {
        clause.id: in_bet_order(
            evidence_of(
                clause,
                known,
                [i for i, row in enumerate(known) if matches(clause.domain, row)],
                scored,
                ({}, {}),
                1,
                said,
            )
        )
        for clause in clauses
    }
    return verify(expanded.clauses, evidence)


class PolicyMetric:
    """``compute(predictions, prompts, **columns)``, with the shape of Hugging Face's ``evaluate`` metrics.

    Returns for each clause its estimate under its name, and ``<name>/lower``, ``<name>/upper``, ``<name>/verdict``;
    ``satisfied`` says whether no required clause is violated. Raises: as ``verify_texts``.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.name = "policy"

    def compute(self, predictions: Sequence[Any], prompts: Sequence[Any], **columns: Any) -> dict[str, Any]:
        """Verdicts as one flat mapping; ``columns`` are the tags of the prompts, a list each."""
        for name, values in (("predictions", predictions), *columns.items()):
            if len(values) != len(prompts):
                raise DataError(
                    f"metric: {name} has {len(values)} entries, prompts has {len(prompts)}",
                    help="give one for each prompt",
                )
        tags = [{key: values[i] for key, values in columns.items()} for i in range(len(prompts))]
        verdicts = verify_texts(
            self._policy, [as_text(p) for p in predictions], [as_text(p) for p in prompts], tags
        )
        found: dict[str, Any] = {}
        for verdict in verdicts:
            found[verdict.clause] = verdict.estimate
            found[f"{verdict.clause}/lower"] = verdict.lower
            found[f"{verdict.clause}/upper"] = verdict.upper
            found[f"{verdict.clause}/verdict"] = verdict.verdict
        found["satisfied"] = all(v.soft or v.verdict in ("holds", "inconclusive") for v in verdicts)
        return found
