"""The flags of the commands that score under a policy, and the settings that they make."""

from __future__ import annotations

import argparse
from typing import Any

from constraintc.sources import add_allowances, add_scorer, allowances


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """The flags of every command whose settings are ``ScoringSettings``."""
    from constraintlang_runtime.settings import DEFAULT_TIMEOUT

    add_scorer(parser)
    parser.add_argument(
        "--scorer_timeout", type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS",
        help=f"that a scorer may take for a batch of texts (default {DEFAULT_TIMEOUT:g})",
    )  # fmt: skip
    parser.add_argument("--judge_url", metavar="URL", help="server of the judge that `judge(...)` asks")
    parser.add_argument("--judge_model", metavar="NAME", help="its name on that server")
    parser.add_argument(
        "--judge_rate", type=float, metavar="N", help="requests to it in a second (default: no limit)"
    )
    parser.add_argument(
        "--judge_timeout", type=float, default=60.0, metavar="SECONDS", help="for a reply of it (default 60)"
    )
    parser.add_argument(
        "--score_cache", metavar="DIR|off",
        help="where scores are kept for other runs (default: those of judges, in the user's folder for caches)",
    )  # fmt: skip
    add_allowances(parser)


def add_score_workers(parser: argparse.ArgumentParser) -> None:
    """The flag of commands whose settings are ``SharedScoringSettings``."""
    parser.add_argument(
        "--score_workers", type=int, default=1, metavar="N",
        help="processes that score; models, judges and plug-ins stay in this one (default 1)",
    )  # fmt: skip


def scoring_of(args: argparse.Namespace) -> dict[str, Any]:
    """What ``add_scoring`` parsed, as the fields of ``ScoringSettings``; ConfigError when they do not fit together."""
    from constraintlang_runtime.scorers.judge_settings import JudgeSettings

    return {
        "scorer": tuple(args.scorer),
        "scorer_timeout": args.scorer_timeout,
        "score_cache": args.score_cache,
        "judge": JudgeSettings(args.judge_url, args.judge_model, args.judge_rate, args.judge_timeout),
        **allowances(args),
    }
