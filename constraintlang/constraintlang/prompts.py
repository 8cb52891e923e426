"""Conditions on prompts against the declared domains and tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import nsmallest

from constraintlang import nodes as n
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Label
from constraintlang.fixes import replacing
from constraintlang.printer import format_scalar, plain_text
from constraintlang.report import Report
from constraintlang.semantics import Truth, kleene_and, kleene_not, kleene_or
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


def selects(predicate: n.DomainPredicate, tags: Mapping[str, str]) -> Truth:
    """Whether prompts with these tags are selected; unknown where it depends on a tag that is not given."""
    if isinstance(predicate, n.DomainNot):
        return kleene_not(selects(predicate.operand, tags))
    if isinstance(predicate, n.DomainAnd | n.DomainOr):
        values = [selects(part, tags) for part in predicate.operands]
        return kleene_and(values) if isinstance(predicate, n.DomainAnd) else kleene_or(values)
    wanted = (predicate.value,) if isinstance(predicate, n.DomainEquals) else predicate.values
    tag = tags.get(predicate.key)
    return None if tag is None else tag in {plain_text(scalar) for scalar in wanted}


def _check_pair(
    key: str, span: Span, values: tuple[n.Scalar, ...], declarations: Declarations, report: Report
) -> None:
    if key in declarations.quiet:
        return
    labels: tuple[Label, ...] = ()
    if key == "domain":
        known: Collection[str] | None = declarations.domains or None
        what = "domain"
    elif key in declarations.tags:
        tag = declarations.tags[key]
        known = declarations.tag_values[key]
        what = f"value of the tag `{key}`"
        if tag.span != n.NO_SPAN:
            labels = (Label(tag.span, "all of its values are declared here"),)
    else:
        if declarations.tag_keys and key not in declarations.tag_keys:
            head = Span(span.start, span.start + len(key))
            _unknown(head, "tag", key, [*declarations.tag_keys, "domain"], report)
        return
    for value in values:
        written = plain_text(value)
        if known is not None and written not in known and written not in declarations.quiet:
            _unknown(value.span, what, format_scalar(value), known, report, labels)


def _unknown(
    span: Span,
    what: str,
    written: str,
    known: Collection[str],
    report: Report,
    labels: tuple[Label, ...] = (),
) -> None:
    near = closest(written.strip('"'), known)
    help = f"write `{near}`" if near else f"known are {_choices(known)}; or declare it"
    label = f"a similar one exists: `{near}`" if near else None
    fix = replacing(span, format_scalar(n.Scalar(value=near, kind="name"))) if near else None
    message = f"no {what} is called `{shown(written)}`"
    report.error("PC102", span, message, help, label=label, labels=labels, fix=fix)


def _choices(known: Collection[str]) -> str:
    """The first names in alphabetical order, and how many more there are."""
    first = [f"`{shown(name)}`" for name in nsmallest(MAX_CHOICES, known)]
    rest = [f"{len(known) - MAX_CHOICES} more"] if len(known) > MAX_CHOICES else []
    return ", ".join(first + rest)
