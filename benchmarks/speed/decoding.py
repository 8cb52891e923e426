"""Guided decoding against plain ``generate``: the same model, prompts and lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from timing import interleaved, summary
from workload import Bench, Workload

PLAIN = "plain generate"


def decoding(work: Workload, repeats: int) -> list[dict[str, Any]]:
    """Seconds of completions with and without our logits processor; every completion has ``new_tokens`` tokens.

    The end token is forbidden in both, because a model that is guided away from something stops at other places.
    """
    from transformers import GenerationConfig

    from constraintlang_runtime.decoding import Guidance

    bench = Bench(work)
    trainer = bench.trainer({})
    group = trainer.groups[0]
    prompts = [replace(row, completion=()) for row in (group.prompts * work.batch)[: work.batch]]
    width = max(len(row.prompt) for row in prompts)
    ids = torch.full((len(prompts), width), trainer.pad_id, device=bench.device)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(prompts):
        ids[number, width - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[number, width - len(row.prompt) :] = 1
    config = GenerationConfig(
        max_new_tokens=work.new_tokens, min_new_tokens=work.new_tokens, do_sample=True, top_k=0,
        eos_token_id=bench.tokenizer.eos_token_id, pad_token_id=trainer.pad_id,
    )  # fmt: skip
    bench.model.eval()
    guide = Guidance(group.head, group.log_potential().to(bench.device), group.exponent)

    def generate(number: int, *, guided: bool) -> None:
        torch.manual_seed(number)
        with torch.inference_mode():
            if not guided:
                bench.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
                return
            with guide.attached(bench.model):
                bench.model.generate(
                    input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[guide]
                )

    seconds = interleaved(
        {
            PLAIN: lambda number: generate(number, guided=False),
            "guided": lambda number: generate(number, guided=True),
        },
        repeats,
        bench.device,
    )
    tokens = len(prompts) * work.new_tokens
    rows = []
    for name, own in seconds.items():
        one = summary(own, seconds[PLAIN])
        if "seconds" in one:
            one["tokens_per_second"] = round(tokens / one["seconds"])
        rows.append(
            {"part": "decode", "system": name, **one, "rows": len(prompts), "workload": work.to_json()}
        )
    return rows
