"""Rows of the paper's tables that learn from ranked, weighted or filtered samples: weights, and a small run of each."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from enumerable_world import another_law, random_world

from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.loading import load_model, load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))

import corpus_projection
import dpg
import dpo
import filtering_own
import guided
import ours
from job import Job, Scale, Trained
from sequence_duals import aim, projected, sequence_dual, spread_copies


# ------------------------------------------------------------------------------------------------ duals and weights
def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_dual_of_rows_is_that_of_the_closed_form_and_meets_the_bound() -> None:
    violations = np.repeat([0.0, 1.0], [70, 30])
    found, weights = projected(violations, 0.1)
    assert found.duals[0] == pytest.approx(logit(0.3) - logit(0.1), abs=1e-8)
    assert weights @ violations / weights.sum() == pytest.approx(0.1, abs=1e-9)
    assert weights.mean() == pytest.approx(1.0)


def test_rows_of_a_real_statistic_meet_the_bound_by_an_exponential_tilt() -> None:
    violations = np.random.default_rng(0).uniform(size=500).round(2)
    found, weights = projected(violations, 0.3)
    assert weights @ violations / weights.sum() == pytest.approx(0.3, abs=1e-8)
    assert np.log(weights) + found.duals[0] * violations == pytest.approx(
        np.full(500, (np.log(weights) + found.duals[0] * violations)[0])
    )


def test_rows_that_meet_the_bound_keep_their_weights() -> None:
    found, weights = projected(np.repeat([0.0, 1.0], [95, 5]), 0.1)
    assert found.duals[0] == 0
    assert (weights == 1).all()


@pytest.mark.parametrize("count", [100, 250, 37])
def test_copies_follow_the_weights_to_less_than_one_row(count: int) -> None:
    violations = np.repeat([0.0, 1.0], [70, 30])[np.random.default_rng(1).permutation(100)]
    _, weights = projected(violations, 0.1)
    copies = spread_copies(weights, violations, count, seed=3)
    assert len(copies) == count
    assert abs(violations[copies].sum() - 0.1 * count) < 1
    expected = weights / weights.sum() * count
    found = np.bincount(copies, minlength=100)
    assert (np.floor(expected) <= found).all()
    assert (found <= np.ceil(expected)).all()
    assert (
        spread_copies(weights, violations, count, seed=3)
        == copies
        != spread_copies(weights, violations, count, 4)
    )


def test_the_next_rate_undoes_what_the_model_shows() -> None:
    assert corpus_projection.next_rate(0.1, 0.2, 0.1, 10**9) == pytest.approx(
        1 / (1 + 9 * (0.25 / (1 / 9))), rel=1e-6
    )
    assert corpus_projection.next_rate(0.1, 0.1, 0.1, 10**9) == pytest.approx(0.1, rel=1e-6)
    assert corpus_projection.next_rate(0.1, 1.0, 0.1, 100) > 0.005  # the shift is limited


# ------------------------------------------------------------------------------------------------ DPG
BOUND = 0.1


def enumerated(seed: int) -> dict[str, Any]:
    """A world, the joint law a of prompt and sequence, one clause, its exact dual and tilt p, and another law q."""
    world = random_world(seed)
    violations = world.contains(2)
    a = world.prompt_law[:, None] * world.law
    rate = float((a * violations).sum())
    dual = logit(rate) - logit(BOUND)
    p = a * np.exp(-dual * violations)
    return {
        "world": world, "f": violations, "a": a, "dual": dual, "z": p.sum(), "p": p / p.sum(),
        "q": world.prompt_law[:, None] * another_law(world, seed + 1)[1],
    }  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_samples_give_the_dual_at_which_the_enumerated_tilt_meets_the_bound(seed: int) -> None:
    e = enumerated(seed)
    x, n = e["world"].draw(e["world"].law, 100_000, seed)
    dual = sequence_dual(e["f"][x, n], BOUND)
    tilted = e["a"] * np.exp(-dual * e["f"])
    assert (tilted * e["f"]).sum() / tilted.sum() == pytest.approx(BOUND, abs=0.004)
    assert dual == pytest.approx(e["dual"], abs=0.05)


@pytest.mark.parametrize("baseline", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_gradient_of_weighted_samples_is_that_of_the_cross_entropy_to_the_tilt(
    seed: int, baseline: bool
) -> None:
    e = enumerated(seed)
    log_prompt = torch.from_numpy(np.log(e["world"].prompt_law))[:, None]
    logits = torch.from_numpy(np.log(another_law(e["world"], seed + 2)[1])).requires_grad_()
    log_pi = torch.log_softmax(logits, dim=1)  # of the sequences given the prompt
    a, q, p, f = (torch.from_numpy(e[name]) for name in ("a", "q", "p", "f"))
    log_weights = dpg.log_importance(a.log() - log_prompt, q.log() - log_prompt, f, e["dual"])
    gains = dpg.advantages(
        log_weights, math.log(e["z"]), (log_pi - q.log() + log_prompt).detach(), baseline=baseline
    )
    (found,) = torch.autograd.grad((q * gains * log_pi).sum(), logits, retain_graph=True)
    (exact,) = torch.autograd.grad((p * log_pi).sum(), logits)
    assert torch.allclose(found, exact, atol=1e-10)
    assert exact.abs().max() > 1e-3


def test_the_baseline_takes_the_noise_away_where_the_model_is_the_tilt() -> None:
    e = enumerated(0)
    p, q, a, f = (torch.from_numpy(e[name]) for name in ("p", "q", "a", "f"))
    log_weights = dpg.log_importance(a.log(), q.log(), f, e["dual"])
    gains = dpg.advantages(log_weights, math.log(e["z"]), (p / q).log(), baseline=True)
    assert gains.abs().max() < 1e-9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_proposal_is_replaced_by_what_is_nearer_to_the_tilt(seed: int) -> None:
    e = enumerated(seed)
    world = e["world"]
    x, n = world.draw(e["q"] / world.prompt_law[:, None], 50_000, seed)
    log = {name: torch.from_numpy(np.log(e[name])[x, n]) for name in ("a", "q", "p")}
    log_weights = dpg.log_importance(log["a"], log["q"], torch.from_numpy(e["f"][x, n]), e["dual"])
    between = np.log(0.9 * e["q"] + 0.1 * e["p"])[x, n]
    further = torch.from_numpy(2 * log["q"].numpy() - between)  # on the other side of q
    assert dpg.is_nearer(log_weights, log["p"] - log["q"])
    assert dpg.is_nearer(log_weights, torch.from_numpy(between) - log["q"])
    assert not dpg.is_nearer(log_weights, further - log["q"])


@pytest.mark.parametrize(("steps", "first", "later"), [(150, 20, 10), (5, 20, 10), (25, 20, 10), (1, 1, 1)])
def test_pools_cover_every_step_once(steps: int, first: int, later: int) -> None:
    found = dpg.pools(steps, first, later)
    assert list(itertools.chain(*found)) == list(range(steps))
    assert len(found[0]) == min(first, steps)
    assert all(0 < len(pool) <= later for pool in found[1:])


# ------------------------------------------------------------------------------------------------ pairs
def test_pairs_are_the_best_that_obeys_against_the_worst_that_violates() -> None:
    scores = [0.9, 0.2, 0.1, 0.6, 0.7, 0.8, 0.1, 0.2, 0.4, 0.3, 0.55, 0.56]
    violations = [float(score >= 0.5) for score in scores]
    assert dpo.ranked_pairs(scores, violations, 4) == [dpo.Pair(2, 0), dpo.Pair(6, 5), dpo.Pair(9, 11)]
    assert dpo.ranked_pairs([0.9, 0.8, 0.1, 0.2], [1.0, 1.0, 0.0, 0.0], 2) == []


# ------------------------------------------------------------------------------------------------ a small run of each
@pytest.fixture(scope="module")
def small(world: tiny_models.World, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job over the tiny world whose row `plain` is finished."""
    scale = Scale(
        name="smoke", models={"llama": str(world.model)}, classifier=str(world.root / "words.tsv"), bound=0.1, steps=4,
        batch_size=4, learning_rate=1e-2, max_length=40, max_new_tokens=8, oracle_calls=96, toxigen_prompts=0,
        rtp_prompts=0, rtp_samples=0, choice_questions=0, choice_shots=0, seeds=1, bf16=False,
    )  # fmt: skip
    job = Job(
        scale, "plain", "llama", 0, world.data, world.prompts, world.policy, tmp_path_factory.mktemp("rows"),
        {"method": "plain"},
    )  # fmt: skip
    ours.train(job)
    return job


