"""Calls scorers on many texts: each distinct text once, in order of length, with checked results.

Word lists, patterns and lengths cost less than remembering their scores: they are not remembered, and read each text
in one pass for all of them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from constraintlang_compiler.ir import AttributeRecord
from constraintlang_runtime.errors import ScorerError
from constraintlang_runtime.scorers.deadline import Exited, TooSlow, call_within
from constraintlang_runtime.scorers.fused import FusedScorers, is_quick
from constraintlang_runtime.scorers.protocol import Scorer

Floats = np.ndarray[Any, np.dtype[np.float64]]
SLACK = 1e-6  # rounding of a float32 score at the end of its range is not an error


class ScoringPool:
    """Scores of every attribute, remembered by (attribute, prompt, completion) for the life of the run.

    A scorer that raises, exits, returns NaN, a value outside the attribute's declared range, or a list of another
    length ends the call with a ScorerError; None is a score that is unavailable and comes back as NaN. So does one that
    takes longer than ``timeout`` seconds for a batch; without a time-out a scorer may take as long as it likes, and is
    called in the caller's thread.
    """

    def __init__(
        self,
        attributes: Sequence[AttributeRecord],
        scorers: Mapping[str, Scorer],
        *,
        batch_size: int = 256,
        max_remembered: int = 1_000_000,
        timeout: float | None = None,
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
        self._memory: dict[tuple[str, str, str], float | None] = {}
        self._one_at_a_time = threading.Lock()  # lanes share scorers and what is remembered
        self.calls = 0

    @property
    def names(self) -> list[str]:
        """Names of the attributes."""
        return list(self._attributes)

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
        with self._one_at_a_time:
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
            self._memory.clear()
        quick = self._quick([name for name in wanted if is_quick(self._scorers[name])], completions)
        slow = [name for name in wanted if name not in quick]
        missing = {name: self._missing(name, prompts, completions) for name in slow}
        total, done = sum(len(indexes) for indexes in missing.values()), 0
        for name, indexes in missing.items():
            for start in range(0, len(indexes), self._batch_size):
                part = indexes[start : start + self._batch_size]
                self._call(name, part, prompts, completions, columns or {})
                done += len(part)
                if progress is not None:
                    progress(done, total)
        return {
            name: quick[name] if name in quick else self._remembered(name, prompts, completions)
            for name in wanted
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

    def _remembered(self, name: str, prompts: Sequence[str], completions: Sequence[str]) -> Floats:
        return np.array(
            [
                math.nan if (value := self._memory[name, prompt, completion]) is None else value
                for prompt, completion in zip(prompts, completions, strict=True)
            ],
            dtype=np.float64,
        )

    def _missing(self, name: str, prompts: Sequence[str], completions: Sequence[str]) -> list[int]:
        """Indexes of the first occurrence of each pair not remembered, shortest first."""
        first: dict[tuple[str, str, str], int] = {}
        for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            key = (name, prompt, completion)
            if key not in self._memory:
                first.setdefault(key, index)
        return sorted(first.values(), key=lambda index: (len(completions[index]), index))

    def _call(
        self,
        name: str,
        indexes: Sequence[int],
        prompts: Sequence[str],
        completions: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> None:
        chosen_prompts = [prompts[i] for i in indexes]
        chosen = [completions[i] for i in indexes]
        picked = {key: [values[i] for i in indexes] for key, values in columns.items()}
        self.calls += 1
        try:
            results = call_within(
                self._timeout,
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
        for prompt, text, value in zip(chosen_prompts, chosen, results, strict=True):
            self._memory[name, prompt, text] = self._checked(name, text, value)

    def _checked(self, name: str, text: str, value: Any) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ScorerError(
                f"scorer {name}: returned {value!r} for {_excerpt(text)}", help="return a float or None"
            ) from None
        if math.isnan(number) or math.isinf(number):
            raise ScorerError(
                f"scorer {name}: returned {number} for {_excerpt(text)}",
                help="return None where a score is unavailable; NaN and infinities are never scores",
            )
        low, high = self._range(name)
        if not low - SLACK <= number <= high + SLACK:
            raise self._out_of_range(name, text, number)
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


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
