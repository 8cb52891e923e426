"""``constraintc compile``: a policy becomes a directory that training, verification and decoding read."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from constraintc.exit_codes import ExitCode
from constraintc.locks import add_locked_argument, require_locked
from constraintc.output import print_diagnostics, print_error, print_json, print_message, print_table
from constraintc.sources import add_allow_path, compile_argument
from constraintlang.diagnostics import PolicyError
from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.domains import domain_name
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.explain import clause_columns
from constraintlang_compiler.front import check_and_lower

if TYPE_CHECKING:
    from constraintlang_compiler.lock.lock_file import Lock

DENIED_WHEN_LOCKED = ("PC301", "PC302")

HELP = """Turn a policy into an artifact: a directory of text files with one semantic hash, and copies of the word
lists that it names.

The hash covers what the policy means. Comments, labels, order and spelling do not change it."""

EPILOG = """examples:
  constraintc compile my.policy -o build/my
  constraintc compile my.policy --emit canonical     the normalised policy, as text
  constraintc compile my.policy --emit ir            the artifact's JSON, without writing it
  constraintc compile my.policy --emit dfa           the automata of conditions about order and wording
  constraintc compile my.policy -o out --locked      only when all is as `constraintc lock` found it

exit codes: 0 compiled; 2 usage or file; 3 errors in the policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "policy", metavar="POLICY", help="a policy file, a compiled directory, or - for stdin"
    )
    parser.add_argument("-o", "--output", metavar="DIR", help="where to write the artifact")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the summary"
    )
    add_locked_argument(parser)
    parser.add_argument(
        "--emit", choices=("ir", "canonical", "dfa"), help="print this to stdout instead of a summary"
    )
    add_allow_path(parser)


def run(args: argparse.Namespace) -> int:
    """Compile, write, summarise."""
    if args.output is None and args.emit is None:
        print_error("nothing to do: neither -o nor --emit is given", "add `-o DIR` to write the artifact")
        return ExitCode.USAGE
    policy, findings = compile_argument(args.policy, allow_path=args.allow_path)
    warnings = [diagnostic for diagnostic in findings if diagnostic.severity == "warning"]
    print_diagnostics(warnings, policy.source, sys.stderr)
    if not policy.clauses_as_written and not any(found.code == "PC412" for found in warnings):
        print_message("warning: the policy has declarations alone, so that the artifact demands nothing")
    lock = _locked(args.policy, policy.source, allow_path=args.allow_path) if args.locked else None
    directory = None if args.output is None else str(policy.save(args.output))
    if lock is not None and directory is not None:
        from constraintlang_compiler.lock.lock_file import ARTIFACT_NAME, write_lock

        write_lock(lock, Path(directory) / ARTIFACT_NAME)
    if args.emit == "ir":
        sys.stdout.write(canonical_bytes(policy.ir_json()).decode() + "\n")
    elif args.emit == "dfa":
        from constraintlang_compiler.emit_dfa import automata_json

        sys.stdout.write(canonical_bytes(automata_json(policy.ir)).decode() + "\n")
    elif args.emit == "canonical":
        sys.stdout.write(canonical_policy(policy.ir))
    elif args.format == "json":
        print_json(_summary(policy, directory))
    else:
        rows = [clause_columns(clause) for clause in policy.clauses_as_written]
        print_table(("clause", "kind", "demand", "domain"), rows)
        print(f"\n{policy.semantic_hash}")
    if directory is not None:
        print_message(f"wrote {directory}")
    return ExitCode.OK


def _locked(name: str, source: SourceFile, *, allow_path: bool) -> Lock:
    """The lock, when everything is as it says and the policy can be met (PC301, PC302)."""
    lock = require_locked(name, source, None, allow_path=allow_path)
    from constraintlang_compiler.analysis.sat import analyse

    found = [
        d for d in analyse(check_and_lower(source, allow_path=allow_path)) if d.code in DENIED_WHEN_LOCKED
    ]
    if found:
        raise PolicyError([replace(d, severity="error") for d in found], source)
    return lock


def _summary(policy: CompiledPolicy, directory: str | None) -> dict[str, object]:
    clauses = [
        {
            "id": clause.id,
            "name": clause.name,
            "kind": clause.kind,
            "hard": clause.hard,
            "strength": clause.strength,
            "bound": clause.bound,
            "domain": domain_name(clause.domain),
        }
        for clause in policy.clauses_as_written
    ]
    return {"semantic_hash": policy.semantic_hash, "directory": directory, "clauses": clauses}