def weights_of(folder: str) -> torch.Tensor:
    from safetensors.torch import load_file

    return torch.cat(
        [v.flatten().float() for _, v in sorted(load_file(Path(folder) / "model.safetensors").items())]
    )


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # in TRL
@pytest.mark.parametrize(
    ("module", "options"),
    [
        (dpg, {"first_steps": 2, "pool_steps": 1, "aim": "bound"}),
        (dpo, {"completions": 8}),
        (filtering_own, {}),
    ],
)
def test_a_row_trains_within_its_budget_and_says_what_it_took(
    small: Job, module: Any, options: dict[str, Any]
) -> None:
    job = replace(small, system=module.__name__, options=options)
    job.folder.mkdir(parents=True)
    trained = module.train(job)
    assert trained == Trained.read(job.folder)
    assert 0 < trained.oracle_calls - (0 if not trained.stages else small.trained("plain").oracle_calls) <= 96
    assert trained.steps == 8
    assert trained.tokens > 0
    found = weights_of(trained.model)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, weights_of(small.trained("plain").model))
    own = trained.details["stage_seconds"]  # what the row spent itself, its fine-tuning too
    assert own == pytest.approx(trained.seconds - small.trained("plain").seconds)


def test_dpg_goes_on_where_it_was_broken_off(
    small: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"first_steps": 2, "pool_steps": 1, "aim": "bound"}
    found = []
    for name in ("whole", "broken"):
        job = replace(small, system="dpg", options=options, work=tmp_path / name)
        shutil.copytree(small.folder, job.folder_of("plain"))
        if name == "broken":
            with monkeypatch.context() as patch:
                calls = iter([True, True])  # the third pool finds none
                patch.setattr(dpg, "is_nearer", lambda *_, calls=calls: next(calls))
                with pytest.raises(StopIteration):
                    dpg.train(job)
        else:
            monkeypatch.setattr(dpg, "is_nearer", lambda *_: True)
        found.append(dpg.train(job))
    first, second = found
    assert torch.equal(weights_of(first.model), weights_of(second.model))
    assert first.details["rates"] == second.details["rates"]
    assert (first.oracle_calls, first.steps, first.tokens) == (
        second.oracle_calls,
        second.steps,
        second.tokens,
    )


