"""Where a run finds the model that judges texts; a policy never says."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang_runtime.errors import ConfigError
from constraintlang_runtime.scorers.endpoint import Endpoint, check_calls

KEYS = ("CONSTRAINTLANG_JUDGE_KEY", "OPENAI_API_KEY")


@dataclass(frozen=True)
class JudgeSettings:
    """Address and name of the judge, requests in a second, and seconds for a reply."""

    url: str | None = None
    model: str | None = None
    rate: float | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        check_calls("judge_url", self.rate, self.timeout)
        if (self.url is None) != (self.model is None):
            raise ConfigError(
                f"judge: got judge_url {self.url!r} and judge_model {self.model!r}",
                help="--judge_url http://HOST:PORT and --judge_model NAME go together",
            )

    def endpoint(self, attribute: str) -> Endpoint:
        """The endpoint; ConfigError where none is set."""
        if self.url is None or self.model is None:
            raise ConfigError(
                f"attribute `{attribute}` is measured by a judge, and the run names none",
                help=f"add --judge_url http://HOST:PORT --judge_model NAME; a key goes into the variable {KEYS[0]}",
            )
        return Endpoint(self.url, self.model, "judge_url", KEYS, self.timeout, self.rate)
