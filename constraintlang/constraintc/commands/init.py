"""``constraintc init``: a first policy and run configuration, commented, ready to check."""

from __future__ import annotations

import argparse
from pathlib import Path

from constraintc.exit_codes import ExitCode
from constraintc.output import print_error

HELP = """Write a commented first policy (my.policy) and run configuration (run.yaml).

Existing files are never overwritten."""

EPILOG = """examples:
  constraintc init
  constraintc init experiments/first

exit codes: 0 written; 2 a file exists, or the folder cannot be written"""

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
output_dir: runs/first
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


def run(args: argparse.Namespace) -> int:
    """Write both files, or neither."""
    folder = Path(args.directory)
    contents = {folder / "my.policy": POLICY, folder / "run.yaml": RUN}
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
    policy = folder / "my.policy"
    print(f"wrote {policy} and {folder / 'run.yaml'}\n\nnext:")
    print(f"  constraintc check {policy}")
    print(f"  constraintc explain {policy}")
    print("  constraintc demo              train and verify a tiny model, in some minutes")
    print("  constraintc train --help      train your own")
    return ExitCode.OK
