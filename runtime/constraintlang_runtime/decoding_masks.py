"""Hard decoding: at every step only tokens after which the response can still satisfy the wording clauses."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from constraintlang_compiler.ir import AttributeRecord, Clause, Indicator, PolicyIR
from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.byte_dfa import byte_automaton
from constraintlang_compiler.monitors.regex_parser import RegexError
from constraintlang_compiler.monitors.response_language import NotLexical, WordList, response_language
from constraintlang_compiler.monitors.text_dfa import TextDfa
from constraintlang_compiler.monitors.token_masks import TextState, TokenMasks
from constraintlang_compiler.monitors.vocabulary import Vocabulary, VocabularyError
from constraintlang_compiler.render import negation
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.binding import word_list_reader

MAX_KEPT_BYTES = 1 << 28  # of masks as numbers to add; more lie packed in ``TokenMasks``


class NotMasked(ConfigError):
    """A clause that no mask can enforce; ``reason`` says why, in words."""

    def __init__(self, clause: Clause, reason: str) -> None:
        super().__init__(
            f"the clause `{clause.name}` cannot be masked: {reason}",
            help="mask by clauses about regular expressions and word lists; for others use `--decoding rejection`",
        )
        self.reason = reason


class LanguageMask(LogitsProcessor):
    """Sets the logits of every token that is not allowed to minus infinity.

    The columns that the first call sees are the prompt. A call whose rows are those of an earlier one and a token more
    goes on with these responses: in any order, as beams do, and from any length, as assisted decoding does, which asks
    for drafts and then goes back. Any other call begins anew. Rows that have ended are left alone. The last of
    ``max_new_tokens`` is one after which the text satisfies the clauses, wherever there is such a token.
    """

    def __init__(
        self, masks: TokenMasks, end_tokens: Sequence[int], *, max_new_tokens: int | None = None
    ) -> None:
        if not masks.can_start():
            raise ConfigError(
                "no response that the tokenizer can write satisfies these clauses",
                help="look for clauses that exclude each other, or for text without a token",
            )
        self._masks = masks
        self._ends = frozenset(end_tokens)
        self._max_new_tokens = max_new_tokens
        self._ids: Tensor | None = None
        self._places: list[int] = []  # of each row, in the tree of the responses so far
        self._begin_tree([])
        self._kept: OrderedDict[tuple[TextState | None, bool, int, torch.dtype, torch.device], Tensor] = (
            OrderedDict()
        )

    def begin(self) -> None:
        """Another batch begins."""
        self._ids, self._places = None, []
        self._begin_tree([])

    def select(self, rows: Tensor) -> None:
        """From here on the rows are these, by their places among the last."""
        if self._ids is not None:
            chosen = rows.cpu()
            self._ids, self._places = self._ids[chosen], [self._places[row] for row in chosen.tolist()]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Masked logits [B, V]; ids beyond the tokenizer's are never allowed."""
        ids = input_ids.cpu()
        self._places = self._advanced(ids)
        self._ids = ids
        states = [self._states[place] for place in self._places]
        is_last = self._max_new_tokens is not None and ids.shape[1] - self._width >= self._max_new_tokens - 1
        penalties = {state: self._penalty(state, is_last, scores) for state in dict.fromkeys(states)}
        if len(penalties) == 1:
            return scores + penalties[states[0]]
        if scores.device.type != "cpu":
            return scores + torch.stack([penalties[state] for state in states])
        masked = torch.empty_like(scores)  # row by row, as a CPU is slow to copy what a launch would save
        for row, state in enumerate(states):
            torch.add(scores[row], penalties[state], out=masked[row])
        return masked

    def _penalty(self, state: TextState | None, is_last: bool, scores: Tensor) -> Tensor:
        """0 where a token may come next, else minus infinity [V]; kept for the states that were last in use.

        Adding it is 25 times faster on a CPU than filling by a mask.
        """
        key = (state, is_last, scores.shape[1], scores.dtype, scores.device)
        found = self._kept.get(key)
        if found is None:
            found = torch.zeros(scores.shape[1], dtype=scores.dtype)
            if state is not None:
                count = min(self._masks.num_tokens, scores.shape[1])
                allowed = self._masks.allowed(state)
                if is_last and (closing := allowed & self._masks.closing(state)).any():
                    allowed = closing
                found[:count][~torch.from_numpy(allowed[:count])] = -torch.inf
                found[count:] = -torch.inf
            found = self._kept[key] = found.to(scores.device)
            if len(self._kept) * scores.shape[1] * scores.element_size() > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found

    def _advanced(self, ids: Tensor) -> list[int]:
        """Where each row stands."""
        last = self._ids
        if last is not None and ids.shape[1] == last.shape[1] + 1 and torch.equal(ids[:, :-1], last):
            new = ids[:, -1].tolist()  # the same rows in their order
            return [self._after(place, token) for place, token in zip(self._places, new, strict=True)]
        rows = ids.tolist()
        if ids.shape[1] > self._width:  # else a generation begins, and what was said before need not be kept
            places = [place for row in rows if (place := self._place(row)) is not None]
            if len(places) == len(rows):
                return places
        self._begin_tree(rows)
        return [self._roots[tuple(row)] for row in rows]

    def _begin_tree(self, prompts: list[list[int]]) -> None:
        """Forget all responses; the next ones are to these prompts."""
        self._width = len(prompts[0]) if prompts else 0
        self._roots = {prompt: root for root, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        self._states: list[TextState | None] = [self._masks.start] * len(self._roots)
        self._following: dict[tuple[int, int], int] = {}

    def _place(self, row: list[int]) -> int | None:
        """Where a row stands of which all but the last token was seen before; else None."""
        place = self._roots.get(tuple(row[: self._width]))
        for token in row[self._width : -1]:
            place = None if place is None else self._following.get((place, token))
        return None if place is None else self._after(place, row[-1])

    def _after(self, place: int, token: int) -> int:
        found = self._following.get((place, token))
        if found is None:
            found = self._following[place, token] = len(self._states)
            state = self._states[place]
            if state is not None:
                state = None if token in self._ends else self._masks.advance(state, token)
            self._states.append(state)
        return found


def language_mask(
    policy: PolicyIR,
    clauses: Sequence[Clause],
    tokenizer: Any,
    *,
    end_tokens: Sequence[int],
    folder: Path,
    files: Mapping[str, Path] | None = None,
    allow_path: bool = False,
    rebound: Collection[str] = (),
    max_new_tokens: int | None = None,
) -> LanguageMask:
    """A mask under which no response violates the clauses, however they tolerate violations otherwise.

    ``files`` are the word lists that the compiler found (``CompiledPolicy.files``), by attribute. ``folder`` is where
    the policy stands: other word lists that it names must lie below it unless ``allow_path``. ``rebound`` are the
    attributes that the caller measures in another way than the policy says.
    A special token may be one that ends a response for a model that says so, and so stands only where the end may.
    Raises: ConfigError for a clause that is not about wording, an automaton that is too large, a tokenizer whose
    tokens do not decide their text, or clauses that exclude every response.
    """
    attributes = {
        attribute.name: attribute
        for attribute in policy.attributes
        if attribute.backend is None or attribute.name not in rebound
    }
    read = word_list_reader(policy.attributes, folder, files, allow_path)
    language, budget = None, Budget()
    for clause in clauses:
        try:
            found = clause_language(clause, attributes, budget, read)
            language = found if language is None else language.joined(found, np.logical_and, budget)
        except KeyError as error:
            reason = f"`{error.args[0]}` is measured by another scorer than the policy's"
            raise NotMasked(clause, reason) from error
        except BudgetExceeded as error:
            raise NotMasked(clause, str(error)) from error
    if language is None:
        raise ConfigError("there is no clause to mask by", help="pass at least one clause")
    vocabulary = vocabulary_of(tokenizer)
    masks = TokenMasks(byte_automaton(language), vocabulary, vocabulary.special.union(end_tokens))
    return LanguageMask(masks, end_tokens, max_new_tokens=max_new_tokens)


def clause_language(
    clause: Clause, attributes: Mapping[str, AttributeRecord], budget: Budget, read: WordList
) -> TextDfa:
    """The responses that do not violate a clause; NotMasked when wording alone does not decide it."""
    statistic = clause.statistic
    if not isinstance(statistic, Indicator):
        raise NotMasked(clause, "it is about an average or about rows, not about single responses")
    try:
        return response_language(negation(statistic.predicate), attributes, budget, read)
    except (NotLexical, RegexError, BudgetExceeded) as error:
        raise NotMasked(clause, str(error)) from error


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """The texts of a tokenizer's tokens; ConfigError when tokens do not decide their text."""
    if getattr(tokenizer, "clean_up_tokenization_spaces", False):
        raise ConfigError(
            "the tokenizer cleans up spaces after decoding, so that one token does not decide its text",
            help="load it with clean_up_tokenization_spaces=False",
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ConfigError("masks need a fast tokenizer", help="load the tokenizer with use_fast=True")
    try:
        return Vocabulary.of(json.loads(backend.to_str()))
    except VocabularyError as error:
        raise ConfigError(f"masks cannot be made for this tokenizer: {error}") from error
