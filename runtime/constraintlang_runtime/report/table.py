"""Rich tables of verdicts for the terminal: one system's clauses, or several systems side by side.

Verdicts carry a symbol and a word besides their colour. Texts are never read as rich markup, and what could move the
cursor is shown as a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from constraintlang.diagnostics import visible
from constraintlang_runtime.verdicts import Verdict, VerdictName

from .data import ClauseResult, SystemReport, clause_result
from .words import SYMBOLS, amount, duration, interval, is_soft, limit, measured_loss, percent

Shown = Callable[[SystemReport], Any]
WIDEST = 4  # clauses that stand side by side in a terminal of 80 columns
WIDEST_VERDICT = len("? inconclusive")
MAX_NAME = 2000  # characters of a name, which a statement without a label gives with its text
STYLES: dict[VerdictName, str] = {
    "holds": "bold green",
    "violated": "bold red",
    "inconclusive": "yellow",
    "vacuous": "magenta",
    "error": "bold red reverse",
}


def verdict_table(
    verdicts: Sequence[Verdict | ClauseResult | Mapping[str, Any]], *, title: str | None = None
) -> Table:
    """One row per clause: name with kind and domain below it, n, estimate, interval, bound, verdict.

    Takes ``Verdict`` records, their dicts or ``ClauseResult``; print it with ``rich.console.Console``.
    Raises: DataError when a dict lacks a key of the contract.
    """
    table = Table(title=_plain(title), box=ROUNDED, title_justify="left", header_style="bold", expand=False)
    clauses = [clause_result(verdict) for verdict in verdicts]
    # a clause without a label is named by its text, which already says its domain and kind
    labelled = any(clause.clause != clause.text for clause in clauses)
    table.add_column("clause", overflow="fold", min_width=8)
    for column in ("n", "estimate", "interval", "bound"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for clause in clauses:
        name: Text | Group = Text(_name(clause.clause))
        if labelled:
            where = [] if clause.domain is None else [f"in {_name(clause.domain)}"]
            name = Group(name, _Phrases([_name(clause.kind), *where]))
        table.add_row(
            name,
            f"{clause.n:,}",
            amount(clause, clause.estimate),
            interval(clause),
            "none" if clause.hard else limit(clause),
            verdict_text(clause),
        )
    return table


@dataclass(frozen=True)
class _Phrases:
    """Phrases on one line where they fit, else each on a line of its own."""

    phrases: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        fits = cell_len(" ".join(self.phrases)) <= options.max_width
        yield Text((" " if fits else "\n").join(self.phrases), style="dim")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(cell_len(word) for phrase in self.phrases for word in phrase.split())
        return Measurement(longest, cell_len(" ".join(self.phrases)))


def comparison_table(systems: Sequence[SystemReport], *, title: str | None = None) -> Table:
    """One row per system: for each clause the estimate, the deciding bound and the verdict; then the losses.

    Columns follow the order in which clauses first appear; a system that lacks a clause shows a dash. With more than
    ``WIDEST`` clauses there is one row per clause, and a column for each system.
    """
    table = Table(
        title=_plain(title), box=ROUNDED, title_justify="left", header_style="bold", show_lines=True
    )
    levels = {clause.confidence for system in systems for clause in system.clauses}
    if levels:
        table.caption = (
            f"upper, lower: one-sided bounds at {' or '.join(map(percent, sorted(levels)))} confidence"
        )
    compliant = any(system.compliant_loss is not None for system in systems)  # the optional one
    timed = any(system.seconds is not None for system in systems)
    losses: list[tuple[str, Shown]] = [("utility loss", lambda system: measured_loss(system.utility_loss))]
    if compliant:
        losses.append(("compliant loss", lambda system: measured_loss(system.compliant_loss)))
    if timed:
        losses.append(("time", lambda system: duration(system.seconds)))
    if len(clause_names(systems)) > WIDEST:
        return _by_clause(table, systems, losses)
    table.add_column("system", overflow="fold", min_width=11)
    soft = {clause.clause for system in systems for clause in system.clauses if is_soft(clause)}
    for clause_name in clause_names(systems):
        table.add_column(
            Text(_name(clause_name) + ("\n(prefer)" if clause_name in soft else "")),
            justify="right",
            overflow="fold",
            min_width=WIDEST_VERDICT,
        )
    for name, _ in losses:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for system in systems:
        found = {clause.clause: clause for clause in system.clauses}
        table.add_row(
            Text(_name(system.label), style="bold"),
            *(_cell(found.get(clause_name)) for clause_name in clause_names(systems)),
            *(shown(system) for _, shown in losses),
        )
    return table


def _by_clause(table: Table, systems: Sequence[SystemReport], losses: Sequence[tuple[str, Shown]]) -> Table:
    table.add_column("clause", overflow="fold", min_width=8)
    for system in systems:
        table.add_column(Text(_name(system.label)), justify="right", overflow="fold")
    found = [{clause.clause: clause for clause in system.clauses} for system in systems]
    for name in clause_names(systems):
        soft = any(name in own and is_soft(own[name]) for own in found)
        table.add_row(
            Text(_name(name) + (" (prefer)" if soft else "")), *(_cell(own.get(name)) for own in found)
        )
    for name, shown in losses:
        table.add_row(name, *(shown(system) for system in systems))
    return table


def clause_names(systems: Sequence[SystemReport]) -> list[str]:
    """Names of all clauses in order of first appearance."""
    return list(dict.fromkeys(clause.clause for system in systems for clause in system.clauses))


def verdict_text(clause: ClauseResult) -> Text:
    """Symbol and word in the verdict's colour, after a sign of warnings; ``(prefer)`` for a soft clause."""
    soft = " (prefer)" if is_soft(clause) else ""
    style = "bold yellow" if clause.warnings and clause.verdict == "holds" else STYLES[clause.verdict]
    return Text(
        f"{'⚠ ' if clause.warnings else ''}{SYMBOLS[clause.verdict]} {clause.verdict}{soft}", style=style
    )


def _cell(clause: ClauseResult | None) -> Text:
    if clause is None:
        return Text("–", style="dim")
    at_most = clause.direction == "at_most"
    side, value = ("upper", clause.upper) if at_most else ("lower", clause.lower)
    bound = Text(f"\n{side} {amount(clause, value, 'up' if at_most else 'down')}\n", style="dim")
    verdict = Text(f"{SYMBOLS[clause.verdict]} {clause.verdict}", style=STYLES[clause.verdict])
    return Text.assemble(amount(clause, clause.estimate), bound, verdict)


def _plain(title: str | None) -> Text | None:
    return None if title is None else Text(_name(title))


def _name(text: str) -> str:
    """A text from a file, as a terminal can show it."""
    return visible(text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…")
