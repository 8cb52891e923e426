"""Regular expressions of a policy, tried on the engine that will run them (RE2), before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from constraintlang import nodes
from constraintlang.checked import AttributeInfo
from constraintlang.declarations import walk
from constraintlang.diagnostics import Diagnostic
from constraintlang.situations import shown
from constraintlang.source import SourceFile

_NOT_REGULAR = re.compile(r"\(\?(?:[=!]|<[=!]|>|\(|P=|R|\d|&)|\\[1-9]|\\[gk][<{']|[*+?}]\+")


def check_patterns(tree: nodes.Policy, attributes: Iterable[AttributeInfo] = ()) -> list[Diagnostic]:
    """PC122 for every pattern that RE2 does not take: those of a file, and of attributes from other files."""
    patterns: list[tuple[nodes.Scalar, SourceFile | None]] = [
        (scalar, None) for scalar in _patterns(tree)
    ] + [
        (scalar, info.source)
        for info in attributes
        if info.source is not None and info.backend is not None
        for scalar in _of_backend(info.backend)
    ]
    if not patterns:
        return []
    import re2  # only where it is needed: `check` starts without it

    options = re2.Options()
    options.log_errors = False
    found = []
    for scalar, source in patterns:
        try:
            re2.compile(str(scalar.value), options)
        except re2.error as error:
            refused = _refused(scalar, error.args[0].decode("utf-8", "replace"))
            found.append(replace(refused, source=source))
    return found


def _patterns(tree: nodes.Policy) -> Iterator[nodes.Scalar]:
    for item, _ in walk(tree.items):
        if not isinstance(item, nodes.Attribute):
            continue
        for entry in item.fields:
            if isinstance(entry.value, nodes.Call):
                yield from _of_backend(entry.value)


def _of_backend(call: nodes.Call) -> list[nodes.Scalar]:
    return [s for s in call.arguments if s.kind == "regex"] if call.function == "regex" else []


def _refused(scalar: nodes.Scalar, reason: str) -> Diagnostic:
    if _NOT_REGULAR.search(str(scalar.value)):
        message = "this pattern needs backtracking, which could take for ever on a long response"
        help = "write it without look-around, back-references and possessive repetition (RE2 syntax)"
    elif reason.startswith("invalid repetition size") or "too large" in reason:
        message = "this pattern repeats more than 1000 times, counting repetitions inside each other"
        help = "repeat less, or without an upper end: `a+`, `a{3,}`"
    else:
        message = f"this is no regular expression ({shown(reason)})"
        help = "write it in RE2 syntax; a sign with a meaning of its own needs a backslash, as in `\\(`"
    return Diagnostic("PC122", "error", scalar.span, message, help=help)
