"""The exceptions that a Python caller of the runtime sees.

RuntimeFailure              root of everything below; ``exit_code`` is what the command returns
├── ConfigError             a setting is wrong, unknown or contradicts another (2)
├── DataError               rows, columns or prompts are not what the run needs (2)
├── ModelError              a model or tokenizer cannot be loaded or used (2)
├── ScorerError             a scorer raised, returned NaN or a value outside its range (4)
├── ScorerUnavailable       a scorer cannot score a text now: raised by scorers, answered by the pool (4)
└── TrainingError           the run cannot go on: infeasible policy, diverged loss, broken checkpoint (4)
"""

from __future__ import annotations

from typing import Self


class RuntimeFailure(Exception):
    """Root of the runtime's errors: says what was got, what was expected and what to do.

    ``parameter`` is what was wrong, by the name that it has in Python, in YAML and, after two dashes, as a flag.
    """

    exit_code = 4

    def __init__(self, message: str, *, help: str | None = None, parameter: str | None = None) -> None:
        text = message if parameter is None else f"{parameter}: {message}"
        super().__init__(text if help is None else f"{text}\n  help: {help}")
        self.message = text
        self.help = help
        self.parameter = parameter

    def of(self, parameter: str) -> Self:
        """The same error, of a parameter that another caller gave."""
        said = self.message.removeprefix(f"{self.parameter}: ")
        return type(self)(said, help=self.help, parameter=parameter)


class ConfigError(RuntimeFailure):
    """A setting is wrong, unknown, or contradicts another."""

    exit_code = 2


class DataError(RuntimeFailure):
    """Rows, columns or prompts are not what the run needs."""

    exit_code = 2


class ModelError(RuntimeFailure):
    """A model or tokenizer cannot be loaded or used."""

    exit_code = 2


class ScorerError(RuntimeFailure):
    """A scorer raised, returned NaN, or a value outside its declared range."""


class ScorerUnavailable(RuntimeFailure):
    """A scorer cannot score what it was given now: the pool asks again, and then counts the score as unavailable.

    ``retry_after``: seconds that the service wants to be left alone. Without ``again`` asking again is of no use.
    """

    def __init__(
        self, message: str, *, help: str | None = None, retry_after: float | None = None, again: bool = True
    ) -> None:
        super().__init__(message, help=help)
        self.retry_after = retry_after
        self.again = again


class TrainingError(RuntimeFailure):
    """The run cannot go on."""
