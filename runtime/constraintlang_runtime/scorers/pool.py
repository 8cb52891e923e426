"""Calls scorers on many texts: each distinct text once, in order of length, on its scorer's terms, results checked.

Word lists, patterns and lengths cost less than remembering their scores: they are not remembered, and read each text
in one pass for all of them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec.structs import replace

from constraintlang_compiler.ir import AttributeRecord
from constraintlang_runtime.errors import ScorerError, ScorerUnavailable
from constraintlang_runtime.scorers.cache import ScoreCache, score_key
from constraintlang_runtime.scorers.calling import Caller
from constraintlang_runtime.scorers.deadline import Exited, TooSlow, call_within
from constraintlang_runtime.scorers.fused import FusedScorers, is_quick
from constraintlang_runtime.scorers.protocol import Scorer, terms_of

Scores = list[float | None]
Key = tuple[str, str, str, str]  # attribute, prompt, completion, columns
Memory = dict[Key, float | None]
Floats = np.ndarray[Any, np.dtype[np.float64]]
MAX_REMEMBERED = 1_000_000  # scores
SLACK = 1e-6  # rounding of a float32 score at the end of its range is not an error

logger = logging.getLogger(__name__)


class Turns:
    """A lock that a thread in the middle of much work lends to those that wait for it."""

    def __init__(self) -> None:
        self._lock, self._waiting = threading.Lock(), 0

    def __enter__(self) -> None:
        self._waiting += 1
        self._lock.acquire()
        self._waiting -= 1

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def give_way(self) -> None:
        """Let a thread that waits have its turn first."""
        if self._waiting:
            self._lock.release()
            try:
                time.sleep(0.001)  # else this thread would have the lock again before another one wakes
            finally:
                self._lock.acquire()


class ScoringPool:
    """Scores of every attribute, remembered by (attribute, prompt, completion) for the life of the run.

    For a scorer that reads columns (``Terms.reads_columns``) those of the row are part of the key.

    A scorer that raises, exits, returns NaN, a value outside the attribute's declared range or not of its type, or
    a list of another length ends the call with a ScorerError; None is a score that is unavailable and comes back as
    NaN. So does one that takes longer than ``timeout`` seconds for a batch; without a time-out a scorer may take as
    long as it likes, and is called in the caller's thread. A call that raises ScorerUnavailable is made again on
    the scorer's ``Terms``; when that is of no use either, its scores are unavailable, counted in ``unavailable``,
    and a warning says why.

    ``cache`` keeps the scores of the scorers that it takes beyond the run; each is written before the next call.
    """

    def __init__(
        self,
        attributes: Sequence[AttributeRecord],
        scorers: Mapping[str, Scorer],
        *,
        batch_size: int = 256,
        max_remembered: int = MAX_REMEMBERED,
        timeout: float | None = None,
        cache: ScoreCache | None = None,
        seed: int = 0,
    ) -> None:
        self._attributes = {attribute.name: attribute for attribute in attributes}
        for name in scorers:
            if name.endswith("@base"):  # the same attribute under the base model
                self._attributes[name] = replace(self._attributes[name.removesuffix("@base")], name=name)
        self._scorers = dict(scorers)
        self._batch_size = batch_size
        self._max_remembered = max_remembered
        self._timeout = timeout
        self._fused: dict[tuple[str, ...], FusedScorers] = {}
        self._memory: Memory = {}
        self._turns = Turns()  # lanes share scorers
        self._cache = cache
        self._identities: dict[str, str | None] = {}
        self._terms = {name: terms_of(scorer) for name, scorer in scorers.items()}
        self._callers = {name: Caller[Scores](terms, seed=seed) for name, terms in self._terms.items()}
        self.unavailable: Counter[str] = Counter()

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        """The scorer of each attribute."""
        return self._scorers

    @property
    def names(self) -> list[str]:
        """Names of the attributes."""
        return list(self._attributes)

    @property
    def follow_columns(self) -> bool:
        """Whether some scorer may read other columns of a row than prompt and completion."""
        return any(terms.follow_columns for terms in self._terms.values())

    def scorer(self, name: str) -> Scorer | None:
        """What measures an attribute."""
        return self._scorers.get(name)

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Floats]:
        """Scores [n] per attribute, NaN where unavailable."""
        with self._turns:
            return self._score(prompts, completions, names, columns, progress)

    def _score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        names: Sequence[str] | None,
        columns: Mapping[str, Sequence[Any]] | None,
        progress: Callable[[int, int], None] | None,
    ) -> dict[str, Floats]:
        wanted = list(self._attributes) if names is None else list(names)
        if len(self._memory) > self._max_remembered:
            self._memory = {}  # another thread that is in the middle of a call keeps its own
        memory = self._memory
        quick = self._quick([name for name in wanted if is_quick(self._scorers[name])], completions)
        slow = [name for name in wanted if name not in quick]
        keys = self._keys(slow, prompts, completions, columns or {})
        missing = {name: _missing(memory, keys[name], completions) for name in slow}
        total, done = sum(len(indexes) for indexes in missing.values()), 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None and count:
                progress(done, total)

        for name, indexes in missing.items():
            rest = self._without_kept(name, indexes, prompts, completions, keys[name], memory)
            tick(len(indexes) - len(rest))
            self._fill(name, rest, prompts, completions, columns or {}, keys[name], memory, tick)
        return {name: quick[name] if name in quick else _remembered(memory, keys[name]) for name in wanted}

    def _keys(
        self, names: Sequence[str], prompts: Sequence[str], completions: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> dict[str, list[Key]]:  # fmt: skip
        """What the scores of each text are remembered by."""
        alone = [""] * len(completions)
        marks = alone
        if columns and any(self._terms[name].follow_columns for name in names):
            order = sorted(columns)
            marks = [repr(row) for row in zip(*(columns[key] for key in order), strict=True)]
            marks = [f"{order}{mark}" for mark in marks]
        return {
            name: [
                (name, *parts)
                for parts in zip(
                    prompts, completions, marks if self._terms[name].follow_columns else alone, strict=True
                )
            ]
            for name in names
        }

    def _quick(self, names: Sequence[str], completions: Sequence[str]) -> dict[str, Floats]:
        if not names:
            return {}
        fused = self._fused.get(tuple(names))
        if fused is None:
            fused = self._fused[tuple(names)] = FusedScorers({n: self._scorers[n] for n in names})
        found = fused(completions)
        for name, values in found.items():
            low, high = self._range(name)
            outside = (values < low - SLACK) | (values > high + SLACK)
            if outside.any():
                index = int(np.argmax(outside))
                raise self._out_of_range(name, completions[index], float(values[index]))
            np.clip(values, low, high, out=values)
        return found

    def _without_kept(
        self, name: str, indexes: Sequence[int], prompts: Sequence[str], completions: Sequence[str],
        remembered: Sequence[Key], memory: Memory,
    ) -> Sequence[int]:  # fmt: skip
        """Those of the indexes whose scores are not on disk; the others are remembered from there."""
        identity = self._kept_as(name)
        if self._cache is None or identity is None:
            return indexes
        keys = {index: score_key(identity, prompts[index], completions[index]) for index in indexes}
        kept = self._cache.get(list(keys.values()))
        for index, key in keys.items():
            if key in kept:
                text = completions[index]
                memory[remembered[index]] = self._checked(name, text, kept[key])
        return [index for index in indexes if keys[index] not in kept]

    def _kept_as(self, name: str) -> str | None:
        if self._cache is None or not self._cache.takes(self._terms[name]):
            return None
        if name not in self._identities:
            self._identities[name] = self._terms[name].named()
        return self._identities[name]

    def _fill(
        self,
        name: str,
        indexes: Sequence[int],
        prompts: Sequence[str],
        completions: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        keys: Sequence[Key],
        memory: Memory,
        tick: Callable[[int], None],
    ) -> None:
        """Remember the scores of the texts, or that they are unavailable."""
        size = self._terms[name].batch_size or self._batch_size
        parts = [indexes[start : start + size] for start in range(0, len(indexes), size)]
        missed: list[int] = []
        reasons: list[ScorerUnavailable] = []

        def done(number: int, result: Scores | ScorerUnavailable) -> None:
            part = parts[number]
            if isinstance(result, ScorerUnavailable):
                missed.extend(part)
                reasons.append(result)
                result = [None] * len(part)
            for index, value in zip(part, result, strict=True):
                memory[keys[index]] = value
            tick(len(part))
            if self._terms[name].at_once == 1 and number + 1 < len(parts):
                self._turns.give_way()  # a step that weighs a few rows need not wait for a round's thousands

        calls = [partial(self._call, name, part, prompts, completions, columns) for part in parts]
        self._callers[name].run(calls, done)
        if missed:
            self.unavailable[name] += len(missed)
            logger.warning(
                "scorer %s: %s of %s texts have no score: %s", name, f"{len(missed):,}", f"{len(indexes):,}",
                reasons[-1].message,
            )  # fmt: skip

    def _call(
        self,
        name: str,
        indexes: Sequence[int],
        prompts: Sequence[str],
        completions: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> Scores:
        """Checked scores of one call, kept on disk; from a thread of its own where the terms say so."""
        chosen_prompts = [prompts[i] for i in indexes]
        chosen = [completions[i] for i in indexes]
        picked = {key: [values[i] for i in indexes] for key, values in columns.items()}
        try:
            results = call_within(
                None if self._terms[name].is_bounded else self._timeout,
                lambda: list(self._scorers[name](prompts=chosen_prompts, completions=chosen, **picked)),
            )
        except TooSlow:
            raise ScorerError(
                f"scorer {name}: did not return within {self._timeout:g} seconds for {len(chosen)} texts, the first "
                f"is {_excerpt(chosen[0])}",
                help="see whether it waits for a service or a lock; a slow one needs a larger --scorer_timeout",
            ) from None
        except Exited as error:
            raise ScorerError(
                f"scorer {name}: tried to end the process with sys.exit({error})",
                help="raise an exception instead, or return None where a score is unavailable",
            ) from error
        except ScorerUnavailable:
            raise
        except ScorerError as error:
            raise ScorerError(f"scorer {name}: {error.message}", help=error.help) from error
        except Exception as error:
            raise ScorerError(
                f"scorer {name}: raised {type(error).__name__}: {error}",
                help=f"it was given {len(chosen)} texts, the first is {_excerpt(chosen[0])}; run it on that text alone",
            ) from error
        if len(results) != len(chosen):
            raise ScorerError(
                f"scorer {name}: returned {len(results)} scores for {len(chosen)} texts",
                help="return one float or None per completion, in order",
            )
        checked = [self._checked(name, text, value) for text, value in zip(chosen, results, strict=True)]
        identity = self._kept_as(name)
        if self._cache is not None and identity is not None:
            texts = zip(chosen_prompts, chosen, checked, strict=True)
            self._cache.put(
                {
                    score_key(identity, prompt, text): value
                    for prompt, text, value in texts
                    if value is not None
                }
            )
        return checked

    def _checked(self, name: str, text: str, value: Any) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ScorerError(
                f"scorer {name}: returned {value!r:.60} for {_excerpt(text)}", help="return a float or None"
            ) from None
        if math.isnan(number) or math.isinf(number):
            raise ScorerError(
                f"scorer {name}: returned {number} for {_excerpt(text)}",
                help="return None where a score is unavailable; NaN and infinities are never scores",
            )
        low, high = self._range(name)
        if not low - SLACK <= number <= high + SLACK:
            raise self._out_of_range(name, text, number)
        kind = self._attributes[name].type
        # What is not 0 is true, so that a probability would always be.
        if kind == "flag" and number not in (0.0, 1.0):
            raise ScorerError(
                f"scorer {name}: returned {number:g} for {_excerpt(text)}, and `{name}` is a flag: 0 or 1",
                help=f"return 0 or 1; or declare `attribute {name}: score in [0, 1]` and write `{name} > 0.5`",
            )
        if kind in ("int", "count") and number != round(number):
            raise ScorerError(
                f"scorer {name}: returned {number:g} for {_excerpt(text)}, and `{name}` takes whole numbers",
                help=f"declare `{name}` as real, or round in the scorer",
            )
        return min(max(number, low), high)

    def _range(self, name: str) -> tuple[float, float]:
        attribute = self._attributes[name]
        return (
            -math.inf if attribute.low is None else float(attribute.low),
            math.inf if attribute.high is None else float(attribute.high),
        )

    def _out_of_range(self, name: str, text: str, number: float) -> ScorerError:
        attribute = self._attributes[name]
        return ScorerError(
            f"scorer {name}: returned {number} for {_excerpt(text)}, outside the declared range "
            f"[{attribute.low}, {attribute.high}]",
            help="declare the attribute's true range in the policy, or rescale the scorer",
        )


def _missing(memory: Memory, keys: Sequence[Key], completions: Sequence[str]) -> list[int]:
    """Indexes of the first occurrence of each key not remembered, shortest text first."""
    first: dict[Key, int] = {}
    for index, key in enumerate(keys):
        if key not in memory:
            first.setdefault(key, index)
    return sorted(first.values(), key=lambda index: (len(completions[index]), index))


def _remembered(memory: Memory, keys: Sequence[Key]) -> Floats:
    values = (memory[key] for key in keys)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
