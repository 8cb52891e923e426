"""What a sampler is: a callable that completes prompts by a law; token ids in, token ids out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.sampling_law import SamplingLaw


class Sampler(Protocol):
    """``sampler(model, tokenizer, prompts, law, seed=...)`` gives one completed row per prompt, in their order.

    The completions are those of ``model`` as it is at the call; a sampler with a copy elsewhere refreshes it first.
    They are the ids that were sampled, never text that was tokenized again, up to and including the token that ended
    them, and follow from the seed alone. Of several processes all call it and all get all rows. The default is
    ``sampling.sample``.
    """

    def __call__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[TokenRow],
        law: SamplingLaw,
        *,
        seed: int,
        batch_size: int = 256,
        logits_processor: Sequence[Any] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> list[TokenRow]:
        """Complete each prompt."""
        ...
