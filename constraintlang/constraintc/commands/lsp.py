"""``constraintc lsp``: the language server, which editors start."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from constraintc.exit_codes import ExitCode
from constraintc.output import print_error

HELP = """Start the language server on standard input and output.

Editors start it: it reports findings while you type, shows what a statement demands, completes, renames, formats
and fixes. docs/editors.md has the set-up."""

EPILOG = """examples:
  constraintc lsp          in the settings of your editor

exit codes: 0 the editor ended the session; 1 it left without doing so; 2 the extra `lsp` is not installed"""


LEFT_WITHOUT_SHUTDOWN = 1  # by the protocol


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "--stdio", action="store_true", help="accepted because many editors add it; there is no other way"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until the editor leaves."""
    for package in ("pygls", "lsprotocol"):
        if find_spec(package) is None:
            print_error(
                f"this command needs the package `{package}`, which is not installed",
                "install the extra for editors: pip install 'constraintlang[lsp]'",
            )
            return ExitCode.USAGE
    from constraintc.lsp.server import serve

    return ExitCode.OK if serve() else LEFT_WITHOUT_SHUTDOWN
