"""``constraintc train``: fine-tune a causal LM under a policy."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from constraintc.exit_codes import ExitCode
from constraintc.locks import add_locked_argument, require_locked
from constraintc.output import print_diagnostics, print_json, print_message
from constraintc.sources import STOP_HELP, add_allowances, compile_argument, policy_folder, stop_text
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.early_checks import check_settings, check_sources
from constraintlang_runtime.ranks import is_main
from constraintlang_runtime.round_words import budget_line, demanded, in_words
from constraintlang_runtime.run_settings import RunSettings, defaults, parse_flags, read_yaml, settings
from constraintlang_runtime.settings import CHOICES, ConstraintSettings

if TYPE_CHECKING:
    from constraintlang_compiler.artifact import CompiledPolicy

TAKES_SETTINGS = True

HELP = """Fine-tune a Hugging Face causal LM on your rows while a token-level regularizer keeps it inside the policy.

Rows are .jsonl, .csv, .parquet or .txt files (or hub data sets) with `text`, or `prompt` and `completion`, or
`messages`; the domain of a row is what stands before `=`, or its `domain` column. The model is saved in --output,
with `constraint/run.json` (settings, rates, duals, versions) beside it. A killed run goes on with --resume and ends
in the same weights. Verify the result with `constraintc eval`."""

EPILOG = """examples:
  constraintc train my.policy --model gpt2 --data chat=chat.jsonl --data wiki=wiki.jsonl \\
      --scorer toxicity=unitary/toxic-bert#toxic --output runs/first --max_steps 500
  constraintc train my.policy --config run.yaml --dry-run        check data, scorers, memory, time
  constraintc train my.policy --config run.yaml --resume         go on after an interruption

every setting is a key of the YAML file and a flag of the same name; transformers.TrainingArguments are settings too
(--bf16, --gradient_accumulation_steps 4, --seed 1, ...). Flags win over the file.

exit codes: 0 trained; 2 usage, setting, missing file; 3 errors in the policy; 4 the run failed"""


USAGE = "%(prog)s POLICY --model DIR_OR_ID --data [DOMAIN=]FILE --output DIR [options] [settings]"

# Of transformers, and listed because every run has them: default and meaning.
THEIRS = {
    "max_steps": (1000, "optimizer steps"),
    "num_train_epochs": (0, "passes over the rows, in place of max_steps"),
    "learning_rate": (1e-4, "peak learning rate"),
    "per_device_train_batch_size": (8, "training rows of a micro-batch on each device"),
    "seed": (42, "of everything that is drawn"),
}
# The heading above the setting of this name and those after it.
HEADINGS = {
    "method": "method and schedule",
    "divergence": "regularizer",
    "control_gain": "rounds and control",
    "max_new_tokens": "sampling",
    "chat": "rows",
    "auxiliary": "auxiliary model",
    "preserve_weight": "budgets and the kept checkpoint",
    "chunk_sites": "time and memory",
    "scorer_timeout": "scorers and judges",
    "train_dtype": "precision and attention",
    "lora_r": "LoRA",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb; settings are read by ``parse_flags`` and only listed here."""
    parser.usage = USAGE
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument("--config", metavar="YAML", help="settings, one `key: value` a line")
    parser.add_argument("--model", metavar="DIR_OR_ID", help="the model to start from")
    parser.add_argument(
        "--data", metavar="[DOMAIN=]FILE", action="append", help="training rows; may be repeated"
    )
    parser.add_argument(
        "--prompts", metavar="[DOMAIN=]FILE", action="append",
        help="prompts sampled in training (default: those of the rows); keep the prompts of eval apart",
    )  # fmt: skip
    parser.add_argument(
        "--heldout", metavar="[DOMAIN=]FILE", action="append",
        help="rows that measure `preserve` clauses in training (default: a few of --data, not trained on)",
    )  # fmt: skip
    parser.add_argument(
        "--selection", metavar="[DOMAIN=]FILE", action="append",
        help="prompts that choose the checkpoint with --keep best (default: a few of those sampled)",
    )  # fmt: skip
    parser.add_argument(
        "--scorer",
        metavar="NAME=PATH[#LABEL]",
        action="append",
        help="what computes an attribute; may be repeated",
    )
    parser.add_argument("--output", metavar="DIR", help="where the model goes")
    parser.add_argument("--resume", action="store_true", default=None, help="go on with the run in --output")
    parser.add_argument(
        "--overwrite", action="store_true", default=None, help="start over in a folder that is not empty"
    )
    add_allowances(parser, default=None)
    add_locked_argument(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, take a few steps and say how long the run will take; writes nothing",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the result"
    )
    listed = parser.add_argument_group("settings (also keys of the YAML file)")
    for name, (value, meaning) in THEIRS.items():
        listed.add_argument(f"--{name}", metavar="N", help=f"{meaning} (default {value})")
    for field in fields(ConstraintSettings):
        if field.name in HEADINGS:
            listed = parser.add_argument_group(f"settings: {HEADINGS[field.name]}")
        if field.name == "stop":  # texts as they are, not YAML
            listed.add_argument("--stop", action="append", type=stop_text, metavar="TEXT", help=STOP_HELP)
            continue
        default = "" if field.default is None else f" (default {str(field.default).lower()})"
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if isinstance(field.default, bool) else {}
        listed.add_argument(
            f"--{field.name}",
            metavar=_metavar(field.name, field.default),
            **switch,
            help=f"{field.metadata['help']}{default}".replace("%", "%%"),
        )


