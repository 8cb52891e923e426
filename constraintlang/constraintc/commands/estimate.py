"""``constraintc estimate``: FLOPs, memory, time and samples of a run before it is started; no torch."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from constraintc.exit_codes import ExitCode
from constraintc.output import print_diagnostics, print_json
from constraintc.sources import add_allow_path, compile_argument

if TYPE_CHECKING:
    from constraintlang_runtime.estimate.gpu_table import Machine
    from constraintlang_runtime.estimate.model_shape import ModelShape
    from constraintlang_runtime.estimate.row_counts import RowCounts

TAKES_SETTINGS = True

HELP = """Print what a run of `constraintc train` costs before it is started: FLOPs, seconds and memory of every phase,
the ratio to plain fine-tuning, and the prompts that verification needs.

Only the model's config.json is read, and of local weights their header. Without --gpu the estimate is for this machine;
of a processor, matrix product and copy are measured for half a second. Seconds are a range: the shares of the peak
that are assumed stand below the tables, with all else that is. These are estimates; `train --dry-run` measures."""

EPILOG = """examples:
  constraintc estimate my.policy --model gpt2 --rows 20000 --tokens_per_row 256
  constraintc estimate my.policy --config run.yaml --gpu a100          model, data and settings are those of the run
  constraintc estimate my.policy --parameters 7b --hidden 4096 --layers 32 --vocab 128000 \\
      --rows 100000 --tokens_per_row 512 --gpu h200 --gpus 8 --num_train_epochs 1 --lora_r 16

the settings of `train` are taken as there, from --config and as flags (--max_steps 500, --anchor_samples 1024, ...).

