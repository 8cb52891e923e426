"""The canonical form of a policy file, given out only after it was read back and found to say the same."""

from __future__ import annotations

from constraintlang import nodes as n
from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.parser import parse_detailed
from constraintlang.printer import format_policy
from constraintlang.source import SourceFile, Span


class UnsoundFormat(Exception):
    """A bug of ours: the formatted text would not mean what the file means. Nothing was written."""


def format_source(source: SourceFile) -> str:
    r"""The text of a file in canonical form: every comment kept, in order; line ends as in the file.

    Names and types are not checked: a policy that is wrong in other ways than its syntax is formatted, too.
    Raises: PolicyError for syntax errors; UnsoundFormat for a bug of ours.

    >>> format_source(SourceFile("cap:require((toxicity<0.10))# low\n"))
    'cap: toxicity < 0.1  # low\n'
    """
    parsed = parse_detailed(source)
    if any(d.is_error for d in parsed.diagnostics):
        raise PolicyError(parsed.diagnostics, source)
    text = format_policy(parsed.policy)
    _require_same(parsed.policy, SourceFile(text, source.name), source)
    return text.replace("\n", "\r\n") if _ends_lines_with_crlf(source.text) else text


def format_lines(source: SourceFile, first: int, last: int) -> str:
    r"""``format_source`` for the items that stand, in part at least, on lines ``first`` to ``last``, from 1.

    Groups are formatted whole; all other lines stay as they are.
    Raises: PolicyError for syntax errors; UnsoundFormat for a bug of ours.

    >>> format_lines(SourceFile("a<1\nb<2\nc<3\n"), 2, 2)
    'a<1\nb < 2\nc<3\n'
    """
    parsed = parse_detailed(source)
    if any(d.is_error for d in parsed.diagnostics):
        raise PolicyError(parsed.diagnostics, source)
    tree = parsed.policy
    places = [(source.position(item.span.start)[0], source.position(item.span.end)[0]) for item in tree.items]
    chosen = [i for i, (start, end) in enumerate(places) if start <= last and end >= first]
    if not chosen:
        return source.text
    # Own-line comments above the items belong to the range when they stand in it.
    low = max([1, first, *(end + 1 for _, end in places[: chosen[0]])])
    low, high = min(low, places[chosen[0]][0]), places[chosen[-1]][1]
    start, end = source.line_span(low).start, source.line_span(high).end
    items = tree.items[chosen[0] : chosen[-1] + 1]
    comments = tuple(c for c in tree.comments if start <= c.span.start < end)
    part = format_policy(n.Policy(items=items, comments=comments, span=Span(start, end)))
    part = part.removesuffix("\n")
    if _ends_lines_with_crlf(source.text):
        part = part.replace("\n", "\r\n") + ("\r" if source.text[:end].endswith("\r") else "")
    text = source.text[:start] + part + source.text[end:]
    _require_same(tree, SourceFile(text, source.name), source, whole=False)
    return text


def _require_same(tree: n.Policy, formatted: SourceFile, source: SourceFile, *, whole: bool = True) -> None:
    again = parse_detailed(formatted)
    errors = [d for d in again.diagnostics if d.is_error]
    if errors and all(d.code == "PC010" for d in errors):
        message = f"formatted, this file would exceed a limit: {errors[0].message}"
        finding = Diagnostic("PC010", "error", Span(0, 0), message, help="shorten its longest text or line")
        raise PolicyError([finding], source)
    if errors:
        raise UnsoundFormat(f"the formatted text of `{source.name}` does not parse: {errors[0].message}")
    if again.policy != tree:
        raise UnsoundFormat(f"the formatted text of `{source.name}` parses to another policy")
    if _comments(again.policy) != _comments(tree):
        raise UnsoundFormat(f"the formatted text of `{source.name}` has other comments, or in another order")
    if whole and format_policy(again.policy) != formatted.text:
        raise UnsoundFormat(f"formatting `{source.name}` twice gives another text than formatting it once")


def _comments(tree: n.Policy) -> list[str]:
    return [comment.text for comment in tree.comments if comment.text]


def _ends_lines_with_crlf(text: str) -> bool:
    first = text.find("\n")
    return first > 0 and text[first - 1] == "\r"
