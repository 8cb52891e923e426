"""One verification from settings to verdicts: load the model, prompts, rows and scorers, and evaluate."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.scopes import compared_clauses, sample_clauses
from constraintlang_compiler.strata import expand_strata
from constraintlang_runtime.benchmark_results import accuracies, figures
from constraintlang_runtime.benchmark_tasks import Benchmarks
from constraintlang_runtime.columns import Row, split_domain
from constraintlang_runtime.data import TokenRow, encode_rows, load_rows, prompt_rows
from constraintlang_runtime.eval_settings import EvalSettings as EvalSettings
from constraintlang_runtime.evaluate import Sequential, evaluate
from constraintlang_runtime.evaluation import Evaluation
from constraintlang_runtime.human_labels import People, read_people
from constraintlang_runtime.judge import audit_pool
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.progress import Progress
from constraintlang_runtime.ranks import processes_together, rank_and_size
from constraintlang_runtime.report.provenance import run_fingerprint
from constraintlang_runtime.sampling import own_generation
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.binding import bind_audit
from constraintlang_runtime.scorers.divided_pool import DividedPool
from constraintlang_runtime.scorers.parts import Pool, told_apart
from constraintlang_runtime.seen_prompts import is_seen, prompt_hash, read_seen
from constraintlang_runtime.train_run import versions

logger = logging.getLogger(__name__)


def evaluate_run(
    policy: CompiledPolicy, settings: EvalSettings, *, folder: Path, progress: Progress | None = None
) -> Evaluation:
    """Evaluate a saved model; every file is read and checked before the model is loaded.

    Of several processes that a launcher started each answers and scores a part, and all get the same result.
    """
    people = read_people(settings.human, settings.identity_terms)
    law = settings.law
    raw_prompts = [load_rows([spec], role="prompts") for spec in settings.prompts]
    raw_rows: dict[str, list[Row]] = {}
    for spec in settings.rows:  # files of one name are one set
        raw_rows.setdefault(_row_name(spec), []).extend(load_rows([spec], role="rows"))
    with processes_together(), settings.shared_pool(policy, folder=folder, base=settings.base) as own:
        pool = DividedPool(own) if rank_and_size()[1] > 1 else own
        return _evaluated(
            policy, settings, people, law, raw_prompts, raw_rows, pool, folder=folder, progress=progress
        )


def _evaluated(
    policy: CompiledPolicy, settings: EvalSettings, people: People, law: SamplingLaw, raw_prompts: list[list[Row]],
    raw_rows: dict[str, list[Row]], pool: Pool, *, folder: Path, progress: Progress | None,
) -> Evaluation:  # fmt: skip
    """The rest, with what was read and the scorers."""
    benchmarks = Benchmarks.find(settings.benchmarks) if settings.benchmarks else None
    scorers = bind_audit(policy.ir, settings.audit, folder=folder, allow_path=settings.allow_path)
    audit: Pool | None = audit_pool(policy.ir, scorers, settings.scorer_timeout)
    if audit is not None and rank_and_size()[1] > 1:
        audit = DividedPool(audit)
    tokenizer = load_tokenizer(settings.model)
    model = load_model(settings.model, tokenizer=tokenizer)
    base = load_model(settings.base, tokenizer=tokenizer) if settings.base is not None else None
    for name, loaded in ((settings.model, model), (settings.base, base)):
        if own := own_generation(loaded, law):
            logger.warning(
                "the generation_config of `%s` has %s: those settings are not used, verdicts are about sampling at "
                "temperature %g, top_p %g",
                name, ", ".join(own), law.temperature, law.top_p,
            )  # fmt: skip
    seen = read_seen(settings.model)
    reading = told_apart(pool, policy.ir.clauses)
    every: list[TokenRow] = []
    hash_of: dict[tuple[int, ...], int] = {}
    for part in raw_prompts:
        encoded = encode_rows(
            part, tokenizer, max_length=settings.max_length, need_completion=False, chat=settings.chat
        )
        every += prompt_rows(encoded, settings.num_prompts, reading)
        if seen is not None:
            hash_of |= {row.prompt: prompt_hash(raw) for row, raw in zip(encoded, part, strict=True)}
    prompts = prompt_rows(every, reading=reading)  # what two files share is evidence once
    hashes = [] if seen is None else [hash_of[row.prompt] for row in prompts]
    rows: dict[str, list[TokenRow]] = {
        name: encode_rows(part, tokenizer, max_length=settings.max_length, chat=settings.chat)
        for name, part in raw_rows.items()
    }
    own_tasks: dict[str, Any] = {}
    base_tasks: dict[str, Any] | None = None
    if benchmarks is not None:
        together = max(1, settings.batch_size // 8)  # questions are longer than replies
        own_tasks = benchmarks.run(model, tokenizer, batch_size=together, progress=progress)
        if base is not None:
            base_tasks = benchmarks.run(base, tokenizer, batch_size=together, progress=progress)
    everything = [row.tags for part in rows.values() for row in part]
    expanded = expand_strata(policy.ir, [row.tags for row in prompts], everything or None)
    people.check((*sample_clauses(expanded), *compared_clauses(expanded)))
    found = evaluate(
        model, tokenizer, policy, prompts, pool, law=law,
        samples_per_prompt=settings.samples, seed=settings.seed, batch_size=settings.batch_size, rows=rows,
        base_model=base, progress=progress, audit=audit,
        sequential=Sequential(settings.max_prompts) if settings.sequential else None,
        benchmarks=accuracies(own_tasks, base_tasks),
    )  # fmt: skip
    found = people.beside(found, len(found.verdicts))
    extra: dict[str, Any] = {
        "policy": policy.semantic_hash,
        "run": run_fingerprint(settings.model),
        "settings": asdict(settings),
        "num_prompts": len(prompts),
        "prompts_seen_in_training": None
        if seen is None
        else int(is_seen(seen, np.array(hashes, dtype=np.uint64)).sum()),
        "tasks": [figure.to_dict() for figure in figures(own_tasks, base_tasks)],
        "versions": versions(),
    }
    return replace(found, extra=extra)


def _row_name(spec: str) -> str:
    domain, source = split_domain(spec)
    return domain if domain is not None else Path(source).stem
