"""Which findings are shown, and which make the run fail, by how their codes begin."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from constraintlang.diagnostics import Diagnostic

WARNINGS = "warnings"


@dataclass(frozen=True)
class Selection:
    """Beginnings of codes: those to show (all when empty), not to show, and not to accept."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def shows(self, diagnostic: Diagnostic) -> bool:
        """Whether a finding is shown; the longest beginning decides, and errors are always shown."""
        if diagnostic.is_error:
            return True
        selected = _longest(diagnostic.code, self.select or ("",))
        return selected > _longest(diagnostic.code, self.ignore)

    def denies(self, diagnostic: Diagnostic) -> bool:
        """Whether a finding that is shown makes the run fail, though the policy compiles."""
        if diagnostic.severity == "warning" and WARNINGS in self.deny:
            return True
        return _longest(diagnostic.code, self.deny) >= 0


def _longest(code: str, beginnings: tuple[str, ...]) -> int:
    return max((len(begin) for begin in beginnings if code.startswith(begin)), default=-1)


def add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a selection."""
    parser.add_argument(
        "--select",
        action="extend",
        type=codes_argument,
        default=[],
        metavar="CODES",
        help="show only warnings and notes whose code begins so, for example PC4 or PC104,PC4",
    )
    parser.add_argument(
        "--ignore",
        action="extend",
        type=codes_argument,
        default=[],
        metavar="CODES",
        help="do not show these",
    )
    parser.add_argument(
        "--deny",
        action="extend",
        type=deny_argument,
        default=[],
        metavar="warnings|CODES",
        help="exit with 1 when there are warnings, or findings whose code begins so",
    )


def selection_of(args: argparse.Namespace) -> Selection:
    """The selection that the flags ask for."""
    return Selection(tuple(args.select), tuple(args.ignore), tuple(args.deny))


def codes_argument(text: str) -> list[str]:
    """Beginnings of codes, separated by commas; each must be that of a code that exists."""
    from constraintlang_compiler.catalogue import all_pages

    known = all_pages()
    found = []
    for word in text.split(","):
        begin = word.strip().upper()
        if not re.fullmatch(r"PC\d{0,3}", begin):
            raise argparse.ArgumentTypeError(f"`{word}` is not a code such as PC404, or the beginning of one")
        if not any(code.startswith(begin) for code in known):
            raise argparse.ArgumentTypeError(f"no code begins with `{begin}`")
        found.append(begin)
    return found


def deny_argument(text: str) -> list[str]:
    """``codes_argument``, or the word ``warnings`` among them."""
    words = [word.strip() for word in text.split(",")]
    rest = [word for word in words if word != WARNINGS]
    return [WARNINGS] * (len(rest) < len(words)) + (codes_argument(",".join(rest)) if rest else [])
