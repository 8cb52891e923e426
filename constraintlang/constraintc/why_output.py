"""Reasons for people: the lines of ``constraintc why`` and ``constraintc try``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from constraintc.reason_text import reason_lines
from constraintlang.accounts import Account
from constraintlang.judging import values_text
from constraintlang.reasons import margin_text

if TYPE_CHECKING:
    from constraintlang_runtime.sample_accounts import SampleAccount

MAX_EXCERPT = 70


def account_lines(account: Account) -> Iterator[str]:
    """One statement on one response, in full."""
    if account.reason is None:
        yield f"{account.name}: {account.verdict}, {account.note}"
        return
    yield f"{account.name}: {account.verdict}, margin {margin_text(account.reason.margin)}"
    yield from (f"  {line}" for line in reason_lines(account.reason))
    if account.note:
        yield f"  {account.note}"


def short_line(account: Account) -> str:
    """One statement on one response, on one line."""
    if account.reason is None:
        return f"{account.name}: {account.note}"
    parts = [f"{account.verdict:9}", f"{margin_text(account.reason.margin):>7}", account.name]
    failing = ", ".join(leaf.text for leaf in account.reason.leaves() if leaf.fails)
    details = [values_text(account.reason)] + ([f"fails: {failing}"] if failing else [])
    return "  ".join([*parts, *details, *([account.note] if account.note else [])])


def law_line(account: Account) -> str:
    """One statement on all texts together."""
    details = values_text(account.reason) if account.reason is not None else account.note
    return f"{account.verdict:9}  {account.name}  {details}"


def sample_lines(account: SampleAccount, problems: Mapping[str, str]) -> Iterator[str]:
    """One statement on a sample."""
    yield f"{account.name}: {account.verdict}" + (f", {account.note}" if account.note else "")
    for found in account.verdicts if account.num_responses else ():
        shown = [
            f"{x:.4g}" if x is not None else "?"
            for x in (found.estimate, found.lower, found.upper, found.bound)
        ]
        yield (
            f"  {found.quantity} {shown[0]}, between {shown[1]} and {shown[2]} from {found.n} prompts "
            f"({found.method}); {found.direction.replace('_', ' ')} {shown[3]} is wanted"
        )
        if found.note:
            yield f"  {found.note}"
    read = {name for leaf in account.reason.leaves() for name, _ in leaf.values} if account.reason else set()
    if account.reason is not None:
        yield from (f"  {line}" for line in reason_lines(account.reason))
    if account.num_failing:
        yield f"  {account.num_failing} of {account.num_responses} responses are not satisfied"
        for text, count in account.failing:
            yield f"    {count} because of: {text}"
    for entry in account.worst:
        yield f"  {_excerpt(entry.response.text)}"
        yield from (f"    {line}" for line in reason_lines(entry.reason))
        read |= {name for leaf in entry.reason.leaves() for name, _ in leaf.values}
    for name, problem in problems.items():
        if name in read:
            yield f"  {name} is unknown: {problem}"


def _excerpt(text: str | None) -> str:
    if text is None:
        return "(a response without text)"
    flat = " ".join(text.split())
    return f'"{flat}"' if len(flat) <= MAX_EXCERPT else f'"{flat[: MAX_EXCERPT - 3]}..."'
