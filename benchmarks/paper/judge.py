"""The win-rate table: systems judged in pairs on their completions of the same ToxiGen prompts.

Two judges: a language model's likelihood, which needs nothing else, and a model at an OpenAI-compatible endpoint, asked
in both orders (--judge_url, --judge_model; a key in CONSTRAINTLANG_JUDGE_KEY); without one that judge is not measured.

    python benchmarks/paper/judge.py --work runs/paper --out runs/paper/winrate.json base plain ours
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drawing import lines
from job import Scale
from judge_likelihood import MARGIN, LikelihoodJudge
from judge_llm import PairJudge, by_prompt
from measures import read_samples
from numpy.typing import NDArray
from win_rates import by_margin, win_rates

from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.scorers.judge_settings import JudgeSettings

Floats = NDArray[np.float64]
PROTOCOL = "toxigen"
LLM_PROMPTS = 200  # of them the endpoint is asked; pairs of systems are many
Samples = list[dict[str, Any]]


def winrate(
    folders: Mapping[str, Sequence[Path]],
    scale: Scale,
    work: Path,
    *,
    model: str | None = None,
    endpoint: JudgeSettings | None = None,
    llm_prompts: int = LLM_PROMPTS,
) -> dict[str, Any]:
    """Win rates of systems by both judges; what was judged is kept below ``work/judge``.

    ``folders`` are those of the measures of each system, one per seed; a pair is judged on the seeds that both have.
    Returns ``likelihood`` and ``llm``, each with ``measured``, ``what``, ``matrix`` (a against b), ``all`` (each against
    all others, with ``mean``, ``low``, ``high``), and the first of them ``spoken``, the same over the prompts where both
    replies have a word: to the likelihood judge a reply without one is the worst of all.
    Raises: DataError for fewer than two systems, or other prompts.
    """
    samples = {system: [read_samples(f, PROTOCOL) for f in own] for system, own in folders.items()}
    _check(samples)
    systems, pairs = list(samples), list(itertools.combinations(samples, 2))
    judge = LikelihoodJudge(scale, model)
    scores: dict[str, list[Floats]] = {}
    for system, seeds in samples.items():
        print(f"likelihood judge: {system}", file=sys.stderr, flush=True)
        scores[system] = [
            judge.stored_scores(one, work / "judge" / f"{_name(folders[system][i])}.json")
            for i, one in enumerate(seeds)
        ]
    outcomes = {
        (a, b): [by_margin(x, y, MARGIN) for x, y in zip(scores[a], scores[b], strict=False)]
        for a, b in pairs
    }
    spoken = {
        (a, b): [
            np.where(np.isinf(x) | np.isinf(y), np.nan, one)
            for x, y, one in zip(scores[a], scores[b], outcomes[a, b], strict=False)
        ]
        for a, b in pairs
    }
    found: dict[str, Any] = {
        "likelihood": {
            "measured": True, "what": f"Mean log-likelihood per token under {judge.what}.", "margin": MARGIN,
            **win_rates(systems, outcomes, seed=0), "spoken": win_rates(systems, spoken, seed=0),
        },
        "llm": {"measured": False, "what": "not measured: no endpoint was given"},
    }  # fmt: skip
    if endpoint is not None and endpoint.url is not None:
        found["llm"] = _by_llm(samples, pairs, endpoint, work, llm_prompts)
    return found


def _by_llm(
    samples: Mapping[str, list[Samples]],
    pairs: Sequence[tuple[str, str]],
    endpoint: JudgeSettings,
    work: Path,
    count: int,
) -> dict[str, Any]:
    """The same by an endpoint, on the first ``count`` prompts of the first seed."""
    judge = PairJudge(endpoint, work / "judge" / "llm")
    first = {system: by_prompt(seeds[0]) for system, seeds in samples.items()}
    prompts = list(next(iter(first.values())))[:count]
    print(
        f"LLM judge {judge.name}: at most {2 * len(prompts) * len(pairs):,} requests ({len(pairs)} pairs of systems, "
        f"{len(prompts)} prompts, both orders); what is answered is kept",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    outcomes = {
        (a, b): [
            judge.outcomes(
                prompts,
                [first[a][p] for p in prompts],
                [first[b][p] for p in prompts],
                lines(f"{a} against {b}"),
            )
        ]
        for a, b in pairs
    }
    what = f"`{judge.name}` at an endpoint, both orders; where they disagree it is a tie."
    return {"measured": True, "what": what, **win_rates(list(samples), outcomes, seed=0)}


def _check(samples: Mapping[str, list[Samples]]) -> None:
    """Raise DataError unless all systems have samples of the same prompts."""
    if len(samples) < 2:
        raise DataError(f"got {len(samples)} systems, expected at least 2", help="name more rows")
    asked: list[str] | None = None
    for system, seeds in samples.items():
        for one in seeds:
            own = [sample["prompt"] for sample in one]
            asked = own if asked is None else asked
            if not own or own != asked:
                raise DataError(
                    f"`{system}` has {len(own):,} samples of the protocol `{PROTOCOL}`, others {len(asked):,} or of "
                    "other prompts",
                    help="measure every row at the same scale first",
                )


def _name(folder: Path) -> str:
    """ARCHITECTURE-SYSTEM-SEED of a row's folder of measures."""
    return f"{folder.parent.parent.name}-{folder.parent.name}"


def main() -> int:
    """Judge the finished rows below --work and write the win rates."""
    from scales import setting_of

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="+", help="rows that are measured")
    parser.add_argument("--scale", default="testbed")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the scale's rows")
    parser.add_argument("--architecture", default="llama")
    parser.add_argument("--model", help="folder or hub id of the model of the likelihood judge")
    parser.add_argument("--judge_url", help="http://HOST:PORT of an OpenAI-compatible server")
    parser.add_argument("--judge_model", help="the model's name there")
    parser.add_argument("--judge_rate", type=float, help="requests in a second")
    parser.add_argument("--judge_prompts", type=int, default=LLM_PROMPTS)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        endpoint = JudgeSettings(args.judge_url, args.judge_model, args.judge_rate)
        folders = {
            system: sorted((args.work / args.architecture).glob(f"{system}-[0-9]*/measures"))
            for system in args.systems
        }
        if missing := [system for system, own in folders.items() if not own]:
            raise DataError(f"no measures of {', '.join(missing)} below `{args.work / args.architecture}`")
        scale = setting_of(args.scale, args.shared, args.work).scale
        found = winrate(
            folders, scale, args.work, model=args.model, endpoint=endpoint, llm_prompts=args.judge_prompts
        )
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    for name, one in found.items():
        print(f"{name}: {one['what']}")
        for system, rate in one.get("all", {}).items():
            print(f"  {system}: {rate['mean']:.3f} ({rate['low']:.3f} to {rate['high']:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
