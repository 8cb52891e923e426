"""A rank that samples and fits for the training ranks, from settings to the end of the run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import torch

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_runtime.config import ConstraintConfig
from constraintlang_runtime.engine import ConstraintEngine
from constraintlang_runtime.run_parts import load_parts
from constraintlang_runtime.run_settings import RunSettings
from constraintlang_runtime.schedule.remote import LaneWorld
from constraintlang_runtime.schedule.work import Workbench
from constraintlang_runtime.scorers.cache import open_cache
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Scorer


def serve_lanes(
    world: LaneWorld,
    policy: CompiledPolicy,
    settings: RunSettings,
    config: ConstraintConfig,
    *,
    folder: Path,
    scorers: Mapping[str, Scorer] | None,
) -> None:
    """Sample and fit for the training ranks until they are done; each lane of this rank has a model of its own."""
    one_at_a_time, device = threading.Lock(), torch.device("cpu")
    if torch.cuda.is_available() and not config.use_cpu:
        device = torch.device("cuda", world.local_rank % torch.cuda.device_count())

    def workbench(lane: str) -> Workbench:
        if device.type == "cuda":
            torch.cuda.set_device(device)  # of this thread, for the model and the scorers that it loads
        with one_at_a_time:
            parts = load_parts(policy, settings, config, folder, scorers)
            split, _ = parts.rows.split(policy.ir, parts.tokenizer, config)
            pool = ScoringPool(
                policy.ir.attributes, parts.scorers, timeout=config.scorer_timeout,
                cache=open_cache(config.score_cache), seed=config.seed,
            )  # fmt: skip
            steps = config.over(len(split.rows), processes=world.num_training).max_steps
            engine, _ = ConstraintEngine.prepare(
                policy, split.rows, split.prompts, config, pool, parts.tokenizer, max_steps=steps,
                seed=config.seed, heldout=split.heldout, scores_corpus=False,
            )  # fmt: skip
            return Workbench(engine, parts.model.to(device))

    world.serve(workbench)
