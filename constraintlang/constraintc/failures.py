"""What a failed command tells its user, and with which exit code."""

from __future__ import annotations

import sys
import traceback

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_message
from constraintlang.diagnostics import PolicyError
from constraintlang.errors import ConstraintLangError

TRAIN_PACKAGES = frozenset(
    {"torch", "transformers", "accelerate", "datasets", "peft", "safetensors", "jinja2", "matplotlib"}
)


def report(error: Exception, *, show_traceback: bool) -> ExitCode:
    """Say on stderr what went wrong and return the exit code.

    A policy's errors are shown with their source; an error that carries ``exit_code`` (the compiler's, the
    runtime's) is shown as its message; a missing package of the ``train`` extra names the extra; anything
    else is a bug of ours.
    """
    if show_traceback:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, PolicyError):
        print_diagnostics(error.diagnostics, error.source, sys.stderr)
        return ExitCode.REJECTED
    code = getattr(
        error, "exit_code", None
    )  # the runtime's errors cannot be named here: it may not be installed
    if isinstance(code, int):
        named = getattr(error, "parameter", None) is not None  # then its text begins with the parameter
        print_error(f"{'--' if named else ''}{error}")
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
