"""What is wrong with a policy as a whole, as diagnostics: contradictions, redundancy, vacuity (PC301-304, PC401-403).

Every finding is proved; what is not decided is said (PC304). All speak of known scores within their declared
ranges: a missing score always counts against a policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from constraintlang import nodes as n
from constraintlang.checked import CheckedPolicy, CheckedStatement
from constraintlang.diagnostics import Diagnostic, Label
from constraintlang.printer import format_formula
from constraintlang.source import Span
from constraintlang.tree import descendants
from constraintlang_compiler.analysis.decide import Answer, Decider
from constraintlang_compiler.analysis.extremes import range_of
from constraintlang_compiler.analysis.forms import Variables
from constraintlang_compiler.analysis.grid import TRUE, Grid
from constraintlang_compiler.analysis.limits import Budget, TooLarge
from constraintlang_compiler.analysis.regions import regions_of
from constraintlang_compiler.analysis.requirements import Requirement
from constraintlang_compiler.analysis.rows import Moment
from constraintlang_compiler.analysis.sets import smallest_conflict, smallest_support
from constraintlang_compiler.analysis.strength import is_as_strong, loser_first, quantity_text
from constraintlang_compiler.analysis.subjects import components, subjects_of
from constraintlang_compiler.analysis.witness import table
from constraintlang_compiler.analysis.worlds import selects_nothing
from constraintlang_compiler.lower_domains import lower_domain

MAX_CONFLICTS = 10  # of one group of statements


def find_all(policy: CheckedPolicy, budget: Budget) -> list[Diagnostic]:
    """The findings about a policy; never raises for what its author wrote."""
    found = [*_empty_domains(policy), *_dead_triggers(policy, budget)]
    dead = [d.span for d in found if d.code == "PC403"]
    subjects = subjects_of(policy)
    for skipped in subjects.skipped:
        found.append(
            _undecided(skipped.statement, f"this statement is left out of the analysis: {skipped.reason}")
        )
    usable = [r for r in subjects.requirements if not any(_covers(r.statement, span) for span in dead)]
    decider = Decider(subjects.variables, budget)
    groups = components(usable)
    for group in groups:
        found += _group(group, decider, show_example=len(group) > 1 or len(groups) == 1)
    if budget.is_spent:
        found.append(
            _undecided(policy.statements[0], "the time for the analysis is up: the rest is not decided")
        )
    return found


def _covers(statement: CheckedStatement, span: Span) -> bool:
    own = statement.span or n.NO_SPAN
    return own.start <= span.start <= span.end <= own.end or span == _domain_span(statement)


def _group(group: Sequence[Requirement], decider: Decider, *, show_example: bool) -> Iterator[Diagnostic]:
    """The findings about statements that touch each other."""
    meaningful = []
    for subject in group:
        alone = decider.ask([subject])
        if alone.is_impossible:
            yield _unsatisfiable(subject, decider)
        elif decider.ask([], subject, want_sample=False).is_impossible:
            yield _always_true(subject)
        else:
            meaningful.append(subject)
    left = list(meaningful)
    together = decider.ask_all(left) if left else None
    for _ in range(MAX_CONFLICTS):
        if together is None or not together.is_impossible:
            break
        conflict = smallest_conflict(together.used, decider)
        assert conflict is not None
        loser = loser_first(conflict)[0]
        yield _contradiction(loser, [r for r in conflict if r is not loser], decider)
        left.remove(loser)
        together = decider.ask_all(left) if left else None
    if together is not None and together.verdict == "unknown":
        yield from _pairs(left, decider)
        message = f"not decided whether {_these(left)} can hold{_together(left)}: {together.reason}"
        yield _undecided(left[0].statement, message)
    yield from _redundant(left, decider)
    if show_example and together is not None and together.verdict == "possible" and len(left) == len(group):
        yield _example(left, together)


def _pairs(subjects: Sequence[Requirement], decider: Decider) -> Iterator[Diagnostic]:
    """Contradictions of two, where all together were too much."""
    for index, first in enumerate(subjects):
        for second in subjects[:index]:
            if decider.budget.is_spent:
                return
            if decider.ask([second, first], want_sample=False).is_impossible:
                loser, other = loser_first([second, first])
                yield _contradiction(loser, [other], decider)


def _redundant(subjects: Sequence[Requirement], decider: Decider) -> Iterator[Diagnostic]:
    left = list(subjects)
    for subject in reversed(subjects):
        if decider.budget.is_spent:
            return
        others = [r for r in left if r is not subject and is_as_strong(r.statement, subject.statement)]
        support = smallest_support(subject, others, decider) if others else None
        if support:
            left.remove(subject)
            yield _implied(subject, support)


# ---------------------------------------------------------------- vacuity
def _empty_domains(policy: CheckedPolicy) -> Iterator[Diagnostic]:
    for statement in policy.statements:
        try:
            empty = statement.domain is not None and selects_nothing(lower_domain(statement.domain))
        except TooLarge:
            continue
        if empty:
            yield _warning(
                "PC403",
                _domain_span(statement),
                "no prompt can lie in this domain, so the statement asks nothing",
                "correct the condition, or remove the statement",
            )


def _dead_triggers(policy: CheckedPolicy, budget: Budget) -> Iterator[Diagnostic]:
    for statement in policy.statements:
        for node in descendants(statement.formula):
            if not isinstance(node, n.Implies):
                continue
            if budget.is_spent:  # which is said once everything is done
                return
            try:
                grid = Grid([node.left], [], Variables(policy.attributes))
                occurs = any(region.truths[node.left] == TRUE for region in regions_of(grid, []))
            except (TooLarge, RecursionError):
                continue
            if not occurs:
                yield _warning(
                    "PC403",
                    node.left.span,
                    f"`{format_formula(node.left)}` cannot occur on the declared ranges, so nothing follows from it",
                    "correct the condition, or the declared range",
                )


# ---------------------------------------------------------------- the texts
def _unsatisfiable(subject: Requirement, decider: Decider) -> Diagnostic:
    free = range_of(subject, [], decider)
    quantity = quantity_text(subject.statement)
    notes: tuple[str, ...] = ()
    if free is not None and quantity is not None:
        notes = (f"on the declared ranges `{quantity}` lies in {free}",)
    return _warning(
        "PC301", _span(subject), "no model can meet this on the declared ranges",
        "correct the bound, or the declared range", notes=notes,
    )  # fmt: skip


def _always_true(subject: Requirement) -> Diagnostic:
    return _warning(
        "PC401", _span(subject), "this holds for every model on the declared ranges: it asks nothing",
        "correct the bound, or remove the statement",
    )  # fmt: skip


def _contradiction(loser: Requirement, others: Sequence[Requirement], decider: Decider) -> Diagnostic:
    number = "two" if len(others) == 1 else str(len(others) + 1)
    both = "both" if len(others) == 1 else "all"
    strengths = {r.statement.strength for r in (loser, *others)}
    noun = "preferences" if strengths == {"prefer"} else "requirements"
    message = f"these {number} {noun} cannot {both} hold"
    if loser.statement.strength == "prefer" and len(strengths) > 1:
        message = "this preference can never be met beside what is required"
    allowed = _allowed(loser, others, decider)
    labels = tuple(
        Label(_span(other), f"allows {allowed}" if allowed and len(others) == 1 else "and this one")
        for other in others
    )
    notes = [f"together they allow {allowed}"] if allowed and len(others) > 1 else []
    priorities = {other.statement.priority for other in others}
    if loser.statement.priority > min(priorities):
        name = loser.statement.label or loser.statement.text
        notes.append(
            f"`{name}` gives way: its priority is {loser.statement.priority}, and a lower number comes first"
        )
    return _warning(
        "PC302", _span(loser), message, "loosen one of them, or give them different prompts",
        labels=labels, notes=tuple(notes),
    )  # fmt: skip


def _allowed(subject: Requirement, others: Sequence[Requirement], decider: Decider) -> str | None:
    """What other statements leave of the number that a statement measures: "at most 20% for `P(...)`"."""
    free, left = range_of(subject, [], decider), range_of(subject, others, decider)
    quantity = quantity_text(subject.statement)
    if free is None or left is None or quantity is None:
        return None
    percent = not any(isinstance(part, Moment) for part in subject.quantity or ())
    words = left.words(free, percent=percent)
    return None if words is None else f"{words} for `{quantity}`"


def _implied(subject: Requirement, support: Sequence[Requirement]) -> Diagnostic:
    names = [r.statement.label for r in support]
    by = f"`{names[0]}`" if len(names) == 1 and names[0] else "another statement"
    if len(support) > 1:
        by = f"{len(support)} other statements together"
    return _warning(
        "PC402", _span(subject), f"this is already implied by {by}",
        "remove it, or give it a bound of its own",
        labels=tuple(Label(_span(other), "implies it") for other in support),
    )  # fmt: skip


def _example(subjects: Sequence[Requirement], answer: Answer) -> Diagnostic:
    assert answer.sample is not None
    note = "\n".join(["for example on this law of responses:", *table(answer.sample)])
    if subjects[0].statement.reading == "rows":
        note = "\n".join(["for example with these quantities:", *table(answer.sample)])
    return Diagnostic(
        "PC303", "note", _span(subjects[0]), f"{_these(subjects)} can hold{_together(subjects)}",
        labels=tuple(Label(_span(other), "") for other in subjects[1:]), notes=(note,),
    )  # fmt: skip


def _undecided(statement: CheckedStatement, message: str) -> Diagnostic:
    return Diagnostic("PC304", "note", statement.span or n.NO_SPAN, message)


def _these(subjects: Sequence[Requirement]) -> str:
    return "this statement" if len(subjects) == 1 else f"these {len(subjects)} statements"


def _together(subjects: Sequence[Requirement]) -> str:
    return " together" if len(subjects) > 1 else ""


def _span(subject: Requirement) -> Span:
    return subject.statement.span or n.NO_SPAN


def _domain_span(statement: CheckedStatement) -> Span:
    return n.NO_SPAN if statement.domain is None else statement.domain.span


def _warning(
    code: str,
    span: Span,
    message: str,
    help: str,
    *,
    labels: tuple[Label, ...] = (),
    notes: tuple[str, ...] = (),
) -> Diagnostic:
    return Diagnostic(code, "warning", span, message, help=help, labels=labels, notes=notes)