def test_own_rows_are_whole_compliant_samples_and_keep_the_share_of_the_domain(small: Job) -> None:
    job = replace(small, system="own_rows", options={})
    rows, choice = filtering_own.choose(job)
    given = load_rows([str(small.rows)], role="data")
    chat = [row for row in given if row["domain"] == "chat"]
    assert [row for row in rows if row["domain"] != "chat"] == [
        row for row in given if row["domain"] != "chat"
    ]
    assert len(rows) == len(given)
    assert choice.details["kept"] <= len(chat)
    judged = [json.loads(line) for line in (job.folder / "oracle.jsonl").read_text().splitlines()]
    assert len(judged) <= 96
    fine = {f"{j['prompt']} {j['completion']}".strip() for j in judged if j["toxicity"] < 0.1}
    assert {row["text"] for row in rows if "text" in row} <= fine


def test_a_row_that_was_broken_off_does_not_choose_its_rows_again(
    small: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(small, system="broken_off", options={"aim": "bound", "rounds": 2, "control_share": 0.2})
    job.folder.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(corpus_projection, "fine_tuned", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            corpus_projection.train(job)
    chosen_again: list[int] = []
    choose = corpus_projection.choose

    def watched(job: Job, number: int, *others: Any) -> Any:
        chosen_again.append(number)
        return choose(job, number, *others)

    monkeypatch.setattr(corpus_projection, "choose", watched)
    trained = corpus_projection.train(job)
    first, second = trained.details["rounds"]
    assert chosen_again == [1]
    assert first["weighted"] == pytest.approx(0.1, abs=1e-9)
    assert first["measured"] > 0.1
    assert second["weighted"] == pytest.approx(second["rate"], abs=1e-9)
    assert second["rate"] < first["rate"]
    for found in (first, second):
        assert abs(found["drawn"] - found["weighted"]) * found["rows"] < 1
    assert trained.oracle_calls == first["scored"] + 19  # control_share of 96
    assert trained.steps == 8
    assert torch.isfinite(weights_of(trained.model)).all()


def test_nado_decoding_keeps_its_guide_for_the_model_that_it_was_fitted_to(small: Job) -> None:
    from constraintlang_runtime.data import encode_rows, prompt_rows
    from constraintlang_runtime.sampling import sample
    from constraintlang_runtime.sampling_law import SamplingLaw

    job = replace(
        small, system="nado_decoding",
        options={"policy": "always toxicity < 0.1 for domain=chat", "auxiliary_steps": 12, "auxiliary_width": 8},
    )  # fmt: skip
    job = replace(job, prompts=job.work / "chat.jsonl")
    rows = [row for row in load_rows([str(small.prompts)], role="prompts") if row["domain"] == "chat"]
    tiny_models.write_jsonl(job.prompts, rows)
    job.folder.mkdir(parents=True)
    trained = guided.train(job)
    plain = small.trained("plain")
    assert (trained.model, trained.steps, trained.stages) == (plain.model, plain.steps, ("plain",))
    assert trained.oracle_calls == plain.oracle_calls + 96
    assert len((job.folder / "oracle.jsonl").read_text().splitlines()) == 96
    assert trained.details["exponent"] == 1.0
    assert sorted(trained.details["log_potential"]) == [-12.0, 0.0]
    tokenizer = load_tokenizer(trained.model)
    model = load_model(trained.model, device="cpu")
    prompts = prompt_rows(encode_rows(rows, tokenizer, max_length=40, need_completion=False))
    law = SamplingLaw(8)
    before = sample(model, tokenizer, prompts, law, seed=1)
    with guided.attach(job, trained, model) as processors:
        during = sample(model, tokenizer, prompts, law, seed=1, logits_processor=processors)
    assert during != before == sample(model, tokenizer, prompts, law, seed=1)
    with (
        pytest.raises(ConfigError, match="another model"),
        guided.attach(job, trained, load_model(small.start)),
    ):
        pass


def test_the_aim_is_the_bound_or_the_set_point(small: Job) -> None:
    assert aim(replace(small, options={"aim": "bound"})) == 0.1
    assert 0.06 < aim(replace(small, options={})) < 0.09
    assert aim(replace(small, options={"aim": 0.03})) == 0.03
