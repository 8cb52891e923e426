"""Runs the tests of a policy: each expectation on what is given, and on what scorers make of its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, Protocol

from constraintlang.cases import Case, PolicyTest
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.judging import joint_verdict, met_by_truths, met_by_verdicts
from constraintlang.normal_form import on_response, truth_on_response
from constraintlang.reasons import Reason, reasons
from constraintlang.semantics import Response, Truth, score_key
from constraintlang.tree import overs_in, whole_names_in
from constraintlang_runtime.errors import RuntimeFailure
from constraintlang_runtime.text_parts import score_parts

Status = Literal["passed", "failed", "skipped", "error"]
Scores = Mapping[str, Decimal | None]


class Source(Protocol):
    """What scores texts; ``can_score`` says whether it may, here and now."""

    def can_score(self, name: str) -> bool:
        """Whether the attribute can be scored."""
        ...

    def score(self, name: str, texts: Sequence[str]) -> list[Decimal | None]:
        """The score of each text."""
        ...


@dataclass(frozen=True)
class Finding:
    """What one statement is on what a case gives: true, false, unknown, or the verdict on the sample."""

    statement: CheckedStatement
    truth: Truth = None
    verdict: str | None = None
    reason: Reason | None = None
    note: str = ""


@dataclass(frozen=True)
class CaseResult:
    """One expectation after running. ``responses`` are the scores that it was judged on."""

    case: Case
    status: Status
    message: str
    findings: tuple[Finding, ...] = ()
    responses: tuple[Scores | Response, ...] = ()


@dataclass(frozen=True)
class TestResult:
    """One ``test`` block after running."""

    __test__ = False  # not a test of ours

    test: PolicyTest
    cases: tuple[CaseResult, ...] = ()


@dataclass(frozen=True)
class Runner:
    """Runs cases of one policy."""

    policy: CheckedPolicy
    source: Source

    def run(self, chosen: Callable[[PolicyTest], bool] = lambda test: True) -> list[TestResult]:
        """Every chosen test, in the order of the file."""
        return [
            TestResult(test, tuple(self.run_case(case) for case in test.cases))
            for test in self.policy.tests
            if chosen(test)
        ]

    def run_case(self, case: Case) -> CaseResult:
        """One expectation: its scores are gathered, then it is judged."""
        statements = [self.policy.statements[index] for index in case.statements]
        if case.of_sample:
            missing = _missing(statements, case.stubs)
            if missing:
                message = (
                    f"{_listed(missing)} not given: give a list for every score that the statement reads"
                )
                return CaseResult(case, "error", message)
            try:
                return self._judge_sample(case, statements)
            except RuntimeFailure as error:
                return CaseResult(case, "error", str(error))
        refused: dict[str, None] = {}
        failed: dict[str, None] = {}

        def score(name: str, texts: Sequence[str]) -> list[Decimal | None] | None:
            if case.text is None or "@" in name:
                failed[name] = None
            elif not self.source.can_score(name):
                refused[name] = None
            else:
                return self.source.score(name, texts)
            return None

        scores: dict[str, Decimal | None] = dict(case.scores_of(0))
        try:
            for name in _missing(statements, case.stubs):
                scores[name] = (score(name, [case.text or ""]) or [None])[0]
            parts = score_parts([s.formula for s in statements], case.text, score)
        except RuntimeFailure as error:
            return CaseResult(case, "error", str(error))
        return self._judge_response(case, statements, Response(scores, parts), list(refused), list(failed))

    def _judge_response(
        self,
        case: Case,
        statements: Sequence[CheckedStatement],
        response: Response,
        refused: Sequence[str],
        failed: Sequence[str],
    ) -> CaseResult:
        valuation = on_response(response)
        findings = tuple(
            Finding(
                s,
                truth_on_response(s.formula, response),
                reason=reasons(s.formula, valuation, self.policy.attributes),
            )
            for s in statements
        )
        met = met_by_truths(case.outcome, [finding.truth for finding in findings])
        if met is not None:
            message = "" if met else f"expected `{case.outcome}`, but {_opposite(case.outcome, findings)}"
            return CaseResult(case, "passed" if met else "failed", message, findings, (response,))
        tokens = [f.statement for f in findings if f.truth is None and _reads_tokens(f.statement)]
        if tokens and not refused and not failed:
            named = _listed([s.label or s.text for s in tokens])
            message = f"{named} about tokens, which depend on a tokenizer: `constraintc eval` judges that"
            return CaseResult(case, "skipped", message, findings)
        if refused and not failed:
            message = f"{_listed(refused)} not given: add a `given`, or score the text with --live"
            return CaseResult(case, "skipped", message, findings)
        if failed:
            message = f"{_listed(failed)} not given" + (
                "" if case.text else ", and there is no text to score"
            )
        else:
            message = "a scorer has no score for this text"
        return CaseResult(case, "error", message, findings)

    def _judge_sample(self, case: Case, statements: Sequence[CheckedStatement]) -> CaseResult:
        responses = _sample(case)
        findings = tuple(self._on_sample(statement, responses, case.tags) for statement in statements)
        verdicts = [finding.verdict or "error" for finding in findings]
        if met_by_verdicts(case.outcome, verdicts):
            return CaseResult(case, "passed", "", findings, responses)
        shown = "; ".join(
            f"{f.statement.label or f.statement.text} is `{f.verdict}`{f.note}" for f in findings
        )
        message = f"expected `{case.outcome}`, but on these {len(responses)} responses {shown}"
        return CaseResult(case, "failed", message, findings, responses)

    def _on_sample(
        self, statement: CheckedStatement, responses: Sequence[Scores], tags: Mapping[str, str]
    ) -> Finding:
        from constraintlang_runtime.sample_verdicts import verdicts_on  # numpy: not for single responses

        # All responses of a sample are of one stratum, where the test says of which.
        stratum = replace(statement, per={}) if statement.per.keys() <= tags.keys() else statement
        found = verdicts_on(stratum, self.policy.attributes, responses)
        notes = [
            f" ({v.quantity} {v.estimate:.4g} in [{v.lower:.4g}, {v.upper:.4g}], bound {v.bound:.4g})"
            for v in found
            if None not in (v.estimate, v.lower, v.upper, v.bound)
        ]
        return Finding(statement, verdict=joint_verdict([v.verdict for v in found]), note="".join(notes))

    def meets(self, result: CaseResult, position: int, mutant: CheckedStatement) -> bool:
        """Whether a case that passed still passes when its statement at ``position`` is replaced."""
        case = result.case
        if case.of_sample:
            verdicts = [f.verdict or "error" for f in result.findings]
            verdicts[position] = self._on_sample(mutant, _sample(case), case.tags).verdict or "error"
            return met_by_verdicts(case.outcome, verdicts)
        truths = [f.truth for f in result.findings]
        truths[position] = truth_on_response(mutant.formula, result.responses[0])
        return met_by_truths(case.outcome, truths) is True


def _reads_tokens(statement: CheckedStatement) -> bool:
    return any(over.level == "tokens" for over in overs_in(statement.formula))


def _sample(case: Case) -> tuple[Scores, ...]:
    return tuple(case.scores_of(index) for index in range(case.num_responses))


def _missing(statements: Sequence[CheckedStatement], stubs: Mapping[str, object]) -> list[str]:
    """The scores of whole responses that the statements read and nothing gives, in order."""
    keys = [score_key(name) for statement in statements for name in whole_names_in(statement.formula)]
    return [key for key in dict.fromkeys(keys) if key not in stubs]


def _opposite(outcome: str, findings: Sequence[Finding]) -> str:
    if outcome == "fail":
        return "it is satisfied" if len(findings) == 1 else "every statement is satisfied"
    violated = [f.statement.label or f.statement.text for f in findings if f.truth is False]
    return f"{_listed(violated)} violated"


def _listed(names: Sequence[str]) -> str:
    shown = [f"`{name}`" for name in names]
    return f"{shown[0]} is" if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]} are"
