"""What stands beside the verdicts of an evaluation, for the terminal: warnings first, and in bold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from constraintlang.diagnostics import visible
from constraintlang_runtime.evaluation import Evaluation

from .words import number, percent


def print_beside(console: Console, found: Evaluation) -> None:
    """Print warnings, where a sequential run ended, the audit scorers, human labels and the worst prompts."""
    for warning in found.warnings:
        console.print(Text(visible(f"⚠ warning: {warning}"), style="bold yellow"))
    beside = found.beside
    if "stopped_at" in beside:
        run = beside["sequential"]
        left = f"; undecided: {', '.join(run['undecided'])}" if run["undecided"] else ""
        console.print(
            Text(
                visible(
                    f"stopped at {beside['stopped_at']:,} of {run['num_prompts']:,} prompts: {run['reason']}{left}"
                )
            )
        )
    for line in [
        *audit_lines(found),
        *human_lines(beside.get("human")),
        *worst_lines(beside.get("worst_prompts", ())),
    ]:
        console.print(Text(visible(line)))


def audit_lines(found: Evaluation) -> list[str]:
    """One sentence for each clause that an audit scorer judged, too."""
    own = {verdict.clause: verdict for verdict in found.verdicts}
    lines = []
    for one in found.beside.get("audit", ()):
        mine = own[one["clause"]]
        if one["agreement"] is not None:
            agreement = f"they agree on {percent(one['agreement'])} of the replies"
        else:
            agreement = f"they differ by {number(one['mean_difference'])} on average"
        lines.append(
            f"audit of `{one['clause']}`: {one['verdict']} ({_shown(one, 'estimate')}), "
            f"by the policy's scorer {mine.verdict} ({_shown(mine.to_dict(), 'estimate')}); "
            f"{agreement}"
        )  # fmt: skip
    return lines


def human_lines(human: dict[str, Any] | None) -> list[str]:
    """One sentence for each clause that people labelled."""
    lines = []
    for one in (human or {}).get("clauses", ()):
        lines.append(
            f"people on `{one['clause']}`: {one['verdict']}, between {percent(one['lower'], rounding='down')} and "
            f"{percent(one['upper'], rounding='up')} ({one['labelled']:,} labels; the scorer agrees with "
            f"{percent(one['agreement'])} of them)"
        )  # fmt: skip
        if part := one.get("identity_terms"):
            with_term, rest = part["with_term"], part["without_term"]
            lines.append(
                f"  the scorer calls {percent(with_term['rate'])} of {with_term['clean']:,} clean replies with an "
                f"identity term a violation, and {percent(rest['rate'])} of {rest['clean']:,} without one"
            )
    if human and human["unmatched_labels"]:
        lines.append(
            f"{human['unmatched_labels']:,} of {human['num_labels']:,} labels are of no reply that was judged"
        )
    return lines


def worst_lines(worst: Sequence[dict[str, Any]]) -> list[str]:
    """One sentence for each clause whose prompts have several samples."""
    lines = []
    for one in worst:
        show = percent if one["is_rate"] else number
        lines.append(
            f"`{one['clause']}` on its worst {percent(one['share'])} of the prompts ({one['num_prompts']:,}, "
            f"chosen on half of their replies): {show(one['mean'])} on the other half, "
            f"{show(one['overall'])} over all prompts"
        )
    return lines


def _shown(verdict: dict[str, Any], key: str) -> str:
    is_rate = verdict["quantity"] in ("violation rate", "probability")
    return percent(verdict[key]) if is_rate else number(verdict[key])
