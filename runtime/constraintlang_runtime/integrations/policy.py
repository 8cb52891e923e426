"""``Policy``: a compiled policy with the scorers that measure it, as an object that other tools can hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from constraintlang.source import SourceFile
from constraintlang_compiler.artifact import CompiledPolicy
from constraintlang_compiler.attributes import parts_needed
from constraintlang_compiler.ir import Clause, Indicator
from constraintlang_compiler.membership import membership
from constraintlang_compiler.pipeline import compile_path, compile_source
from constraintlang_compiler.scopes import sample_clauses
from constraintlang_runtime.errors import ConfigError, DataError
from constraintlang_runtime.integrations.texts import given_rows, require_texts
from constraintlang_runtime.scorers.binding import bind_given
from constraintlang_runtime.scorers.pool import ScoringPool
from constraintlang_runtime.scorers.protocol import Scorer
from constraintlang_runtime.tag_values import named_tags
from constraintlang_runtime.unknown_settings import require_known

if TYPE_CHECKING:
    from constraintlang_runtime.decoding_masks import LanguageMask
    from constraintlang_runtime.evaluation import Evaluation
    from constraintlang_runtime.generation import Generated
    from constraintlang_runtime.integrations.callback import ConstraintCallback
    from constraintlang_runtime.integrations.guide import Guide
    from constraintlang_runtime.integrations.metric import PolicyMetric
    from constraintlang_runtime.integrations.monitor import MonitorPlan, PolicyMonitor
    from constraintlang_runtime.integrations.reward import PolicyReward
    from constraintlang_runtime.integrations.stopping import StopWhenViolated
    from constraintlang_runtime.integrations.verifying import Prompts

ScorerLike = Scorer | str


@dataclass(frozen=True)
class Judged:
    """The statistics of responses: ``values`` [n, K] (NaN where unknown), ``inside`` [n, K] whether a clause speaks
    of the response at all, columns as ``Policy.clauses``.
    """

    values: NDArray[np.float64]
    inside: NDArray[np.bool_]


class Policy:
    """A policy that can judge texts, filter rows, reward completions and be asserted in a test.

    >>> policy = Policy.from_text("short: words <= 3")
    >>> policy.satisfied(["one two", "one two three four"])
    [True, False]
    """

    def __init__(
        self,
        compiled: CompiledPolicy,
        scorers: Mapping[str, Scorer],
        *,
        folder: Path = Path(),
        rebound: Iterable[str] = (),
    ) -> None:
        """``rebound`` are the attributes that the policy measures by itself and ``scorers`` measures otherwise."""
        self.compiled = compiled
        self.folder = folder
        self.rebound = frozenset(rebound)
        self.scorers = dict(scorers)
        self.pool = ScoringPool(compiled.ir.attributes, self.scorers)
        self.clauses: tuple[Clause, ...] = sample_clauses(compiled.ir)
        self._plans: dict[tuple[str, ...] | None, MonitorPlan] = {}

    def __repr__(self) -> str:
        clauses = [clause.name for clause in self.compiled.clauses_as_written]
        domains = {
            value
            for clause in self.compiled.ir.clauses
            for tag in named_tags(clause.domain)
            if tag.key == "domain"
            for value in tag.values
        }
        return f"Policy({self.compiled.source.name!r}, clauses={clauses}, domains={sorted(domains)})"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        scorers: Mapping[str, ScorerLike] | None = None,
        allow_path: bool = False,
        allow_code: bool = False,
        allow_plugins: bool = False,
        device: str | None = None,
    ) -> Policy:
        """A policy from a ``.policy`` file or a compiled directory.

        ``scorers`` bind attributes to callables, or to what ``--scorer`` takes: ``"unitary/toxic-bert#toxic"``, a
        path, a word list. What is not bound is measured by the backend that the policy names. Models that score are
        put on ``device``, on a GPU if there is one when None.
        Raises: PolicyError, SourceError, ArtifactError, ConfigError (an attribute that nothing measures).
        """
        place = Path(path)
        folder = place if place.is_dir() else place.parent
        return cls._bound(
            compile_path(path, allow_path=allow_path), scorers or {}, folder,
            allow_path=allow_path, allow_code=allow_code, allow_plugins=allow_plugins, device=device,
        )  # fmt: skip

    @classmethod
    def from_text(cls, text: str, *, scorers: Mapping[str, ScorerLike] | None = None) -> Policy:
        """A policy from its text; paths that it names are those below the working directory.

        Raises: PolicyError, ConfigError.
        """
        return cls._bound(compile_source(SourceFile(text)), scorers or {}, Path())

    @classmethod
    def _bound(
        cls, compiled: CompiledPolicy, scorers: Mapping[str, ScorerLike], folder: Path, **options: Any
    ) -> Policy:
        bound = bind_given(compiled.ir, scorers, folder=folder, files=compiled.files, **options)
        return cls(compiled, bound, folder=folder, rebound=scorers)

    # ------------------------------------------------------------ judging texts
    def judge(
        self,
        completions: Sequence[str],
        prompts: Sequence[str] | None = None,
        tags: Sequence[Mapping[str, Any]] | None = None,
    ) -> Judged:
        """The statistic of every clause for every completion, small is good; each distinct text is scored once.

        ``tags`` are those of each prompt; without them every prompt has none, and a clause with a domain speaks of
        no response.
        Raises: ScorerError when a scorer fails, ConfigError for a clause that counts tokens.
        """
        from constraintlang_compiler.checkers import statistics

        require_texts(completions, "completions")
        count, tags = len(completions), self._tags(completions, tags)
        scores, parts = self.scored(self.clauses, completions, prompts, tags)
        values = statistics(self.clauses, scores, parts) if count else np.empty((0, len(self.clauses)))
        columns = membership([clause.domain for clause in self.clauses], tags)
        inside = np.stack(columns, axis=1) if columns else np.ones((count, 0), dtype=np.bool_)
        return Judged(values, inside)

    def scored(
        self,
        clauses: Sequence[Clause],
        completions: Sequence[str],
        prompts: Sequence[str] | None = None,
        tags: Sequence[Mapping[str, Any]] | None = None,
    ) -> tuple[Any, Any]:
        """Scores of the completions, and of their parts, as the clauses read them."""
        from constraintlang_runtime.scorers.parts import score_responses

        if "tokens" in parts_needed(clauses):
            raise ConfigError(
                "the policy speaks of tokens, and texts have none",
                help="verify it with `constraintc eval`, which has the model's own tokens",
            )
        tags = self._tags(completions, tags)
        require_texts(prompts, "prompts")
        prompts = [""] * len(completions) if prompts is None else list(prompts)
        if len(prompts) != len(completions):
            raise DataError(
                f"got {len(prompts)} prompts and {len(completions)} completions", help="give one for each"
            )
        keys = sorted({key for row in tags for key in row})
        columns = {key: [row.get(key) for row in tags] for key in keys}
        return score_responses(self.pool, clauses, (), prompts, list(completions), None, columns=columns)

    def _tags(
        self, completions: Sequence[str], tags: Sequence[Mapping[str, Any]] | None
    ) -> Sequence[Mapping[str, Any]]:
        if tags is not None and len(tags) != len(completions):
            raise DataError(
                f"got tags of {len(tags)} rows and {len(completions)} completions", help="give one for each"
            )
        return [{}] * len(completions) if tags is None else tags

    def satisfied(
        self,
        completions: Sequence[str],
        prompts: Sequence[str] | None = None,
        tags: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[bool]:
        """Whether each response obeys every statement about single responses that speaks of it.

        An unknown score counts as a violation, as in verification; `prefer` demands nothing. Statements about all
        responses together (``mean``, ``quantile``, ...) decide no single one.
        Raises: ConfigError when no statement is about single responses, so that nothing would be judged.
        """
        single = [k for k, c in enumerate(self.clauses) if _is_about_one(c)]
        if not single:
            raise ConfigError(
                "no statement of the policy is about single responses, so none can be called satisfied or not",
                help="judge all responses together with `constraintc eval` or `assert_satisfies`",
            )
        found = self.judge(completions, prompts, tags)
        broken = found.inside[:, single] & ~(found.values[:, single] == 0)
        return [not bad for bad in broken.any(axis=1).tolist()]

    # ------------------------------------------------------------ in the hands of other tools
    def filter(self) -> Callable[[Mapping[str, Any]], Any]:
        """A function for ``datasets.Dataset.filter``, with or without ``batched=True``: keep what satisfies.

        >>> keep = Policy.from_text("short: words <= 3").filter()
        >>> keep({"prompt": "Count.", "completion": "one two"})
        True
        """
        from constraintlang_runtime.integrations.rows import RowFilter

        return RowFilter(self)

    def reward_func(
        self, clause: str | None = None, *, weights: Mapping[str, float] | None = None, adaptive: bool = False
    ) -> PolicyReward:
        """A reward function for TRL's trainers: minus the weighted statistics of the clauses; see ``PolicyReward``.

        ``clause`` picks one by its name. Raises: ConfigError for a name that the policy does not have.
        """
        from constraintlang_runtime.integrations.reward import PolicyReward

        chosen = range(len(self.clauses)) if clause is None else [self.clauses.index(self._clause(clause))]
        for name in weights or {}:
            if self.clauses.index(self._clause(name)) not in chosen:
                raise ConfigError(
                    f"`{name}` has a weight, and only `{clause}` is rewarded",
                    help="leave the weight out, or the name of the clause",
                    parameter="weights",
                )
        return PolicyReward(self, tuple(chosen), weights or {}, adaptive=adaptive)

    def metric(self) -> PolicyMetric:
        """A metric with ``compute(predictions, prompts, **columns)``: estimate, bounds and verdict of each clause."""
        from constraintlang_runtime.integrations.metric import PolicyMetric

        return PolicyMetric(self)

    def logits_processor(
        self,
        tokenizer: Any,
        *,
        clauses: Sequence[str] | None = None,
        end_tokens: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> LanguageMask:
        """Hard masks for ``generate``: only tokens after which the response can still satisfy the wording clauses.

        For clauses about regular expressions and word lists, however they tolerate violations otherwise; ``clauses``
        picks some by name. Greedy, sampling, beams and assisted decoding (by a model of the same tokenizer); a batch is
        padded on the left, as ``generate`` asks. With ``max_new_tokens``, that of ``generate``, a response that is cut
        there does not end in the middle of a word that would have had to go on. Special tokens, any of which may be an
        end in a model's generation settings, stand only where the end may.
        Raises: ConfigError for a clause that is about more than wording or about what another scorer measures than the
        policy's, or a tokenizer that cannot be masked.
        """
        from constraintlang_runtime.chat import end_tokens as known_ends
        from constraintlang_runtime.decoding_masks import language_mask

        chosen = self.clauses if clauses is None else tuple(self._clause(name) for name in clauses)
        ends = known_ends(tokenizer) if end_tokens is None else list(end_tokens)
        return language_mask(
            self.compiled.ir,
            chosen,
            tokenizer,
            end_tokens=ends,
            folder=self.folder,
            files=self.compiled.files,
            rebound=self.rebound,
            max_new_tokens=max_new_tokens,
        )

    def monitor(
        self, prompt: str = "", tags: Mapping[str, Any] | None = None, *, clauses: Sequence[str] | None = None
    ) -> PolicyMonitor:
        """What watches a response while it is written: feed it text, learn verdicts as soon as they are decided.

        For the statements about single responses that speak of ``tags``; ``clauses`` picks some by name. Wording
        (regular expressions, word lists) and order over sentences and turns may be decided early, the others at the
        end. Raises: ConfigError when there is none, or one speaks of tokens.
        """
        from constraintlang_runtime.integrations.monitor import monitor_of

        return monitor_of(self, self._plan(clauses), prompt, dict(tags or {}))

    def stopping_criteria(
        self,
        tokenizer: Any,
        prompts: Sequence[str] | None = None,
        tags: Sequence[Mapping[str, Any]] | None = None,
        *,
        clauses: Sequence[str] | None = None,
        end_tokens: Sequence[int] | None = None,
        prompt_width: int | None = None,
    ) -> StopWhenViolated:
        """For ``generate``: a row stops when a hard clause (`always`) is violated whatever would follow.

        ``clauses`` picks others by name; ``prompts`` and ``tags`` are those of the rows of the batch. Assisted decoding
        needs ``prompt_width``, the columns of the prompts (``input_ids.shape[1]``).
        Raises: ConfigError when no clause can be violated before the end of a response, DataError for prompts.
        """
        from constraintlang_runtime.chat import end_tokens as known_ends
        from constraintlang_runtime.integrations.stopping import stopping_of

        if clauses is None:
            clauses = [clause.name for clause in self.clauses if clause.hard and _is_about_one(clause)]
        ends = known_ends(tokenizer) if end_tokens is None else list(end_tokens)
        return stopping_of(self, self._plan(clauses), tokenizer, prompts, tags, ends, prompt_width)

    def _plan(self, names: Sequence[str] | None) -> MonitorPlan:
        """The automata of the clauses with these names (all about single responses), made once."""
        from constraintlang_runtime.integrations.monitor import plan_monitors

        key = None if names is None else tuple(names)
        if key not in self._plans:
            chosen = [c for c in self.clauses if _is_about_one(c)]
            if key is not None:
                chosen = [self._clause(name) for name in key]
            for clause in chosen:
                if not _is_about_one(clause):
                    raise ConfigError(
                        f"the clause `{clause.name}` is not about single responses", help="leave it out"
                    )
            self._plans[key] = plan_monitors(self, chosen)
        return self._plans[key]

    def guidance(self, model: Any, tokenizer: Any, prompts: Sequence[Any], **settings: Any) -> Guide:
        """A logits processor that makes a model obey the policy while it samples, untrained; see ``fit_guide``."""
        from constraintlang_runtime.integrations.guide import fit_guide

        return fit_guide(self, model, tokenizer, prompts, **settings)

    def generate(
        self,
        model: Any,
        tokenizer: Any,
        prompts: Sequence[Mapping[str, Any] | str],
        *,
        guide: Guide | None = None,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_p: float = 1.0,
        stop: str | Sequence[str] = (),
        progress: Callable[[str, int, int], None] | None = None,
        **settings: Any,
    ) -> Generated:
        """Replies to prompts by one ``decoding``: plain, guided, masked, rejection or best_first; each is judged.

        ``settings`` are those of ``DecodingSettings``, ``guide`` is what ``guidance`` made: guided and best_first
        need it, rejection then draws its proposals from the guided law. ``prompts`` are texts, or rows with
        ``prompt`` or ``messages`` and tags. A prompt that occurs twice is answered once; ``samples`` asks for more.
        Raises: ConfigError, DataError for prompts, ScorerError.
        """
        from constraintlang_runtime.data import encode_rows, prompt_rows
        from constraintlang_runtime.generation import DecodingSettings, Generator
        from constraintlang_runtime.sampling_law import SamplingLaw, stop_texts

        require_known("generate", settings, [field.name for field in fields(DecodingSettings)])
        rows = given_rows(prompts)
        encoded = prompt_rows(encode_rows(rows, tokenizer, max_length=10**6, need_completion=False))
        generator = Generator(
            model, tokenizer, SamplingLaw(max_new_tokens, temperature, top_p, stop=stop_texts(stop)), self.compiled,
            self.pool, guide, self.folder, progress=progress, rebound=self.rebound,
        )  # fmt: skip
        return generator.generate(encoded, DecodingSettings(**settings))

    def verify(
        self,
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
        """Sample a model on held-out prompts and judge every clause, as `constraintc eval` does; see ``verify``."""
        from constraintlang_runtime.integrations.verifying import verify

        return verify(
            self, model, prompts, tokenizer=tokenizer, base=base, rows=rows, max_new_tokens=max_new_tokens,
            temperature=temperature, top_p=top_p, stop=stop, samples_per_prompt=samples_per_prompt,
            max_length=max_length, batch_size=batch_size, seed=seed, chat=chat, logits_processor=logits_processor,
            progress=progress,
        )  # fmt: skip

    def callback(self, prompts: Sequence[Any], **settings: Any) -> ConstraintCallback:
        """The regularizer for a trainer that already exists, transformers' or TRL's; see ``ConstraintCallback``."""
        from constraintlang_runtime.integrations.callback import ConstraintCallback

        return ConstraintCallback(self, prompts, **settings)

    def reward_funcs(self) -> list[PolicyReward]:
        """One reward function per clause, so that TRL logs each under the clause's name."""
        return [self.reward_func(clause.name) for clause in self.clauses]

    def _clause(self, name: str) -> Clause:
        for clause in self.clauses:
            if clause.name == name:
                return clause
        names = ", ".join(clause.name for clause in self.clauses)
        raise ConfigError(f"the policy has no clause `{name}`; it has {names}")


def _is_about_one(clause: Clause) -> bool:
    return (
        isinstance(clause.statistic, Indicator) and clause.kind == "violation" and clause.strength != "prefer"
    )
