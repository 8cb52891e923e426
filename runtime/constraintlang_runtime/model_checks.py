"""What a model must be to be trained or sampled: causal, with as many positions as its texts have tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from constraintlang_runtime.errors import ConfigError, ModelError


@torch.no_grad()
def require_causal(model: Any) -> None:
    """Raise ModelError when what a model says of a token depends on those that follow it, or stands elsewhere."""
    name = type(model).__name__
    help = "use a decoder, such as those that AutoModelForCausalLM loads with is_decoder=True"
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{name} has an encoder, which reads its own answer", help=help)
    vocab = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=next(model.parameters()).device) % vocab
    was_training = model.training
    model.eval()
    try:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    finally:
        model.train(was_training)
    if logits.shape[1] != ids.shape[1]:
        raise ModelError(
            f"{name} has logits at {logits.shape[1]} positions for {ids.shape[1]} tokens",
            help="prompt tuning puts positions before the text: use another adapter, such as LoRA",
        )
    logits = logits[:, :3]
    rounding = 16 * torch.finfo(logits.dtype).eps * float(logits.abs().max())
    if float((logits[0] - logits[1]).abs().max()) > rounding:
        raise ModelError(f"{name} is not causal: its logits change with the tokens that follow", help=help)


def require_end(tokenizer: Any, name: str | None = None) -> None:
    """Raise ModelError for a tokenizer without an end token."""
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer{f' of `{name}`' if name else ''} has no end-of-sequence token, so no completion would have "
            "an end",
            help="name its `eos_token` in tokenizer_config.json",
        )


def learned_positions(model: Any) -> int | None:
    """How many positions a model has whose position embeddings are a table; None where it has no such table."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    tokens = model.get_input_embeddings()
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m is not tokens]
    if limit is None or not any(limit <= table.num_embeddings <= limit + 2 for table in tables):
        return None
    return int(limit) - first_position(model)


def first_position(model: Any) -> int:
    """The position of a text's first token where its caller names positions: 0, but of RoBERTa and its kin behind the
    padding's.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def require_positions(model: Any, count: int, what: str, help: str) -> None:
    """Raise ConfigError when texts of ``count`` tokens are longer than a model with learned positions can read."""
    limit = learned_positions(model)
    if limit is not None and count > limit:
        raise ConfigError(
            f"{what} {count} tokens, and {type(model).__name__} has {limit} positions", help=help
        )
