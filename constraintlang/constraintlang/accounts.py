"""What each statement of a policy says of one response, or of some taken together, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from constraintlang.base_model import reads_base
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.margins import CRISP, Logic
from constraintlang.normal_form import on_law, on_response
from constraintlang.printer import format_number
from constraintlang.prompts import selects
from constraintlang.reasons import Reason, reasons
from constraintlang.semantics import Law, Response, Scores, evaluate, score_key, violation_rate
from constraintlang.tree import names_in, overs_in, speaks_of_order, whole_names_in

ORDER_NOTE = "it speaks of the order within a response, which no score of the whole decides"
Verdict = Literal["satisfied", "violated", "unknown", "not judged"]
_VERDICTS: dict[bool | None, Verdict] = {True: "satisfied", False: "violated", None: "unknown"}


@dataclass(frozen=True)
class Account:
    """One statement on one response; ``note`` says why where there is no verdict."""

    statement: CheckedStatement
    verdict: Verdict
    reason: Reason | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """The label, else the canonical text."""
        return self.statement.label or self.statement.text

    def to_json(self) -> dict[str, Any]:
        """The account as plain data."""
        return {
            "statement": self.name,
            "strength": self.statement.strength,
            "verdict": self.verdict,
            "note": self.note,
            "reason": None if self.reason is None else self.reason.to_json(),
        }


def scores_read(policy: CheckedPolicy, *, of_law: bool = False, ordered: bool = False) -> list[str]:
    """The scores of whole responses that the statements about single responses read, in order.

    ``of_law``: the others', too. ``ordered``: also what statements read that speak of order besides.
    """
    readings = ("pointwise", "distribution") if of_law else ("pointwise",)
    statements = [
        s for s in policy.statements if s.reading in readings and (ordered or not speaks_of_order(s.formula))
    ]
    keys = [score_key(name) for statement in statements for name in whole_names_in(statement.formula)]
    return list(dict.fromkeys(keys))


def accounts(
    policy: CheckedPolicy,
    scores: Scores | Response,
    *,
    problems: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    logic: Logic = CRISP,
) -> list[Account]:
    """What each statement that may speak of a prompt with these tags says of a response to it.

    ``problems`` say why a score is missing. What speaks of order is judged where the scores of the parts are given.
    """
    response = scores if isinstance(scores, Response) else Response(scores)
    found = []
    for statement in policy.statements:
        if statement.domain is not None and selects(statement.domain, tags or {}) is False:
            continue
        if any(over.level not in response.parts for over in overs_in(statement.formula)):
            found.append(Account(statement, "not judged", note=ORDER_NOTE))
            continue
        if statement.reading != "pointwise":
            whom = (
                "all responses together" if statement.reading == "distribution" else "the model on your rows"
            )
            found.append(Account(statement, "not judged", note=f"it speaks of {whom}"))
            continue
        reason = reasons(statement.formula, on_response(response), policy.attributes, logic=logic)
        note = ""
        if reason.truth is None:
            note = "; ".join(_missing(statement, response, problems or {}))
        found.append(Account(statement, _VERDICTS[reason.truth], reason, note))
    return found


def _missing(statement: CheckedStatement, response: Response, problems: Mapping[str, str]) -> Iterator[str]:
    """Why scores that the statement reads are not known, each once."""
    whole = [score_key(name) for name in whole_names_in(statement.formula)]
    unknown = [key for key in whole if response.scores.get(key) is None]
    for over in overs_in(statement.formula):
        for key in (score_key(name) for name in names_in(over)):
            if any(part.get(key) is None for part in response.parts[over.level]):
                unknown.append(key)
    for key in dict.fromkeys(unknown):
        yield problems.get(key, f"`{key}` is not given")


def law_accounts(policy: CheckedPolicy, law: Law, *, tags: Mapping[str, str] | None = None) -> list[Account]:
    """What each statement says of responses as they are, without regard to how few they are.

    A statement about single responses is judged by the share that it is not true of, against its tolerance.
    """
    found = []
    for statement in policy.statements:
        if statement.reading == "rows" or speaks_of_order(statement.formula):
            continue
        if statement.domain is not None and selects(statement.domain, tags or {}) is False:
            continue
        if statement.per:
            found.append(Account(statement, "not judged", note="it speaks of each value of a tag"))
            continue
        if statement.reading == "distribution" and reads_base(statement.formula):
            found.append(Account(statement, "not judged", note="it speaks of the base model's responses"))
            continue
        if statement.reading == "distribution":
            reason = reasons(statement.formula, on_law(law), policy.attributes)
            found.append(Account(statement, _VERDICTS[reason.truth], reason))
            continue
        rate, tolerance = violation_rate(statement, law), statement.tolerance or Decimal(0)
        verdict: Verdict = "satisfied" if rate <= Fraction(tolerance) else "violated"
        unknown = sum((row[0] for row in law if evaluate(statement.formula, row[1]) is None), Fraction(0))
        note = f"{float(rate):.1%} violate it, at most {format_number(tolerance, percent=True)} may"
        if unknown:
            note += f"; {float(unknown):.1%} are unknown and count as violations"
        found.append(Account(statement, verdict, note=note))
    return found
