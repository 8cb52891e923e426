"""The row `nado_decoding`: the plain model as it is, sampled under an auxiliary model of its own completions (NADO).

Training fits the auxiliary model alone; measuring samples inside ``attach``.
Source: Meng et al., Controllable Text Generation with Neurally-Decomposed Oracle (NeurIPS 2022): q(v|s) ∝ p(v|s) R(s·v)
with R(s) = P(the text will comply | s), so that the oracle is a hard condition and no strength is tuned.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from job import Job, Trained
from stage import Stage

from constraintlang_runtime.data import load_rows
from constraintlang_runtime.integrations.guide import Guide, fit_guide
from constraintlang_runtime.integrations.guide_files import load_guide, save_guide
from constraintlang_runtime.integrations.policy import Policy

FOLDER = "guide"


def train(job: Job) -> Trained:
    """Sample the plain model, score, fit R to it; the guide is kept in ``guide/``.

    Options: ``policy``, the condition in one line where it is not the job's (NADO knows no tolerance), ``rounds``, in
    which guided samples correct the strength (NADO has none); the others are settings of ``fit_guide``.
    ``anchor_samples`` is what the rounds leave of the oracle budget when not given.
    """
    stage, scale = Stage.start(job), job.scale
    options = dict(job.options)
    policy = policy_of(job, options.pop("policy", None), dict(stage.oracle.scorers))
    policy.pool = stage.oracle.pool
    rounds, control = int(options.pop("rounds", 0)), int(options.pop("control_samples", 512))
    fitted = int(options.pop("anchor_samples", scale.oracle_calls - rounds * control))
    settings: dict[str, Any] = {"potential_exponent": 1.0} | options
    if rounds * control + fitted > stage.oracle.left:
        raise ValueError(
            f"{fitted} samples and {rounds} rounds of {control} are more than {stage.oracle.left} oracle calls"
        )
    guide = fit_guide(
        policy, stage.model, stage.tokenizer, load_rows([str(job.prompts)], role="prompts"), rounds=rounds,
        seed=job.seed, anchor_samples=fitted, control_samples=control, max_length=scale.max_length,
        max_new_tokens=scale.max_new_tokens, progress=lambda what, done, total: _tell(stage, what, done, total),
        **settings,
    )  # fmt: skip
    stage.judged(guide.group.store)  # the scores are remembered: this writes them down and counts them
    stage.oracle.calls = fitted + rounds * control
    semantic_hash = policy.compiled.semantic_hash
    save_guide(guide, job.folder / FOLDER, model=stage.model, semantic_hash=semantic_hash)
    own = time.perf_counter() - stage.started
    before = stage.before
    trained = Trained(
        model=before.model, seconds=before.seconds + own, device_seconds=before.device_seconds + own,
        oracle_calls=before.oracle_calls + stage.oracle.calls, steps=before.steps, tokens=before.tokens,
        stages=stage.stages, guide=str(job.folder / FOLDER),
        details={
            "stage_seconds": own, "semantic_hash": semantic_hash, "exponent": guide.exponent,
            "log_potential": guide.log_potential.tolist(),
            "history": [{"round": one.number, "means": dict(one.means)} for one in guide.history],
            "settings": settings,
        },
    )  # fmt: skip
    trained.write(job.folder)
    return trained


def policy_of(job: Job, text: str | None, scorers: dict[str, Any]) -> Policy:
    """The job's policy, or that of a text, under scorers that are there already."""
    if text is None:
        return Policy.load(job.policy, scorers=scorers, allow_path=True)
    return Policy.from_text(text, scorers=scorers)


@contextlib.contextmanager
def attach(job: Job, trained: Trained, model: Any) -> Iterator[list[Guide]]:
    """The processors that ``generate`` (or ``constraintlang_runtime.sampling.sample``) takes for ``model`` in the block.

    ``model`` is that of ``trained.model``, in the precision in which it was loaded for the fit. A temperature or a
    nucleus acts on the guided law: transformers applies them after these processors.
    Raises: ConfigError for another model.
    """
    assert trained.guide is not None
    guide = load_guide(Path(trained.guide), model=model, semantic_hash=trained.details["semantic_hash"])
    with guide.attached(model):
        yield [guide]


def _tell(stage: Stage, what: str, done: int, total: int) -> None:
    if done == total or done * 8 // total != (done - 1) * 8 // total:
        stage.tell(0, 0, **{what: float(done), "of": float(total)})
