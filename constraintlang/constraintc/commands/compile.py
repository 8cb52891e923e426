"""``constraintc compile``: a policy becomes a directory that training, verification and decoding read."""

from __future__ import annotations

import argparse
import sys

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_error, print_json, print_message, print_table
from constraintc.sources import compile_argument
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.canonical import canonical_bytes
from constraintlang_compiler.domains import domain_name
from constraintlang_compiler.emit import canonical_policy
from constraintlang_compiler.explain import clause_columns

HELP = """Turn a policy into an artifact: a directory of text files with one semantic hash.

The hash covers what the policy means. Comments, labels, order and spelling do not change it."""

EPILOG = """examples:
  constraintc compile my.policy -o build/my
  constraintc compile my.policy --emit canonical     the normalised policy, as text
  constraintc compile my.policy --emit ir            the artifact's JSON, without writing it
  constraintc compile my.policy --emit dfa           the automata of conditions about order and wording

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
    parser.add_argument(
        "--emit", choices=("ir", "canonical", "dfa"), help="print this to stdout instead of a summary"
    )


def run(args: argparse.Namespace) -> int:
    """Compile, write, summarise."""
    if args.output is None and args.emit is None:
        print_error("nothing to do: neither -o nor --emit is given", "add `-o DIR` to write the artifact")
        return ExitCode.USAGE
    policy, findings = compile_argument(args.policy)
    warnings = [diagnostic for diagnostic in findings if diagnostic.severity == "warning"]
    print_diagnostics(warnings, policy.source, sys.stderr)
    directory = None if args.output is None else str(policy.save(args.output))
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
