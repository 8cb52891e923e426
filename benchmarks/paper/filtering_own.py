"""The row `filtering_own`: plain fine-tuning from the start model on the plain model's own samples that comply.

The samples stand in the place of the clause's training rows, the other rows stay. They are drawn up to their end token:
a completion that was cut off, written as a row, would teach to stop there.
"""

from __future__ import annotations

import time
from typing import Any

from chosen_rows import Choice, chosen, fine_tuned, finish
from job import Job, Trained
from stage import Stage

from constraintlang_compiler.domains import matches
from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import DataError
from constraintlang_runtime.sampling import derived_seed, sample
from constraintlang_runtime.sampling_law import SamplingLaw

BATCH = 256  # prompts that are completed, and scored, together
Rows = list[dict[str, Any]]


def train(job: Job) -> Trained:
    """Draw until as many samples comply as there were rows, or the oracle calls are spent; then fine-tune."""
    rows, choice = chosen(job, "own_rows", lambda: choose(job))
    tuned = fine_tuned(job, "tuned", rows)
    own = choice.details["stage_seconds"] + tuned.seconds
    return finish(job, choice, [tuned], {"start": "start model", "stage_seconds": own})


def choose(job: Job) -> tuple[Rows, Choice]:
    """The rows to train on, and what it took to draw them; too few samples are repeated, so that the domains keep their
    shares.
    """
    stage = Stage.start(job)
    rows = load_rows([str(job.rows)], role="data")
    others = [dict(row) for row in rows if not any(matches(c.domain, row) for c in stage.oracle.clauses)]
    wanted = len(rows) - len(others)
    kept, details = own_rows(stage, wanted)
    before, own = stage.before, time.perf_counter() - stage.started
    repeated = [kept[i % len(kept)] for i in range(wanted)]
    return repeated + others, Choice(
        before.seconds + own, before.oracle_calls + stage.oracle.calls, before.steps, before.tokens, stage.stages,
        {"stage_seconds": own, "replaced": wanted} | details,
    )  # fmt: skip


def own_rows(stage: Stage, wanted: int) -> tuple[Rows, dict[str, Any]]:
    """At most ``wanted`` samples that ended and comply, as `text` rows with the tags of their prompts, and counts.

    Raises: DataError when there is none.
    """
    law = SamplingLaw(max(1, stage.job.scale.max_length - max(len(row.prompt) for row in stage.prompts)))
    ends, kept, drawn_rows, cut, number = set(end_tokens(stage.tokenizer)), list[dict[str, Any]](), 0, 0, 0
    limit = 4 * stage.oracle.budget  # a model that hardly ever ends its texts is not drawn from for ever
    while len(kept) < wanted and stage.oracle.left and drawn_rows < limit:
        seed = derived_seed(stage.job.seed, stage.job.system, number)
        drawn = sample(stage.model, stage.tokenizer, stage.prompt_batch(number, BATCH), law, seed=seed)
        ended = [row for row in drawn if row.completion[-1] in ends]
        cut += len(drawn) - len(ended)
        drawn_rows += len(drawn)
        stage.oracle.step = number
        judged = stage.judged(ended[: stage.oracle.left])
        texts = stage.tokenizer.batch_decode([row.ids for row in judged.rows], skip_special_tokens=True)
        kept += [
            {"text": text} | row.tags
            for text, row, violation in zip(texts, judged.rows, judged.violations, strict=True)
            if violation == 0 and text.strip()
        ]
        number += 1
        stage.tell(0, 0, kept=len(kept), of=wanted, drawn=drawn_rows, cut_off=cut)
    if not kept:
        raise DataError(
            f"none of {drawn_rows:,} samples ended and complied",
            help="raise the scale's max_length or oracle_calls",
        )
    return kept[:wanted], {"kept": len(kept[:wanted]), "drawn": drawn_rows, "cut_off": cut}
