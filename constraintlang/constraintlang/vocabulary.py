"""The words that are no keywords, so that errors can suggest them: types, statistics, backends, settings."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

TYPES = ("score", "real", "int", "count", "flag")
DIRECTIONS = {"lower_is_better": "lower", "higher_is_better": "higher"}
WHOLE = "sequence"
TRACE_LEVELS = ("sentences", "turns", "tokens")
"""The kinds of parts that ``over`` speaks of."""
LEVELS = (WHOLE, *TRACE_LEVELS)
TEXT_MEASURES = ("lexicon", "regex", "length", "readability", "repetition", "language", "pii", "secrets")
"""Backends that measure any text, so that attributes have all levels unless they are told apart."""
OUTCOMES = ("pass", "fail", "holds", "violated", "inconclusive")
CONTINUOUS = ("score", "real")


@dataclass(frozen=True)
class RowsQuantity:
    """A quantity of the model on the user's rows: its range, what is better, what is usually asked."""

    direction: Literal["lower", "higher"]
    low: Decimal
    high: Decimal | None
    usual: str


ROWS_QUANTITIES = {
    "perplexity": RowsQuantity("lower", Decimal(1), None, "<= 1.02 * base"),
    "accuracy": RowsQuantity("higher", Decimal(0), Decimal(1), ">= base - 1%"),
}
"""Quantities of the model on the user's rows; known under ``preserve`` only."""

PROBABILITY = "P"
STATISTICS = {"mean": 1, "median": 1, "min": 1, "max": 1, "quantile": 2, "cvar": 2, PROBABILITY: 1}
"""Statistics and how many arguments each takes; the second one is a level between 0 and 1."""

OF_NUMBERS = tuple(name for name in STATISTICS if name != PROBABILITY)
INSTEAD_OF = {
    "min": "bound every response, for example `always words >= 1`",
    "max": "bound every response, for example `always toxicity < 0.5`",
}
"""What this release compiles in the place of a statistic that it does not."""
MODEL_BACKENDS = ("logprob",)
"""Backends whose score of a text depends on a model, so that the base model may give another one."""

RESERVED_NAMES = frozenset([*STATISTICS, *ROWS_QUANTITIES, "base", "inf"])
EDITIONS = (1,)
DEFAULT_TOLERANCE = Decimal("0.05")
DEFAULT_CONFIDENCE = Decimal("0.95")
LEAST_CONFIDENCE = Decimal("0.5")
"""Below it a verdict may be wrong more often than right, which nobody asks for."""


@dataclass(frozen=True)
class Setting:
    """A key of ``under`` and the values it takes."""

    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    example: str = "1"

    def accepts(self, value: Decimal) -> bool:
        """Whether ``value`` lies in the range, also once it is a float: a confidence is nowhere 1 then."""
        if self.whole and value != value.to_integral_value():
            return False
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            return False
        if self.high is None or not self.high_open:
            return self.high is None or value <= self.high
        left = float(self.high) - float(value)
        width = float(self.high - (self.low or 0))
        return left > 0.0 and not (self.low_open and left >= width)

    def suggestion(self, value: Decimal | None) -> str:
        """What to write where ``value`` is out of range: a percentage where one was meant, else an example."""
        if value is not None and value > 1 and self.high == 1 and self.accepts(value / 100):
            return f"write `{value.normalize():f}%`"
        if (
            value is not None
            and self.low is not None
            and self.high is not None
            and self.low < value < self.high
        ):
            return "write fewer digits: so close to the end of the range it is rounded to it"
        return f"write a number in that range, for example `{self.example}`"

    @property
    def words(self) -> str:
        """The range in words."""
        kind = "a whole number" if self.whole else "a number"
        low = f"{'above' if self.low_open else 'of at least'} {self.low}" if self.low is not None else ""
        high = f"{'below' if self.high_open else 'at most'} {self.high}" if self.high is not None else ""
        return " ".join([kind, " and ".join(x for x in (low, high) if x)])


_ZERO, _ONE = Decimal(0), Decimal(1)
UNDER = {
    "tolerance": Setting(_ZERO, _ONE, high_open=True, example="2%"),
    "temperature": Setting(_ZERO),
    "top_p": Setting(_ZERO, _ONE, low_open=True, example="0.9"),
    "top_k": Setting(_ONE, whole=True),
    "max_tokens": Setting(_ONE, whole=True, example="64"),
    "samples": Setting(_ONE, whole=True, example="25"),
}
CONFIDENCE = Setting(_ZERO, _ONE, low_open=True, high_open=True, example="0.95")
WEIGHT = Setting(_ZERO, low_open=True, example="0.5")
PRIORITY = Setting(_ZERO, Decimal(1_000_000), whole=True)
STATISTIC_LEVEL = Setting(_ZERO, _ONE, low_open=True, high_open=True, example="0.95")


