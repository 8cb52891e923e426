"""Tokens that a group's hard clauses about wording forbid, at the sites of rows: a floor inside the target."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.ir import AttributeRecord, Clause
from constraintlang_compiler.monitors.budget import Budget, BudgetExceeded
from constraintlang_compiler.monitors.byte_dfa import byte_automaton
from constraintlang_compiler.monitors.response_language import NotLexical
from constraintlang_compiler.monitors.text_dfa import TextDfa
from constraintlang_compiler.monitors.token_masks import TextState, TokenMasks
from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.data import Batch
from constraintlang_runtime.decoding_masks import NotMasked, clause_language, vocabulary_of
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.lexicon import LexiconScorer, read_lexicon
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.regex import RegexScorer

logger = logging.getLogger(__name__)


class HardMasks:
    """After a forbidden token no continuation satisfies the clauses: ψ is at its floor, V(s·v) = e^-Λ exactly.

    Ids beyond the tokenizer's, and those without a text, are never forbidden: they stay as the model has them. Where
    the text is past repair every continuation violates, V is constant, and nothing is forbidden.
    """

    def __init__(self, masks: TokenMasks) -> None:
        self._masks = masks
        self._known = torch.from_numpy(masks.known.copy())

    def along(self, part: Batch, sites: Bool[Tensor, "B T"]) -> SiteMasks:
        """Where the text of each row stands at its sites; one step of the automaton per token."""
        states: list[TextState] = []
        for ids, chosen in zip(part.input_ids.tolist(), sites.tolist(), strict=True):
            at = self._masks.start
            for position in (i for i, wanted in enumerate(chosen) if wanted):
                states.append(at)
                at = self._masks.advance(at, ids[position + 1])
        return SiteMasks(self, tuple(states))

    def forbidden(self, at: TextState) -> Bool[Tensor, " V"]:
        """Which tokens of the tokenizer may not come next."""
        allowed = torch.from_numpy(self._masks.allowed(at))
        if not bool(allowed.any()):
            return torch.zeros_like(allowed)
        return ~allowed & self._known


@dataclass(frozen=True)
class SiteMasks:
    """The state of the text at every site of some rows, row-major."""

    masks: HardMasks
    states: tuple[TextState, ...]

    def forbidden(
        self, window: slice, vocab_size: int, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "m V"]:
        """Which of ``vocab_size`` ids may not come next at the sites of a window; each state is looked up once.

        Only the rows of states that differ go to the device.
        """
        states = self.states[window]
        numbers = {state: number for number, state in enumerate(dict.fromkeys(states))}
        rows = torch.stack([self.masks.forbidden(state) for state in numbers]).to(device)
        at = torch.tensor([numbers[state] for state in states], device=device)
        if rows.shape[1] >= vocab_size:
            return rows[:, :vocab_size][at]
        found = torch.zeros(len(states), vocab_size, dtype=torch.bool, device=device)
        found[:, : rows.shape[1]] = rows[at]
        return found


def hard_masks(
    policy: CompiledPolicy, clauses: Sequence[Clause], tokenizer: object, pool: ScoringPool
) -> tuple[HardMasks | None, dict[str, str]]:
    """Masks of those hard clauses that wording alone decides, by the policy's own patterns and word lists.

    None without such a clause, or where the tokenizer's tokens do not decide their text. The second part are the hard
    clauses without a mask, by name, each with the reason: the learned law covers them alone.
    """
    attributes = {attribute.name: attribute for attribute in policy.ir.attributes}
    lists = {
        attribute.backend.arguments[0]: policy.files[name]
        for name, attribute in attributes.items()
        if attribute.backend is not None and name in policy.files
    }

    def read(name: str) -> Mapping[str, float]:
        if name not in lists:
            raise NotLexical(f"the word list `{name}` is not at hand")
        return read_lexicon(lists[name])

    as_written = {n: a for n, a in attributes.items() if _is_scored_as_written(a, policy, pool)}
    language: TextDfa | None = None
    budget, masked, left = Budget(), list[str](), dict[str, str]()
    for clause in clauses:
        if not clause.hard:
            continue
        try:
            found = clause_language(clause, as_written, budget, read)
            language = found if language is None else language.joined(found, np.logical_and, budget)
            masked.append(clause.name)
        except KeyError as error:
            left[clause.name] = f"`{error.args[0]}` is measured by another scorer than the policy's"
        except (NotMasked, BudgetExceeded) as error:
            left[clause.name] = error.reason if isinstance(error, NotMasked) else str(error)
    if language is None:
        return None, left
    try:
        masks = TokenMasks(byte_automaton(language), vocabulary_of(tokenizer), end_tokens(tokenizer))
        if not masks.can_start():
            raise ConfigError("no response that the tokenizer can write satisfies them")
    except (ConfigError, BudgetExceeded) as error:
        reason = error.message if isinstance(error, ConfigError) else str(error)
        return None, left | dict.fromkeys(masked, reason)
    logger.info("token masks for `%s`", "`, `".join(masked))
    return HardMasks(masks), left


def _is_scored_as_written(attribute: AttributeRecord, policy: CompiledPolicy, pool: ScoringPool) -> bool:
    """Whether the run measures the attribute by what the policy says, and not by a scorer of the user's."""
    scorer, backend = pool.scorer(attribute.name), attribute.backend
    if backend is None:
        return False
    if isinstance(scorer, RegexScorer):
        return backend.kind == "regex" and scorer.pattern == backend.arguments[0]
    return isinstance(scorer, LexiconScorer) and scorer.path == policy.files.get(attribute.name)
