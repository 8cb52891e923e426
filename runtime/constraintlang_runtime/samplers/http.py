"""JSON to and from a sampling server: time-outs, retries with growing pauses, errors that name the address."""

from __future__ import annotations

import http.client
import json
import os
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from constraintlang_runtime.errors import ConfigError, TrainingError

KEY_VARIABLE = "VLLM_API_KEY"
ATTEMPTS = 5
FIRST_PAUSE = 0.5  # seconds, doubled after each attempt
BUSY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Server:
    """A server at ``url``; ``timeout`` are the seconds that a reply may take. The key comes from the environment."""

    url: str
    timeout: float

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(
                f"sampler_url: got {self._shown()!r}, expected an address such as http://localhost:8000"
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "sampler_url: it holds a name or a password",
                help=f"put the key into the variable {KEY_VARIABLE}",
            )

    def _shown(self) -> str:
        return self.url.rpartition("@")[2]

    def request(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON (or text) that the server replies: to a GET, or to a POST when there is a body.

        Raises: TrainingError when it refuses, or still fails after the retries.
        """
        started = time.monotonic()
        for attempt in range(ATTEMPTS):
            try:
                status, text = self._once(path, body)
                if status < 300:
                    return _parsed(text)
                cause = f"status {status}: {_first_line(text)}"
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
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        assert parts.hostname is not None
        connection = kind(parts.hostname, parts.port, timeout=self.timeout)
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(KEY_VARIABLE)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(
                "GET" if body is None else "POST",
                parts.path.rstrip("/") + path,
                None if body is None else json.dumps(body).encode(),
                headers,
            )
            reply = connection.getresponse()
            return reply.status, reply.read().decode("utf-8", "replace")
        finally:
            connection.close()


def _parsed(text: str) -> Any:
    """JSON where it is one; vLLM confirms the loading of an adapter in plain text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _first_line(text: str) -> str:
    """The message of an error, wherever the server puts it."""
    found = _parsed(text)
    if isinstance(found, dict):
        inner = found.get("error", found)
        found = inner.get("message", inner) if isinstance(inner, dict) else inner
    lines = str(found).strip().splitlines()
    return lines[0][:300] if lines else "no message"


def _advice(status: int) -> str:
    if status in (401, 403):
        return f"put the server's key into the variable {KEY_VARIABLE}"
    if status == 404:
        return (
            "start it as `vllm serve MODEL --enable-lora` with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; the address ends "
            "before /v1"
        )
    return "the message above is the server's"
