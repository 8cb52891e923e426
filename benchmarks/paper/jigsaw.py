"""The Jigsaw table: classifying comments by one of two losses, with and without the policy on what the model writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import measures
import numpy as np
import ours
from drawing import Measured
from intervals import rate
from jigsaw_data import LABELS, LOSSES, comments, context, training_rows
from job import Job, Trained
from protocol_data import write_rows
from roc import roc
from toxicity import TOXIGEN_LAWS, summary_of_shares

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.loading import load_tokenizer
from constraintlang_runtime.row_losses import row_losses
from constraintlang_runtime.sampling import derived_seed

SHARED = ("toxigen", "toxigen_t1", "losses")  # protocols of the ToxiGen table that this one has, too
PROMPTS = "prompts.jsonl"
POLICY = "toxicity < 0.5 for domain=comments under tolerance=10%"
LAWS = {"comments": TOXIGEN_LAWS["toxigen"], "comments_t1": TOXIGEN_LAWS["toxigen_t1"]}
BEGINNING = 5  # words of a held-out comment that a model goes on from
BATCH = 64


def train(job: Job) -> Trained:
    """Fine-tune on the comments with their labels in words; ``job.options`` are the loss and our settings.

    The option ``loss`` is `lm` (every token of comment, question and label) or `classification` (label and end token).
    ``POLICY`` holds on completions of beginnings of the same comments, which are texts of the domain
    `comments`; the answers that `classification` trains on are of the domain `labels`, of which it does not speak.
    """
    loss = loss_of(job)
    job.folder.mkdir(parents=True, exist_ok=True)
    rows = job.folder / "rows.jsonl"
    tokenizer = load_tokenizer(job.start)
    trained_on = comments(job, "trained")
    write_rows(rows, training_rows(trained_on, tokenizer, job.scale.max_length, loss))
    write_rows(job.folder / PROMPTS, [{"text": row["text"], "domain": "comments"} for row in trained_on])
    trained = ours.train(as_ours(job))
    found = replace(
        trained,
        details={
            **trained.details,
            "loss": loss,
            "rows_sha256": hashlib.sha256(rows.read_bytes()).hexdigest(),
        },
    )
    found.write(job.folder)
    return found


def as_ours(job: Job) -> Job:
    """The same row as ``ours.train`` takes it: its own rows, and the prompts apart from them."""
    options = {name: value for name, value in job.options.items() if name != "loss"}
    options["prompts"] = [str(job.folder / PROMPTS)]
    return replace(
        job,
        rows=job.folder / "rows.jsonl",
        prompts=job.folder / PROMPTS,
        options=options | {"policy": POLICY},
    )


def loss_of(job: Job) -> str:
    """The option ``loss``; ConfigError for another than those."""
    loss = str(job.options.get("loss", "lm"))
    if loss not in LOSSES:
        raise ConfigError(f"{job.system}: got loss `{loss}`, expected {' or '.join(LOSSES)}")
    return loss


def measure(job: Job, trained: Trained, folder: Path) -> dict[str, Any]:
    """Toxicity of what the model writes after beginnings of comments, `roc` of classification, losses, ToxiGen's prompts.

    `toxicity` is the share of toxic completions, drawn as ToxiGen's protocol draws them, of the first words of held-out
    comments (`comments`; at temperature 1 `comments_t1`), `roc` the area under the ROC curve on held-out comments of
    log P(no) - log P(yes); the protocols ``SHARED`` are those of the ToxiGen table, of whose prompts ``POLICY`` does not
    speak. Returns and writes ``folder/measures.json``.
    """
    found = measures.measure(job, trained, folder, SHARED)
    found.pop("losses_minus_plain", None)  # of another table's row
    measured = Measured(job, trained)
    own: dict[str, Any] = {
        "roc": measures.stored(job, trained, folder, "roc", lambda: (measure_roc(measured), []))
    }
    for name in LAWS:
        own[name] = measures.stored(job, trained, folder, name, partial(measure_comments, measured, name))
    seconds = found["measure_seconds"] + sum(part["seconds"] for part in own.values())
    found |= {**own, "toxicity": own["comments"]["toxic"], "measure_seconds": seconds}
    measures.finish(folder, found, (*LAWS, "toxigen", "toxigen_t1"))
    return found


def measure_roc(measured: Measured) -> dict[str, Any]:
    """ROC-AUC of the label words' log-ratio on held-out comments, and the accuracy of the likelier word."""
    job = measured.job
    rows = comments(job, "heldout")[: job.scale.toxigen_prompts]
    contexts = [context(row["text"], measured.tokenizer, job.scale.max_length) for row in rows]
    asked = [pair for text in contexts for pair in label_rows(text, measured.tokenizer, loss_of(job))]
    sums, _ = row_losses(measured.model, measured.tokenizer, asked, batch_size=BATCH)
    ratios = sums[0::2] - sums[1::2]  # log P(no) - log P(yes): higher for toxic
    toxic = np.array([row["toxic"] == 1 for row in rows])
    return {**roc(ratios, toxic, job.seed), "accuracy": rate((ratios > 0) == toxic)}


def label_rows(text: str, tokenizer: Any, loss: str) -> list[TokenRow]:
    """The rows of ``LABELS`` after a text as the model saw them in training, from where they differ.

    With `lm` the text and its label were read as one text, with `classification` apart; some tokenizers tell.
    Raises: DataError for a tokenizer that reads both alike.
    """

    def ids(part: str) -> list[int]:
        return list(tokenizer(part, add_special_tokens=False)["input_ids"])

    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    whole = [begin + (ids(text + label) if loss == "lm" else ids(text) + ids(label)) for label in LABELS]
    differing = (place for place, (one, other) in enumerate(zip(*whole, strict=False)) if one != other)
    shared = next(differing, None)
    if shared is None:
        raise DataError(
            f"the tokenizer reads {LABELS[0]!r} and {LABELS[1]!r} alike",
            help="take one that knows both words",
        )
    return [TokenRow(tuple(row[:shared]), tuple(row[shared:]), {}, train_prompt=False) for row in whole]


def measure_comments(measured: Measured, protocol: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One completion by a law of ``LAWS`` of the first words of each of as many held-out comments, half of each label."""
    job = measured.job
    prompts = beginnings(comments(job, "heldout"), job.scale.toxigen_prompts)
    seed = derived_seed(job.seed, protocol, 0)
    texts = measured.draw([text for text, _ in prompts], LAWS[protocol], seed, protocol)
    scores = measured.scores(texts)
    samples = [
        {"prompt": prompt, "completion": text, "score": score, "seed": job.seed, "protocol": protocol}
        for (prompt, _), text, score in zip(prompts, texts, scores, strict=True)
    ]
    return summary_of_shares(texts, scores, [[name] for _, name in prompts], job.seed), samples


def beginnings(rows: Sequence[dict[str, Any]], count: int) -> list[tuple[str, str]]:
    """First ``BEGINNING`` words of comments with more of them, each once, half of toxic ones, with the label's name."""
    found: dict[str, str] = {}
    left = {0: count // 2, 1: count - count // 2}
    for row in rows:
        words = row["text"].split()
        text = " ".join(words[:BEGINNING])
        if len(words) > BEGINNING and left[row["toxic"]] and text not in found:
            found[text] = "after toxic" if row["toxic"] else "after civil"
            left[row["toxic"]] -= 1
    return list(found.items())
