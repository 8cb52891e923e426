"""Completions of the current model, batched by length, reproducible from a seed, never re-tokenised."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.decode_batch import decoded
from constraintlang_runtime.decode_loop import DecodeLoop
from constraintlang_runtime.mishaps import Finite
from constraintlang_runtime.model_checks import first_position, require_positions
from constraintlang_runtime.prompt_batches import prompt_batches
from constraintlang_runtime.ranks import gathered, rank_and_size
from constraintlang_runtime.sampling_law import SamplingLaw, before_stop
from constraintlang_runtime.seeds import derived_seed as derived_seed
from constraintlang_runtime.stop_texts import StopTexts, stopped

Progress = Callable[[int, int], None]

# Generation settings beside those that a ``SamplingLaw`` has, and where they change nothing.
OTHER_LAWS: dict[str, Any] = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_p": 0.0,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "num_beams": 1, "min_length": 0, "min_new_tokens": 0,
    "num_return_sequences": 1, "guidance_scale": 1.0, "penalty_alpha": 0.0, "suppress_tokens": None,
    "begin_suppress_tokens": None, "bad_words_ids": None, "sequence_bias": None, "forced_bos_token_id": None,
    "forced_eos_token_id": None, "exponential_decay_length_penalty": None,
}  # fmt: skip


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block under its own torch seed and leave the caller's random state untouched.

    Not for threads, whose random state is common: see ``draws.own_draws``.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def own_generation(model: Any, law: SamplingLaw | None = None) -> list[str]:
    """Settings of the model's own generation config that make another law than ``law``, or than its probabilities."""
    own = getattr(model, "generation_config", None)
    found = {name: getattr(own, name, None) for name in OTHER_LAWS}
    other = [
        f"{name} {value}" for name, value in found.items() if value not in (None, OTHER_LAWS[name], [], {})
    ]
    said = {} if own is None else own.to_diff_dict()  # without what only stands there by default
    wanted = law or SamplingLaw()
    return other + [
        f"{name} {said[name]}"
        for name in ("temperature", "top_p", "top_k")
        if said.get(name) is not None and said[name] != getattr(wanted, name)
    ]


def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[TokenRow],
    law: SamplingLaw,
    *,
    seed: int,
    batch_size: int = 256,
    logits_processor: Sequence[Any] = (),
    progress: Progress | None = None,
    numbers: Sequence[int] | None = None,
) -> list[TokenRow]:
    """One completion per prompt, as rows in the order of ``prompts``.

    A completion ends with the end token when the model produced it, with the token that completes one of the law's
    ``stop`` texts, and without either when it met the length cap.
    Batches are formed by prompt length, so that little is padded, and nothing where that would change the logits; the
    seed of each batch depends on ``seed`` and the batch's number alone. Of several processes each samples every n-th
    batch and all get all rows, the same as from one.
    With ``numbers`` of some of the ``prompt_batches`` only these are sampled, and only their rows come back.
    """
    from transformers import GenerationConfig

    eos = end_tokens(tokenizer, model)
    pad = pad_token(tokenizer)
    greedy = law.temperature == 0
    config = GenerationConfig(
        max_new_tokens=law.max_new_tokens,
        do_sample=not greedy,
        eos_token_id=eos or None,
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
        **({} if greedy else {"temperature": law.temperature, "top_p": law.top_p, "top_k": law.top_k}),
    )
    longest = max((len(row.prompt) for row in prompts), default=0)
    require_positions(
        model, longest + law.max_new_tokens, "prompts with their completions have up to",
        "lower --max_new_tokens, or give shorter prompts",
    )  # fmt: skip
    first = first_position(model)
    batches = prompt_batches(model, prompts, batch_size, pad)
    wanted = range(len(batches)) if numbers is None else numbers
    total = sum(len(batches[number]) for number in wanted)
    completed: list[TokenRow | None] = [None] * len(prompts)
    was_training = model.training
    model.eval()
    rank, num_ranks = rank_and_size()
    try:
        done = 0
        for place, number in enumerate(wanted):
            chosen = batches[number]
            done += len(chosen)
            if place % num_ranks != rank:
                continue
            loop = DecodeLoop(derived_seed(seed, "batch", number), greedy=greedy, first_position=first)
            output = decoded(
                model, [prompts[i].prompt for i in chosen], config, loop, [Finite(), *logits_processor],
                lambda width: [StopTexts(tokenizer, law.stop, width)] if law.stop else [],
            )  # fmt: skip
            for i, ids in zip(chosen, output.tolist(), strict=True):
                said = replace(prompts[i], completion=_trim(ids, eos, law.max_new_tokens))
                completed[i] = stopped([said], tokenizer, law.stop)[0]
            if progress is not None:
                progress(done, total)
    finally:
        model.train(was_training)
    every = gathered(completed)
    return [
        next(row for row in rows if row is not None)
        for rows in zip(*every, strict=True)
        if numbers is None or any(row is not None for row in rows)
    ]


def _trim(ids: list[int], eos: Sequence[int], limit: int) -> tuple[int, ...]:
    """Cut after the first end token; what follows it is padding, whatever its value."""
    for position, token in enumerate(ids):
        if token in eos:
            return tuple(ids[: position + 1])
    return tuple(ids[:limit])


def completion_texts(rows: Sequence[TokenRow], tokenizer: Any, stop: Sequence[str] = ()) -> list[str]:
    """The scored text of rows: the completion before ``stop``, its end token and special tokens left out."""
    ends = end_tokens(tokenizer)
    said = [
        row.completion[:-1] if row.completion[-1:] and row.completion[-1] in ends else row.completion
        for row in rows
    ]
    return [before_stop(text, stop) for text in _texts(said, tokenizer)]


def prompt_texts(rows: Sequence[TokenRow], tokenizer: Any) -> list[str]:
    """The prompts of rows as text, special tokens left out."""
    return _texts([row.prompt for row in rows], tokenizer)


def _texts(sequences: Sequence[tuple[int, ...]], tokenizer: Any) -> list[str]:
    """One text per sequence; of none transformers would make one empty text."""
    return list(tokenizer.batch_decode(sequences, skip_special_tokens=True)) if sequences else []