exit codes: 0 estimated (also when the run does not fit); 2 usage, setting, model; 3 errors in the policy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb; training settings are read by ``parse_flags``."""
    parser.add_argument("policy", metavar="POLICY", help="a policy file or a compiled directory")
    parser.add_argument("--rows", type=int, metavar="N", help="training rows (default: those of --data)")
    parser.add_argument(
        "--tokens_per_row", type=int, metavar="T",
        help="tokens of a row (default: counted in --data with the model's tokenizer.json)",
    )  # fmt: skip
    parser.add_argument(
        "--prompt_tokens", type=int, metavar="P",
        help="tokens of its prompt (default: counted with those of a row, else half of them)",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="[DOMAIN=]FILE", action="append", help="the rows, as for `train`; may be repeated"
    )
    parser.add_argument(
        "--constrained_share", type=float, metavar="S",
        help="share of the rows under a trained statement (default: all; half when the policy preserves others)",
    )  # fmt: skip
    parser.add_argument("--config", metavar="YAML", help="settings of the run, as for `train`")
    model = parser.add_argument_group("the model")
    model.add_argument("--model", metavar="DIR_OR_ID", help="its folder or hub id; or give its sizes:")
    model.add_argument("--parameters", type=_count, metavar="N", help="weights, such as 7b or 350m")
    for name, what in (
        ("hidden", "width"),
        ("layers", "number of layers"),
        ("vocab", "size of the vocabulary"),
    ):
        model.add_argument(f"--{name}", type=int, metavar="N", help=what)
    model.add_argument("--heads", type=int, metavar="N", help="attention heads (default: hidden/128)")
    model.add_argument("--kv_heads", type=int, metavar="N", help="heads of keys and values (default: all)")
    model.add_argument("--tied", action="store_true", help="input and output embeddings are one matrix")
    model.add_argument(
        "--dtype", default="bfloat16", metavar="TYPE", help="of its weights (default bfloat16)"
    )
    parser.add_argument(
        "--scorer",
        metavar="NAME=PATH[#LABEL]",
        action="append",
        help="what computes an attribute, as for `train`",
    )
    parser.add_argument(
        "--scorer_parameters", type=_count, metavar="N", help="weights of each classifier that is not at hand"
    )
    parser.add_argument(
        "--gpu", metavar="NAME", help="h200, h100, a100, l40s, rtx4090 or cpu (default: this machine)"
    )
    parser.add_argument(
        "--gpus", type=int, metavar="N", help="how many (default: 1, or those of this machine)"
    )
    add_allow_path(parser)
    parser.add_argument(
        "--format", choices=("human", "json"), default="human", help="how to print the estimate"
    )


def run(args: argparse.Namespace) -> int:
    """Read shapes and settings, estimate, print."""
    merged = _merged(args)
    policy, findings = compile_argument(args.policy, allow_path=merged.get("allow_path") is True)
    print_diagnostics([d for d in findings if d.severity == "warning"], policy.source, sys.stderr)
    from constraintlang_compiler.sample_plan import domains_of, plan
    from constraintlang_runtime.estimate.adapters import student_of
    from constraintlang_runtime.estimate.estimate import estimate
    from constraintlang_runtime.estimate.scorer_shapes import scorer_shapes
    from constraintlang_runtime.estimate.workload import read_settings, workload

    config, training, scorers = read_settings(merged)
    counts = _counts(args, merged)
    shape = _shape(args, merged.get("model"))
    student = student_of(shape, config, training)
    machine = _machine(args, half=student.element == 2)
    length = min(counts.tokens, config.max_length)
    prompt = length // 2 if counts.prompt_tokens is None else counts.prompt_tokens
    load = workload(
        policy.ir, config, training, rows=counts.rows, tokens_per_row=counts.tokens, prompt_tokens=prompt,
        constrained=args.constrained_share, devices=machine.devices,
    )  # fmt: skip
    classifiers, notes = scorer_shapes(policy.ir, scorers, args.scorer_parameters)
    if args.rows is None or args.tokens_per_row is None:
        notes.append(
            f"{counts.rows:,} rows of {counts.tokens:,} tokens, {prompt:,} of them a prompt, as in the data"
        )
    plans = plan(policy.clauses_as_written)
    domains = domains_of(plans)
    found = estimate(
        student, load, machine, config, classifiers,
        verified_prompts=sum(domains.values()), notes=notes,
    )  # fmt: skip
    if args.format == "json":
        needed = {"clauses": [one.to_json() for one in plans], "domains": domains}
        print_json({**found.to_json(), "prompts": needed})
        return ExitCode.OK
    from constraintc.estimate_output import print_estimate

    print_estimate(found, plans, domains)
    return ExitCode.OK


def _count(text: str) -> int:
    """``7b`` -> 7,000,000,000."""
    units = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
    number, unit = (text[:-1], units[text[-1].lower()]) if text[-1:].lower() in units else (text, 1.0)
    try:
        value = float(number) * unit
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e16:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number of weights such as 7b or 350m")
    return round(value)


def _merged(args: argparse.Namespace) -> dict[str, Any]:
    from constraintlang_runtime.run_settings import parse_flags, read_yaml

    merged = read_yaml(args.config) | parse_flags(args.extra)
    names = ("model", "data", "scorer", "allow_path")
    return merged | {name: getattr(args, name) for name in names if getattr(args, name)}


def _counts(args: argparse.Namespace, merged: dict[str, Any]) -> RowCounts:
    """Rows and tokens as the flags say them; what they do not say is counted in the data of the run."""
    from constraintlang_runtime.errors import ConfigError
    from constraintlang_runtime.estimate.row_counts import RowCounts, row_counts
    from constraintlang_runtime.run_settings import as_texts

    if args.rows is not None and args.tokens_per_row is not None:
        return RowCounts(args.rows, args.tokens_per_row, args.prompt_tokens)
    if not merged.get("data"):
        raise ConfigError(
            "the rows of the run are not known",
            help="give --rows and --tokens_per_row, or --data [DOMAIN=]FILE, or write `data:` in the configuration",
        )
    counted = row_counts(as_texts("data", merged["data"]), merged.get("model"))
    tokens = counted.tokens if args.tokens_per_row is None else args.tokens_per_row
    own = counted.prompt_tokens if args.tokens_per_row is None else None
    return RowCounts(
        counted.rows if args.rows is None else args.rows, tokens,
        own if args.prompt_tokens is None else args.prompt_tokens,
    )  # fmt: skip


def _shape(args: argparse.Namespace, model: object) -> ModelShape:
    from constraintlang_runtime.errors import ConfigError
    from constraintlang_runtime.estimate.model_shape import given_shape
    from constraintlang_runtime.estimate.model_source import read_shape

    sizes = {name: getattr(args, name) for name in ("parameters", "hidden", "layers", "vocab")}
    given = [name for name, value in sizes.items() if value is not None]
    if given and args.model:
        raise ConfigError(f"--model and --{given[0]} both say what the model is", help="give one of them")
    if not given:
        if not model:
            raise ConfigError(
                "the model is missing",
                help="give --model DIR_OR_ID, or --parameters, --hidden, --layers and --vocab",
            )
        return read_shape(str(model))
    wrong = [name for name, value in sizes.items() if value is None or value < 1]
    wrong += [
        name for name in ("heads", "kv_heads") if (value := getattr(args, name)) is not None and value < 1
    ]
    if wrong:
        raise ConfigError(
            f"--{wrong[0]} is missing or not positive",
            help="give --parameters, --hidden, --layers and --vocab",
        )
    return given_shape(
        **sizes, heads=args.heads, kv_heads=args.kv_heads, tied=args.tied, weight_type=args.dtype
    )


def _machine(args: argparse.Namespace, *, half: bool) -> Machine:
    from constraintlang_runtime.errors import ConfigError
    from constraintlang_runtime.estimate.gpu_table import named_gpu
    from constraintlang_runtime.estimate.this_machine import measured_cpu, own_gpus

    own = own_gpus() if args.gpu is None else None
    name = args.gpu or (own[0] if own else "cpu")
    number = args.gpus if args.gpus is not None else own[1] if own else 1
    if number < 1 or (name == "cpu" and number > 1):
        raise ConfigError(
            f"--gpus: got {number}, expected at least 1, and 1 for a processor", help="name a GPU with --gpu"
        )
    return measured_cpu() if name == "cpu" else named_gpu(name, number, bf16=half)