def _metavar(name: str, default: object) -> str:
    """The values of a choice, else what kind of value it is."""
    if name in CHOICES:
        return "{" + ",".join(CHOICES[name]) + "}"
    if isinstance(default, bool):
        return "true|false"
    return "N" if isinstance(default, int | float) else "VALUE"


def run(args: argparse.Namespace) -> int:
    """Merge settings, train or dry-run, print."""
    merged = _merged(args)
    named, _ = check_settings(merged)
    policy, findings = compile_argument(args.policy, allow_path=named.allow_path)
    if args.locked:
        require_locked(args.policy, policy.source, named.scorer, allow_path=named.allow_path)
    _check_sources(policy, named)
    # after all that can be checked without it: to import transformers takes seconds
    from constraintlang_runtime.config import ConstraintConfig

    given = settings(merged, defaults(ConstraintConfig))
    speaks = is_main()
    if speaks:
        print_diagnostics([d for d in findings if d.severity == "warning"], policy.source, sys.stderr)
    from constraintc.progress import quiet_libraries, shown
    from constraintlang_runtime import train_run
    from constraintlang_runtime.dry_run import dry_run

    folder = policy_folder(args.policy)
    with quiet_libraries(speaks=speaks), shown(args.quiet or not speaks) as progress:
        if args.dry_run:
            found = dry_run(policy, given, folder=folder, progress=progress)
        else:
            tell = print_message if speaks else _silent
            found = train_run.train(policy, given, folder=folder, progress=progress, tell=tell)
    if not speaks:
        return ExitCode.OK
    if args.format == "json":
        print_json({key: value for key, value in found.items() if key != "history"})
    elif args.dry_run:
        _print_dry_run(found)
    else:
        from constraintlang_runtime.next_command import eval_command

        _print_result(found, policy, given, eval_command(args.policy, policy.ir, given))
    return ExitCode.OK


def _check_sources(policy: CompiledPolicy, named: RunSettings) -> None:
    check_sources(
        policy.ir,
        [clause for clause in sample_clauses(policy.ir) if clause.strength != "preserve"],
        files={name: getattr(named, name) for name in ("data", "prompts", "heldout", "selection")},
        prompts=named.prompts or named.data,
        models=[named.model],
        scorer=named.scorer,
        wanted="--prompts DOMAIN=FILE (or --data DOMAIN=FILE)",
    )


