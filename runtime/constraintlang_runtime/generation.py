"""Replies of a model to prompts by one of five decodings, each reply judged by the policy's own scorers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.domains import matches
from constraintlang_compiler.ir import Clause
from constraintlang_runtime.acceptance import Acceptance, acceptance
from constraintlang_runtime.batching import pad_token
from constraintlang_runtime.bet_order import bet_keys, bet_order
from constraintlang_runtime.chat import end_tokens
from constraintlang_runtime.data import TokenRow
from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.judging import Judge, Judged
from constraintlang_runtime.sampling import derived_seed, prompt_texts, sample
from constraintlang_runtime.sampling_law import SamplingLaw
from constraintlang_runtime.scorers.pool import ScoringPool

if TYPE_CHECKING:
    from constraintlang_runtime.decoding_search import SearchSettings
    from constraintlang_runtime.integrations.guide import Guide

Decoding = Literal["plain", "guided", "masked", "rejection", "best_first"]
Status = Literal["accepted", "violates", "rejected", "unjudged"]
DECODINGS: tuple[Decoding, ...] = ("plain", "guided", "masked", "rejection", "best_first")
Progress = Callable[[str, int, int], None]
PARTS: dict[str, tuple[Decoding, ...]] = {  # the decodings that read a setting, where not all do
    "max_draws": ("rejection",),
    "on_reject": ("rejection", "best_first"),
    "search_budget": ("best_first",),
    "clause": ("masked",),
}


@dataclass(frozen=True)
class DecodingSettings:
    """How replies are made; the names are those of the command's flags.

    ``samples`` replies for each prompt; ``max_draws`` of rejection for each reply; ``search_budget`` steps of
    best_first for each prompt; ``on_reject`` ``keep`` gives the least violating draw in the place of a reply that was
    not found. ``clause`` names the clauses that masks enforce (all that speak of the prompt when empty).
    """

    decoding: Decoding = "plain"
    samples: int = 1
    max_draws: int = 16
    on_reject: Literal["drop", "keep"] = "drop"
    search_budget: int = 256
    clause: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.decoding not in DECODINGS:
            raise ConfigError(f"decoding: got {self.decoding!r}, expected one of {', '.join(DECODINGS)}")
        if self.on_reject not in ("drop", "keep"):
            raise ConfigError(f"on_reject: got {self.on_reject!r}, expected `drop` or `keep`")
        for name in ("samples", "max_draws", "search_budget", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, decodings in PARTS.items():
            if getattr(self, name) != type(self).__dataclass_fields__[name].default and (
                self.decoding not in decodings
            ):
                raise ConfigError(
                    f"it has no part in the decoding `{self.decoding}`",
                    help=f"use {' or '.join(f'`{one}`' for one in decodings)}, or leave it out",
                    parameter=name,
                )


@dataclass(frozen=True)
class Reply:
    """One reply. ``status``: ``accepted`` obeys, ``violates`` does not, ``rejected`` when rejection or search found
    none that obeys (``completion`` is None unless kept), ``unjudged`` when no clause speaks of the prompt.

    ``draws`` are completions drawn for it, of search the steps taken. ``value`` is V at the end, the potential ψ(x,
    y) in [0, 1] by the scorers: with a guide that of its duals, else 1 where it obeys and 0 where not.
    """

    prompt: str
    completion: str | None
    status: Status
    draws: int
    value: float | None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    violated: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record that the command prints."""
        return {
            "prompt": self.prompt,
            "completion": self.completion,
            "status": self.status,
            "draws": self.draws,
            "value": self.value,
            "scores": dict(self.scores),
            "violated": list(self.violated),
            "violates": None if self.status == "unjudged" else self.status != "accepted",
        }


@dataclass(frozen=True)
class Generated:
    """Replies in the order of the prompts, those of one prompt together; ``acceptance`` of rejection."""

    replies: tuple[Reply, ...]
    acceptance: Acceptance | None = None


