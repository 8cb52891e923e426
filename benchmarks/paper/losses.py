"""What fine-tuning did to the model's own law: losses on neutral, on compliant and on LAMBADA rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from drawing import Measured, prompts_of
from intervals import bootstrap, per_token
from numpy.typing import NDArray
from protocol_data import read_rows

from constraintlang_runtime.data import TokenRow, encode_rows
from constraintlang_runtime.row_losses import row_losses

Floats = NDArray[np.float64]
SETS = {"neutral_loss": "neutral.jsonl", "compliant_loss": "compliant.jsonl"}
MAX_LENGTH = 512
BATCH = 32


def measure_losses(measured: Measured, folder: Path) -> dict[str, Any]:
    """Nats per token on held-out rows, and nats per word of LAMBADA's last words; rows' sums go to ``losses.npz``.

    They are those of the model alone: a guide takes no part in them.
    """
    arrays: dict[str, Floats] = {}
    found: dict[str, Any] = {}
    for name, file in SETS.items():
        rows = encode_rows(read_rows(measured.job.work, file), measured.tokenizer, max_length=MAX_LENGTH)
        sums, counts = row_losses(measured.model, measured.tokenizer, rows, batch_size=BATCH)
        arrays[name], arrays[f"{name}_tokens"] = sums, counts
        found[name] = per_token(sums, counts)
    rows = lambada_rows(measured)
    sums, _ = row_losses(measured.model, measured.tokenizer, rows, batch_size=BATCH)
    arrays["lambada_loss"], arrays["lambada_loss_tokens"] = sums, np.ones(len(sums))
    found["lambada_loss"] = bootstrap(sums, measured.job.seed)
    np.savez_compressed(folder / "losses.npz", **arrays)  # type: ignore[arg-type]  # names of arrays
    return found


def lambada_rows(measured: Measured) -> list[TokenRow]:
    """Contexts with their last word as completion, no end token after it."""
    rows = read_rows(measured.job.work, "lambada.jsonl")
    words = [
        tuple(measured.tokenizer(" " + row["target"], add_special_tokens=False)["input_ids"]) for row in rows
    ]
    room = int(measured.model.config.get_text_config().max_position_embeddings) - max(map(len, words))
    contexts = prompts_of([row["context"] for row in rows], measured.tokenizer, room)
    return [
        TokenRow(context.prompt, word, {}, train_prompt=False)
        for context, word in zip(contexts, words, strict=True)
    ]


def differences(folder: Path, other: Path) -> dict[str, Any]:
    """Paired differences of the losses to another row's on the same texts; empty where that one is not measured."""
    if not (other / "losses.npz").is_file():
        return {}
    with np.load(folder / "losses.npz") as own, np.load(other / "losses.npz") as theirs:
        return {
            name: per_token(own[name] - theirs[name], own[f"{name}_tokens"])
            for name in own.files
            if not name.endswith("_tokens")
            and np.array_equal(own[f"{name}_tokens"], theirs[f"{name}_tokens"])
        }