def _silent(message: str) -> None:
    """What a process says that is not the main one."""


def _merged(args: argparse.Namespace) -> dict[str, Any]:
    """YAML under flags, not checked yet."""
    merged = read_yaml(args.config)
    names = (
        "model",
        "data",
        "prompts",
        "heldout",
        "selection",
        "scorer",
        "output",
        "resume",
        "overwrite",
        "allow_path",
        "allow_code",
        "allow_plugins",
        "stop",
    )
    merged |= {name: value for name in names if (value := getattr(args, name)) is not None}
    listed = [
        *(f.name for f in fields(ConstraintSettings) if f.name != "stop"),
        *THEIRS,
    ]
    tokens = [
        token
        for name in listed
        if (value := getattr(args, name)) is not None
        for token in (f"--{name}", value)
    ]
    return merged | parse_flags([*tokens, *args.extra])


def _print_result(found: dict[str, object], policy: CompiledPolicy, given: RunSettings, verify: str) -> None:
    rounds = [record for record in found["history"] if "round" in record]  # type: ignore[attr-defined]
    print(f"trained {found['steps']} steps on {found['rows']:,} rows in {found['seconds']} s")
    courses = _courses(rounds)
    if courses:
        print("on training prompts, first and last round:")
    for clause in policy.clauses_as_written:
        for name, values in courses.items():
            rest = name.removeprefix(clause.name)
            if not rest or (rest != name and clause.per and rest.lstrip().startswith("[")):
                print(f"  {_course(clause, name, values[0], values[-1])}")
    budgets: list[dict[str, Any]] = found["preserve"]  # type: ignore[assignment]
    if budgets:
        print("on held-out rows, start model and last round:")
        for budget in budgets:
            print(f"  {budget_line(budget)}")
    verified_only: list[str] = found["verified_only"]  # type: ignore[assignment]
    if verified_only:
        print(f"verified only: {', '.join(verified_only)}")
    print(f"saved {given.output}")
    print(f"next: {verify}")


def _courses(rounds: list[dict[str, Any]]) -> dict[str, list[float]]:
    """The values of every clause, and of every stratum, from round to round."""
    found: dict[str, list[float]] = {}
    for record in rounds:
        for key, value in record.items():
            if key.startswith("constraint/") and key.endswith("/value"):
                found.setdefault(key[len("constraint/") : -len("/value")], []).append(value)
    return found


def _course(clause: Clause, name: str, first: float, last: float) -> str:
    """A clause, or a stratum of it, from the first round to the last, in the numbers of its bound."""
    rates = " of the responses break it" if isinstance(clause.statistic, Indicator) else ""
    asked = demanded(clause, float(clause.bound))
    return f"{name}: {in_words(clause, first)} -> {in_words(clause, last)}{rates} ({asked})"


def _print_dry_run(found: dict[str, object]) -> None:
    print(
        f"rows {found['rows']:,}, parameters {found['parameters']:,}, peak memory {found['peak_memory_gib']} GiB"
    )
    for group in found["groups"]:  # type: ignore[attr-defined]
        means = ", ".join(
            f"{name} {'no rows' if mean is None else mean}"
            for name, mean in zip(group["clauses"], group["corpus_means"], strict=True)
        )
        share = 100 * group["share_of_tokens"]
        print(
            f"  {group['name']}: {group['prompts']:,} prompts, {share:.1f}% of the tokens; in its rows: {means}"
        )
    from constraintlang_runtime.report.words import duration

    stages: dict[str, float] = found["planned_seconds"]  # type: ignore[assignment]
    parts = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stages.items() if seconds)
    print(
        f"the whole run takes about {duration(sum(stages.values()))} here, one stage after the other: {parts} "
        f"({found['planned_steps']:,} steps, {found['planned_samples']:,} samples of each group)"
    )
    print(f"this one took {duration(float(str(found['dry_run_seconds'])))}; all is in place")
