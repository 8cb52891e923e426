"""``constraintc``: argv in, one verb, exit code out; each verb's module is imported only when it runs."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from constraintc.exit_codes import ExitCode

VERBS = {
    "init": "write a first policy and run configuration",
    "check": "report every mistake in policy files",
    "fmt": "rewrite policy files in their canonical form",
    "fix": "repair what `check` finds, where the repair is clear",
    "test": "run the tests that stand in policy files",
    "why": "say why a response satisfies or violates a policy",
    "try": "type texts and see what each statement of a policy says of them",
    "compile": "turn a policy into an artifact",
    "explain": "say in English what a policy demands, or what an error code means",
    "diff": "compare two policies: what became stricter or looser",
    "lock": "pin the files, models and plug-ins that a policy trusts",
    "audit": "list every part that a policy trusts",
    "plan": "say how many prompts a verification needs",
    "estimate": "say what a run costs in time, memory and samples, before it is started",
    "train": "fine-tune a model under a policy",
    "eval": "verify a model against a policy, with confidence bounds",
    "score": "judge existing texts or data sets under a policy, row by row and as a whole",
    "generate": "sample from a model, guided or checked by a policy",
    "report": "put evaluations side by side on one HTML page",
    "lsp": "the language server: findings, hints and fixes in your editor",
    "demo": "run the main job on a built-in language, with nothing to download",
    "env": "show versions and hardware, for bug reports",
}

ALONE = ("score", "generate", "demo")  # of a launcher's processes each would do all of the work


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser; only ``verb`` gets its arguments, so that only its module is imported."""
    return build_parsers(verb)[0]


def build_parsers(verb: str | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser | None]:
    """``build_parser``, and within it the parser of the verb."""
    parser = argparse.ArgumentParser(
        prog="constraintc",
        description="Write what a language model must do as a policy, compile it, train under it, verify it.",
        epilog="start with: constraintc init && constraintc check my.policy",
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    chosen = None
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for name, help_text in VERBS.items():
        if name != verb:
            verbs.add_parser(name, help=help_text)
            continue
        module = import_module(f"constraintc.commands.{name}")
        layout = argparse.RawDescriptionHelpFormatter
        chosen = child = verbs.add_parser(
            name,
            help=help_text,
            description=module.HELP,
            epilog=module.EPILOG,
            formatter_class=layout,
            allow_abbrev=False,
        )
        child.add_argument("--traceback", action="store_true", help="show the Python traceback of an error")
        module.add_arguments(child)
        child.set_defaults(run=module.run, takes_settings=getattr(module, "TAKES_SETTINGS", False))
    return parser, chosen


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long flags of a parser, one of each option, as its usage lists them."""
    written, parser.usage = parser.usage, None
    try:
        return re.findall(r"--\w[\w-]*", parser.format_usage())
    finally:
        parser.usage = written


def spelled(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The words with flags as the parser knows them, whether dashes or underscores were typed between their parts."""
    known = {flag.replace("_", "-"): flag for flag in flags}
    found: list[str] = []
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        name, equals, value = word.partition("=")
        found.append(known.get(name.replace("_", "-"), name) + equals + value)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parser, chosen = build_parsers(next((word for word in arguments if word in VERBS), None))
        if arguments and not arguments[0].startswith("-") and arguments[0] not in VERBS:
            return _unknown_verb(arguments[0])
        flags = [] if chosen is None else flags_of(chosen)
        args, extra = parser.parse_known_args(spelled(arguments, flags))
        args.extra = extra
        if extra and not getattr(args, "takes_settings", False):
            parser.error(f"unrecognized arguments: {' '.join(extra)}")
        if args.version:
            from constraintlang.version import VERSION

            print(f"constraintc {VERSION}")
            return ExitCode.OK
        if args.verb is None:
            parser.print_help()
            return ExitCode.USAGE
        if args.verb in ALONE and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            from constraintc.output import print_error

            print_error(
                f"`{args.verb}` was started as {os.environ['LOCAL_WORLD_SIZE']} processes, and each would do all of it",
                "start it without torchrun or `accelerate launch`; for a model that needs several GPUs, serve it: "
                "`constraintc eval --endpoint URL`",
            )
            return ExitCode.USAGE
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a usage error
        return stop.code if isinstance(stop.code, int) else ExitCode.USAGE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE
    except Exception as error:
        from constraintc.failures import report

        return report(error, show_traceback="--traceback" in arguments)


def _unknown_verb(word: str) -> int:
    from constraintc.output import print_error
    from constraintlang.suggestions import closest

    near = closest(word, VERBS)
    what_next = f"write `constraintc {near}`" if near else "`constraintc --help` lists the verbs"
    print_error(f"there is no verb `{word}`", what_next)
    return ExitCode.USAGE


def entry_point() -> NoReturn:
    """The ``constraintc`` script."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
