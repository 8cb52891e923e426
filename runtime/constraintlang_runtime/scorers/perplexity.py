"""Scores responses by their perplexity, or mean log-probability, under another causal language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from constraintlang_runtime.scorers.hf_model import ScoringModel, load_scoring_model

if TYPE_CHECKING:
    from torch import Tensor

    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.output_head import OutputHead
    from constraintlang_runtime.scorers.builders import Place

SITES_TOGETHER = 256  # positions whose logits [sites, V] exist at once
TOKENS_TOGETHER = 8192  # of a batch, padding included

Unit = Literal["perplexity", "logprob"]


@dataclass(frozen=True)
class Window:
    """A stretch of one text's ids that the model reads at once; its tokens from ``first`` on are scored."""

    text: int
    ids: list[int]
    first: int


class PerplexityScorer:
    """How likely a response is after its prompt: exp(-m) for `perplexity`, m for `logprob`, m in nats per token.

    Equation: m = (1/n) Σ log p(y_t | prompt, y_<t) over the n tokens of the response under this model's tokenizer,
    its end token left out. Prompt and response are tokenized each by itself, as rows are, because many tokenizers
    drop the space before a response when they decode it. Without a prompt the context is the model's
    beginning-of-text (else end-of-text) token; where it has neither, the first token is not scored.
    A response without tokens to score has log-probability 0 and perplexity 1. One longer than the model is read in
    windows that overlap by half, so that nothing is left out. At most ``sites`` rows of logits exist at once, except
    for a model whose output head is no plain matrix on the last hidden states: there all of a batch do.
    Source of the windows: Hugging Face, "Perplexity of fixed-length models".
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        attribute: str,
        unit: Unit = "perplexity",
        revision: str | None = None,
        device: str | None = None,
        tokens: int = TOKENS_TOGETHER,
        sites: int = SITES_TOGETHER,
    ) -> None:
        self._scoring = load_scoring_model(
            name_or_path, "causal language model", attribute=attribute, revision=revision, device=device
        )
        self._unit = unit
        self.terms = self._scoring.terms(unit)
        self._tokens, self._sites = tokens, sites
        self._head = head_on_states(self._scoring)
        tokenizer = self._scoring.tokenizer
        begin = tokenizer.bos_token_id
        own = tokenizer("a")["input_ids"]
        self._always_begins = begin is not None and own[:1] == [begin]
        self._begin = begin if begin is not None else tokenizer.eos_token_id

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        windows: list[Window] = []
        for index, (prompt, reply) in enumerate(zip(prompts, completions, strict=True)):
            windows += self._windows(index, *self._ids(prompt, reply))
        sums, counts = [0.0] * len(completions), [0] * len(completions)
        for window, total in zip(windows, self._log_probabilities(windows), strict=True):
            sums[window.text] += total
            counts[window.text] += len(window.ids) - window.first
        means = [total / count if count else 0.0 for total, count in zip(sums, counts, strict=True)]
        return means if self._unit == "logprob" else [_perplexity(mean) for mean in means]

    def _ids(self, prompt: str, reply: str) -> tuple[list[int], int]:
        """Token ids of the context and the response, and where the response begins."""
        tokenizer = self._scoring.tokenizer
        before, own = (
            list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (prompt, reply)
        )
        ids, start = before + (own if reply else []), len(before)
        if self._begin is not None and (self._always_begins or start == 0):
            return [self._begin, *ids], start + 1
        return ids, max(start, 1)

    def _windows(self, text: int, ids: list[int], start: int) -> list[Window]:
        """The windows in which the ids from ``start`` on are scored once each."""
        limit = self._scoring.max_length
        found: list[Window] = []
        while start < len(ids):
            # the context is what fits, and at most half of it where the response is long
            end = min(len(ids), max(start + limit // 2, min(limit, len(ids))))
            begin = max(0, end - limit)
            found.append(Window(text, ids[begin:end], start - begin))
            start = end
        return found

    def _log_probabilities(self, windows: Sequence[Window]) -> list[float]:
        """The sum of log-probabilities of every window's scored tokens."""
        import torch

        order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids))
        totals = [0.0] * len(windows)
        with torch.inference_mode():
            while order:
                chosen = [order.pop()]  # the longest first: it decides how many fit
                width = len(windows[chosen[0]].ids)
                while order and (len(chosen) + 1) * width <= self._tokens:
                    chosen.append(order.pop())
                sums = self._sums([windows[i] for i in chosen])
                for index, total in zip(chosen, sums, strict=True):
                    totals[index] = total
        return totals

    def _sums(self, windows: Sequence[Window]) -> list[float]:
        """Σ log p of the scored tokens of each window."""
        import torch

        model, head = self._scoring.model, self._head
        width = max(len(w.ids) for w in windows)
        device = model.device
        ids = torch.tensor([w.ids + [0] * (width - len(w.ids)) for w in windows], device=device)
        mask = torch.tensor([[1] * len(w.ids) + [0] * (width - len(w.ids)) for w in windows], device=device)
        places = [(row, t) for row, w in enumerate(windows) for t in range(w.first, len(w.ids))]
        row, column = torch.tensor(places, device=device).unbind(1)
        targets = ids[row, column]
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        values = model(**inputs).logits if head is None else model.base_model(**inputs).last_hidden_state
        values = values[row, column - 1]  # what is known before each token
        parts: list[Tensor] = []
        for start in range(0, len(places), self._sites):
            piece = values[start : start + self._sites]
            laws = (piece.float() if head is None else head.logits(piece)).log_softmax(-1)
            parts.append(laws.gather(1, targets[start : start + self._sites, None])[:, 0])
        found = torch.zeros(len(windows), dtype=torch.float64)
        found.index_add_(0, row.cpu(), torch.cat(parts).double().cpu())
        return [float(total) for total in found]


def head_on_states(scoring: ScoringModel) -> OutputHead | None:
    """The output head, where logits are a function of the last hidden states alone; None elsewhere.

    Some models change the states before the head, so both ways to logits are compared on two tokens.
    """
    import torch

    from constraintlang_runtime.output_head import OutputHead, difference

    model, head = scoring.model, OutputHead.of(scoring.model)
    if head is None or model.base_model is model:
        return None
    with torch.inference_mode():
        ids = torch.tensor([[0, 1]], device=model.device)
        states = getattr(model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None)
        expected = model(input_ids=ids, use_cache=False).logits[0].float()
        if states is None or states.shape[-1] != head.weight.shape[1]:
            return None
        found = head.logits(states[0])
    return head if difference(found, expected, head.compute_dtype()) is None else None


def _perplexity(mean: float) -> float:
    """exp(-m), kept below the largest float: a model may give a text next to no probability."""
    return math.exp(min(-mean, 700.0))


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> PerplexityScorer:
    """The scorer of ``perplexity("path", revision="...")`` and of ``logprob("path", revision="...")``."""
    return PerplexityScorer(
        place.model(backend.arguments[0]), attribute=attribute.name, revision=backend.keywords.get("revision"),
        unit="logprob" if backend.kind == "logprob" else "perplexity", device=place.device,
    )  # fmt: skip


def of_start_model(name_or_path: str, attribute: str, device: str | None = None) -> PerplexityScorer:
    """The scorer of ``a@base`` where ``a`` has the backend `logprob`: that of the model before training."""
    return PerplexityScorer(name_or_path, attribute=attribute, unit="logprob", device=device)
