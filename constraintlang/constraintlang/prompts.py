"""Conditions on prompts against the declared domains and tags."""

from __future__ import annotations

from collections.abc import Collection
from heapq import nsmallest

from constraintlang import nodes as n
from constraintlang.declarations import Declarations
from constraintlang.printer import format_scalar
from constraintlang.report import Report
from constraintlang.situations import shown
from constraintlang.source import Span
from constraintlang.suggestions import closest

MAX_CHOICES = 8


def check_domain(root: n.DomainPredicate, declarations: Declarations, report: Report) -> None:
    """Report keys and values that no declaration knows; where nothing is declared, everything is accepted."""
    stack: list[n.DomainPredicate] = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, n.DomainNot):
            stack.append(node.operand)
        elif isinstance(node, n.DomainAnd | n.DomainOr):
            stack.extend(reversed(node.operands))
        else:
            values = (node.value,) if isinstance(node, n.DomainEquals) else node.values
            _check_pair(node.key, node.span, values, declarations, report)


def _check_pair(
    key: str, span: Span, values: tuple[n.Scalar, ...], declarations: Declarations, report: Report
) -> None:
    if key in declarations.quiet:
        return
    if key == "domain":
        known: Collection[str] | None = declarations.domains or None
        what = "domain"
    elif key in declarations.tags:
        known = declarations.tag_values[key]
        what = f"value of the tag `{key}`"
    else:
        if declarations.tag_keys and key not in declarations.tag_keys:
            head = Span(span.start, span.start + len(key))
            _unknown(head, "tag", key, [*declarations.tag_keys, "domain"], report)
        return
    for value in values:
        written = str(value.value)
        if known is not None and written not in known and written not in declarations.quiet:
            _unknown(value.span, what, format_scalar(value), known, report)


def _unknown(span: Span, what: str, written: str, known: Collection[str], report: Report) -> None:
    near = closest(written.strip('"'), known)
    help = f"write `{near}`" if near else f"known are {_choices(known)}; or declare it"
    label = f"a similar one exists: `{near}`" if near else None
    report.error("PC102", span, f"no {what} is called `{shown(written)}`", help, label=label)


def _choices(known: Collection[str]) -> str:
    """The first names in alphabetical order, and how many more there are."""
    first = [f"`{shown(name)}`" for name in nsmallest(MAX_CHOICES, known)]
    rest = [f"{len(known) - MAX_CHOICES} more"] if len(known) > MAX_CHOICES else []
    return ", ".join(first + rest)
