"""Which prompts are sampled in one batch: by length with padding where the model's logits allow it, else without."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.decode_batch import decoded
from constraintlang_runtime.decode_loop import DecodeLoop
from constraintlang_runtime.errors import ModelError
from constraintlang_runtime.model_checks import first_position, learned_positions
from constraintlang_runtime.ranks import from_main, rank_and_size

logger = logging.getLogger(__name__)

Together = Literal["padded", "equal", "alone"]
"""What a batch may hold: prompts of any length, of one length, or one prompt."""

SHORT, LONG, STEPS = 5, 24, 4  # tokens of the probe's prompts, and tokens that follow them
_SLOWER: dict[Together, str] = {
    "equal": "when it stands in a padded batch: batches hold prompts of one length",
    "alone": "when it stands in a batch: prompts are sampled one by one",
}
_found: weakref.WeakKeyDictionary[Any, dict[int, Together]] = weakref.WeakKeyDictionary()


def prompt_batches(model: Any, prompts: Sequence[TokenRow], batch_size: int, pad_id: int) -> list[list[int]]:
    """The prompts that ``sampling.sample`` completes together, by their places, shorter prompts first.

    Those of one length stay in their order, so that every batch is a fair part of the prompts (``proposals.halves``).
    """
    lengths = [len(row.prompt) for row in prompts]
    batches = length_batches(lengths, batch_size)
    if all(len(batch) == 1 for batch in batches):
        return batches
    return length_batches(lengths, batch_size, together(model, pad_id))


def length_batches(lengths: Sequence[int], batch_size: int, how: Together = "padded") -> list[list[int]]:
    """Places in the order of their lengths, in batches of at most ``batch_size`` that are as ``how`` says."""
    batches: list[list[int]] = []
    most = 1 if how == "alone" else batch_size
    for place in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        last = batches[-1] if batches else []
        fits = how == "padded" or (bool(last) and lengths[last[0]] == lengths[place])
        if batches and len(last) < most and fits:
            last.append(place)
        else:
            batches.append([place])
    return batches


def together(model: Any, pad_id: int) -> Together:
    """What a batch may hold, found out once for a model by a few tokens; says so where it makes sampling slower.

    Raises: ModelError when not even a prompt alone is decoded by the law of the model's pass over a whole row, which
    is the one that training reads.
    """
    known = _found.setdefault(model, {})
    if pad_id not in known:
        found = from_main(_probed(model, pad_id))
        name = type(model).__name__
        if found is None:
            raise ModelError(
                f"{name} decodes by another law than training reads: its logits token by token are not those of the "
                "whole text",
                help="use another model",
            )
        if found != "padded" and rank_and_size()[0] == 0:
            logger.warning("%s has other logits for a prompt %s, which is slower", name, _SLOWER[found])
        known[pad_id] = found
    return known[pad_id]


# ------------------------------------------------------------ the probe
def _probed(model: Any, pad_id: int) -> Together | None:
    """The widest batches whose rows have the laws that they have alone; None when none have."""
    limit = learned_positions(model) or SHORT + LONG
    long = max(1, min(LONG, limit - STEPS))
    short = min(SHORT, long)
    generator = torch.Generator().manual_seed(0)
    config = model.config.get_text_config()
    taken = {pad_id, getattr(config, "pad_token_id", None), *_listed(getattr(config, "eos_token_id", None))}
    vocab = int(model.get_input_embeddings().weight.shape[0])
    vocab = min(vocab, getattr(config, "vocab_size", vocab))
    drawn = torch.randperm(vocab, generator=generator)[: 2 * LONG + STEPS + len(taken)].tolist()
    usable = [token for token in drawn if token not in taken] or drawn
    ids = (usable * (2 * LONG + STEPS))[: 2 * LONG + STEPS]
    forced, one, other = tuple(ids[:STEPS]), tuple(ids[STEPS:][:long]), tuple(ids[STEPS + LONG :][:long])
    trials: dict[Together, list[tuple[int, ...]]] = {
        "padded": [one[:short], other, one[:short]], "equal": [one, other, one], "alone": [one]
    }  # fmt: skip
    was_training = model.training
    model.eval()
    try:
        for how, rows in trials.items():
            try:
                found = _decoded_logits(model, rows, forced, pad_id)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:
                if how == "alone" or isinstance(error, torch.OutOfMemoryError):
                    raise
                continue  # some cannot take a batch at all
            # Under autocast an adapter's whole pass is in half precision, what ``generate`` calls inside it is not.
            read = _read_logits(model, rows, forced)
            if _distance(found, read) <= max(_tolerance(found), _tolerance(read)):
                return how
    finally:
        model.train(was_training)
    return None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


class _Forced:
    """Keeps the logits of every step and lets the given tokens follow."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self.logits: list[Tensor] = []

    def begin(self) -> None:
        """Nothing is kept of a row but its logits, and no row leaves."""

    def select(self, rows: Tensor) -> None:
        """Rows are only shared before the first logits."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores under which the next of the tokens is certain."""
        self.logits.append(scores)
        only = torch.full_like(scores, -torch.inf)
        only[:, self._tokens[len(self.logits) - 1]] = 0.0
        return only


def _decoded_logits(
    model: Any, rows: Sequence[tuple[int, ...]], forced: tuple[int, ...], pad_id: int
) -> Float[Tensor, "B S V"]:
    """Logits behind each prompt and behind the first of the forced tokens, by the sampler's own loop."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=len(forced), do_sample=False, pad_token_id=pad_id)
    processor = _Forced(forced)
    decoded(
        model, rows, config, DecodeLoop(0, greedy=True, first_position=first_position(model)), [processor]
    )
    return torch.stack(processor.logits, dim=1)


def _read_logits(
    model: Any, rows: Sequence[tuple[int, ...]], forced: tuple[int, ...]
) -> Float[Tensor, "B S V"]:
    """The same by a pass over each whole row, without padding and without a cache."""
    device = next(model.parameters()).device
    found = []
    for row in rows:
        ids = torch.tensor([[*row, *forced[:-1]]], device=device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        found.append(logits[0, len(row) - 1 :].float())
    return torch.stack(found)


def _distance(one: Float[Tensor, "B S V"], other: Float[Tensor, "B S V"]) -> float:
    """The largest total variation distance of two laws of a next token: ½ Σ_v |p(v) - p'(v)|."""
    size = min(one.shape[-1], other.shape[-1])
    laws = [torch.softmax(logits[..., :size].double(), dim=-1) for logits in (one, other)]
    return float(0.5 * (laws[0] - laws[1]).abs().sum(-1).max())


def _tolerance(logits: Float[Tensor, "B S V"]) -> float:
    """What rounding makes of ``_distance``; logits that a pass in half precision made may come as float32."""
    eps = torch.finfo(torch.float32).eps
    for precision in (torch.float16, torch.bfloat16):
        if torch.equal(logits.to(precision).to(logits.dtype), logits):
            eps = torch.finfo(precision).eps
    if logits.is_cuda:  # products of a GPU may be taken in TF32
        eps = max(eps, 2.0**-10)
    return max(1e-3, 8 * eps)