LENGTH_UNITS = ("words", "sentences", "characters", "tokens")
READABILITY = (
    "flesch_reading_ease",
    "flesch_kincaid_grade",
    "gunning_fog",
    "smog_index",
    "coleman_liau_index",
    "automated_readability_index",
)
REPETITION = ("distinct_1", "distinct_2", "distinct_3", "repeated_2", "repeated_3", "repeated_4")
CODE_LANGUAGES = ("python", "json", "toml")


@dataclass(frozen=True)
class Backend:
    """The shape of a backend: kinds of its positional arguments, its keywords, the types it can measure.

    ``choices`` are the words that an argument of kind "choice" may be; ``reads`` is what its first argument names.
    """

    arguments: tuple[str, ...]
    keywords: dict[str, str]
    types: tuple[str, ...]
    example: str
    choices: tuple[str, ...] = ()
    reads: Literal["nothing", "file", "model", "code"] = "nothing"


BACKENDS = {
    "classifier": Backend(
        ("string",),
        {"label": "string", "revision": "string"},
        ("score", "real"),
        'classifier("unitary/toxic-bert", label="toxicity")',
        reads="model",
    ),
    "lexicon": Backend(
        ("string",), {}, ("count", "score", "flag"), 'lexicon("lists/slurs.txt")', reads="file"
    ),
    "regex": Backend(("regex",), {}, ("flag", "count"), 'regex(re"[0-9]{16}")'),
    "length": Backend(("choice",), {}, ("int", "count"), "length(words)", choices=LENGTH_UNITS),
    "readability": Backend(
        ("choice",), {}, ("real",), "readability(flesch_kincaid_grade)", choices=READABILITY
    ),
    "repetition": Backend(("choice",), {}, ("score",), "repetition(distinct_2)", choices=REPETITION),
    "language": Backend(("string",), {}, ("score",), 'language("en")'),
    "pii": Backend(("string",), {}, ("flag", "count"), 'pii("EMAIL_ADDRESS")'),
    "secrets": Backend((), {}, ("flag", "count"), "secrets()"),
    "json": Backend((), {}, ("flag",), "json()"),
    "json_schema": Backend(("string",), {}, ("flag",), 'json_schema("answer.schema.json")', reads="file"),
    "code": Backend(("choice",), {}, ("flag",), "code(python)", choices=CODE_LANGUAGES),
    "code_tests": Backend(("string",), {}, ("flag", "score"), 'code_tests("checks.py")', reads="file"),
    "nli": Backend(
        ("string",),
        {"hypothesis": "string", "revision": "string"},
        ("score",),
        'nli("facebook/bart-large-mnli", hypothesis="The text gives medical advice.")',
        reads="model",
    ),
    "reward": Backend(
        ("string",),
        {"revision": "string"},
        ("real",),
        'reward("OpenAssistant/reward-model-deberta-v3-base")',
        reads="model",
    ),
    "similarity": Backend(
        ("string",),
        {"to": "string", "revision": "string"},
        ("real",),
        'similarity("sentence-transformers/all-MiniLM-L6-v2", to="prompt")',
        reads="model",
    ),
    "perplexity": Backend(
        ("string",), {"revision": "string"}, ("real",), 'perplexity("gpt2")', reads="model"
    ),
    "judge": Backend(("string",), {}, ("flag", "score", "real"), 'judge("rubrics/polite.md")', reads="file"),
    "python": Backend(
        ("string",),
        {"deterministic": "truth"},
        TYPES,
        'python("acme.metrics:reading_grade", deterministic=true)',
        reads="code",
    ),
    "logprob": Backend(("string",), {"revision": "string"}, ("real",), 'logprob("gpt2")', reads="model"),
}
ARGUMENT_WORDS = {
    "string": "a text in double quotes",
    "regex": 're"..."',
    "truth": "`true` or `false`",
}


def argument_words(kind: str, backend: Backend) -> str:
    """What an argument of a kind is, in words."""
    return (
        f"one of {', '.join(f'`{word}`' for word in backend.choices)}"
        if kind == "choice"
        else ARGUMENT_WORDS[kind]
    )


ATTRIBUTE_FIELDS = ("backend", "levels")
DOMAIN_FIELDS = ("source", "tags")


def backend_help(name: str) -> str:
    """What to write where a backend stands as if it were a condition or a statistic."""
    backend = BACKENDS[name]
    type = backend.types[0]
    use = "not measured" if type == "flag" else "measured < 0.1" if type in CONTINUOUS else "measured < 10"
    return f"declare `attribute measured: {type} {{ backend = {backend.example} }}`, then write `{use}`"
