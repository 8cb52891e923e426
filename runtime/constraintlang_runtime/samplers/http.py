"""JSON to and from a sampling server: time-outs, retries with growing pauses, errors that name the address."""

from __future__ import annotations

import http.client
import os
import time
from dataclasses import dataclass
from typing import Any

from constraintlang_runtime.errors import TrainingError
from constraintlang_runtime.http_json import BUSY, exchange, first_line, parsed, require_address, shown

KEY_VARIABLE = "VLLM_API_KEY"
ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt


@dataclass(frozen=True)
class Server:
    """A server at ``url``; ``timeout`` are the seconds that a reply may take. The key comes from the environment."""

    url: str
    timeout: float

    def __post_init__(self) -> None:
        require_address(self.url, "sampler_url", KEY_VARIABLE)

    def _shown(self) -> str:
        return shown(self.url)

    def request(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON (or text) that the server replies: to a GET, or to a POST when there is a body.

        Raises: TrainingError when it refuses, or still fails after the retries.
        """
        started = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                status, text = self._once(path, body)
                if status < 300:
                    return parsed(text)  # vLLM confirms the loading of an adapter in plain text
                cause = f"status {status}: {first_line(text)}"
                if status not in BUSY:
                    raise TrainingError(
                        f"the sampling server {self._shown()}{path} refuses: {cause}", help=_advice(status)
                    )
            except (OSError, http.client.HTTPException) as error:
                cause = str(error) or type(error).__name__
            if attempt + 1 < ATTEMPTS and time.monotonic() - started < self.timeout:
                time.sleep(FIRST_PAUSE * 2**attempt)
            else:
                break
        raise TrainingError(
            f"the sampling server {self._shown()}{path} does not answer ({attempt + 1} attempts): {cause}",
            help="check that it runs there, or raise --sampler_timeout; --resume goes on from the last checkpoint",
        )

    def _once(self, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
        reply = exchange(self.url, path, body, timeout=self.timeout, key=os.environ.get(KEY_VARIABLE))
        return reply.status, reply.text


def _advice(status: int) -> str:
    if status in (401, 403):
        return f"put the server's key into the variable {KEY_VARIABLE}"
    if status == 404:
        return (
            "start it as `vllm serve MODEL --enable-lora` with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; the address ends "
            "before /v1"
        )
    return "the message above is the server's"
