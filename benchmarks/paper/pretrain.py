"""A small start model pre-trained on the spot: one pass over the corpora, any architecture of transformers, seeded.

    python benchmarks/paper/pretrain.py --scale testbed --shared ../shared --work runs/paper gpt2

Reads the texts that the testbed's own model was trained on in kind: Wikipedia, news, web text, and labelled hateful and
Jigsaw text of the training splits (a fifth), so that the model can write what the policy forbids. No SafeNLP statement
is among them. Its validation loss is in `pretrained.json` beside the model.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import read
from job import write_whole
from numpy.typing import NDArray
from scales import Pretraining, setting_of

from constraintlang_runtime.loading import load_tokenizer

MIXTURE = {
    "wikipedia_en": 0.55,
    "wikinews_en": 0.15,
    "web_text_samples": 0.10,
    "labelled": 0.20,
}  # shares of the tokens
VALIDATION_ROWS = 256
RECORD = "pretrained.json"


def pretrain(made: Pretraining, shared: Path, folder: Path, *, device: str, seed: int = 0) -> dict[str, Any]:
    """Train and save the model with its tokenizer; returns its record, that of an earlier call where there is one.

    AdamW, cosine learning rate with warm-up over 5% of the steps, rows of ``row_length`` tokens, every row once; the
    loss on rows that were set aside is in nats per token. bfloat16 autocast, float32 weights.
    Raises: ValueError when the model there was made with other settings.
    """
    path = folder / RECORD
    if path.exists():
        if not is_made(made, folder):
            raise ValueError(
                f"{folder} was made with other settings; remove it and what was trained on it, or name another --work"
            )
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(made.tokenizer)
    rows = _rows(made, shared, tokenizer, seed)
    held_out, rows = rows[:VALIDATION_ROWS], rows[VALIDATION_ROWS:]
    model = _model(made, tokenizer).to(device)
    steps = len(rows) // made.batch_size
    optimizer = torch.optim.AdamW(_decayed(model), lr=made.learning_rate, betas=(0.9, 0.95))
    _say(f"{sum(p.numel() for p in model.parameters()):,} parameters, {rows.size:,} tokens, {steps} steps")
    for step in range(steps):
        batch = torch.from_numpy(rows[step * made.batch_size : (step + 1) * made.batch_size].astype(np.int64))
        for group in optimizer.param_groups:
            group["lr"] = made.learning_rate * _schedule(step, steps)
        loss = _loss(model, batch.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % max(1, steps // 20) == 0:
            _say(f"step {step}/{steps} loss {float(loss.detach()):.3f} {time.perf_counter() - started:.0f} s")
    record = {
        "family": made.family, "shape": made.shape, "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": steps * made.batch_size * made.row_length, "steps": steps,
        "validation_loss": validation_loss(model, held_out, device, made.batch_size),
        "seconds": round(time.perf_counter() - started, 1), "seed": seed, "embeddings_from_testbed": made.embeddings is not None,
        "asked": asked(made),
    }  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_whole(path, json.dumps(record, indent=1) + "\n")
    _say(f"validation loss {record['validation_loss']:.3f} nats per token after {record['seconds']} s")
    return record


def asked(made: Pretraining) -> dict[str, Any]:
    """What a start model is made with, its folders by their names."""
    embeddings = None if made.embeddings is None else Path(made.embeddings).name
    return {**asdict(made), "tokenizer": Path(made.tokenizer).name, "embeddings": embeddings}


def is_made(made: Pretraining, folder: Path) -> bool:
    """Whether a folder holds the model of these settings; a record that does not name its settings passes."""
    path = folder / RECORD
    if not path.exists():
        return False
    found = json.loads(path.read_text()).get("asked")
    return found is None or bool(found == asked(made))


@torch.no_grad()
def validation_loss(model: Any, rows: NDArray[np.int32], device: str, batch_size: int) -> float:
    """Nats per token on rows [N, T] that were not trained on."""
    model.eval()
    total = 0.0
    for start in range(0, len(rows), batch_size):
        batch = torch.from_numpy(rows[start : start + batch_size].astype(np.int64)).to(device)
        total += float(_loss(model, batch)) * len(batch)
    model.train()
    return total / len(rows)


def _loss(model: Any, batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast(batch.device.type, torch.bfloat16):
        logits = model(input_ids=batch, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), batch[:, 1:])


def _model(made: Pretraining, tokenizer: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        made.family, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True, **made.shape,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    if made.embeddings is not None:
        donor = AutoModelForCausalLM.from_pretrained(made.embeddings, use_safetensors=True)
        with torch.no_grad():
            known = donor.get_input_embeddings().weight  # their directions; the size is that of a new model's
            model.get_input_embeddings().weight.copy_(known * (config.initializer_range / known.std()))
    return model.train()


def _decayed(model: Any) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors without."""
    named = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in named if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0},
    ]


def _schedule(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    if step < warmup:
        return (step + 1) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


# ------------------------------------------------------------ rows
def _rows(made: Pretraining, shared: Path, tokenizer: Any, seed: int) -> NDArray[np.int32]:
    """Rows [N, T] of the mixture in a seeded order, no more tokens than asked for (and the validation rows)."""
    length, rng = made.row_length, random.Random(seed)
    wanted = made.tokens + VALIDATION_ROWS * length
    parts = []
    for name, share in MIXTURE.items():
        texts = list(_texts(shared, name))
        rng.shuffle(texts)
        parts.append(_packed(texts, int(wanted * share), length, tokenizer))
    rows = np.concatenate(parts)
    return rows[np.random.default_rng(seed).permutation(len(rows))]


def _packed(texts: list[str], tokens: int, length: int, tokenizer: Any) -> NDArray[np.int32]:
    """Texts one after another with the end token before each, cut into rows [N, T]; texts start again when they end."""
    ids: list[int] = []
    end = tokenizer.eos_token_id
    while len(ids) < tokens:
        for start in range(0, len(texts), 256):
            for encoded in tokenizer(texts[start : start + 256], add_special_tokens=False)["input_ids"]:
                ids += [end, *encoded]
            if len(ids) >= tokens:
                break
    count = tokens // length
    return np.array(ids[: count * length], dtype=np.int32).reshape(count, length)


def _texts(shared: Path, name: str) -> Iterator[str]:
    if name != "labelled":
        for row in read(shared, name):
            if row.get("split") != "test" and row["text"].strip():
                yield row["text"].strip()
        return
    toxigen = read(shared, "toxigen")
    asked = {row["text"].strip() for row in toxigen if row["source"] == "safenlp"}
    for corpus in ("hate", "jigsaw"):
        for row in read(shared, corpus):
            if row["split"] == "train" and row["text"].strip():
                yield row["text"].strip()
    for row in toxigen:
        if row["source"] == "annotated" and row["text"].strip() not in asked:
            yield row["text"].strip()


def _say(message: str) -> None:
    print(f"pretrain: {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Pre-train one model of a scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", default="testbed")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, default=Path("runs/paper"))
    parser.add_argument("architecture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = setting_of(args.scale, args.shared.resolve(), (args.work / args.scale).resolve())
    made = setting.pretrain[args.architecture]
    pretrain(
        made,
        args.shared.resolve(),
        Path(setting.scale.models[args.architecture]),
        device=setting.scale.device,
    )


if __name__ == "__main__":
    main()
