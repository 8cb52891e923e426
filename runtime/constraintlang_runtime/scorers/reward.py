"""Scores responses by the raw output of a reward model that reads prompt and response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from constraintlang_runtime.errors import ConfigError, ModelError
from constraintlang_runtime.scorers.hf_model import Encoding, ScoringModel, load_scoring_model

if TYPE_CHECKING:
    from torch import Tensor

    from constraintlang_compiler.ir import AttributeRecord, Backend
    from constraintlang_runtime.scorers.builders import Place


class RewardScorer:
    """The one logit of a sequence classifier, without a sigmoid: higher is better, in the model's own unit.

    The prompt is the user's turn and the response the assistant's, in the tokenizer's chat template where it has one;
    else they are a pair of texts. What is too long loses tokens at the beginning of the prompt; a response that alone
    is too long is cut at its end. An empty response is scored as it stands.
    Raises: ConfigError for a model with several outputs.
    """

    def __init__(
        self,
        name_or_path: str,
        *,
        attribute: str,
        revision: str | None = None,
        batch_size: int = 16,
        device: str | None = None,
    ) -> None:
        self._scoring = load_scoring_model(
            name_or_path, "sequence classifier", attribute=attribute, revision=revision, device=device
        )
        config = self._scoring.model.config
        if config.num_labels != 1:
            raise ConfigError(
                f"scorer {attribute}: `{name_or_path}` has {config.num_labels} outputs, a reward model has one",
                help='read one label of a classifier with classifier("path", label="...")',
            )
        inner = config.get_text_config()
        if inner.pad_token_id is None:  # the last token is found by it
            inner.pad_token_id = self._scoring.tokenizer.pad_token_id
        self._batch_size = batch_size
        self.terms = self._scoring.terms("reward")

    def __call__(
        self, *, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> Sequence[float | None]:
        """Score each completion."""
        pairs = zip(prompts, completions, strict=True)
        encodings = [_encoded(self._scoring, prompt, reply) for prompt, reply in pairs]
        found = self._scoring.map(encodings, _first, batch_size=self._batch_size)
        return [float(value) for value in found]


def _first(outputs: Any, mask: Tensor) -> Tensor:
    return outputs.logits[:, 0]


def _encoded(scoring: ScoringModel, prompt: str, reply: str) -> Encoding:
    """Token ids of prompt and response, within the model's length."""
    tokenizer, limit = scoring.tokenizer, scoring.max_length
    if getattr(tokenizer, "chat_template", None):
        return _in_turns(scoring, prompt, reply)
    found = tokenizer(prompt, reply)
    whole: Encoding = {key: list(values) for key, values in found.items()}
    excess = len(whole["input_ids"]) - limit
    if excess <= 0:
        return scoring.not_empty(whole)
    if not tokenizer.is_fast:  # it does not say which tokens are the prompt's
        return scoring.encode(prompt, reply)
    own = [i for i, part in enumerate(found.sequence_ids()) if part == 0]
    if excess > len(own):
        return scoring.encode("", reply, cut="only_second")
    dropped = set(own[:excess])
    return {key: [v for i, v in enumerate(values) if i not in dropped] for key, values in whole.items()}


def _in_turns(scoring: ScoringModel, prompt: str, reply: str) -> Encoding:
    from jinja2 import TemplateError

    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    try:
        found = scoring.tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)
    except (TemplateError, TypeError) as error:
        raise ModelError(
            f"scorer {scoring.attribute}: the chat template of `{scoring.source}` fails on a user turn and an answer: "
            f"{error}",
            help="a reward model's template takes these two turns; use another model",
        ) from error
    whole: Encoding = {key: list(found[key]) for key in ("input_ids", "attention_mask")}
    return scoring.not_empty({key: values[-scoring.max_length :] for key, values in whole.items()})


def build(attribute: AttributeRecord, backend: Backend, place: Place) -> RewardScorer:
    """The scorer of ``reward("path", revision="...")``."""
    return RewardScorer(
        place.model(backend.arguments[0]),
        attribute=attribute.name,
        revision=backend.keywords.get("revision"),
        device=place.device,
    )
