"""``Policy.verify``: what `constraintc eval` does, for models, prompts and rows that are in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from constraintlang_runtime.data import TokenRow, encode_rows, prompt_rows
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.evaluate import evaluate
from constraintlang_runtime.evaluation import Evaluation
from constraintlang_runtime.integrations.policy import Policy
from constraintlang_runtime.integrations.texts import given_rows
from constraintlang_runtime.sampling_law import SamplingLaw, stop_texts
from constraintlang_runtime.scorers.parts import told_apart
from constraintlang_runtime.versions import versions

Prompts = Iterable[str | Mapping[str, Any]]


def verify(
    policy: Policy,
    model: Any,
    prompts: Prompts,
    *,
    tokenizer: Any,
    base: Any = None,
    rows: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stop: str | Sequence[str] = (),
    samples_per_prompt: int = 1,
    max_length: int = 512,
    batch_size: int = 256,
    seed: int = 0,
    chat: bool = False,
    logits_processor: Sequence[Any] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Sample the model on held-out prompts and judge every clause, with confidence bounds.

    ``prompts`` are texts, or rows with ``prompt`` or ``messages`` and tags; a prompt that occurs twice is one.
    ``rows`` are named sets of held-out rows for `preserve` clauses, whose losses are reported; ``base`` is the start
    model, for clauses that compare with it. ``chat`` makes texts turns by the tokenizer's template.
    ``Evaluation.save`` writes what `constraintc report` reads.
    Raises: ConfigError when a clause lacks rows or a base model, DataError for prompts and rows, ScorerError.
    """
    if rows is not None and not isinstance(rows, Mapping):
        raise ConfigError(
            f"verify: rows is a {type(rows).__name__}, expected named sets of rows",
            help='write rows={"wiki": rows}; the rows have tags of their own',
        )
    encoded = _encoded(prompts, tokenizer, max_length, chat=chat, need_completion=False)
    distinct = prompt_rows(encoded, reading=told_apart(policy.pool, policy.compiled.ir.clauses))
    held = {name: _encoded(part, tokenizer, max_length, chat=chat) for name, part in (rows or {}).items()}
    found = evaluate(
        model, tokenizer, policy.compiled, distinct, policy.pool, 
        law=SamplingLaw(max_new_tokens, temperature, top_p, stop=stop_texts(stop)),
        samples_per_prompt=samples_per_prompt, seed=seed, batch_size=batch_size, rows=held, base_model=base,
        logits_processor=logits_processor, progress=progress,
    )  # fmt: skip
    extra = {"policy": policy.compiled.semantic_hash, "num_prompts": len(distinct), "versions": versions()}
    return replace(found, extra=extra)


def _encoded(
    given: Prompts, tokenizer: Any, max_length: int, *, chat: bool, need_completion: bool = True
) -> list[TokenRow]:
    rows = given_rows(given, "rows" if need_completion else "prompts")
    return encode_rows(rows, tokenizer, max_length=max_length, need_completion=need_completion, chat=chat)
