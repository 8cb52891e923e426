"""Policy arguments of the command line: a file, a compiled directory, or ``-`` for standard input."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from constraintlang.diagnostics import Diagnostic, PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.sources import MAX_SOURCE_BYTES, decode_source, read_source

if TYPE_CHECKING:
    from constraintlang_compiler.artifact import CompiledPolicy
    from constraintlang_compiler.front import Front


def read_argument(name: str) -> SourceFile:
    """The source named by an argument.

    Raises: SourceError when it is missing; PolicyError when it is not UTF-8 or too large.
    """
    if name == "-":
        return decode_source(sys.stdin.buffer.read(MAX_SOURCE_BYTES + 1), "<stdin>", Path.cwd())
    return read_source(name)


def compile_argument(name: str, *, allow_path: bool = False) -> tuple[CompiledPolicy, tuple[Diagnostic, ...]]:
    """The policy named by an argument, and what was found while compiling it (nothing for a compiled
    directory).

    Raises: PolicyError with every finding; SourceError; ArtifactError.
    """
    from constraintlang_compiler.pipeline import compile_path, compile_with_diagnostics

    if name != "-" and os.path.isdir(name):
        return compile_path(name), ()
    source = read_argument(name)
    outcome = compile_with_diagnostics(source, allow_path=allow_path)
    if outcome.policy is None:
        raise PolicyError(outcome.diagnostics, source)
    return outcome.policy, outcome.diagnostics


def add_allow_path(parser: argparse.ArgumentParser) -> None:
    """The flag of every command that reads a policy."""
    parser.add_argument(
        "--allow-path", action="store_true", help="let the policy import and name files outside its folder"
    )


def add_allowances(parser: argparse.ArgumentParser, default: bool | None = False) -> None:
    """The flags of every command that calls the scorers of a policy: what the policy may do."""
    parser.add_argument(
        "--allow-path", action="store_true", default=default,
        help="let the policy import and name files outside its folder",
    )  # fmt: skip
    parser.add_argument(
        "--allow-code", action="store_true", default=default,
        help="let the backend `code_tests` run what the model writes, in a limited process",
    )  # fmt: skip
    parser.add_argument(
        "--allow-plugins", action="store_true", default=default,
        help="let the backend `python` import and call what the policy names",
    )  # fmt: skip


def allowances(args: argparse.Namespace) -> dict[str, bool]:
    """What ``add_allowances`` parsed."""
    return {name: getattr(args, name) for name in ("allow_path", "allow_code", "allow_plugins")}


STOP_HELP = (
    "end a reply where this text begins, and judge it without; \\n is a line break, --stop=--- a text like a flag, "
    "repeat for several"
)


def stop_text(written: str) -> str:
    """A text as it is typed, where a backslash before n, t and itself is a line break, a tab and a backslash."""
    marks = {"n": "\n", "t": "\t", "\\": "\\"}
    return re.sub(r"\\([nt\\])", lambda found: marks[found[1]], written)


def add_stop(parser: argparse.ArgumentParser) -> None:
    """``--stop``."""
    parser.add_argument("--stop", action="append", default=[], type=stop_text, metavar="TEXT", help=STOP_HELP)


def add_chat(parser: argparse.ArgumentParser) -> None:
    """The flag of every command that reads prompts of a chat model."""
    parser.add_argument(
        "--chat", action="store_true", help="texts are turns of a user, put into the model's chat template"
    )


def add_scorer(parser: argparse.ArgumentParser, help: str = "what computes an attribute") -> None:
    """The flag that binds attributes to scorers; it may be repeated."""
    parser.add_argument(
        "--scorer",
        metavar="NAME=PATH[#LABEL]",
        action="append",
        default=[],
        help=help,
    )


def add_tag(parser: argparse.ArgumentParser) -> None:
    """The flag that says of which prompt a given response is; it may be repeated."""
    parser.add_argument(
        "--tag",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a tag of the prompt, such as domain=chat",
    )


def read_policy(name: str, *, allow_path: bool = False) -> tuple[Front, SourceFile]:
    """The checked and lowered policy named by an argument, with its source.

    A test that contradicts the policy is no error here. Of a compiled directory the source that it holds is read.
    Raises: PolicyError with every finding; SourceError; ArtifactError.
    """
    from constraintlang_compiler.front import check_and_lower

    files: Mapping[str, Path] = {}
    if name != "-" and os.path.isdir(name):
        from constraintlang_compiler.pipeline import load_compiled

        policy = load_compiled(name)
        source, files = policy.source, policy.files
    else:
        source = read_argument(name)
    front = check_and_lower(source, allow_path=allow_path, judge_tests=False)
    if front.checked is None or front.lowered is None:
        raise PolicyError(front.diagnostics, source)
    return replace(front, files={**front.files, **files}), source


def policy_folder(name: str) -> Path:
    """The folder that files named in the policy are relative to."""
    path = Path(name)
    return Path.cwd() if name == "-" else path if os.path.isdir(path) else path.parent
