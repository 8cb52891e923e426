"""The laws that every scorer must obey, as one call and as a mixin for pytest."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from constraintlang_runtime.scorers.protocol import Scorer

HUGE = 200_000  # characters
TEXTS = (
    "",
    " ",
    "Hello.",
    "The quick brown fox jumps over the lazy dog. It does so twice, and then it sleeps.",
    "Où est la bibliothèque ? 図書館はどこですか。",
    '{"name": "Ada", "born": 1815}',
    "```python\ndef double(x):\n    return 2 * x\n```",
    "Write to ada@example.com or call +1 212 555 0134.",
    "\x00\x1b[31mred\x1b[0m \u202eesrever\u202c \ufeff",
    "half a pair: \ud83d",
    "<script>alert(1)</script>",
)
"""What a scorer is tried on when its test names no texts: ordinary ones, an empty one, and ones that break programs."""


class LawBroken(AssertionError):
    """A scorer breaks a law: ``law`` names it, the message says on which text and what was got."""

    def __init__(self, law: str, message: str) -> None:
        super().__init__(f"law `{law}`: {message}")
        self.law = law


def check_scorer(
    scorer: Scorer,
    *,
    texts: Sequence[str] = TEXTS,
    prompts: Sequence[str] | None = None,
    range: tuple[float, float] = (-math.inf, math.inf),
    columns: dict[str, Sequence[Any]] | None = None,
    huge: int = HUGE,
) -> None:
    """Try every law on a scorer.

    Args:
        scorer: what is tried.
        texts: completions; give some that your scorer is made for.
        prompts: one for each text; default an empty one.
        range: the lowest and highest score, both allowed.
        columns: further columns of the data, one value for each text.
        huge: length of the text of the law `huge`; 0 leaves it out, for a scorer that is slow by nature.
    Raises: LawBroken for the first law that is broken.
    """
    case = _Case(scorer, texts, prompts, range, columns, huge)
    for law in LAWS.values():
        law(case)


class ScorerLaws:
    """A mixin for a test class of pytest: one test for each law.

    Set ``scorer`` (an instance, or a property or method that makes one) and, where they differ, ``texts``, ``prompts``,
    ``range``, ``columns`` and ``huge`` as in ``check_scorer``::

        class TestGrade(ScorerLaws):
            scorer = staticmethod(acme.metrics.reading_grade)
            range = (0.0, 20.0)
    """

    scorer: Any = None
    texts: Sequence[str] = TEXTS
    prompts: Sequence[str] | None = None
    range: tuple[float, float] = (-math.inf, math.inf)
    columns: dict[str, Sequence[Any]] | None = None
    huge: int = HUGE

    def _case(self) -> _Case:
        return _Case(self.scorer, self.texts, self.prompts, self.range, self.columns, self.huge)

    def test_one_result_per_text(self) -> None:
        """A list as long as the completions."""
        LAWS["one result per text"](self._case())

    def test_numbers(self) -> None:
        """Each result is a number or None."""
        LAWS["numbers"](self._case())

    def test_no_nan(self) -> None:
        """No NaN and no infinity."""
        LAWS["no NaN"](self._case())

    def test_range(self) -> None:
        """Every score lies in the range."""
        LAWS["range"](self._case())

    def test_determinism(self) -> None:
        """The same texts get the same scores again."""
        LAWS["determinism"](self._case())

    def test_batch_is_single(self) -> None:
        """A text gets the score in a batch that it gets alone."""
        LAWS["batch = single"](self._case())

    def test_order(self) -> None:
        """The order of the texts changes no score."""
        LAWS["order"](self._case())

    def test_inputs_unchanged(self) -> None:
        """The lists that are given are left as they are."""
        LAWS["inputs unchanged"](self._case())

    def test_no_texts(self) -> None:
        """No text, no score."""
        LAWS["no texts"](self._case())

    def test_huge(self) -> None:
        """A very long text gets a score or None."""
        LAWS["huge"](self._case())


class _Case:
    """A scorer with what it is tried on."""

    def __init__(
        self,
        scorer: Scorer,
        texts: Sequence[str],
        prompts: Sequence[str] | None,
        range: tuple[float, float],
        columns: dict[str, Sequence[Any]] | None,
        huge: int,
    ) -> None:
        self.scorer = scorer
        self.texts = list(texts)
        self.prompts = [""] * len(self.texts) if prompts is None else list(prompts)
        self.columns = {name: list(values) for name, values in (columns or {}).items()}
        self.range = range
        self.huge = huge
        for name, values in {"prompts": self.prompts, **self.columns}.items():
            if len(values) != len(self.texts):
                raise ValueError(f"{name}: got {len(values)} values for {len(self.texts)} texts")

    def scores(self, law: str, picked: Sequence[int] | None = None) -> list[Any]:
        """What the scorer gives for the texts of these numbers, all by default."""
        chosen = list(picked) if picked is not None else list(range(len(self.texts)))
        texts = [self.texts[i] for i in chosen]
        columns = {name: [values[i] for i in chosen] for name, values in self.columns.items()}
        return called(law, self.scorer, [self.prompts[i] for i in chosen], texts, columns)


def called(
    law: str, scorer: Scorer, prompts: list[str], texts: list[str], columns: dict[str, list[Any]]
) -> list[Any]:
    """The results of one call; LawBroken when it raises or gives another number of results."""
    try:
        results = list(scorer(prompts=list(prompts), completions=list(texts), **columns))
    except Exception as error:
        named = _shown(texts[0]) if texts else "no text"
        raise LawBroken(
            law, f"raised {type(error).__name__}: {error} for {len(texts)} texts, the first is {named}"
        ) from error
    if len(results) != len(texts):
        raise LawBroken(law, f"got {len(results)} results for {len(texts)} texts, expected one for each")
    return results


def _one_result_per_text(case: _Case) -> None:
    case.scores("one result per text")


def _values(law: str) -> Callable[[_Case], None]:
    """A law on single values; each of the three only says what is its own."""

    def check(case: _Case) -> None:
        for text, value in zip(case.texts, case.scores(law), strict=True):
            if value is None:
                continue
            number = _number(value)
            if law == "numbers":
                if number is None:
                    raise LawBroken(law, f"got {value!r} for {_shown(text)}, expected a number or None")
            elif number is None:
                continue
            elif law == "no NaN":
                if not math.isfinite(number):
                    raise LawBroken(
                        law,
                        f"got {number} for {_shown(text)}, expected a finite number, or None for no score",
                    )
            elif not case.range[0] <= number <= case.range[1] and math.isfinite(number):
                raise LawBroken(
                    law,
                    f"got {number} for {_shown(text)}, expected one in [{case.range[0]}, {case.range[1]}]",
                )

    return check


def _determinism(case: _Case) -> None:
    law = "determinism"
    _same(law, case, case.scores(law), case.scores(law), "at first", "the second time")


def _batch_is_single(case: _Case) -> None:
    law = "batch = single"
    together = case.scores(law)
    alone = [case.scores(law, [i])[0] for i in range(len(case.texts))]
    _same(law, case, together, alone, f"among {len(case.texts)} texts", "alone")


def _order(case: _Case) -> None:
    law = "order"
    order = list(range(len(case.texts)))
    random.Random(0).shuffle(order)
    shuffled = dict(zip(order, case.scores(law, order), strict=True))
    again = [shuffled[i] for i in range(len(case.texts))]
    _same(law, case, case.scores(law), again, "in the given order", "in another order")


def _inputs_unchanged(case: _Case) -> None:
    prompts, texts = list(case.prompts), list(case.texts)
    columns = {name: list(values) for name, values in case.columns.items()}
    try:
        list(case.scorer(prompts=prompts, completions=texts, **columns))
    except Exception as error:
        raise LawBroken("inputs unchanged", f"raised {type(error).__name__}: {error}") from error
    given = {"prompts": (prompts, case.prompts), "completions": (texts, case.texts)}
    given |= {name: (columns[name], values) for name, values in case.columns.items()}
    for name, (after, before) in given.items():
        if after != before:
            raise LawBroken("inputs unchanged", f"the list `{name}` was changed; copy it first")


def _no_texts(case: _Case) -> None:
    called("no texts", case.scorer, [], [], {name: [] for name in case.columns})


def _huge(case: _Case) -> None:
    law = "huge"
    if not case.huge:
        return
    for unit in ("a", "word ", "(", "\n"):
        text = (unit * (case.huge // len(unit) + 1))[: case.huge]
        columns = {name: values[:1] for name, values in case.columns.items()}
        (value,) = called(law, case.scorer, case.prompts[:1] or [""], [text], columns)
        if value is None:
            continue
        number = _number(value)
        if number is None or not math.isfinite(number) or not case.range[0] <= number <= case.range[1]:
            raise LawBroken(
                law,
                f"got {value!r} for {_shown(text)}, expected None or a number in [{case.range[0]}, {case.range[1]}]",
            )


LAWS: dict[str, Callable[[_Case], None]] = {
    "one result per text": _one_result_per_text,
    "numbers": _values("numbers"),
    "no NaN": _values("no NaN"),
    "range": _values("range"),
    "determinism": _determinism,
    "batch = single": _batch_is_single,
    "order": _order,
    "inputs unchanged": _inputs_unchanged,
    "no texts": _no_texts,
    "huge": _huge,
}
"""Every law by its name, in the order in which ``check_scorer`` tries them."""


def _same(law: str, case: _Case, first: list[Any], second: list[Any], one: str, other: str) -> None:
    for text, a, b in zip(case.texts, first, second, strict=True):
        if a != b and not (a is not None and b is not None and _close(a, b)):
            raise LawBroken(law, f"got {a!r} {one} and {b!r} {other} for {_shown(text)}")


def _close(a: Any, b: Any) -> bool:
    """Whether two scores are one: a model's batch rounds otherwise than a single text, in the last digits."""
    x, y = _number(a), _number(b)
    if x is None or y is None:
        return False
    return (math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-5)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:40]!r}... ({len(text)} characters)"
