"""``constraintc init``: a first policy and run configuration, or a copy of a standard policy, ready to check."""

from __future__ import annotations

import argparse
from pathlib import Path

from constraintc.exit_codes import ExitCode
from constraintc.output import print_error, print_json, print_table
from constraintlang.suggestions import closest
from constraintlang_policies.library import PREFIX, SUFFIX, std_names, std_path, std_summary

HELP = """Write a commented first policy (my.policy) and run configuration (run.yaml), or with --from a copy of a policy
of the standard library, to be changed. --list says what there is.

Existing files are never overwritten."""

EPILOG = """examples:
  constraintc init
  constraintc init experiments/first
  constraintc init --list
  constraintc init --from std/no_pii                     writes no_pii.policy
  constraintc init --from std/lists/insults.txt lists    a word list, to be extended

exit codes: 0 written; 2 a file exists, there is no such policy, or the folder cannot be written"""

POLICY = """\
edition 1

# What can be measured on a response. `words` and `toxicity` are known to every policy, these two
# are ours: does it contain something like an e-mail address, and how many characters has it?
attribute email: flag { backend = regex(re"[A-Za-z0-9._-]+@[A-Za-z0-9-]+[.][A-Za-z]{2,}") }
attribute size: count in [0, 2000] { backend = length(characters) }

# A bare condition judges each response by itself; at most 5% of them may break it.
short: words <= 150

# `always` allows no exception at all.
private: always not email

# Requirements on the whole distribution: an average, or a chance.
brief: mean(size) <= 500
rare:  P(words > 120) <= 10%

# Bind a scorer to `toxicity` with --scorer, then remove the `#`:
# kind: P(toxicity >= 0.5) < 1%
"""

RUN = """\
# The run configuration of `constraintc train`; every key is also a flag, with the same name.
output: runs/first
seed: 0
max_steps: 1000
learning_rate: 1.0e-4
max_new_tokens: 64       # length cap of sampled completions
rounds: 8                # rounds of sampling and control over the run
verify_prompts: 2000     # prompts of the final verification
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "directory", nargs="?", default=".", metavar="DIR", help="where to write; default: here"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--from",
        "--template",
        dest="template",
        metavar="NAME",
        help="copy this policy of the standard library",
    )
    chosen.add_argument("--list", action="store_true", help="list the standard library and exit")
    parser.add_argument("--format", choices=("human", "json"), default="human", help="how to print the list")


def run(args: argparse.Namespace) -> int:
    """List, or write all files or none."""
    if args.list:
        return _list(args.format)
    folder = Path(args.directory)
    contents = {folder / "my.policy": POLICY, folder / "run.yaml": RUN}
    if args.template is not None:
        source = _standard_file(args.template)
        if source is None:
            return ExitCode.USAGE
        contents = {folder / source.name: source.read_text(encoding="utf-8")}
    existing = [str(path) for path in contents if path.exists()]
    if existing:
        print_error(
            f"{' and '.join(f'`{path}`' for path in existing)} already there, nothing was written",
            "name another folder, as in `constraintc init experiments/first`",
        )
        return ExitCode.USAGE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in contents.items():
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as error:
        print_error(
            f"cannot write to `{folder}`: {error.strerror or error}", "name a folder that you may write to"
        )
        return ExitCode.USAGE
    policy = next(iter(contents))
    print(f"wrote {' and '.join(str(path) for path in contents)}")
    if policy.suffix != SUFFIX:
        return ExitCode.OK
    print("\nnext:")
    print(f"  constraintc check {policy}")
    print(f"  constraintc explain {policy}")
    print("  constraintc demo              train and verify a tiny model, in some minutes")
    print("  constraintc train --help      train your own")
    return ExitCode.OK


def _list(output_format: str) -> int:
    rows = [(PREFIX + name, std_summary(name)) for name in std_names()]
    if output_format == "json":
        print_json([{"name": name, "demand": demand} for name, demand in rows])
    else:
        print_table(("policy", "what it demands"), rows)
    return ExitCode.OK


def _standard_file(name: str) -> Path | None:
    """The file of a standard policy or word list; None when there is none, which is said."""
    full = name if name.startswith(PREFIX) else PREFIX + name
    try:
        path = std_path(full if Path(full).suffix else full + SUFFIX)
        if path.is_file():
            return path
    except (ValueError, OSError):
        pass
    near = closest(name.removeprefix(PREFIX).removesuffix(SUFFIX), std_names())
    help_text = f"write `--from {PREFIX}{near}`" if near else "see `constraintc init --list`"
    print_error(f"--from: the standard library has no `{name}`", help_text)
    return None
