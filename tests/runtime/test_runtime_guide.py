"""Guidance without training: the rate falls to the set-point, by sampling and measuring alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import World

from constraintlang_runtime import Policy
from constraintlang_runtime.data import load_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.loading import load_model, load_tokenizer

SMALL: dict[str, Any] = {
    "anchor_samples": 1500, "control_samples": 400, "auxiliary_steps": 120, "auxiliary_rank": 8, "auxiliary_width": 16,
    "max_new_tokens": 8, "set_point_share": 0.8,
}  # fmt: skip
TEXT = """\
edition 1
attribute toxicity: score in [0, 1] lower_is_better { backend = lexicon("words.tsv") }
kind: toxicity < 0.05 for domain=chat under tolerance=0.1
"""


def prompts_of(world: World) -> list[dict[str, Any]]:
    return [r for r in load_rows([str(world.prompts)], role="prompts") if r["domain"] == "chat"]


def test_a_guided_model_obeys_and_is_not_changed(copied_world: World) -> None:
    copied_world.policy.write_text(TEXT)
    policy = Policy.load(copied_world.policy)
    model, tokenizer = load_model(str(copied_world.model)), load_tokenizer(str(copied_world.model))
    before = torch.cat([p.flatten() for p in model.parameters()]).clone()
    guide = policy.guidance(model, tokenizer, prompts_of(copied_world), rounds=4, **SMALL)
    assert torch.equal(before, torch.cat([p.flatten() for p in model.parameters()]))
    rates = [found.means["kind"] for found in guide.history]
    assert rates[0] > 0.3
    assert rates[-1] < 0.16
    tokenizer.padding_side = "left"
    asked = tokenizer([r["prompt"] for r in prompts_of(copied_world)] * 20, return_tensors="pt", padding=True)
    with torch.random.fork_rng(devices=[]), guide.attached(model):
        torch.manual_seed(0)
        out = model.generate(
            input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], do_sample=True, max_new_tokens=8,
            logits_processor=[guide],
        )  # fmt: skip
    replies = tokenizer.batch_decode(out[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    met = policy.satisfied(replies, tags=[{"domain": "chat"}] * len(replies))
    assert 1 - sum(met) / len(met) < 0.18


def test_one_guide_serves_one_set_of_clauses(copied_world: World) -> None:
    copied_world.policy.write_text(TEXT + "short: words < 5 for domain=kitchen\n")
    policy = Policy.load(copied_world.policy)
    rows = load_rows([str(copied_world.prompts)], role="prompts")
    rows += [{"prompt": rows[0]["prompt"], "domain": "kitchen"}]
    with pytest.raises(ConfigError, match="fall under different clauses"):
        policy.guidance(
            load_model(str(copied_world.model)), load_tokenizer(str(copied_world.model)), rows, **SMALL
        )
