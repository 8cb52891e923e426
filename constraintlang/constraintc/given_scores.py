"""Scores, tags and labels that are written on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from constraintlang.checked import CheckedPolicy
from constraintlang.scores import score_problem
from constraintlang.suggestions import closest
from constraintlang_runtime.errors import ConfigError


def given_scores(options: Sequence[str], policy: CheckedPolicy) -> dict[str, Decimal | None]:
    """``["toxicity=0.1"]`` as scores.

    Raises: ConfigError for another form, a name that the policy does not read, or an impossible score.
    """
    found: dict[str, Decimal | None] = {}
    for name, written in _pairs(options, "--scores", "NAME=VALUE"):
        info = policy.attributes.get(name.removesuffix("@base"))
        if info is None:
            near = closest(name, policy.attributes)
            known = ", ".join(f"`{known}`" for known in policy.attributes) or "none"
            help = f"a similar name exists: `{near}`" if near else f"it reads {known}"
            raise ConfigError(f"--scores: the policy reads no attribute `{name}`", help=help)
        try:
            value = Decimal({"true": "1", "false": "0"}.get(written.lower(), written))
        except InvalidOperation:
            raise ConfigError(f"--scores: got {written!r} for `{name}`, expected a number") from None
        problem = score_problem(info, value)
        if problem is not None:
            raise ConfigError(f"--scores: `{name}` {problem}, and this is {written}")
        found[name] = value
    return found


def parse_tags(options: Sequence[str]) -> dict[str, str]:
    """``["domain=chat"]`` as tags; ConfigError for another form."""
    return dict(_pairs(options, "--tag", "KEY=VALUE"))


def only_statement(policy: CheckedPolicy, label: str | None) -> CheckedPolicy:
    """The policy with the statement of this label alone; all of it without a label.

    Raises: ConfigError when there is none.
    """
    if label is None:
        return policy
    chosen = tuple(statement for statement in policy.statements if statement.label == label)
    if not chosen:
        near = closest(label, [statement.label for statement in policy.statements if statement.label])
        help = f"a similar label exists: `{near}`" if near else "labels stand before the colon of a statement"
        raise ConfigError(f"--only: no statement is labelled `{label}`", help=help)
    return replace(policy, statements=chosen, tests=())


def _pairs(options: Sequence[str], flag: str, form: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name or not value:
            raise ConfigError(f"{flag}: got {option!r}, expected {form}")
        if name in (known for known, _ in pairs):
            raise ConfigError(f"{flag}: `{name}` is given twice", help="keep one of them")
        pairs.append((name, value))
    return pairs
