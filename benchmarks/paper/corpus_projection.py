"""The row `corpus_projection`: plain fine-tuning on the corpus nearest to the given one that meets the policy.

The rows are scored and weighted by the policy's own optimum (exp(-λ f), the dual λ solved so that the weighted rows
meet the bound), and drawn by their weights; rows of other domains stay as they are. With more than one round the
solver is in the loop: what samples of the tuned model show moves the rate that the rows are projected to.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from chosen_rows import Choice, chosen, fine_tuned, finish
from job import Job, Trained
from numpy.typing import NDArray
from oracle import Oracle
from scipy.special import expit, logit
from sequence_duals import aim, projected, spread_copies
from stage import Stage

from constraintlang_compiler.domains import matches
from constraintlang_compiler.pipeline import compile_path
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.data import encode_rows, load_rows
from constraintlang_runtime.loading import load_tokenizer
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts

Floats = NDArray[np.float64]
DEFAULTS: dict[str, Any] = {"rounds": 2, "control_share": 0.08}


@dataclass(frozen=True)
class Corpus:
    """Rows that no clause speaks of, those that one does as far as they were scored, their statistics [n]; ``count`` is
    how many there were.
    """

    others: list[dict[str, Any]]
    inside: list[dict[str, Any]]
    violations: Floats
    count: int


def train(job: Job) -> Trained:
    """Score the rows once; each round projects, draws and fine-tunes from the start model; the last model counts.

    Options: ``aim`` (see ``sequence_duals``), ``rounds``, ``control_share``, the part of the oracle calls that measures
    the model between two rounds. A round whose model is at the aim is the last.
    """
    options = DEFAULTS | dict(job.options)
    most = int(options["rounds"])
    control = max(1, int(float(options["control_share"]) * job.scale.oracle_calls))
    wanted = rate = aim(job)
    tuned: list[Trained] = []
    costs: list[Choice] = []
    rounds: list[dict[str, float]] = []
    for number in range(most):
        if number > 0:
            _, measured = chosen(job, f"measured-{number}", partial(measure, job, number, control))
            costs.append(measured)
            rounds[-1]["measured"] = found = measured.details["rate"]
            if found <= wanted:
                break
            rate = next_rate(rate, found, wanted, control)
        path, choice = chosen(job, f"rows-{number}", partial(choose, job, number, rate, control * (most - 1)))
        costs.append(choice)
        tuned.append(fine_tuned(job, f"round-{number}", path))
        rounds.append({"rate": rate} | choice.details)
    total = Choice(sum(one.seconds for one in costs), sum(one.oracle_calls for one in costs))
    return finish(job, total, tuned, {"aim": wanted, "rounds": rounds})


def choose(job: Job, number: int, rate: float, kept_back: int) -> tuple[list[dict[str, Any]], Choice]:
    """The rows of a round; the corpus is scored in the first."""
    started = time.perf_counter()
    corpus = scored_corpus(job, kept_back)
    rows, details = drawn_rows(corpus, rate, derived_seed(job.seed, "rows", number))
    calls = len(corpus.inside) if number == 0 else 0
    return rows, Choice(time.perf_counter() - started, calls, details=details)


def scored_corpus(job: Job, kept_back: int) -> Corpus:
    """The rows of the job, and the statistic of the completion of each row that a clause speaks of.

    Where the oracle calls, less those kept back, do not reach, a random part of these rows is scored and the rest left
    out. The statistics are kept in ``statistics.json``.
    """
    rows = [dict(row) for row in load_rows([str(job.rows)], role="data")]
    clauses = sample_clauses(compile_path(job.policy, allow_path=True).ir)
    places = [i for i, row in enumerate(rows) if any(matches(c.domain, row) for c in clauses)]
    known = set(places)
    others = [row for i, row in enumerate(rows) if i not in known]
    order = np.random.default_rng(derived_seed(job.seed, "scored")).permutation(len(places))
    inside = [rows[places[i]] for i in sorted(order[: max(1, job.scale.oracle_calls - kept_back)])]
    kept = job.folder / "statistics.json"
    if not kept.exists():
        oracle, tokenizer = Oracle.open(job), load_tokenizer(job.start)
        oracle.rewind(0)
        own = encode_rows(inside, tokenizer, max_length=job.scale.max_length, seed=job.seed)
        judged = oracle.judge(
            completion_texts(own, tokenizer), prompt_texts(own, tokenizer), [row.tags for row in own]
        )
        kept.write_text(json.dumps(judged.values.sum(axis=1).tolist()))
    return Corpus(others, inside, np.array(json.loads(kept.read_text())), len(places))


def drawn_rows(corpus: Corpus, rate: float, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """As many rows as there were, those inside drawn by the weights of the projection to ``rate``; what it found."""
    found, weights = projected(corpus.violations, rate)
    copies = spread_copies(weights, corpus.violations, corpus.count, seed)
    return [corpus.inside[i] for i in copies] + corpus.others, {
        "dual": float(found.duals[0]),
        "before": float(corpus.violations.mean()),
        "weighted": float(weights @ corpus.violations / weights.sum()),
        "drawn": float(corpus.violations[copies].mean()),
        "distinct": len(set(copies)),
        "scored": len(corpus.inside),
        "rows": len(copies),
    }


def next_rate(rate: float, measured: float, wanted: float, count: int) -> float:
    """The rate to project the rows to after a model tuned on rows of ``rate`` violates in ``measured`` of its samples.

    Equation: logit rate' = logit rate - (logit (c + 1/2)/(n + 1) - logit wanted), c = n · measured, the shift at most
    3, so that one measurement does not empty the corpus of all that is near the line.
    """
    smoothed = (measured * count + 0.5) / (count + 1)
    shift = np.clip(logit(smoothed) - logit(wanted), -3.0, 3.0)
    return float(expit(logit(rate) - shift))


def measure(job: Job, number: int, count: int) -> tuple[list[dict[str, Any]], Choice]:
    """The violation rate of samples of the model of the round before, on the prompts of training; and the samples."""
    stage = Stage.start(replace(job, work=job.folder / f"round-{number - 1}"))
    drawn = stage.draw(stage.prompt_batch(number, count), 0)
    rate = float(drawn.violations.mean())
    stage.tell(0, 0, round=number, rate=rate)
    samples = [
        {"prompt": prompt, "completion": completion, "score": float(score)}
        for prompt, completion, score in zip(drawn.prompts, drawn.completions, drawn.scores, strict=True)
    ]
    return samples, Choice(time.perf_counter() - stage.started, count, details={"rate": rate})
