"""A judge that prefers the completion which another language model finds likelier."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from drawing import prompts_of
from job import Scale
from numpy.typing import NDArray

from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.loading import load_model, load_tokenizer
from constraintlang_runtime.row_losses import row_losses

Floats = NDArray[np.float64]
MARGIN = 0.05  # nats per token, within which two completions tie
BATCH = 32
MODELS = {"paper": "huggyllama/llama-13b"}
WHAT = {
    "paper": "Llama-13B, larger than every row and of the same family",
    "": "the start model of the Llama rows itself: at this scale no stronger one is at hand, so it is no independent "
    "judge, and rows that stay near the start model gain by it",
}


class LikelihoodJudge:
    """Mean log-likelihood per token of a completion after its prompt, in nats; -inf of one without a word.

    It measures fluency under that model alone, knows nothing of kindness, and likes repetition.
    """

    def __init__(self, scale: Scale, model: str | None = None) -> None:
        self.name = model or MODELS.get(scale.name) or scale.models["llama"]
        self.what = f"the model `{Path(model).name}`" if model else WHAT.get(scale.name, WHAT[""])
        self._device = scale.device

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.name)

    @cached_property
    def _model(self) -> Any:
        return load_model(self.name, device=self._device, tokenizer=self._tokenizer).eval()

    def scores(self, samples: Sequence[Mapping[str, Any]]) -> Floats:
        """One score per sample (`prompt`, `completion`) [n]."""
        ids = [
            tuple(self._tokenizer(sample["completion"], add_special_tokens=False)["input_ids"])
            for sample in samples
        ]
        room = int(self._model.config.get_text_config().max_position_embeddings) - max(
            map(len, ids), default=0
        )
        prompts = prompts_of([sample["prompt"] for sample in samples], self._tokenizer, room)
        said = [i for i, sample in enumerate(samples) if sample["completion"].strip()]
        rows = [TokenRow(prompts[i].prompt, ids[i], {}, train_prompt=False) for i in said]
        found = np.full(len(samples), -np.inf)
        if rows:
            sums, counts = row_losses(self._model, self._tokenizer, rows, batch_size=BATCH)
            found[said] = -sums / counts
        return found

    def stored_scores(self, samples: Sequence[Mapping[str, Any]], path: Path) -> Floats:
        """``scores``, kept in a file under the texts that they are of."""
        asked = [self.name, [[sample["prompt"], sample["completion"]] for sample in samples]]
        if path.is_file():
            record = json.loads(path.read_text())
            if record["asked"] == asked:
                return np.array([-np.inf if value is None else value for value in record["scores"]])
        found = self.scores(samples)
        values = [None if np.isinf(value) else float(value) for value in found]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps({"asked": asked, "scores": values}))
        part.replace(path)
        return found
