"""A model that answers prompts, and the start model beside it, as a source of responses to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.responses import Responses
from constraintlang_runtime.sampling import completion_texts, derived_seed, prompt_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw


class ModelSource:
    """Responses drawn by a model; ``part`` numbers of one run have seeds of their own."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[TokenRow],
        *,
        base_model: Any = None,
        seed: int = 0,
        batch_size: int = 256,
        logits_processor: Sequence[Any] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self._model, self._tokenizer, self._prompts = model, tokenizer, prompts
        self._base, self._seed, self._batch_size = base_model, seed, batch_size
        self._logits_processor, self._progress = logits_processor, progress
        self.tags = [row.tags for row in prompts]
        self.prompts = [row.prompt for row in prompts]
        self.has_base = base_model is not None

    def responses(self, chosen: Sequence[int], law: SamplingLaw, count: int, part: int) -> Responses:
        """``count`` responses of the model to each of the chosen prompts."""
        return self._drawn(self._model, "evaluate", "sampling", chosen, law, count, part)

    def base_responses(self, chosen: Sequence[int], law: SamplingLaw, count: int, part: int) -> Responses:
        """The same of the start model, drawn by themselves."""
        return self._drawn(self._base, "evaluate base", "sampling base", chosen, law, count, part)

    def _drawn(
        self, model: Any, purpose: str, shown: str, chosen: Sequence[int], law: SamplingLaw, count: int, part: int
    ) -> Responses:  # fmt: skip
        progress = self._progress
        if not chosen:
            return Responses(numbers=[], sizes=[], prompts=[], completions=[], tags=[])
        own = self._logits_processor if model is self._model else ()
        parts = (self._seed, purpose, law, count, *([part] if part else []))
        rows = sample(
            model, self._tokenizer, [self._prompts[i] for i in chosen for _ in range(count)], law,
            seed=derived_seed(*parts), batch_size=self._batch_size, logits_processor=own,
            progress=None if progress is None else lambda done, total: progress(shown, done, total),
        )  # fmt: skip
        return Responses(
            numbers=[i for i in chosen for _ in range(count)],
            sizes=[count] * len(chosen),
            prompts=prompt_texts(rows, self._tokenizer),
            completions=completion_texts(rows, self._tokenizer, law.stop),
            tags=[row.tags for row in rows],
            rows=rows,
            tokenizer=self._tokenizer,
        )
