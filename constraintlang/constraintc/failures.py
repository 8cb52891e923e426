"""What a failed command tells its user, and with which exit code."""

from __future__ import annotations

import os
import sys
import traceback

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_message, visible_text
from constraintlang.diagnostics import PolicyError
from constraintlang.errors import ConstraintLangError

TRAIN_PACKAGES = frozenset(
    {"torch", "transformers", "accelerate", "datasets", "peft", "safetensors", "jinja2", "matplotlib"}
)


def report(error: Exception, *, show_traceback: bool) -> ExitCode:
    """Say on stderr what went wrong and return the exit code.

    A policy's errors are shown with their source; an error that carries ``exit_code`` (the compiler's, the
    runtime's) is shown as its message; a missing package of the ``train`` extra names the extra; anything
    else is a bug of ours. Of a launcher's processes the first says it in full, the others in one line.
    """
    if show_traceback:
        traceback.print_exception(error, file=sys.stderr)
    process = os.environ.get("RANK", "0")
    if isinstance(error, PolicyError):
        if process == "0":
            print_diagnostics(error.diagnostics, error.source, sys.stderr)
        else:
            _print_of_another(process, f"{error.source.name} is rejected")
        return ExitCode.REJECTED
    code = getattr(
        error, "exit_code", None
    )  # the runtime's errors cannot be named here: it may not be installed
    if isinstance(code, int):
        named = getattr(error, "parameter", None) is not None  # then its text begins with the parameter
        text = f"{'--' if named else ''}{error}"
        if process == "0":
            print_error(text)
        else:
            _print_of_another(process, text)
        return ExitCode(code)
    if isinstance(error, ConstraintLangError):
        print_error(str(error))
        return ExitCode.FAILED
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in TRAIN_PACKAGES:
        print_error(
            f"this command needs the package `{error.name}`, which is not installed",
            "install the training extra: pip install 'constraintlang[train]'",
        )
        return ExitCode.USAGE
    print_error(
        f"internal error, please report with the policy and the output of `constraintc env`: "
        f"{type(error).__name__}: {error}"
    )
    if not show_traceback:
        print_message("  help: run again with --traceback and add what it shows to the report")
    return ExitCode.INTERNAL


def _print_of_another(process: str, text: str) -> None:
    """What a process that is not the first one ended with: most often the same, so without its help."""
    print_message(f"error in process {process}: {visible_text(text.partition(chr(10))[0])}")
