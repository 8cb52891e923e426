"""What each statement of a policy says of a sample of responses, with the reasons and the worst responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from constraintlang.accounts import ORDER_NOTE, scores_read
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.judging import joint_verdict
from constraintlang.margins import CRISP, Logic
from constraintlang.normal_form import on_law, on_response
from constraintlang.reasons import Reason, margin_json, reasons
from constraintlang.semantics import Scores
from constraintlang.tree import speaks_of_order
from constraintlang_compiler.domains import matches
from constraintlang_compiler.lower_domains import lower_domain
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.sample_verdicts import verdicts_on
from constraintlang_runtime.samples_file import Response
from constraintlang_runtime.text_scores import TextScores
from constraintlang_runtime.verdicts import Verdict


@dataclass(frozen=True)
class Worst:
    """A response that a statement is not true of, and why."""

    response: Response
    reason: Reason


@dataclass(frozen=True)
class SampleAccount:
    """One statement on a sample; ``reason`` is that of a statement about all responses together."""

    statement: CheckedStatement
    verdict: str
    verdicts: tuple[Verdict, ...] = ()
    num_responses: int = 0
    num_failing: int = 0
    reason: Reason | None = None
    worst: tuple[Worst, ...] = ()
    failing: tuple[tuple[str, int], ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        """The label, else the canonical text."""
        return self.statement.label or self.statement.text

    def to_json(self) -> dict[str, Any]:
        """The account as plain data."""
        worst = [
            {
                "text": entry.response.text,
                "prompt": entry.response.prompt,
                "margin": margin_json(entry.reason.margin),
                "reason": entry.reason.to_json(),
            }
            for entry in self.worst
        ]
        return {
            "statement": self.name,
            "strength": self.statement.strength,
            "verdict": self.verdict,
            "note": self.note,
            "responses": self.num_responses,
            "failing_responses": self.num_failing,
            "clauses": [verdict.to_dict() for verdict in self.verdicts],
            "reason": None if self.reason is None else self.reason.to_json(),
            "fails_most_often": [{"text": text, "responses": count} for text, count in self.failing],
            "worst": worst,
        }


def sample_accounts(
    policy: CheckedPolicy,
    responses: Sequence[Response],
    scores: Sequence[Scores],
    *,
    num_worst: int = 3,
    logic: Logic = CRISP,
) -> list[SampleAccount]:
    """What each statement says of the responses in its domain."""
    return [
        _account(statement, policy, responses, scores, num_worst, logic) for statement in policy.statements
    ]


def _account(
    statement: CheckedStatement,
    policy: CheckedPolicy,
    responses: Sequence[Response],
    scores: Sequence[Scores],
    num_worst: int,
    logic: Logic,
) -> SampleAccount:
    if statement.reading == "rows":
        return SampleAccount(statement, "not judged", note="it speaks of the model on your rows")
    if speaks_of_order(statement.formula):
        return SampleAccount(statement, "not judged", note=ORDER_NOTE)
    inside = [i for i, response in enumerate(responses) if _counts(statement, response)]
    sample = [scores[i] for i in inside]
    prompts = [responses[i].prompt for i in inside]
    grouped = [prompt for prompt in prompts if prompt is not None]
    complete = grouped if len(grouped) == len(prompts) else None
    try:
        verdicts = tuple(verdicts_on(statement, policy.attributes, sample, complete))
    except ConfigError as error:
        return SampleAccount(statement, "not judged", note=error.message)
    verdict = joint_verdict([found.verdict for found in verdicts])
    if not sample:
        note = f"none of the {len(responses)} responses is of a prompt that it speaks of"
        return SampleAccount(statement, verdict, verdicts, note=note)
    if statement.reading == "distribution":
        law = on_law(list(zip(_weights(complete or list(map(str, inside))), sample, strict=True)))
        reason = reasons(statement.formula, law, policy.attributes, logic=logic)
        return SampleAccount(statement, verdict, verdicts, len(sample), reason=reason)
    judged = [
        Worst(
            responses[i], reasons(statement.formula, on_response(scores[i]), policy.attributes, logic=logic)
        )
        for i in inside
    ]
    bad = [entry for entry in judged if entry.reason.truth is not True]
    bad.sort(key=lambda entry: float("-inf") if entry.reason.margin is None else float(entry.reason.margin))
    failing = Counter(leaf.text for entry in bad for leaf in entry.reason.leaves() if leaf.fails)
    return SampleAccount(
        statement,
        verdict,
        verdicts,
        len(sample),
        len(bad),
        worst=tuple(bad[:num_worst]),
        failing=tuple(failing.most_common(3)),
    )


def _counts(statement: CheckedStatement, response: Response) -> bool:
    if response.clause is not None:
        # A statement of several clauses calls them `name`, `name[2]`, ...; each has the same samples.
        return response.clause == (statement.label or statement.text)
    domain = None if statement.domain is None else lower_domain(statement.domain)
    return matches(domain, response.tags)


def _weights(prompts: Sequence[str]) -> list[Fraction]:
    """The weight of each response: prompts weigh the same, as do the responses to one prompt."""
    sizes = Counter(prompts)
    return [Fraction(1, len(sizes) * sizes[prompt]) for prompt in prompts]


def score_responses(
    policy: CheckedPolicy, responses: Sequence[Response], given: Scores, source: TextScores
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The scores of every response: given for all, from the file, else of its text; and why others are missing.

    Raises: DataError when scores have to be computed and a response has no text.
    """
    scores: list[dict[str, Any]] = [{**response.scores, **given} for response in responses]
    problems: dict[str, str] = {}
    for name in scores_read(policy, of_law=True):
        missing = [i for i, known in enumerate(scores) if name not in known]
        if not missing:
            continue
        texts = [responses[i].text for i in missing]
        if any(text is None for text in texts):
            raise DataError(
                f"a response has neither a score of `{name}` nor a text to score",
                help='add it to "scores", or write the response as "text"',
                parameter="samples",
            )
        prompts = [responses[i].prompt or "" for i in missing]
        try:
            values = source.score(name, [text or "" for text in texts], prompts)
        except ConfigError as error:
            problems[name] = error.message + (f" ({error.help})" if error.help else "")
            continue
        for index, value in zip(missing, values, strict=True):
            scores[index][name] = value
    return scores, problems
