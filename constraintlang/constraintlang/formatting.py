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


def _require_same(tree: n.Policy, formatted: SourceFile, source: SourceFile) -> None:
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
    if format_policy(again.policy) != formatted.text:
        raise UnsoundFormat(f"formatting `{source.name}` twice gives another text than formatting it once")


def _comments(tree: n.Policy) -> list[str]:
    return [comment.text for comment in tree.comments if comment.text]


def _ends_lines_with_crlf(text: str) -> bool:
    first = text.find("\n")
    return first > 0 and text[first - 1] == "\r"