@dataclass(frozen=True)
class Generator:
    """A model with what its replies are judged and steered by; ``policy`` None draws without judging.

    ``rebound`` are the attributes that the pool measures in another way than the policy says.
    """

    model: Any
    tokenizer: Any
    law: SamplingLaw
    policy: CompiledPolicy | None = None
    pool: ScoringPool | None = None
    guide: Guide | None = None
    folder: Path = Path()
    allow_path: bool = False
    progress: Progress | None = None
    rebound: Collection[str] = ()

    def generate(self, prompts: Sequence[TokenRow], settings: DecodingSettings) -> Generated:
        """Replies to prompts.

        Raises: ConfigError where the decoding needs a policy or a guide that is not there, a clause cannot be masked,
        or no clause judges any reply; ScorerError from the scorers.
        """
        judge = self.check(prompts, settings)
        wanted = [row for row in prompts for _ in range(settings.samples)]
        if settings.decoding == "rejection":
            return self._rejection(wanted, settings, judge)
        if settings.decoding == "best_first":
            return Generated(tuple(self._search(prompts, settings, judge)))
        seed = derived_seed(settings.seed, "generate", 0)
        if settings.decoding == "masked":
            rows = self._masked(wanted, settings, seed)
        elif settings.decoding == "guided":
            rows = self._drawn(wanted, settings, seed, guided=True)
        else:
            rows = self._drawn(wanted, settings, seed, guided=False)
        return Generated(tuple(self._reply(found, 1) for found in judge(rows)))

    def check(
        self, prompts: Sequence[TokenRow], settings: DecodingSettings, *, has_guide: bool = False
    ) -> Judge:
        """Raise ConfigError for what ``generate`` would refuse; ``has_guide``: one will be there by then."""
        if settings.decoding in ("masked", "rejection", "best_first") and self.policy is None:
            raise ConfigError(
                f"decoding `{settings.decoding}` needs a policy to judge by", help="add --policy FILE"
            )
        if settings.decoding in ("guided", "best_first") and self.guide is None and not has_guide:
            raise ConfigError(
                f"decoding `{settings.decoding}` needs a guide", help="fit one with `policy.guidance(...)`"
            )
        judge = Judge(self.policy, self.pool, self.tokenizer, self.guide, self.law.stop)
        judge.require_judged(prompts)
        if settings.decoding == "best_first":
            self._search_settings(settings)
            if self.law != SamplingLaw(self.law.max_new_tokens):
                raise ConfigError(
                    "temperature, top_p, stop: the search is for the most probable reply to its end, and samples none",
                    help="leave them out, or use --decoding guided or rejection",
                )
        if self.guide is not None and settings.decoding in ("guided", "rejection", "best_first"):
            self.guide.require_prompts(prompts)
        return judge

    def steered_by(self, guide: Guide | None) -> Generator:
        """This generator with a guide."""
        return replace(self, guide=guide)

    # ------------------------------------------------------------ sampling
    def _drawn(
        self, prompts: Sequence[TokenRow], settings: DecodingSettings, seed: int, *, guided: bool,
        processors: Sequence[Any] = (),
    ) -> list[TokenRow]:  # fmt: skip
        progress = self.progress
        with self._guiding(guided) as own:
            return sample(
                self.model, self.tokenizer, prompts, self.law, seed=seed, batch_size=settings.batch_size,
                logits_processor=[*own, *processors],
                progress=None if progress is None else lambda done, total: progress("sampling", done, total),
            )  # fmt: skip

    @contextlib.contextmanager
    def _guiding(self, guided: bool) -> Iterator[list[Any]]:
        if not guided or self.guide is None:
            yield []
            return
        with self.guide.attached(self.model) as own:
            yield [own]

    def _masked(self, wanted: Sequence[TokenRow], settings: DecodingSettings, seed: int) -> list[TokenRow]:
        """Rows that fall under the same clauses share a mask and are drawn together."""
        from constraintlang_runtime.decoding_masks import language_mask

        assert self.policy is not None
        clauses = self._named(settings.clause)
        scopes: dict[tuple[int, ...], list[int]] = {}
        for number, row in enumerate(wanted):
            scope = tuple(k for k, clause in enumerate(clauses) if matches(clause.domain, row.tags))
            scopes.setdefault(scope, []).append(number)
        drawn: dict[int, TokenRow] = {}
        for scope, numbers in scopes.items():
            masks = []
            if scope:
                masks = [
                    language_mask(
                        self.policy.ir, [clauses[k] for k in scope], self.tokenizer,
                        end_tokens=end_tokens(self.tokenizer, self.model), folder=self.folder, files=self.policy.files,
                        allow_path=self.allow_path, rebound=self.rebound, max_new_tokens=self.law.max_new_tokens,
                    )
                ]  # fmt: skip
            own = derived_seed(seed, "scope", *scope) if len(scopes) > 1 else seed
            rows = self._drawn([wanted[i] for i in numbers], settings, own, guided=False, processors=masks)
            drawn |= dict(zip(numbers, rows, strict=True))
        return [drawn[number] for number in range(len(wanted))]

    def _named(self, names: Sequence[str]) -> list[Clause]:
        from constraintlang_compiler.scopes import sample_clauses

        assert self.policy is not None
        known = {clause.name: clause for clause in sample_clauses(self.policy.ir)}
        for name in names:
            if name not in known:
                raise ConfigError(f"the policy has no clause `{name}`; it has {', '.join(known)}")
        return [known[name] for name in names] if names else list(known.values())

    # ------------------------------------------------------------ rejection
    def _rejection(self, wanted: Sequence[TokenRow], settings: DecodingSettings, judge: Judge) -> Generated:
        """Draw until a reply obeys: all open replies together, at most ``max_draws`` times each."""
        best: list[Judged | None] = [None] * len(wanted)
        draws, open_ = [0] * len(wanted), list(range(len(wanted)))
        for attempt in range(settings.max_draws):
            seed = derived_seed(settings.seed, "generate", attempt)
            rows = self._drawn([wanted[i] for i in open_], settings, seed, guided=self.guide is not None)
            for i, found in zip(open_, judge(rows), strict=True):
                draws[i] += 1
                held = best[i]
                if held is None or found.badness < held.badness:
                    best[i] = found
            open_ = [i for i in open_ if (held := best[i]) is not None and held.violated]
            if self.progress is not None:
                self.progress("replies", len(wanted) - len(open_), len(wanted))
            if not open_:
                break
        judged = [held for held in best if held is not None]
        replies = [
            self._reply(held, count, settings.on_reject) for held, count in zip(judged, draws, strict=True)
        ]
        counted = [i for i, held in enumerate(judged) if held.applies]
        accepted = [not judged[i].violated for i in counted]
        return Generated(
            tuple(replies),
            acceptance(
                [draws[i] - ok for i, ok in zip(counted, accepted, strict=True)],
                accepted,
                settings.max_draws,
                prompts=self._numbered([judged[i].row.prompt for i in counted]),
                log_weights=self._log_weights(
                    [judged[i].row for i, ok in zip(counted, accepted, strict=True) if ok]
                ),
            ),
        )

    @staticmethod
    def _numbered(prompts: Sequence[tuple[int, ...]]) -> list[int]:
        """Equal prompts by equal numbers, in the order in which they are bet on."""
        known = list(dict.fromkeys(prompts))
        order = bet_order(bet_keys(map(repr, known))).tolist()
        numbers = {known[place]: number for number, place in enumerate(order)}
        return [numbers[prompt] for prompt in prompts]

    def _log_weights(self, rows: Sequence[TokenRow]) -> list[list[float]] | None:
        """log p(y) - log a(y) of accepted replies, for each prompt; None when the model itself proposed them."""
        if self.guide is None:
            return None
        if replace(self.law, stop=()) != SamplingLaw(self.law.max_new_tokens):
            return []  # of a tempered or truncated law the two are not proportional to p and p V
        weights = self.guide.log_weights(self.model, rows, pad_token(self.tokenizer))
        by_prompt: dict[tuple[int, ...], list[float]] = {}
        for row, weight in zip(rows, weights, strict=True):
            by_prompt.setdefault(row.prompt, []).append(weight)
        return list(by_prompt.values())

    # ------------------------------------------------------------ search
    def _search(
        self, prompts: Sequence[TokenRow], settings: DecodingSettings, judge: Judge
    ) -> Iterator[Reply]:
        from constraintlang_runtime.decoding_search import best_first

        guide, progress = self.guide, self.progress
        assert guide is not None

        def own(rows: Sequence[TokenRow]) -> list[tuple[float, bool]]:
            return [(found.log_potential, not found.violated) for found in judge(rows)]

        found = best_first(
            self.model, guide.head, guide.log_potential, prompts,
            self._search_settings(settings), own, end_tokens=end_tokens(self.tokenizer, self.model),
            pad_id=pad_token(self.tokenizer), exponent=guide.exponent,
            progress=None if progress is None else lambda done, total: progress("search", done, total),
        )  # fmt: skip
        for prompt, result in zip(prompts, found, strict=True):
            for number in range(settings.samples):
                if number < len(result.best):
                    (judged,) = judge([result.best[number].row])
                    yield self._reply(judged, result.steps, settings.on_reject)
                else:
                    (asked,) = prompt_texts([prompt], self.tokenizer)
                    yield Reply(asked, None, "rejected", result.steps, None)

    def _search_settings(self, settings: DecodingSettings) -> SearchSettings:
        from constraintlang_runtime.decoding_search import SearchSettings

        return SearchSettings(
            self.law.max_new_tokens, budget=settings.search_budget, keep=settings.samples,
            batch_size=settings.batch_size,
        )  # fmt: skip

    # ------------------------------------------------------------ replies
    def _reply(self, found: Judged, draws: int, on_reject: str | None = None) -> Reply:
        """A judged row as a reply; ``on_reject`` where violating replies are not let through."""
        status: Status = "accepted"
        completion: str | None = found.completion
        if not found.applies:
            status = "unjudged"
        elif found.violated:
            status = "violates" if on_reject is None else "rejected"
            completion = None if on_reject == "drop" else completion
        return Reply(found.prompt, completion, status, draws, found.value, found.scores, found.violated)
