"""Conditions on prompts against the declared domains and tags."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang.declarations import Declarations
from constraintlang.diagnostics import Label
from constraintlang.printer import format_scalar
from constraintlang.report import Report
from constraintlang.source import Span
from constraintlang.suggestions import closest


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
    labels: tuple[Label, ...] = ()
    if key == "domain":
        known = [*declarations.domains] or None
        what = "domain"
    elif key in declarations.tags:
        tag = declarations.tags[key]
        known = [str(s.value) for s in tag.values]
        what = f"value of the tag `{key}`"
        labels = (Label(tag.span, "all of its values are declared here"),)
    else:
        if declarations.tag_keys and key not in declarations.tag_keys:
            head = Span(span.start, span.start + len(key))
            _unknown(head, "tag", key, [*declarations.tag_keys, "domain"], report)
        return
    for value in values:
        written = str(value.value)
        if known is not None and written not in known and written not in declarations.quiet:
            _unknown(value.span, what, format_scalar(value), known, report, labels)


def _unknown(
    span: Span, what: str, written: str, known: list[str], report: Report, labels: tuple[Label, ...] = ()
) -> None:
    near = closest(written.strip('"'), known)
    help = (
        f"write `{near}`"
        if near
        else f"known are {', '.join(f'`{k}`' for k in sorted(known))}; or declare it"
    )
    label = f"a similar one exists: `{near}`" if near else None
    report.error("PC102", span, f"no {what} is called `{written}`", help, label=label, labels=labels)
