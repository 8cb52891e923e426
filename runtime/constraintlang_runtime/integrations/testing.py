"""``assert_satisfies``: a policy as an assertion about a model, for test suites."""

from __future__ import annotations

from typing import Any

from constraintlang_runtime.evaluation import Evaluation
from constraintlang_runtime.integrations.policy import Policy
from constraintlang_runtime.integrations.verifying import Prompts


def assert_satisfies(
    model: Any,
    policy: Policy,
    prompts: Prompts,
    *,
    tokenizer: Any,
    require_holds: bool = False,
    **settings: Any,
) -> Evaluation:
    """Sample the model on the prompts and raise AssertionError when a clause is violated.

    A clause is violated when the lower confidence bound of its rate is above its bound, so a test fails by chance at
    most as often as the clause's confidence allows; ``require_holds`` also fails on ``inconclusive``, which says that
    the prompts are too few to tell. ``prompts`` and ``settings`` are those of ``Policy.verify``.
    Returns the evaluation. Raises: AssertionError naming each clause with its rate, bounds and the worst text.
    """
    found = policy.verify(model, prompts, tokenizer=tokenizer, **settings)
    accepted = ("holds",) if require_holds else ("holds", "inconclusive")
    broken = [v for v in found.verdicts if v.verdict not in accepted and not v.soft]
    if broken:
        raise AssertionError(
            "the model does not satisfy the policy\n" + "\n".join(_line(v, found) for v in broken)
        )
    return found


def _line(verdict: Any, found: Evaluation) -> str:
    own = [s for s in found.samples if s["clause"] == verdict.clause and s["statistic"] is not None]
    worst = max(own, key=lambda sample: sample["statistic"], default=None)
    example = f"\n      worst: {worst['completion'][:80]!r} after {worst['prompt'][-40:]!r}" if worst else ""
    return f"  {verdict.clause}: {verdict.in_numbers()}{example}"
